#include "core/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/learning_rate.hpp"
#include "core/trainer_state.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::Phase;
using kernels::PhaseScope;
using kernels::text;

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

struct Cutting {
  Index share = 0;       // sequences of a data rank
  Index microbatch = 0;  // sequences
};

Cutting cut_batch(const Config& config, const dist::Mesh& mesh) {
  const Index batch = config.train.batch, parts = mesh.extents().data;
  if (batch % parts != 0) {
    fail(Failure::configuration, text("train.batch: found ", batch, ", expected a multiple of the ", parts, " data ranks"));
  }
  const Index share = batch / parts, microbatch = config.train.microbatch == 0 ? share : config.train.microbatch;
  if (microbatch < 1 || share % microbatch != 0) {
    fail(Failure::configuration, text("train.microbatch: found ", microbatch, ", expected a divisor of the ", share,
                                      " sequences of a data rank"));
  }
  return {share, microbatch};
}

// Sequences [first, first + count) of `rows`, whose first row is number `offset` of the global batch.
Microbatch microbatch_of(const Rows& rows, Index first, Index count, Index length, Index offset) {
  Microbatch m;
  m.sequences = count;
  m.length = length;
  m.first_sequence = offset + first;
  m.ids = kernels::TokenIds(rows.ids).subspan(first * length, m.rows());
  m.labels = kernels::Labels(rows.labels).subspan(first * length, m.rows());
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
      plan(make_plan(job)),
      parameters(context, plan, tensors_here(job, mesh), base.get(), job.adapter.seed),
      pipeline(context, parameters, plan, job.mesh),
      optimizer(context, parameters, job.optimizer) {
  cut_batch(job, mesh);
  load_initial_adapters();
}

Trainer::Trainer(const Config& config, kernels::Device& device, dist::Mesh& mesh)
    : state_(std::make_unique<State>(config, device, mesh)) {}

Trainer::~Trainer() = default;

Index Trainer::steps_done() const { return state_->steps_done; }
const ModelShape& Trainer::shape() const { return state_->context.shape; }
Index Trainer::trained_parameters() const { return core::trained_parameters(state_->plan, shape()); }
Index Trainer::reduced_bytes() const { return state_->optimizer.reduced_bytes(); }
const std::string& Trainer::base_digest() const { return state_->base_digest; }

StepReport Trainer::step(const Dataset& data) {
  State& s = *state_;
  kernels::Profile& profile = s.context.device.profile();
  const TrainConfig& train = s.config.train;
  const Cutting cutting = cut_batch(s.config, s.context.mesh);
  const Index first = cutting.share * s.context.mesh.point().data;

  // Every rank knows the whole batch, so the number of scored tokens needs no message.
  Rows rows;
  {
    const PhaseScope input(profile, Phase::input);
    rows = data.batch(s.steps_done, train.batch, 0, train.batch);
  }
  const Index scored = rows.scored();
  if (scored == 0) fail(Failure::configuration, text(data.path(), ": step ", s.steps_done, " has no scored token"));

  std::vector<Microbatch> microbatches;
  for (Index at = first; at < first + cutting.share; at += cutting.microbatch) {
    microbatches.push_back(microbatch_of(rows, at, cutting.microbatch, data.length(), 0));
    microbatches.back().step = s.steps_done;
    microbatches.back().loss_scale = 1.0f / static_cast<float>(scored);
  }

  s.optimizer.zero_gradients();
  const double loss_sum = s.pipeline.train(microbatches);
  s.optimizer.reduce();

  const PhaseScope optimizer(profile, Phase::optimizer);
  const auto [loss, squares] = sums_over(s.context.mesh.world(), speaks_for_loss(s.context.mesh) ? loss_sum : 0,
                                         s.optimizer.sum_of_squares());
  StepReport report{s.steps_done, loss / static_cast<double>(scored), std::sqrt(squares),
                    learning_rate(s.config.optimizer, s.steps_done, train.steps), train.batch * data.length()};
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    fail(Failure::numerics, text("step ", report.step, ": found loss ", report.loss, " and gradient norm ",
                                 report.grad_norm, ", expected finite values; nothing was updated"));
  }
  const double clip = s.config.optimizer.clip;
  const double scale = clip > 0 ? std::min(1.0, clip / (report.grad_norm + 1e-6)) : 1.0;
  s.optimizer.update(report.lr, scale, s.steps_done + 1);
  ++s.steps_done;
  return report;
}

Evaluation Trainer::evaluate(const Dataset& data) {
  State& s = *state_;
  const dist::Mesh& mesh = s.context.mesh;
  const Index microbatch = cut_batch(s.config, mesh).microbatch, round = microbatch * mesh.extents().data;
  double loss_sum = 0;
  Index scored = 0;
  for (Index at = microbatch * mesh.point().data; at < data.rows(); at += round) {
    const Rows rows = data.in_order(at, std::min(microbatch, data.rows() - at));
    Microbatch m = microbatch_of(rows, 0, std::min(microbatch, data.rows() - at), data.length(), at);
    m.training = false;
    loss_sum += s.pipeline.evaluate(m);
    scored += rows.scored();
  }
  const bool speaks = speaks_for_loss(mesh);
  const auto [loss, count] = sums_over(mesh.world(), speaks ? loss_sum : 0, speaks ? static_cast<double>(scored) : 0);
  return {count > 0 ? loss / count : 0, static_cast<Index>(count)};
}

}  // namespace lorashard::core
