#include "core/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <span>

#include "core/learning_rate.hpp"
#include "core/trainer_state.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::Phase;
using kernels::PhaseScope;
using kernels::text;
using kernels::WorkScope;

std::unique_ptr<BaseFile> open_base(const Config& config) {
  return config.model.base.empty() ? nullptr : std::make_unique<BaseFile>(config.model.base);
}

Context make_context(const Config& config, kernels::Device& device, dist::Mesh& mesh) {
  check_divides(config.model.shape, mesh.extents().tensor);
  Context context{device, mesh, config.model.shape};
  context.activation = config.train.precision;
  context.recompute = config.train.recompute;
  context.sequence_parallel = config.mesh.sequence_parallel;
  context.dropout = config.adapter.method == Method::lora ? config.adapter.dropout : 0;
  context.label_smoothing = static_cast<float>(config.train.label_smoothing);
  context.adapter_seed = config.adapter.seed;
  return context;
}

// The tensors of all model parts that lie on this rank's stage, each once.
std::vector<TensorInfo> tensors_here(const Config& config, const dist::Mesh& mesh) {
  const int stages = mesh.extents().pipeline, parts = stages * config.mesh.chunks;
  std::vector<TensorInfo> here;
  std::set<std::string> seen;
  for (int part = mesh.point().pipeline; part < parts; part += stages) {
    for (TensorInfo& info : tensors_of_part(config.model.shape, part, parts)) {
      if (seen.insert(info.name).second) here.push_back(std::move(info));
    }
  }
  return here;
}

// On meta nothing is read: ids or labels of so many tokens. Valid until the next call that asks for more.
std::span<const std::int32_t> blank_tokens(Index tokens) {
  thread_local std::vector<std::int32_t> zeros;
  if (zeros.size() < static_cast<std::size_t>(tokens)) zeros.resize(static_cast<std::size_t>(tokens));
  return std::span(zeros).first(static_cast<std::size_t>(tokens));
}

struct Cutting {
  Index share = 0;       // sequences of a data rank
  Index microbatch = 0;  // sequences
};

Cutting cut_batch(const Config& config, const dist::Mesh& mesh) {
  const Index batch = config.train.batch, parts = mesh.extents().data;
  if (batch % parts != 0) {
    fail(Failure::configuration,
         text("train.batch: found ", batch, ", expected a multiple of the ", parts, " data ranks"));
  }
  const Index share = batch / parts, microbatch = microbatch_of(config.train, mesh.extents().data);
  if (microbatch < 1 || share % microbatch != 0) {
    fail(Failure::configuration, text("train.microbatch: found ", microbatch, ", expected a divisor of the ", share,
                                      " sequences of a data rank"));
  }
  return {share, microbatch};
}

// Ids and labels of some rows on the device.
struct Input {
  kernels::Integers ids, labels;
  Input(kernels::Device& device, std::span<const std::int32_t> ids_here, std::span<const std::int32_t> labels_here)
      : ids(device, ActivationKind::tokens, ids_here), labels(device, ActivationKind::tokens, labels_here) {}
};

// Sequences [first, first + count) of an input whose first row is number `offset` of the global batch.
Microbatch microbatch_of(const Input& input, Index first, Index count, Index length, Index offset) {
  Microbatch m;
  m.sequences = count;
  m.length = length;
  m.first_sequence = offset + first;
  m.ids = input.ids.view().subspan(first * length, m.rows());
  m.labels = input.labels.view().subspan(first * length, m.rows());
  return m;
}

// Sums of two values over all ranks, in rank order: the same everywhere.
std::pair<double, double> sums_over(dist::Communicator& world, double a, double b) {
  const double own[] = {a, b};
  const std::vector<double> all = world.gather_values(own);
  std::pair<double, double> sums{0, 0};
  for (std::size_t i = 0; i < all.size(); i += 2) {
    sums.first += all[i];
    sums.second += all[i + 1];
  }
  return sums;
}

