// The search over layouts (layouts.hpp). It leaves out only what cannot be the answer:
//   - gpipe takes as long as 1f1b and holds more;
//   - recomputing more takes no less time, so of the recompute modes of a layout the first that fits is taken;
//   - a layout whose work alone, at the rate of the largest product and with the pipeline's bubble, takes longer than
//   the
//     best found so far, or whose weights alone do not fit, is not walked.
#include <algorithm>
#include <array>
#include <map>

#include "core/layouts.hpp"
#include "core/model.hpp"
#include "core/walk.hpp"

namespace lorashard::core {

namespace {

std::vector<Index> divisors(Index n) {
  std::vector<Index> all;
  for (Index d = 1; d <= n; ++d)
    if (n % d == 0) all.push_back(d);
  return all;
}

PlanRequest request_of(const LayoutRequest& request, const Layout& layout) {
  return {layout.config, layout.extents, request.target, request.train, {}};
}

// Layers of each model part of a stage, and whether it has an end of the model: stages alike in that take the same
// time.
std::vector<Index> kind_of_stage(const Layout& layout, int stage) {
  const int stages = layout.extents.pipeline, parts = stages * layout.config.mesh.chunks;
  std::vector<Index> kind{stage == 0, stage == stages - 1};
  for (int part = stage; part < parts; part += stages)
    kind.push_back(layers_of_part(layout.config.model.shape.layers, part, parts).count);
  const AdapterConfig& adapter = layout.config.adapter;
  if (adapter.method == Method::lora && !adapter.layers.empty()) kind.push_back(stage);
  return kind;
}

// The works of a step of `microbatches` from those of a step of two (or one): the first stands for all but the last,
// whose backward pass starts the gradients' sums.
std::vector<WorkTime> repeated(const std::vector<WorkTime>& works, int walked, int microbatches) {
  std::vector<WorkTime> all;
  for (const WorkTime& work : works) {
    const bool action = work.work == "forward" || work.work == "backward";
    if (!action) {
      all.push_back(work);
    } else if (work.number == walked - 1) {
      all.push_back(work);
      all.back().number = microbatches - 1;
    }
    if (!action || work.number != 0) continue;
    for (int number = 0; number < microbatches - 1; ++number) {
      all.push_back(work);
      all.back().number = number;
    }
  }
  return all;
}

// Bytes of weights, and of what training needs beside them, that no layout of this mesh can do without.
double least_bytes(const LayoutRequest& request, const Layout& layout) {
  const double values = static_cast<double>(parameter_count(layout.config.model.shape)) /
                        (layout.extents.tensor * layout.extents.pipeline);
  const double weight_bytes = layout.config.train.precision == kernels::DType::bf16 ? 2 : 4;
  const double trained = layout.config.adapter.method == Method::full ? 4 + 8.0 / layout.extents.data : 0;
  return values * (weight_bytes + trained) + request.hardware.libraries_bytes;
}

// Matrix products that no layout can do without, at the rate of the largest one.
class LeastTime {
 public:
  LeastTime(const LayoutRequest& request, const Config& config) {
    const ModelShape& shape = config.model.shape;
    double values = static_cast<double>(shape.vocab * shape.width);
    for (const TensorInfo& info : tensor_table(shape))
      if (info.home == Home::layer && info.rows > 1) values += static_cast<double>(info.rows * info.cols);
    const double passes = config.adapter.method == Method::full ? 3 : config.adapter.layers.empty() ? 2 : 1;
    // The lowest block hands no gradient down, nor the lowest layers without adapters: a layer less is on the safe
    // side.
    const double layers = static_cast<double>(shape.layers);
    flops_ = 2 * values * (1 + (passes - 1) * (layers - 1) / layers) *
             static_cast<double>(config.train.batch * config.data.length);
    constexpr Index kLarge = 32768;
    const kernels::ProductShape large{kLarge, kLarge, kLarge, config.train.precision};
    rate_ = 2.0 * kLarge * kLarge * kLarge / product_s(request.hardware, large, config.device.tf32);
  }
  double of(const Layout& layout) const {
    const double microbatches = static_cast<double>(layout.config.train.batch / layout.extents.data /
                                                    std::max<Index>(layout.config.train.microbatch, 1));
    const double bubble = (layout.extents.pipeline - 1) / (microbatches * layout.config.mesh.chunks);
    return flops_ / layout.extents.ranks() / rate_ * (1 + bubble);
  }

