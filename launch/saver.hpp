// The checkpoints of a run under way: at most one is being written, beside the training; older ones go only when a newer
// one is whole.
#pragma once

#include <chrono>
#include <memory>

#include "core/trainer.hpp"
#include "launch/run_directory.hpp"

namespace lorashard::launch {

class Saver {
 public:
  // All outlive it.
  Saver(const core::RunConfig& config, core::Trainer& trainer, RunDirectory& directory)
      : config_(config), trainer_(trainer), directory_(directory) {}

  // Collective. Copies the state of steps_done() and begins to write it; ends the one before first.
  void begin();
  // The same, for a run that waits for it: nothing is copied.
  void save_now();
  // And no older one is removed: this state may be worth less than they are.
  void save_beside_others();
  bool under_way() const { return save_ != nullptr; }
  // This rank's part of it is written, or failed: finish() will not wait for this rank.
  bool ended() const { return !save_ || save_->ended(); }
  // Collective. Waits until it is whole, then removes older ones. Throws what went wrong in writing it.
  void finish();

  // The longest that save_now() took; a guess from the size of the state before there was any. Beside the training a
  // save takes its time.
  double longest_s() const;
  core::Index bytes() const { return bytes_; }  // of the last one; 0: none yet
  // Of those written beside the training: their number, and how long one kept it waiting at most.
  core::Index beside() const { return beside_; }
  double longest_pause_s() const { return longest_pause_s_; }
  double longest_beside_s() const { return longest_beside_s_; }

 private:
  using Clock = std::chrono::steady_clock;
  double since_begun_s() const;

  const core::RunConfig& config_;
  core::Trainer& trainer_;
  RunDirectory& directory_;
  kernels::HostMemory memory_;  // of the copies, kept from save to save
  std::unique_ptr<core::BackgroundSave> save_;
  Clock::time_point begun_{};
  double longest_s_ = 0;
  core::Index bytes_ = 0, beside_ = 0;
  double longest_pause_s_ = 0, longest_beside_s_ = 0;
};

}  // namespace lorashard::launch
