#include "core/inference.hpp"

#include <chrono>

#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

constexpr int kTag = 0;  // of the one message between two stages

Context make_context(const Config& config, kernels::Device& device, dist::Mesh& mesh) {
  check_divides(config.model.shape, mesh.extents().tensor);
  Context context{device, mesh, config.model.shape};
  context.activation = config.train.precision;
  return context;
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Counts a pass that is over when the scope is.
struct PassTimer {
  SwitchCost& cost;
  Clock::time_point start = Clock::now();
  ~PassTimer() {
    cost.pass_s += seconds_since(start);
    ++cost.passes;
  }
};

}  // namespace

Inference::Inference(const Config& config, kernels::Device& device, dist::Mesh& mesh, Index held_bytes)
    : config_(config),
      base_(config.model.base.empty() ? nullptr : std::make_unique<BaseFile>(config.model.base)),
      context_(make_context(config, device, mesh)),
      held_(held_bytes) {
  const int stage = mesh.point().pipeline, stages = mesh.extents().pipeline;
  parameters_ = std::make_unique<Parameters>(context_, TrainingPlan{}, tensors_of_part(context_.shape, stage, stages),
                                             base_.get(), config.adapter.seed);
  part_ = std::make_unique<ModelPart>(context_, *parameters_, TrainingPlan{}, stage, stages);
  if (config.adapter.init.empty()) return;
  attach(make_plan(config));
  load_adapters(config.adapter.init, context_, *parameters_, base_of_adapters());
}

AdapterBase Inference::base_of_adapters() const { return {base_ ? base_->digest().hex() : "", config_.model.base}; }

// Room for these pairs on the device, where layers find them.
void Inference::attach(const TrainingPlan& plan) {
  if (plan.adapters == attached_) return;
  parameters_->replace_adapters(plan);
  part_->attach_adapters(*parameters_);
  attached_ = plan.adapters;
}

void Inference::use_adapter(const std::string& path) {
  context_.skips_adapters = path.empty();
  if (path.empty() || path == in_use_) return;
  const HeldAdapter* found = held_.find(path);
  const HeldAdapter& adapter = found ? *found : read(path);
  const Clock::time_point start = Clock::now();
  attach(adapter.plan);
  if (!adapter.values.empty())
    kernels::upload(context_.device, kernels::view(adapter.values.data(), 1, std::ssize(adapter.values)),
                    parameters_->replicated().values());
  context_.device.synchronize();
  cost_.switch_s += seconds_since(start);
  ++cost_.switches;
  in_use_ = path;
}

const HeldAdapter& Inference::read(const std::string& path) {
  const Clock::time_point start = Clock::now();
  in_use_.clear();
  Config config = config_;
  config.adapter.init = path;
  HeldAdapter adapter{path, make_plan(config), {}};
  attach(adapter.plan);  // which decides where each pair's values lie
  ReplicatedGroup& group = parameters_->replicated();
  held_.make_room(path, held_bytes(adapter.plan, group.count()));
  adapter.values.resize(static_cast<std::size_t>(group.count()));
  const TakeAdapter take = [&](const AdapterSpec& spec, Side side, const std::function<void(Matrix)>& read_to) {
    const auto& entry = group.entries()[static_cast<std::size_t>(
        side == Side::a ? parameters_->adapter_a(spec) : parameters_->adapter_b(spec))];
    read_to(kernels::view(adapter.values.data() + entry.offset, entry.rows, entry.cols));
  };
  // Each rank for itself: data ranks may be at different adapters.
  kernels::Place& place = context_.device.profile().place();
  read_adapters(path, shape(), parameters_->adapters(), base_of_adapters(),
                [&](const CheckpointReader& reader) { reader.verify([&] { place.beat(); }); }, take);
  cost_.read_s += seconds_since(start);
  ++cost_.read;
  return held_.add(std::move(adapter));
}

