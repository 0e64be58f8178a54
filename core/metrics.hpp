// metrics.jsonl: one JSON object for each optimizer step (DESIGN section 11), flushed line by line.
#pragma once

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "core/trainer.hpp"

namespace lorashard::core {

struct NamedLoss {
  std::string name;  // of the token file
  double loss = 0;
};

class MetricsFile {
 public:
  // Opens `path` to append step `first` and later ones. Lines of such steps that an interrupted run left behind, and a
  // line that was not written to its end, are cut off first, so that every step stands there once. Throws
  // Failure::storage.
  MetricsFile(std::string path, Index first);

  // `seconds` is the step's own time. Losses go by the names valid_loss (the first set), and valid_losses when there is
  // more than one; `before` are those of the model before its first step.
  // A report's layers go by the name layers.
  void append(const StepReport& report, double seconds, const std::vector<NamedLoss>& before,
              const std::vector<NamedLoss>& after);

 private:
  std::string path_;
  std::ofstream file_;
};

// The losses before the first step, as append wrote them. Empty when there are none.
std::vector<NamedLoss> losses_before(const std::string& path);

}  // namespace lorashard::core
