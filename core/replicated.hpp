// Trained values that every rank of a replica group (tensor x data) holds whole: adapter pairs, and under dense training
// norms, biases of row-cut layers and learned positions. Values, gradients and moments are flat f32 buffers in one
// order, so one all-reduce finishes all gradients and AdamW is one pass.
#pragma once

#include <string>
#include <vector>

#include "core/context.hpp"

namespace lorashard::core {

class ReplicatedGroup {
 public:
  struct Entry {
    std::string name;
    Index rows = 0, cols = 0;
    Index offset = 0;
    bool decay = true;
    Index layer = -1;  // whose backward pass completes its gradient; -1: only the end of all does
  };

  // Before allocate(): appends a tensor, returns its number. Numbers follow each other in memory.
  int add(const std::string& name, Index rows, Index cols, bool decay, Index layer);
  void allocate(kernels::Device& device, Category values);
  // The same for a model that only runs forward: gradients and moments stay empty.
  void allocate_values(kernels::Device& device, Category values);

  const std::vector<Entry>& entries() const { return entries_; }
  Index count() const { return count_; }
  // (rows, cols) of one entry; empty where there is none.
  Matrix value(int entry) { return slice(values_, entry); }
  Matrix gradient(int entry) { return slice(gradients_, entry); }
  Matrix first_moment(int entry) { return slice(first_, entry); }
  Matrix second_moment(int entry) { return slice(second_, entry); }
  // The `entries` tensors from `first` on as one matrix: they must have equal cols.
  Matrix stacked_value(int first, int entries) { return stacked(values_, first, entries); }
  Matrix stacked_gradient(int first, int entries) { return stacked(gradients_, first, entries); }
  // (1, count) whole buffers, empty without entries.
  Matrix values() { return values_; }
  Matrix gradients() { return gradients_; }
  Matrix first_moments() { return first_; }
  Matrix second_moments() { return second_; }

 private:
  Matrix slice(Tensor& flat, int entry);
  Matrix stacked(Tensor& flat, int first, int entries);
  std::vector<Entry> entries_;
  Index count_ = 0;
  Tensor values_, gradients_, first_, second_;
};

}  // namespace lorashard::core