void Inference::reserve(Index sequences, Index capacity) {
  if (capacity > shape().context)
    fail(Failure::configuration,
         text("found ", capacity, " tokens of a prompt and what follows it, expected at most the model's context ",
              shape().context));
  const kernels::AttentionShape heads = heads_of(context_);
  cache_.emplace(context_, part_->first_layer(), part_->layer_count(), sequences, capacity,
                 heads.kv_heads * heads.head_size);
}

std::vector<float> Inference::prompt(Index sequence, std::span<const std::int32_t> ids) {
  cache_->begin_prompt(sequence, static_cast<Index>(ids.size()));
  const kernels::Integers input(context_.device, ActivationKind::tokens, ids);
  Microbatch microbatch;
  microbatch.sequences = 1;
  microbatch.length = static_cast<Index>(ids.size());
  microbatch.training = false;
  microbatch.ids = input.view();
  microbatch.cache = &*cache_;
  return run(microbatch, microbatch.length - 1, 1);
}

std::vector<float> Inference::step(std::span<const std::int32_t> tokens) {
  cache_->begin_step();
  const kernels::Integers input(context_.device, ActivationKind::tokens, tokens);
  Microbatch microbatch;
  microbatch.sequences = static_cast<Index>(tokens.size());
  microbatch.length = 1;
  microbatch.training = false;
  microbatch.ids = input.view();
  microbatch.cache = &*cache_;
  microbatch.positions = cache_->positions();
  return run(microbatch, 0, microbatch.sequences);
}

// The last block's output on the last stage, none on the others.
Activation Inference::through_blocks(const Microbatch& microbatch) {
  dist::Communicator& pipeline = context_.mesh.pipeline();
  const int stage = context_.mesh.point().pipeline, stages = context_.mesh.extents().pipeline;
  Activation x;
  if (stage > 0) {
    x.data = Tensor(context_.device, ActivationKind::residual, context_.activation, microbatch.rows(), shape().width);
    pipeline.receive(x.data, stage - 1, kTag);
  }
  x = part_->run_blocks(std::move(x), microbatch, nullptr);
  if (stage + 1 == stages) return x;
  pipeline.send(x.data, stage + 1, kTag)->wait();
  return {};
}

// What the last stage made (none elsewhere), on the host of every stage.
std::vector<float> Inference::on_every_stage(Tensor made, Index rows, Index cols) {
  kernels::Device& device = context_.device;
  if (made.none()) {
    made = Tensor(device, Category::workspace, DType::f32, rows, cols);
    kernels::fill(device, made, 0.0f);
  }
  context_.mesh.pipeline().all_reduce(made);
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  kernels::download(device, made, kernels::view(values.data(), rows, cols));
  device.profile().place().beat();
  return values;
}

// The logits of rows [first_row, first_row + rows).
std::vector<float> Inference::run(const Microbatch& microbatch, Index first_row, Index rows) {
  kernels::Device& device = context_.device;
  const PassTimer timer{cost_};
  const Activation x = through_blocks(microbatch);
  Tensor logits;
  if (context_.mesh.last_stage()) {
    Tensor wanted(device, ActivationKind::residual, context_.activation, rows, shape().width);
    kernels::copy(device, ConstMatrix(x.data).row_range(first_row, rows), wanted);
    Microbatch last = microbatch;
    last.sequences = rows;
    last.length = 1;
    logits = part_->head().logits({std::move(wanted), x.state}, last);
  }
  return on_every_stage(std::move(logits), rows, shape().vocab);
}

std::vector<float> Inference::losses(const Rows& rows, Index length) {
  kernels::Device& device = context_.device;
  const kernels::Integers ids(device, ActivationKind::tokens, rows.ids),
      labels(device, ActivationKind::tokens, rows.labels);
  Microbatch microbatch;
  microbatch.sequences = static_cast<Index>(rows.ids.size()) / length;
  microbatch.length = length;
  microbatch.training = false;
  microbatch.ids = ids.view();
  microbatch.labels = labels.view();
  const PassTimer timer{cost_};
  const Activation x = through_blocks(microbatch);
  Tensor made;
  if (context_.mesh.last_stage()) made = part_->head().losses(x, microbatch);
  return on_every_stage(std::move(made), microbatch.rows(), 1);
}

}  // namespace lorashard::core
