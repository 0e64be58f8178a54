// How the host carries out a product: private to gemm.cpp and its host files.
#pragma once

#include "kernels/gemm.hpp"

namespace lorashard::kernels {

// Panels of fp32 that a product needs beside its operands: a bf16 operand where it cannot be multiplied as such, and
// a bf16 result that is not rounded yet. The product is cut into parts of rows x cols x depth so that the panels stay
// below 20 MiB for any shape. The extents depend on the shape and the processor, not on the number of threads, and
// the meta device asks for the same bytes.
struct Panels {
  bool widen_a = false, widen_b = false, round_c = false;
  Index rows = 0, cols = 0, depth = 0;

  Index a_count() const { return widen_a ? rows * depth : 0; }
  Index b_count() const { return widen_b ? depth * cols : 0; }
  Index c_count() const { return round_c ? rows * cols : 0; }
  Index bytes() const { return (a_count() + b_count() + c_count()) * size_bytes(DType::f32); }
};
Panels panels_of(const Gemm& args);

// True where oneDNN multiplies bf16 operands in hardware.
bool native_bf16();

// `panels` holds panels_of(args).bytes().
void gemm_host(Device& device, const Gemm& args, std::byte* panels);

}  // namespace lorashard::kernels
