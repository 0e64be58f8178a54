// How large each layer's adapters and gradients are, in every so many steps. Each value counts once, whatever the mesh:
// replicas hold the same, parts of a cut tensor and stages add up. Measured on the device and read where a step is
// finished, so that other steps are as they were; a step that measures makes one more pass over gradients and adapters,
// and exchanges 24 bytes a layer and rank.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "core/parameters.hpp"
#include "core/trainer.hpp"

namespace lorashard::core {

class LayerNormMeter {
 public:
  // `every` steps; 0: never, and nothing is allocated.
  LayerNormMeter(const Context& context, const TrainingPlan& plan, Index every);

  // True for a step that measures: those after which a multiple of `every` is done.
  bool due(Index step) const { return every_ > 0 && (step + 1) % every_ == 0; }
  // Queued: the norms of this rank's values as they are now, and of its gradients. At most two steps are not read yet.
  void measure(Parameters& parameters, Index step);
  // Waits for what was measured in `step`. Collective; the layers that train something, rising, the same on every rank.
  std::vector<LayerNorms> read(Index step);

 private:
  enum Column : Index { of_a, of_b, of_gradient, columns };
  kernels::Readback& readback(Index step) { return *readbacks_[static_cast<std::size_t>(step % 2)]; }

  const Context& context_;
  Index every_;
  std::vector<LayerNorms> layers_;                               // without their norms
  Tensor squares_;                                               // (layers of the model, columns) f64
  std::array<std::unique_ptr<kernels::Readback>, 2> readbacks_;  // of squares_, by step mod 2
};

}  // namespace lorashard::core
