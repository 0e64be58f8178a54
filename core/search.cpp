// The search over layouts (layouts.hpp). It leaves out only what cannot be the answer:
//   - gpipe takes as long as 1f1b and holds more;
//   - recomputing more takes no less time, so of the recompute modes of a layout the first that fits is taken;
//   - a layout whose work alone, at the rate of the largest product and with the pipeline's bubble, takes longer than
//     the best found so far, or whose weights alone do not fit, is not walked.
#include <algorithm>
#include <array>

#include "core/layouts.hpp"
#include "core/tensor_table.hpp"

namespace lorashard::core {

namespace {

std::vector<Index> divisors(Index n) {
  std::vector<Index> all;
  for (Index d = 1; d <= n; ++d)
    if (n % d == 0) all.push_back(d);
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
    const double passes = config.adapter.method == Method::full ? 3 : config.adapter.layers.empty() ? 2 : 1;
    // The lowest block hands no gradient down: a layer less is on the safe side.
    const double layers = static_cast<double>(shape.layers);
    flops_ = 2 * multiplied_parameters(shape) * (1 + (passes - 1) * (layers - 1) / layers) *
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

bool may_fit(const LayoutRequest& request, const Layout& layout) {
  return least_bytes(request, layout) <= request.hardware.memory_bytes;
}

// Nothing holds less than a microbatch of one sequence without interleaving.
bool any_fits(const LayoutRequest& request, int ranks) {
  for (const Layout& mesh : meshes(request.config, ranks)) {
    if (!may_fit(request, mesh)) continue;
    std::vector<Modes> variants;
    add_variants(mesh, {1}, variants);
    for (const Modes& modes : variants)
      for (const Layout& layout : modes)
        if (layout.config.mesh.chunks == 1 && fits(request, layout)) return true;
  }
  return false;
}

}  // namespace

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
    if (may_fit(request, mesh)) add_variants(mesh, divisors(request.config.train.batch / mesh.extents.data), variants);
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
    const auto fitting = std::find_if(modes.begin(), modes.end(), [&](const Layout& l) { return fits(request, l); });
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
