#include "core/layouts.hpp"

#include <algorithm>

namespace lorashard::core {

namespace {

// One key changed.
using Change = std::optional<Layout> (*)(const Layout&);

std::optional<Layout> less_precise(const Layout& from) {
  if (from.config.train.precision == kernels::DType::bf16) return {};
  Layout to = from;
  to.config.train.precision = kernels::DType::bf16;
  return to;
}

std::optional<Layout> more_recompute(const Layout& from) {
  if (from.config.train.recompute == Recompute::full) return {};
  Layout to = from;
  to.config.train.recompute = from.config.train.recompute == Recompute::none ? Recompute::selective : Recompute::full;
  return to;
}

std::optional<Layout> one_sequence(const Layout& from) {
  if (microbatch_of(from.config.train, from.extents.data) == 1) return {};
  Layout to = from;
  to.config.train.microbatch = 1;
  return to;
}

std::optional<Layout> split_sequence(const Layout& from) {
  if (from.config.mesh.sequence_parallel || from.extents.tensor == 1) return {};
  Layout to = from;
  to.config.mesh.sequence_parallel = true;
  return to;
}

// Takes the ranks from the data axis where it has them.
std::optional<Layout> wider(const Layout& from, int dist::MeshExtents::*axis, int MeshConfig::*key) {
  Layout to = from;
  to.extents.*axis *= 2;
  to.config.mesh.*key *= 2;
  if (from.extents.data % 2 == 0) to.extents.data /= 2;
  return to;
}
std::optional<Layout> more_tensor(const Layout& from) {
  return wider(from, &dist::MeshExtents::tensor, &MeshConfig::tensor);
}
std::optional<Layout> more_pipeline(const Layout& from) {
  return wider(from, &dist::MeshExtents::pipeline, &MeshConfig::pipeline);
}
std::optional<Layout> more_data(const Layout& from) {
  Layout to = from;
  to.extents.data *= 2;
  return to;
}

constexpr Change kChanges[] = {less_precise, more_recompute, one_sequence, split_sequence,
                               more_tensor,  more_pipeline,  more_data};

// "train.recompute full, mesh.tensor 8, 16 ranks"
std::string difference(const Config& job, int ranks, const Layout& layout) {
  const Config& config = layout.config;
  std::string line;
  const auto add = [&](bool differs, const auto&... words) {
    if (differs) line += kernels::text(line.empty() ? "" : ", ", words...);
  };
  add(config.train.precision != job.train.precision, "train.precision ", kernels::name(config.train.precision));
  add(config.train.recompute != job.train.recompute, "train.recompute ",
      config.train.recompute == Recompute::full ? "full" : "selective");
  add(config.train.microbatch != job.train.microbatch, "train.microbatch ", config.train.microbatch);
  add(config.mesh.sequence_parallel != job.mesh.sequence_parallel, "mesh.sequence_parallel yes");
  add(config.mesh.tensor != job.mesh.tensor, "mesh.tensor ", config.mesh.tensor);
  add(config.mesh.pipeline != job.mesh.pipeline, "mesh.pipeline ", config.mesh.pipeline);
  add(layout.extents.ranks() != ranks, layout.extents.ranks(), " ranks");
  return line;
}

void add_changed(const LayoutRequest& request, const Layout& from, std::size_t first, int depth,
                 std::vector<Layout>& fitting) {
  for (std::size_t i = first; i < std::size(kChanges); ++i) {
    std::optional<Layout> to = kChanges[i](from);
    if (!to) continue;
    if (depth > 1)
      add_changed(request, *to, i, depth - 1, fitting);
    else if (possible(*to) && fits(request, *to))
      fitting.push_back(std::move(*to));
  }
}

}  // namespace

std::vector<Layout> nearest_that_fit(const LayoutRequest& request, const dist::MeshExtents& extents) {
  std::vector<Layout> fitting;
  for (int depth = 1; depth <= 3 && fitting.empty(); ++depth)
    add_changed(request, {request.config, extents, ""}, 0, depth, fitting);
  for (Layout& layout : fitting) layout.change = difference(request.config, extents.ranks(), layout);
  std::stable_sort(fitting.begin(), fitting.end(),
                   [](const Layout& a, const Layout& b) { return a.extents.ranks() < b.extents.ranks(); });
  if (fitting.size() > 5) fitting.resize(5);
  return fitting;
}

}  // namespace lorashard::core
