#include "launch/saver.hpp"

#include <algorithm>

namespace lorashard::launch {

namespace {
// Of a shared disk on a bad day, for as long as nothing was measured.
constexpr double kSlowDisk_bytes_per_s = 100e6, kSlowStart_s = 5;
}  // namespace

void Saver::begin() {
  if (!config_.background_save) return save_now();
  finish();
  begun_ = Clock::now();
  save_ = trainer_.begin_save(directory_.checkpoint(trainer_.steps_done()), memory_);
  ++beside_;
  longest_pause_s_ = std::max(longest_pause_s_, since_begun_s());
}

void Saver::save_now() {
  save_beside_others();
  directory_.prune(config_.keep);
}

void Saver::save_beside_others() {
  finish();
  begun_ = Clock::now();
  bytes_ = trainer_.save(directory_.checkpoint(trainer_.steps_done()));
  longest_s_ = std::max(longest_s_, since_begun_s());
}

void Saver::finish() {
  if (!save_) return;
  bytes_ = save_->finish();
  save_.reset();
  longest_beside_s_ = std::max(longest_beside_s_, since_begun_s());
  directory_.prune(config_.keep);
}

double Saver::since_begun_s() const { return std::chrono::duration<double>(Clock::now() - begun_).count(); }

double Saver::longest_s() const {
  if (longest_s_ > 0) return longest_s_;
  return kSlowStart_s + static_cast<double>(trainer_.saved_bytes()) / kSlowDisk_bytes_per_s;
}

}  // namespace lorashard::launch