 private:
  double flops_ = 0, rate_ = 1;
};

// A pipeline of as many stages with more parts each, all of as many layers.
std::vector<int> chunks_for(const Layout& base) {
  std::vector<int> all{1};
  constexpr int kMostChunks = 8;
  for (int chunks = 2; base.extents.pipeline > 1 && chunks <= kMostChunks; ++chunks)
    if (base.config.model.shape.layers % (base.extents.pipeline * chunks) == 0) all.push_back(chunks);
  return all;
}

// The three recompute modes of a layout, rising.
using Modes = std::array<Layout, 3>;
Modes modes_of(Layout layout) {
  Modes modes;
  for (std::size_t i = 0; i < modes.size(); ++i) {
    layout.config.train.recompute = static_cast<Recompute>(i);
    modes[i] = layout;
  }
  return modes;
}

void add_variants(const Layout& base, const std::vector<Index>& microbatches, std::vector<Modes>& all) {
  for (const Index microbatch : microbatches)
    for (const int chunks : chunks_for(base))
      for (const bool split : {false, true}) {
        if (split && base.extents.tensor == 1) continue;
        Layout layout = base;
        layout.config.train.microbatch = microbatch;
        layout.config.mesh.chunks = chunks;
        layout.config.mesh.schedule = chunks > 1 ? dist::ScheduleKind::interleaved : dist::ScheduleKind::one_f_one_b;
        layout.config.mesh.sequence_parallel = split;
        if (possible(layout)) all.push_back(modes_of(layout));
      }
}

// Every (tensor, pipeline) that divides ranks, heads and batch.
std::vector<Layout> meshes(const Config& config, int ranks) {
  std::vector<Layout> all;
  for (const Index tensor : divisors(config.model.shape.heads))
    for (Index pipeline = 1; pipeline <= config.model.shape.layers && tensor * pipeline <= ranks; ++pipeline) {
      if (ranks % (tensor * pipeline) != 0) continue;
      Layout mesh{config,
                  {static_cast<int>(tensor), static_cast<int>(pipeline), static_cast<int>(ranks / (tensor * pipeline))},
                  ""};
      if (config.train.batch % mesh.extents.data != 0) continue;
      mesh.config.mesh.tensor = mesh.extents.tensor;
      mesh.config.mesh.pipeline = mesh.extents.pipeline;
      all.push_back(std::move(mesh));
    }
  return all;
}

bool fits(const LayoutRequest& request, const Layout& layout) {
  return least_bytes(request, layout) <= request.hardware.memory_bytes &&
         peak_bytes(request, layout) <= request.hardware.memory_bytes;
}

// Nothing holds less than a microbatch of one sequence without interleaving.
bool any_fits(const LayoutRequest& request, int ranks) {
  for (const Layout& mesh : meshes(request.config, ranks)) {
    if (least_bytes(request, mesh) > request.hardware.memory_bytes) continue;
    std::vector<Modes> variants;
    add_variants(mesh, {1}, variants);
    for (const Modes& modes : variants)
      for (const Layout& layout : modes)
        if (layout.config.mesh.chunks == 1 && fits(request, layout)) return true;
  }
  return false;
}

}  // namespace

double planned_step_s(const LayoutRequest& request, const Layout& layout) {
  const Index share = layout.config.train.batch / layout.extents.data;
  const PlanRequest whole = request_of(request, layout);
  const Index microbatch = microbatch_of(whole);
  const int microbatches = static_cast<int>(share / microbatch), walked = std::min(microbatches, 2);
  Layout shorter = layout;
  shorter.config.train.microbatch = microbatch;
  shorter.config.train.batch = microbatch * walked * layout.extents.data;
  const PlanRequest walk_request = request_of(request, shorter);
  const ClockSettings settings{layout.extents, layout.config.train.precision, layout.config.device.tf32,
                               request.target == kernels::DeviceKind::cuda};
  std::map<std::vector<Index>, std::vector<WorkTime>> known;
  std::vector<std::vector<WorkTime>> works;
  double message_bytes = 0;
  for (int stage = 0; stage < layout.extents.pipeline; ++stage) {
    const auto [found, fresh] = known.try_emplace(kind_of_stage(layout, stage));
    if (fresh) {
      Clock clock(request.hardware, settings);
      const Walk walk(walk_request, {0, stage, 0}, &clock);
      found->second = repeated(clock.works(), walked, microbatches);
      message_bytes = std::max(message_bytes, clock.message_bytes());
    }
    works.push_back(found->second);
  }
  return planned_time(whole, request.hardware, works, message_bytes).step_s;
}

std::vector<Layout> all_layouts(const Config& config, int ranks) {
  std::vector<Modes> variants;
  for (const Layout& mesh : meshes(config, ranks))
    add_variants(mesh, divisors(config.train.batch / mesh.extents.data), variants);
  std::vector<Layout> all;
  for (const Modes& modes : variants) all.insert(all.end(), modes.begin(), modes.end());
  return all;
}

std::optional<Found> fastest(const LayoutRequest& request, int ranks) {
  std::vector<Modes> variants;
  for (const Layout& mesh : meshes(request.config, ranks))
    if (least_bytes(request, mesh) <= request.hardware.memory_bytes)
      add_variants(mesh, divisors(request.config.train.batch / mesh.extents.data), variants);
  const LeastTime least(request, request.config);
  std::stable_sort(variants.begin(), variants.end(),
                   [&](const Modes& a, const Modes& b) { return least.of(a[0]) < least.of(b[0]); });
  const Layout* best = nullptr;
  double best_s = 0;
  for (const Modes& modes : variants) {
    if (best != nullptr && least.of(modes[0]) >= best_s) break;
    // The time of the mode that recomputes least costs fewer walks than asking what fits.
    const double least_s = planned_step_s(request, modes[0]);
    if (best != nullptr && least_s >= best_s) continue;
    const auto fitting =
        std::find_if(modes.begin(), modes.end(), [&](const Layout& l) { return fits(request, l); });
    if (fitting == modes.end()) continue;
    const double seconds = fitting == modes.begin() ? least_s : planned_step_s(request, *fitting);
    if (best == nullptr || seconds < best_s) best = &*fitting, best_s = seconds;
  }
  if (best == nullptr) return std::nullopt;
  return Found{*best, plan_job(request_of(request, *best), request.hardware)};
}

std::optional<Found> smallest(const LayoutRequest& request, int most) {
  for (int ranks = 1; ranks <= most; ++ranks)
    if (any_fits(request, ranks)) return fastest(request, ranks);
  return std::nullopt;
}

}  // namespace lorashard::core