bool speaks_for_loss(const dist::Mesh& mesh) { return mesh.last_stage() && mesh.point().tensor == 0; }

}  // namespace

Trainer::State::State(const Config& job, kernels::Device& device, dist::Mesh& mesh)
    : config(job),
      base(open_base(job)),
      base_digest(base ? base->digest().hex() : ""),
      context(make_context(job, device, mesh)),
      totals(device, Category::workspace, DType::f64, 1, 2),
      all_totals(device, Category::workspace, DType::f64, mesh.world().size(), 2),
      control(device, Category::workspace, DType::f64, 1, kernels::StepControl::columns),
      plan(make_plan(job)),
      layer_norms(context, plan, job.run.norms_every),
      parameters(context, plan, tensors_here(job, mesh), base.get(), job.adapter.seed),
      pipeline(context, parameters, plan, job.mesh),
      optimizer(context, parameters, job.optimizer) {
  cut_batch(job, mesh);
  load_initial_adapters();
  kernels::fill(device, control, 0);
  for (auto& readback : readbacks) readback = device.make_readback(control.view().bytes());
}

Trainer::Trainer(const Config& config, kernels::Device& device, dist::Mesh& mesh)
    : state_(std::make_unique<State>(config, device, mesh)) {}

Trainer::~Trainer() = default;

Index Trainer::steps_done() const { return state_->steps_done; }
const ModelShape& Trainer::shape() const { return state_->context.shape; }
Index Trainer::trained_parameters() const { return core::trained_parameters(state_->plan, shape()); }
Index Trainer::reduced_bytes() const { return state_->optimizer.reduced_bytes(); }
const std::string& Trainer::base_digest() const { return state_->base_digest; }

Index Trainer::under_way() const { return static_cast<Index>(state_->under_way.size()); }

StepReport Trainer::step(const Dataset& data) {
  begin(data);
  return finish();
}

// Forward and backward passes of the batch of steps_done(), from cleared gradients and totals to gradients of this rank.
// Returns the scored tokens of the whole batch.
Index Trainer::run_passes(const Dataset& data) {
  State& s = *state_;
  kernels::Device& device = s.context.device;
  const TrainConfig& train = s.config.train;
  const Cutting cutting = cut_batch(s.config, s.context.mesh);
  const Index first = cutting.share * s.context.mesh.point().data, length = data.length();

  // Every rank knows the whole batch, so the number of scored tokens needs no message.
  Rows rows;
  {
    const PhaseScope input(device.profile(), Phase::input);
    if (!device.meta()) rows = data.batch(s.steps_done, train.batch, 0, train.batch);
  }
  const Index scored = device.meta() ? train.batch * length : rows.scored();
  if (scored == 0) fail(Failure::configuration, text(data.path(), ": step ", s.steps_done, " has no scored token"));
  const auto own = [&](const std::vector<std::int32_t>& all) {
    const Index count = cutting.share * length;
    return device.meta() ? blank_tokens(count) : std::span(all).subspan(first * length, count);
  };
  const Input input(device, own(rows.ids), own(rows.labels));
  std::vector<Microbatch> microbatches;
  for (Index at = 0; at < cutting.share; at += cutting.microbatch) {
    microbatches.push_back(microbatch_of(input, at, cutting.microbatch, length, first));
    microbatches.back().number = std::ssize(microbatches) - 1;
    microbatches.back().step = s.steps_done;
    microbatches.back().loss_scale = 1.0f / static_cast<float>(scored);
  }
  {
    const WorkScope work(device.profile(), "clear");
    kernels::fill(device, s.totals, 0);
    s.optimizer.zero_gradients();
  }
  s.pipeline.train(microbatches, s.totals.view().col_range(0, 1),
                   [&s](Index layer) { s.optimizer.layer_done(layer); });
  return scored;
}

