// How the host carries out a product. Private to gemm.cpp and the files gemm_*_host.cpp.
#pragma once

#include <vector>

#include "kernels/gemm.hpp"

namespace lorashard::kernels {

// What the processor has, as far as oneDNN may use it (ONEDNN_MAX_CPU_ISA).
bool has_avx512();
bool has_bf16_products();
bool has_amx();

// Extents of op(A) (m, k) and op(B) (k, n).
struct ProductExtents {
  Index m, n, k;
};
inline ProductExtents extents_of(const Gemm& args) {
  return {args.c.rows, args.c.cols, args.transpose_a ? args.a.rows : args.a.cols};
}

enum class HostWay {
  plain,   // all fp32: sgemm
  native,  // oneDNN multiplies bf16 operands as such
  thin,    // one small extent: own loops
  panels,  // fp32 copies of bf16 operands and of a bf16 result, part by part
};
HostWay host_way(const Gemm& args);

// Workspace of the product. It depends on shape, types and processor, never on the number of threads, and the meta
// device asks for the same.
Index host_scratch_bytes(const Gemm& args);

// `scratch` holds host_scratch_bytes(args).
void gemm_host(const Gemm& args, std::byte* scratch);

// One file each. What a way needs as scratch is in bytes.
void gemm_plain(const Gemm& args);
Index gemm_native_scratch(const Gemm& args);
void gemm_native(const Gemm& args, std::byte* scratch);
bool is_thin(const Gemm& args);
Index gemm_thin_scratch(const Gemm& args);
void gemm_thin(const Gemm& args, std::byte* scratch);
Index gemm_panels_scratch(const Gemm& args);
void gemm_panels(const Gemm& args, std::byte* scratch);

}  // namespace lorashard::kernels
