// A certificate that a job's mesh computes what one rank computes: the same steps on both, from the same values, with
// the same data and seeds, and every loss, gradient, norm and trained value held against the bounds of
// parity_bounds.hpp.
#pragma once

#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/dataset.hpp"
#include "dist/mesh.hpp"

namespace lorashard::core {

struct ParityRequest {
  const Config& config;  // complete, for `mesh`
  kernels::Device& device;
  dist::Mesh& mesh;                 // under test
  dist::Mesh* reference = nullptr;  // of one rank: rank 0 of `mesh`; null on the others
  const Dataset& data;
  Index steps = 2;
  std::string scratch;  // a folder that this rank may write a file of the trained values into; ranks may share it
};

// In the order in which they are looked at.
enum class ParityKind {
  tensors,   // the same names and extents
  copies,    // every rank's copy of what its stage holds whole: exactly alike, before step 0 and after the last
  start,     // trained values before step 0: exactly those of one rank
  loss,      // of a step, as each rank reports it
  gradient,  // of a step, one tensor
  norm,      // of all gradients of a step, as each rank reports it
  own_norm,  // the same against the gradients of the mesh itself: each value counted once
  value,     // a trained tensor after the last step
};
const char* name(ParityKind kind);

struct ParityComparison {
  ParityKind kind = ParityKind::tensors;
  Index step = 0;
  std::string tensor = {};  // empty for losses and norms
  double difference = 0;    // the largest of an element, and what is allowed there
  double bound = 0;
  double mean_difference = 0;  // root mean square, of gradients; a bound of 0: not asked
  double mean_bound = 0;
  double ratio = 1;       // of gradients, losses and norms: the mesh's as a multiple of one rank's
  std::string note = {};  // what else there is to say: "rank 3 holds another copy ..."
  bool holds() const;
  double share() const;  // of the bound, by whichever measure comes closer to it; infinite where nothing is allowed
  // "gradient of layers.0.mlp.up.lora_a, step 1"
  std::string what() const;
};

struct ParityReport {
  std::vector<ParityComparison> comparisons;  // of rank 0; empty on the others
  std::vector<double> relative_errors;  // of each step's gradients; kElementFactor and kMeanFactor times it is allowed
  std::vector<std::string> perturbed;   // tensors that were given random values in place of zero
  Index trained_parameters = 0;
  bool holds = false;  // on every rank
  Index failures() const;
  // One line: that it holds and how closely, or what differs first, and by how much.
  std::string verdict() const;
};

// Collective over request.mesh. The B of a LoRA pair starts at zero, which would leave A without a gradient; such B are
// given random values first, on both sides.
// Costs the steps on the mesh and on one rank, and on rank 0 twice their gradients in host memory.
ParityReport run_parity(const ParityRequest& request);

}  // namespace lorashard::core