void Trainer::begin(const Dataset& data) {
  State& s = *state_;
  kernels::Device& device = s.context.device;
  if (s.merge) fail(Failure::other, "a step was begun while the adapters are merged");
  if (s.under_way.size() == s.readbacks.size())
    fail(Failure::other, "a third step was begun before the first was finished");
  device.profile().place().step = s.steps_done;
  const Index scored = run_passes(data);
  const Matrix loss = s.totals.view().col_range(0, 1), squares = s.totals.view().col_range(1, 1);
  {
    const WorkScope work(device.profile(), "reduce");
    s.optimizer.reduce();
  }
  const WorkScope work(device.profile(), "update");
  const PhaseScope optimizer(device.profile(), Phase::optimizer);
  if (!speaks_for_loss(s.context.mesh)) kernels::fill(device, loss, 0);
  s.optimizer.add_squares(squares);
  s.context.mesh.world().all_gather(s.totals, s.all_totals);
  kernels::finish_step(device, {s.all_totals, 1 / static_cast<double>(scored), s.config.optimizer.clip, s.control});
  const double lr = learning_rate(s.config.optimizer, s.steps_done, s.config.train.steps);
  s.optimizer.update(lr, s.control, s.steps_done + 1);
  s.readbacks[s.steps_done % 2]->start(s.control);
  if (s.layer_norms.due(s.steps_done)) s.layer_norms.measure(s.parameters, s.steps_done);
  s.under_way.push_back({s.steps_done, 0, 0, lr, s.config.train.batch * data.length()});
  ++s.steps_done;
}

NotFinite::NotFinite(const StepReport& report, std::source_location where)
    : Error(Failure::numerics,
            text("step ", report.step, ": found loss ", std::abs(report.loss), " and gradient norm ",
                 std::abs(report.grad_norm), ", expected finite values; nothing was updated"),
            where),
      report_(report) {}

StepReport Trainer::finish() {
  State& s = *state_;
  if (s.under_way.empty()) fail(Failure::other, "no step is under way");
  StepReport report = s.under_way.front();
  std::array<double, kernels::StepControl::columns> control;
  const std::span<const std::byte> bytes = s.readbacks[report.step % 2]->wait();
  std::memcpy(control.data(), bytes.data(), sizeof control);
  s.under_way.pop_front();
  report.loss = control[kernels::StepControl::loss];
  report.grad_norm = control[kernels::StepControl::grad_norm];
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    s.steps_done = report.step;
    s.under_way.clear();
    kernels::fill(s.context.device, s.control, 0);  // behind the steps that must change nothing: a load may follow
    throw NotFinite(report);
  }
  if (s.layer_norms.due(report.step)) report.layers = s.layer_norms.read(report.step);
  return report;
}

Evaluation Trainer::evaluate(const Dataset& data, LogitChange* logits) {
  State& s = *state_;
  s.context.logits = logits;
  const kernels::AtPlace work(s.context.device.profile().place().work, "evaluation");
  const dist::Mesh& mesh = s.context.mesh;
  const Index microbatch = cut_batch(s.config, mesh).microbatch, round = microbatch * mesh.extents().data;
  kernels::Device& device = s.context.device;
  const Matrix loss_total = s.totals.view().col_range(0, 1);
  kernels::fill(device, loss_total, 0);
  Index scored = 0;
  for (Index at = microbatch * mesh.point().data; at < data.rows(); at += round) {
    const Rows rows = data.in_order(at, std::min(microbatch, data.rows() - at));
    const Input input(device, rows.ids, rows.labels);
    Microbatch m = microbatch_of(input, 0, std::min(microbatch, data.rows() - at), data.length(), at);
    m.training = false;
    s.pipeline.evaluate(m, loss_total);
    scored += rows.scored();
  }
  s.context.logits = nullptr;
  double loss_sum = 0;
  kernels::download(device, loss_total, kernels::view(&loss_sum, 1, 1));
  const bool speaks = speaks_for_loss(mesh);
  const auto [loss, count] = sums_over(mesh.world(), speaks ? loss_sum : 0, speaks ? static_cast<double>(scored) : 0);
  return {count > 0 ? loss / count : 0, static_cast<Index>(count)};
}

}  // namespace lorashard::core
