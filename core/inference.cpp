#include "core/inference.hpp"

#include "core/initial_adapters.hpp"
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

TrainingPlan plan_of(const Config& config) {
  return config.adapter.init.empty() ? TrainingPlan{} : make_plan(config);
}

}  // namespace

Inference::Inference(const Config& config, kernels::Device& device, dist::Mesh& mesh)
    : base_(config.model.base.empty() ? nullptr : std::make_unique<BaseFile>(config.model.base)),
      context_(make_context(config, device, mesh)),
      plan_(plan_of(config)) {
  const int stage = mesh.point().pipeline, stages = mesh.extents().pipeline;
  parameters_ = std::make_unique<Parameters>(context_, plan_, tensors_of_part(context_.shape, stage, stages), base_.get(),
                                             config.adapter.seed);
  part_ = std::make_unique<ModelPart>(context_, *parameters_, plan_, stage, stages);
  if (!config.adapter.init.empty())
    load_adapters(config.adapter.init, context_, *parameters_, base_ ? base_->digest().hex() : "", config.model.base);
}

void Inference::reserve(Index sequences, Index capacity) {
  if (capacity > shape().context)
    fail(Failure::configuration,
         text("found ", capacity, " tokens of a prompt and what follows it, expected at most the model's context ", shape().context));
  const kernels::AttentionShape heads = heads_of(context_);
  cache_.emplace(context_, part_->first_layer(), part_->layer_count(), sequences, capacity, heads.kv_heads * heads.head_size);
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
  const kernels::Integers ids(device, ActivationKind::tokens, rows.ids), labels(device, ActivationKind::tokens, rows.labels);
  Microbatch microbatch;
  microbatch.sequences = static_cast<Index>(rows.ids.size()) / length;
  microbatch.length = length;
  microbatch.training = false;
  microbatch.ids = ids.view();
  microbatch.labels = labels.view();
  const Activation x = through_blocks(microbatch);
  Tensor made;
  if (context_.mesh.last_stage()) made = part_->head().losses(x, microbatch);
  return on_every_stage(std::move(made), microbatch.rows(), 1);
}

}  // namespace lorashard::core
