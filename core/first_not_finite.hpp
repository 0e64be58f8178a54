// Finds where a step went wrong: the step is run once more, and every tensor is looked at as it is made. Only on that
// occasion; a Context without a finder asks nothing.
#pragma once

#include <string>

#include "core/host_copy.hpp"
#include "dist/communicator.hpp"

namespace lorashard::core {

using kernels::Index;

struct Context;
struct Microbatch;

class FirstNotFinite {
 public:
  enum class Pass { before, forward, backward, gradients };

  FirstNotFinite(kernels::Device& device, Index layers) : device_(device), layers_(layers) {}

  // The pass that follows.
  void begin(Pass pass) { pass_ = pass; }
  // `values` has a row for each of the microbatch's positions from `first_row` on (null: it has no such rows), and was
  // made by layer `layer` (-1: below all, layers: above all). Remembers the first that has a NaN or an infinity.
  void look(const std::string& tensor, Index layer, kernels::ConstMatrix values, const Microbatch* microbatch,
            Index first_row);

  bool found() const { return !tensor_.empty(); }
  struct Place {
    std::string words;      // empty: all was finite
    bool in_state = false;  // a trained value was not finite before the step
  };
  // Collective: the earliest place of all ranks, the same on every rank: "layers.3.mlp.up, forward of microbatch 0: found
  // nan at sequence 5 of the batch, position 17, column 311 (rank 2)".
  Place first_of_all(dist::Communicator& world) const;

 private:
  std::string words() const;

  kernels::Device& device_;
  const Index layers_;
  Pass pass_ = Pass::before;
  // Of the first find.
  std::string tensor_;
  Pass found_in_ = Pass::before;
  Index microbatch_ = -1, sequence_ = -1, position_ = -1, row_ = 0, column_ = 0;
  double depth_ = 0, value_ = 0;
};

}  // namespace lorashard::core
