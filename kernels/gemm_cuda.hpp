// How the cuda device carries out a product. Private to gemm*.cu and the device that keeps its state.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>

#include "kernels/cuda.hpp"
#include "kernels/gemm_epilogue.hpp"

namespace lorashard::kernels {

// What cuBLASLt's choice of an algorithm depends on, in the terms of Gemm. Alignments are of the data, in bytes, at
// most 256. A product that adds nothing has C as its addend; one without aux has stride_aux 0.
struct ProductKey {
  Index m, n, k;
  Index stride_a, stride_b, stride_c, stride_addend, stride_aux;
  DType operands, result;
  bool transpose_a, transpose_b, bias, tf32;
  Epilogue epilogue;
  std::uint32_t alignment_a, alignment_b, alignment_c, alignment_addend;
  auto operator<=>(const ProductKey&) const = default;
};

// A product as cuBLASLt takes it: column-major, so C^T = op(B)^T op(A)^T with `left` = B and `right` = A.
struct ProductPlan {
  bool supported = false;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t left, right, addend, result;
  cublasLtMatmulAlgo_t algorithm;
};

struct CudaDevice::Products {
  explicit Products(CudaDevice& device);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  Buffer workspace;  // kCudaProductWorkspaceBytes, of all products, which run one after another on one stream
  cublasLtHandle_t library = nullptr;
  bool tf32 = false;
  std::map<ProductKey, ProductPlan> plans;
};

// Any strides, alignments and extents, K = 0 among them: own tiles, each sum in order of k. It is no rival of the
// library: fp32 arithmetic without tensor cores. a and b have one type; bias and c have one, f32 or that of a and b. An
// epilogue reads z before it is rounded.
void gemm_plain_cuda(CudaDevice& device, const Gemm& args);

}  // namespace lorashard::kernels
