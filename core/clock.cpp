#include "core/clock.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/error.hpp"

namespace lorashard::core {

using dist::Verb;
using kernels::Phase;

const char* name(Part part) {
  switch (part) {
    case Part::products:
      return "products";
    case Part::adapters:
      return "adapters";
    case Part::attention:
      return "attention";
    case Part::kernels:
      return "kernels";
    case Part::optimizer:
      return "optimizer";
    case Part::tensor:
      return "tensor";
    case Part::pipeline:
      return "pipeline";
    case Part::data:
      return "data";
  }
  return "?";
}

double sum_of(const Parts& parts) { return std::accumulate(parts.begin(), parts.end(), 0.0); }

namespace {

Part part_of(Phase phase) {
  switch (phase) {
    case Phase::matmul:
      return Part::products;
    case Phase::adapter:
      return Part::adapters;
    case Phase::attention:
      return Part::attention;
    case Phase::optimizer:
      return Part::optimizer;
    default:
      return Part::kernels;
  }
}

// Over the replica group (tensor x data) go gradients of replicated values, over the world the two totals of a step.
Part part_of(const std::string& axis) {
  return axis == "tensor" ? Part::tensor : axis == "pipeline" ? Part::pipeline : Part::data;
}

}  // namespace

// The group that lies on most nodes is the slowest, and the others wait for it.
Group group_of(const Hardware& hardware, const dist::MeshExtents& extents, const std::string& axis) {
  const bool world = axis == "world", replica = axis == "replica";
  const dist::MeshExtents group_extents{axis == "tensor" || replica || world ? extents.tensor : 1,
                                        axis == "pipeline" || world ? extents.pipeline : 1,
                                        axis == "data" || replica || world ? extents.data : 1};
  Group widest{0, 1, 1};
  int most_nodes = 0;
  for (int first = 0; first < extents.ranks(); ++first) {
    const dist::MeshPoint corner = dist::point_of(extents, first);
    if ((corner.tensor > 0 && group_extents.tensor > 1) || (corner.pipeline > 0 && group_extents.pipeline > 1) ||
        (corner.data > 0 && group_extents.data > 1))
      continue;  // no group's first rank
    Group group{group_extents.ranks(), 1, 1};
    int nodes = 0, node = -1, on_node = 0;
    for (int member = 0; member < group.size; ++member) {  // rising
      const dist::MeshPoint p = dist::point_of(group_extents, member);
      const int its_node = (first + dist::rank_of(extents, p)) / hardware.cards_per_node;
      if (its_node != node) node = its_node, ++nodes, on_node = 0;
      group.per_node = std::max(group.per_node, ++on_node);
    }
    if (nodes > most_nodes) most_nodes = nodes, widest = group;
  }
  widest.groups_per_node = std::max(1, std::min(hardware.cards_per_node, extents.ranks()) / widest.per_node);
  return widest;
}

Clock::Clock(const Hardware& hardware, const ClockSettings& settings) : hardware_(hardware), settings_(settings) {
  for (const char* axis : {"world", "tensor", "pipeline", "data", "replica"})
    groups_[axis] = group_of(hardware, settings.extents, axis);
}

void Clock::add(Part part, double seconds) {
  if (depth_ == 0) return;
  works_.back().seconds[static_cast<int>(part)] += seconds;
  if (again_depth_ > 0) works_.back().again_s += seconds;
}

void Clock::operation(Phase phase, const kernels::Cost& cost, const kernels::ProductShape* product) {
  if (!runs_ || phase == Phase::tensor || phase == Phase::pipeline || phase == Phase::data) return;  // moved() has them
  if (depth_ > 0 && (product != nullptr || phase == Phase::attention)) {
    flops_ += cost.flops;
    if (again_depth_ > 0) again_flops_ += cost.flops;
  }
  const double seconds = product != nullptr          ? product_s(hardware_, *product, settings_.tf32)
                         : phase == Phase::attention ? attention_s(hardware_, cost, settings_.precision)
                                                     : kernel_s(hardware_, cost);
  add(part_of(phase), seconds);
}

void Clock::enter(const char* work, int number, int part) {
  if (!runs_) return;
  if (++depth_ == 1) works_.push_back({work, number, part, {}, 0, {}});
  if (again_depth_ > 0 || std::strcmp(work, kernels::kAgain) == 0) ++again_depth_;
}

void Clock::leave() {
  if (!runs_) return;
  --depth_;
  if (again_depth_ > 0) --again_depth_;
}

void Clock::moved(const dist::Traffic& traffic) {
  if (!runs_) return;
  AxisTraffic& entry = traffic_[{*traffic.axis, traffic.verb}];
  entry.size = traffic.size;
  ++entry.messages;
  const double bytes = static_cast<double>(traffic.bytes);
  entry.bytes += bytes;
  if (traffic.verb == Verb::send || traffic.verb == Verb::receive) {
    if (depth_ == 0) {
      message_bytes_ = bytes;  // an action of the schedule: the timeline has it
    } else if (traffic.verb == Verb::receive) {
      add(Part::pipeline, message_s(hardware_, bytes, settings_.extents.ranks() <= hardware_.cards_per_node));
    }
    return;
  }
  if (traffic.verb == Verb::values || traffic.verb == Verb::barrier) return;  // a few bytes, outside of steps
  const double seconds = collective_s(hardware_, traffic.verb, bytes, groups_.at(*traffic.axis));
  if (traffic.started && settings_.overlaps && depth_ > 0)
    works_.back().started.push_back({sum_of(works_.back().seconds), seconds});
  else
    add(part_of(*traffic.axis), seconds);
}

}  // namespace lorashard::core
