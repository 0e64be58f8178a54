// Other ways to run a job: which mesh, microbatch and recompute mode fit a card, and which are fastest on it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.hpp"

namespace lorashard::core {

// The job with other keys, on so many ranks.
struct Layout {
  Config config;
  dist::MeshExtents extents;
  std::string change;  // what differs from the job, where that is asked for: "train.recompute full, mesh.tensor 8"
};

struct LayoutRequest {
  const Config& config;  // complete
  const Dataset& train;
  const Hardware& hardware;
  kernels::DeviceKind target = kernels::DeviceKind::cuda;
  bool hides_sums = true;  // as PlanRequest
};

// Whether the job's own check takes it.
bool possible(const Layout& layout);

PlanRequest request_of(const LayoutRequest& request, const Layout& layout);

// Bytes of the fullest rank with what the libraries take, and whether the card has them.
double peak_bytes(const LayoutRequest& request, const Layout& layout);
bool fits(const LayoutRequest& request, const Layout& layout);

// Seconds of a step: those of plan_job, from fewer walks.
double planned_step_s(const LayoutRequest& request, const Layout& layout);

// The fewest changes of the job's keys, and then the fewest ranks, that make it fit: at most five of them, none when
// three changes do not do.
std::vector<Layout> nearest_that_fit(const LayoutRequest& request, const dist::MeshExtents& extents);

// Every mesh of `ranks` that divides the job, with every microbatch, recompute mode, sequence parallelism and schedule,
// and by LoRA both precisions.
std::vector<Layout> all_layouts(const Config& config, int ranks);

struct Found {
  Layout layout;
  double step_s = 0, peak_bytes = 0;  // of planned_step_s and peak_bytes
};

class LayoutBounds;

// The best of all_layouts, from as few plans as tell. The request's parts outlive this.
class Search {
 public:
  explicit Search(const LayoutRequest& request);
  ~Search();

  // The layout of `ranks` that fits and takes the least time; none: none fits.
  std::optional<Found> fastest(int ranks);
  // The same on the smallest number of ranks up to `most` on which any fits.
  std::optional<Found> smallest(int most);
  // The fastest of each number of ranks up to `most` on which it takes less time than on any smaller number.
  std::vector<Found> front(int most);

 private:
  std::optional<Found> below(int ranks, double best_s);

  const LayoutRequest request_;
  std::unique_ptr<LayoutBounds> bounds_;
};

}  // namespace lorashard::core
