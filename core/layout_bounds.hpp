// What a layout takes at least, from walks of a few layers: a layer inside a stage takes as long wherever it stands, so
// that two short stages tell what any stage of them takes, without its ends' and the optimizer's part. Layouts that
// cannot win by these are not walked.
#pragma once

#include <map>
#include <tuple>

#include "core/layouts.hpp"

namespace lorashard::core {

// One of the many that a search looks at; becomes a Layout when it may win.
struct Candidate {
  dist::MeshExtents extents;
  Index microbatch = 1;
  int chunks = 1;
  bool sequence_parallel = false;
  Recompute recompute = Recompute::none;
  kernels::DType precision = kernels::DType::f32;
  // Whether it differs from `other` in no more than that it recomputes more: it takes no less time then.
  bool recomputes_more(const Candidate& other) const {
    const auto rest = [](const Candidate& c) {
      return std::tuple(c.extents.tensor, c.extents.pipeline, c.extents.data, c.microbatch, c.chunks,
                        c.sequence_parallel, c.precision);
    };
    return recompute > other.recompute && rest(*this) == rest(other);
  }
};

Layout layout_of(const Config& config, const Candidate& candidate);

class LayoutBounds {
 public:
  explicit LayoutBounds(const LayoutRequest& request);

  // Seconds of a step of `ranks` at the rate of the largest product: the coarsest bound.
  double least_s(int ranks, kernels::DType precision) const;
  // Every stage works through its layers, begins when those before it have passed it a microbatch, and they work on
  // when it has ended; the last microbatch goes through all layers and back; then the first stage sums what gradients
  // did not fit beside its last backward pass, and updates its weights.
  double least_s(const Candidate& candidate);
  // The first stage's weights, what training keeps beside them, and the activations of the microbatches that it has
  // under way.
  double least_bytes(const Candidate& candidate);

 private:
  // Of one microbatch.
  struct LayerCost {
    double forward_s = 0, backward_s = 0;  // a layer
    double lowest_s = 0;                   // the lowest layer and the embedding
    double head_s = 0;                     // what the last stage has beside its layers
    double kept_bytes = 0;                 // a layer's activations between its passes
    double message_bytes = 0;              // to the next stage, and back
  };
  using Key = std::tuple<int, int, int, Index, bool, Recompute, kernels::DType>;
  // What a layer holds between steps, and adds to a step after its last backward pass.
  struct WeightCost {
    double held_bytes = 0, update_s = 0;
    std::map<dist::Verb, double> data_bytes;  // sums and gathers over the data ranks
    bool hides_sums = false;                  // beside the last backward pass, as far as they fit
  };

  const LayerCost& cost_of(const Candidate& candidate);
  LayerCost walked_cost(const Candidate& candidate) const;
  WeightCost walked_weights(const Candidate& candidate) const;
  const WeightCost& weights_of(const Candidate& candidate);
  double tail_s(const Candidate& candidate);
  const Group& group(const dist::MeshExtents& extents, const char* axis);
  Index layers_of(const Candidate& candidate, int stage) const;

  const LayoutRequest request_;
  bool alike_ = true;  // layers train alike
  double flops_ = 0;   // of the products that every layout has
  std::map<Key, LayerCost> known_;
  std::map<std::tuple<int, int, kernels::DType>, WeightCost> weights_;  // by tensor, data and precision
  std::map<std::tuple<int, int, int>, Group> groups_[2];                // tensor, data; by what of the mesh tells
};

}  // namespace lorashard::core
