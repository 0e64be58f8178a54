// Other ways to run a job: which mesh, microbatch and recompute mode fit a card, and which are fastest on it.
#pragma once

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

// Every mesh of `ranks` that divides the job, with every microbatch, recompute mode, sequence parallelism and schedule.
std::vector<Layout> all_layouts(const Config& config, int ranks);

// The smallest number of ranks up to `most` on which any layout fits, and there the one that is fastest; none: none
// fits.
struct Found {
  Layout layout;
  Plan plan;
};
std::optional<Found> smallest(const LayoutRequest& request, int most);
// The layout of `ranks` that fits and takes the least time; none: none fits.
std::optional<Found> fastest(const LayoutRequest& request, int ranks);

}  // namespace lorashard::core
