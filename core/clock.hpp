// What a rank of a planned job counts on the meta device, in seconds of the hardware named. Each operation takes as
// long as core/hardware.hpp says; they run one after the other, as on a device's stream, and are kept by named work
// ("forward" number 3 of part 1), which core/timeline.hpp then places on the pipeline's common clock.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "core/hardware.hpp"
#include "dist/mesh.hpp"

namespace lorashard::core {

using kernels::Index;

// What a rank's time is spent on. Waiting for other stages is no work of a rank: the timeline adds it.
enum class Part { products, adapters, attention, kernels, optimizer, tensor, pipeline, data };
inline constexpr int kPartCount = 8;
const char* name(Part part);
using Parts = std::array<double, kPartCount>;  // seconds by part
double sum_of(const Parts& parts);

// The time of one named work of a rank.
struct WorkTime {
  std::string work;
  int number = 0, part = 0;
  Parts seconds{};
  double again_s = 0;  // of the seconds: what had been computed before
  // Collectives that run beside the work from a moment of it on.
  struct Started {
    double after_s = 0, seconds = 0;
  };
  std::vector<Started> started;
};

// Messages of a step, by axis and verb.
struct AxisTraffic {
  int size = 1;  // ranks of the axis
  Index messages = 0;
  double bytes = 0;  // of the whole, see dist::Traffic
};
using TrafficTable = std::map<std::pair<std::string, dist::Verb>, AxisTraffic>;

// How a job uses the hardware.
struct ClockSettings {
  dist::MeshExtents extents;
  kernels::DType precision = kernels::DType::f32;
  bool tf32 = false;
  bool overlaps = true;  // collectives that were started run beside what follows (cuda); else they are done at once
};

class Clock final : public kernels::Observer, public dist::TrafficObserver {
 public:
  // `hardware` outlives the clock.
  Clock(const Hardware& hardware, const ClockSettings& settings);

  // Nothing is counted until it runs: making a trainer and evaluating are no part of a step.
  void run(bool runs) { runs_ = runs; }
  void operation(kernels::Phase phase, const kernels::Cost& cost, const kernels::ProductShape* product) override;
  void enter(const char* work, int number, int part) override;
  void leave() override;
  void moved(const dist::Traffic& traffic) override;

  // In the order of the program, outermost works only.
  const std::vector<WorkTime>& works() const { return works_; }
  const TrafficTable& traffic() const { return traffic_; }
  double message_bytes() const { return message_bytes_; }  // of one message between neighbouring stages
  double flops() const { return flops_; }                  // of products and attention
  double again_flops() const { return again_flops_; }      // of them: what had been computed before

 private:
  void add(Part part, double seconds);

  const Hardware& hardware_;
  const ClockSettings settings_;
  std::map<std::string, Group> groups_;  // by axis
  std::vector<WorkTime> works_;
  bool runs_ = false;
  int depth_ = 0, again_depth_ = 0;
  TrafficTable traffic_;
  double message_bytes_ = 0, flops_ = 0, again_flops_ = 0;
};

// The group of an axis of the mesh as it lies on the nodes; ranks fill nodes in order. The axes are those of
// dist::Mesh.
Group group_of(const Hardware& hardware, const dist::MeshExtents& extents, const std::string& axis);

}  // namespace lorashard::core
