// What metrics.jsonl has, for TensorBoard: event files, which are TFRecord frames around protobuf messages
// (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto and framework/summary.proto). The few
// fields that are needed are written by hand.
#pragma once

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/metrics.hpp"

namespace lorashard::launch {

using TaggedValues = std::vector<std::pair<std::string, double>>;

// What a step is shown as: loss, grad_norm, lr and tokens_per_s; at evaluations valid_loss (the first set), and
// valid_losses/<name> when there is more than one; layer_00/a_norm, b_norm and grad_norm of the layers measured.
TaggedValues tagged_values(const core::StepReport& report, double seconds, const std::vector<core::NamedLoss>& losses);

class EventFile {
 public:
  // Makes <folder>/events.out.tfevents.<seconds>.<host>.<pid>, one for each start of a run, and the folder. It begins
  // with a session start at step `first`: of that step and later ones TensorBoard drops what earlier files have. Throws
  // Failure::storage naming the file.
  EventFile(const std::string& folder, core::Index first);

  // One event, flushed. Values are kept in f32.
  void append(core::Index step, const TaggedValues& values);

 private:
  void write(const std::string& event);
  std::string path_;
  std::ofstream file_;
};

}  // namespace lorashard::launch
