// The search over layouts (layouts.hpp). It leaves out only what cannot be the answer: gpipe, which takes as long as
// 1f1b and holds more; what recomputes more than a layout that was too slow; and what takes longer than the best found
// so far, or more memory than there is, by layout_bounds.hpp.
#include <algorithm>
#include <limits>

#include "core/layout_bounds.hpp"

namespace lorashard::core {

namespace {

std::vector<Index> divisors(Index n) {
  std::vector<Index> all;
  for (Index d = 1; d <= n; ++d)
    if (n % d == 0) all.push_back(d);
  return all;
}

// A pipeline of as many stages with more parts each, all of as many layers.
std::vector<int> chunks_for(Index layers, int stages) {
  std::vector<int> all{1};
  constexpr int kMostChunks = 8;
  for (int chunks = 2; stages > 1 && chunks <= kMostChunks; ++chunks)
    if (layers % (stages * chunks) == 0) all.push_back(chunks);
  return all;
}

// Full fine-tuning keeps the job's precision, which its result has; adapters are fp32 on a base of either.
std::vector<kernels::DType> precisions_for(const Config& config) {
  const kernels::DType own = config.train.precision;
  if (config.adapter.method == Method::full) return {own};
  return {own, own == kernels::DType::bf16 ? kernels::DType::f32 : kernels::DType::bf16};
}

// Every (tensor, pipeline) that divides ranks, heads and batch.
std::vector<dist::MeshExtents> meshes(const Config& config, int ranks) {
  std::vector<dist::MeshExtents> all;
  for (const Index tensor : divisors(config.model.shape.heads))
    for (Index pipeline = 1; pipeline <= config.model.shape.layers && tensor * pipeline <= ranks; ++pipeline) {
      if (ranks % (tensor * pipeline) != 0) continue;
      const dist::MeshExtents mesh{static_cast<int>(tensor), static_cast<int>(pipeline),
                                   static_cast<int>(ranks / (tensor * pipeline))};
      if (config.train.batch % mesh.data == 0) all.push_back(mesh);
    }
  return all;
}

template <class Use>
void for_each_candidate(const Config& config, int ranks, kernels::DType precision, const Use& use) {
  for (const dist::MeshExtents& mesh : meshes(config, ranks))
    for (const Index microbatch : divisors(config.train.batch / mesh.data))
      for (const int chunks : chunks_for(config.model.shape.layers, mesh.pipeline))
        for (const bool split : {false, true})
          for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
            if (!split || mesh.tensor > 1) use(Candidate{mesh, microbatch, chunks, split, recompute, precision});
}

}  // namespace

std::vector<Layout> all_layouts(const Config& config, int ranks) {
  std::vector<Layout> all;
  for (const kernels::DType precision : precisions_for(config))
    for_each_candidate(config, ranks, precision, [&](const Candidate& candidate) {
      Layout layout = layout_of(config, candidate);
      if (possible(layout)) all.push_back(std::move(layout));
    });
  return all;
}

Search::Search(const LayoutRequest& request) : request_(request), bounds_(std::make_unique<LayoutBounds>(request)) {}
Search::~Search() = default;

std::optional<Found> Search::fastest(int ranks) { return below(ranks, std::numeric_limits<double>::infinity()); }

std::optional<Found> Search::smallest(int most) {
  for (int ranks = 1; ranks <= most; ++ranks)
    if (std::optional<Found> found = fastest(ranks)) return found;
  return std::nullopt;
}

std::vector<Found> Search::front(int most) {
  std::vector<Found> all;
  double best_s = std::numeric_limits<double>::infinity();
  for (int ranks = 1; ranks <= most; ++ranks)
    if (std::optional<Found> found = below(ranks, best_s)) {
      best_s = found->step_s;
      all.push_back(std::move(*found));
    }
  return all;
}

std::optional<Found> Search::below(int ranks, double best_s) {
  const Config& config = request_.config;
  std::vector<std::pair<double, Candidate>> open;
  for (const kernels::DType precision : precisions_for(config)) {
    if (bounds_->least_s(ranks, precision) >= best_s) continue;
    for_each_candidate(config, ranks, precision, [&](const Candidate& candidate) {
      if (bounds_->least_bytes(candidate) > request_.hardware.memory_bytes) return;
      const double least_s = bounds_->least_s(candidate);
      if (least_s < best_s) open.emplace_back(least_s, candidate);
    });
  }
  std::stable_sort(open.begin(), open.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::optional<Found> best;
  std::vector<Candidate> too_slow;
  for (const auto& [least_s, candidate] : open) {
    if (least_s >= best_s) break;
    if (std::any_of(too_slow.begin(), too_slow.end(), [&](const Candidate& c) { return candidate.recomputes_more(c); }))
      continue;
    Found found{layout_of(config, candidate), 0, 0};
    if (!possible(found.layout)) continue;
    found.step_s = planned_step_s(request_, found.layout);
    if (found.step_s >= best_s) {
      too_slow.push_back(candidate);
      continue;
    }
    found.peak_bytes = peak_bytes(request_, found.layout);
    if (found.peak_bytes > request_.hardware.memory_bytes) continue;
    best_s = found.step_s;
    best = std::move(found);
  }
  return best;
}

}  // namespace lorashard::core
