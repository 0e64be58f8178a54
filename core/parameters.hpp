// The storage of this rank's part of the model, by the tensor table's names: frozen weights, frozen vectors and tables,
// dense trained tensors and the replicated group. Filled from the base file, or at random as the table says.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/adapter.hpp"
#include "core/base_file.hpp"
#include "core/dense.hpp"
#include "core/replicated.hpp"
#include "kernels/gemm.hpp"

namespace lorashard::core {

class Parameters {
 public:
  // `here`: the tensors of this rank's model parts. `base` null: random initial values from `seed`.
  Parameters(const Context& context, const TrainingPlan& plan, const std::vector<TensorInfo>& here,
             const BaseFile* base, std::uint64_t seed);

  bool has(const std::string& name) const { return places_.count(name) != 0; }
  const TensorInfo& info(const std::string& name) const { return place(name).info; }
  // This rank's slice (local extents). Not for frozen weights of linear layers: those are in weight().
  ConstMatrix value(const std::string& name) const;
  // Where gradients are added, f32; empty when the tensor is frozen, or another rank of the tensor axis adds it.
  Matrix gradient(const std::string& name) const;
  bool trains(const std::string& name) const;
  // The frozen weight of a linear layer; null when it trains densely.
  const kernels::Weight* weight(const std::string& name) const;
  // The memory that weight() took over, row-major (out, in) local: what merging changes. Throws Failure::other for others.
  Matrix frozen_memory(const std::string& name) const;

  // The number of a pair's A in the replicated group; B of a linear layer's pairs follow all its A.
  int adapter_a(const AdapterSpec& spec) const { return adapter_numbers_.at(spec.a_name()); }
  int adapter_b(const AdapterSpec& spec) const { return adapter_numbers_.at(spec.b_name()); }

  // Other pairs in place of those that are there, their values yet to be written, and nothing for a backward pass. For a model
  // that only runs forward: throws Failure::other when a tensor trains itself. Linear layers then attach anew.
  void replace_adapters(const TrainingPlan& plan);

  ReplicatedGroup& replicated() { return replicated_; }
  std::vector<DenseParameter>& dense() { return dense_; }
  const std::vector<AdapterSpec>& adapters() const { return adapters_; }  // of this rank's layers

 private:
  struct Place {
    TensorInfo info;
    Tensor frozen;
    kernels::Weight weight;
    Matrix weight_memory;  // of weight
    int dense = -1;
    int replicated = -1;
  };
  const Place& place(const std::string& name) const;
  void add_adapters(const TrainingPlan& plan, const std::vector<TensorInfo>& here);
  void add_place(const TrainingPlan& plan, const TensorInfo& info);
  void fill(const BaseFile* base, std::uint64_t seed, Place& place);
  void initialise_adapters();

  const Context& context_;
  std::map<std::string, Place> places_;
  std::map<std::string, int> adapter_numbers_;
  std::vector<AdapterSpec> adapters_;
  mutable ReplicatedGroup replicated_;
  mutable std::vector<DenseParameter> dense_;
};

}  // namespace lorashard::core
