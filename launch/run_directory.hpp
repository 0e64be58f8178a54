// What a run leaves behind, and who may write it:
//
//   <run.dir>/lock                           held (flock) by rank 0 of the run that is under way
//   <run.dir>/metrics.jsonl, summary.json
//   <run.dir>/checkpoints/step-00000300.h5   300 steps finished
//   <run.dir>/adapter.h5 or model.h5         the result
//   <run.dir>/events/                        event files for TensorBoard, one a start, with run.tensorboard
//   <run.dir>/report.html                    what it was, for a browser
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dist/communicator.hpp"

namespace lorashard::launch {

class RunDirectory {
 public:
  // Only rank 0 of `world` touches the directory; every other method is collective over it unless it says otherwise.
  // `place` is where this rank's program is, for those that watch it.
  RunDirectory(std::string path, dist::Communicator& world, kernels::Place& place)
      : path_(std::move(path)), world_(world), place_(place) {}
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  // Takes the lock where a run has been before; makes nothing. Throws Failure::configuration naming the holder.
  void lock_existing();
  // Makes the directory and takes the lock, and clears away what an interrupted run did not finish.
  void lock_or_make();

  // The newest checkpoint that is whole, by steps. Damaged ones are named on stderr and passed over.
  std::optional<kernels::Index> newest_checkpoint() const;
  // Removes all but the newest `keep`.
  void prune(kernels::Index keep) const;

  // Not collective.
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string checkpoint(kernels::Index step) const;
  std::vector<kernels::Index> checkpoints() const;  // steps, rising

 private:
  void take_lock(bool make);
  std::string path_;
  dist::Communicator& world_;
  kernels::Place& place_;
  int lock_ = -1;
};

}  // namespace lorashard::launch
