// How fast the device's library multiplies, measured here and now: what `bench` holds the products of a step against.
#pragma once

#include "kernels/device.hpp"

namespace lorashard::kernels {

// GFLOP/s of the library alone for y (M,N) = x (M,K) W^T with W (N,K). 0 on meta.
//   host  oneDNN on the host's threads: the fastest run of its matmul primitive, with W as it lies or in the layout the
//         primitive asks for (reordered before the clock starts), or of its sgemm. bf16 is measured in fp32 where the
//         processor has no bf16 products. Takes about 0.4 s, and memory for x, W and y that no ledger counts.
//   cuda  cuBLASLt's chosen algorithm on normal values: the mean of runs that take about 0.1 s together.
double library_gflops(Device& device, Index m, Index n, Index k, DType dtype);
// "oneDNN", "cuBLASLt".
const char* library_name(const Device& device);

}  // namespace lorashard::kernels
