// How the host carries out a product. Private to gemm.cpp and the files gemm_*_host.cpp.
#pragma once

#include <vector>

#include "kernels/gemm_epilogue.hpp"
#include "kernels/host_operations.hpp"

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

// product(sum) makes z in the place that sum_of() gives it, where its addend lies already; the epilogue follows.
template <class Product>
void with_epilogue(const Gemm& args, const Product& product) {
  Gemm sum = sum_of(args);
  if (!sum.addend.empty() && sum.addend.data != sum.c.data) copy_host(sum.addend, sum.c);
  sum.addend = {};
  product(sum);
  if (args.epilogue == Epilogue::gelu) gelu_host(sum.c, args.c);
  if (args.epilogue == Epilogue::gelu_backward) gelu_backward_host(args.aux_in, args.c, args.c);
}

// One file each. What a way needs as scratch is in bytes. All but plain products have no epilogue and add to C alone.
void gemm_plain(const Gemm& args);
Index gemm_native_scratch(const Gemm& args);
void gemm_native(const Gemm& args, std::byte* scratch);
bool is_thin(const Gemm& args);
Index gemm_thin_scratch(const Gemm& args);
void gemm_thin(const Gemm& args, std::byte* scratch);
Index gemm_panels_scratch(const Gemm& args);
void gemm_panels(const Gemm& args, std::byte* scratch);

}  // namespace lorashard::kernels
