// What the parts of the emulator share: work that is queued on a stream and touches device memory from outside a kernel
// (copies, cuBLASLt's products, NCCL's collectives).
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>
#include <vector>

namespace lorashard::emulator {

// A range of device memory that an operation reads or writes. Rows of `row_bytes` every `stride_bytes`; a flat range is
// one row.
struct Access {
  const void* data = nullptr;
  std::size_t row_bytes = 0;
  std::size_t rows = 1;
  std::size_t stride_bytes = 0;
  bool write = false;
};

// Queues `work` on `stream` under `name`. Before it runs, its accesses are checked as a kernel's are: inside one live
// allocation, written before they are read, ordered after what other streams did to the same bytes; afterwards the
// bytes of its writes count as written. `work` runs on the stream's thread with device memory accessible, and may block
// (a collective that waits for its peers) without holding up other streams or kernels when `blocks` is set.
void enqueue(cudaStream_t stream, std::string name, std::vector<Access> accesses, std::function<void()> work,
             bool blocks = false);

// Reports a fault: one line "emulator: <operation>: <what>" on stderr, then the process ends with exit code 99, unless
// a test has asked for faults to be collected instead (collect_faults).
void fault(const std::string& operation, const std::string& what);

// From now on faults are collected, not fatal; take_faults() returns them and forgets. For the emulator's own tests.
// After a fault an operation still runs where that is safe, otherwise it is left out.
void collect_faults();
std::vector<std::string> take_faults();

}  // namespace lorashard::emulator
