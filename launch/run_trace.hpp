// The works of some steps of a run on one time axis: run.dir/trace.json.
#pragma once

#include <optional>
#include <string>

#include "core/work_recorder.hpp"
#include "dist/mesh.hpp"

namespace lorashard::launch {

class RunTrace {
 public:
  // `steps` steps of a session of steps [first, last), from its second one on: the first step finds caches cold. None
  // when `steps` is 0.
  RunTrace(kernels::Device& device, dist::Mesh& mesh, std::string path, core::Index steps, core::Index first,
           core::Index last);

  // True when recording begins or ends after `done` steps: then no step may be under way.
  bool turns_at(core::Index done) const { return steps_ > 0 && (done == begin_ || done == end_); }
  // Collective, before step `step` is begun; ranks start their clocks together.
  void before(core::Index step);
  // Collective, when `done` steps are finished; writes the file after the last one.
  void after(core::Index done);

 private:
  void write();

  kernels::Device& device_;
  dist::Mesh& mesh_;
  std::string path_;
  core::Index steps_, begin_, end_;
  std::optional<core::WorkRecorder> recorder_;
};

}  // namespace lorashard::launch
