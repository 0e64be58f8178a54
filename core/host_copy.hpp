// Device memory as files see it. On the host device it is that memory itself; elsewhere a copy in host memory, of one
// tensor at a time, which the ledger notes. On meta there is nothing to read or write.
#pragma once

#include <vector>

#include "kernels/device.hpp"

namespace lorashard::core {

inline void note_host_copy(kernels::Device& device, kernels::ConstMatrix m) {
  if (device.target() == kernels::DeviceKind::cuda) device.ledger().note_host_copy(m.bytes());
}

// A matrix to be written to a file.
class HostCopy {
 public:
  HostCopy(kernels::Device& device, kernels::ConstMatrix from) : view_(from) {
    note_host_copy(device, from);
    if (device.kind() != kernels::DeviceKind::cuda) return;
    memory_.resize(static_cast<std::size_t>(from.bytes()));
    const kernels::Matrix copy(memory_.data(), from.dtype, from.rows, from.cols, from.cols);
    download(device, from, copy);
    view_ = copy;
  }
  operator kernels::ConstMatrix() const { return view_; }

 private:
  std::vector<std::byte> memory_;
  kernels::ConstMatrix view_;
};

// read(matrix) fills host memory of to's extents and type, which becomes `to`. Not called on meta.
template <class Read>
void fill_from_host(kernels::Device& device, kernels::Matrix to, const Read& read) {
  note_host_copy(device, to);
  if (device.meta()) return;
  if (device.kind() == kernels::DeviceKind::host) return read(to);
  std::vector<std::byte> memory(static_cast<std::size_t>(to.bytes()));
  const kernels::Matrix copy(memory.data(), to.dtype, to.rows, to.cols, to.cols);
  read(copy);
  upload(device, copy, to);
}

// change(matrix) gets `m` in host memory, and what it makes of it becomes `m`. Not called on meta.
template <class Change>
void change_on_host(kernels::Device& device, kernels::Matrix m, const Change& change) {
  note_host_copy(device, m);
  if (device.meta()) return;
  if (device.kind() == kernels::DeviceKind::host) return change(m);
  std::vector<std::byte> memory(static_cast<std::size_t>(m.bytes()));
  const kernels::Matrix copy(memory.data(), m.dtype, m.rows, m.cols, m.cols);
  download(device, m, copy);
  change(copy);
  upload(device, copy, m);
}

}  // namespace lorashard::core
