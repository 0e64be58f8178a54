// Products through cuBLASLt. Each kind of product is described and its algorithm chosen once, and both are kept. What
// the library does not fuse, or not for these types, strides or alignments, is a product and a pass for its epilogue;
// what it does not multiply at all goes to our own tiles.
//
// The same product gives the same bits every time: the library promises that for one algorithm on one stream (cuBLAS
// documentation, "Results Reproducibility"), which the workspace shared by all products needs anyway. Data aligned
// otherwise may get another algorithm. Algorithms that add partial sums in the result's type are not admitted where
// that is bf16 (they are off by far more than one rounding), so what they would save in time on long K is forgone.
#include <algorithm>
#include <exception>

#include "kernels/cuda_operations.hpp"
#include "kernels/gemm_cuda.hpp"
#include "kernels/gemm_cuda_scratch.hpp"

namespace lorashard::kernels {
namespace {

// Its kernels load a bias in words of 16 bytes, and nothing tells the choice of an algorithm about the bias's
// alignment, nor about that of aux.
constexpr std::uint32_t kVectorAlignment = 16;
// "The leading dimension for the epilogue auxiliary buffer must be divisible by 8" (cublasLt.h, ..._EPILOGUE_AUX_LD).
constexpr Index kAuxStrideUnit = 8;

void checked(cublasStatus_t code, const char* call, std::source_location where = std::source_location::current()) {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  fail(code == CUBLAS_STATUS_ALLOC_FAILED ? Failure::memory : Failure::other,
       text(call, ": ", cublasLtGetStatusString(code), " (", cublasLtGetStatusName(code), ")"), where);
}

std::uint32_t alignment_of(const std::byte* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

// A single row may have any stride, but the library wants one that holds it.
Index stride_of(const ConstMatrix& m) { return std::max(m.stride, m.cols); }

// The matrix that an epilogue writes or reads beside C, or an empty one.
ConstMatrix aux_of(const Gemm& args) {
  if (args.epilogue == Epilogue::gelu) return args.aux;
  return args.epilogue == Epilogue::gelu_backward ? args.aux_in : ConstMatrix{};
}

// The library wants a C even where beta is 0.
ConstMatrix addend_or_c(const Gemm& args) { return args.beta == 0.0f ? ConstMatrix(args.c) : addend_of(args); }

cudaDataType_t type_of(DType dtype) { return dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF; }

ProductKey key_of(const Gemm& args, bool tf32) {
  return {.m = args.c.rows,
          .n = args.c.cols,
          .k = args.transpose_a ? args.a.rows : args.a.cols,
          .stride_a = stride_of(args.a),
          .stride_b = stride_of(args.b),
          .stride_c = stride_of(args.c),
          .stride_addend = stride_of(addend_or_c(args)),
          .stride_aux = stride_of(aux_of(args)),
          .operands = args.a.dtype,
          .result = args.c.dtype,
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .bias = !args.bias.empty(),
          .tf32 = tf32 && args.a.dtype == DType::f32,
          .epilogue = args.epilogue,
          .alignment_a = alignment_of(args.a.data),
          .alignment_b = alignment_of(args.b.data),
          .alignment_c = alignment_of(args.c.data),
          .alignment_addend = alignment_of(addend_or_c(args).data)};
}

template <class Value>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  checked(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
}
template <class Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
  checked(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
}

// A row-major matrix (rows, cols), read by columns: (cols, rows).
void describe(cublasLtMatrixLayout_t layout, const ConstMatrix& m) {
  checked(cublasLtMatrixLayoutInit(layout, type_of(m.dtype), m.cols, m.rows, stride_of(m)), "cublasLtMatrixLayoutInit");
}

// All that is computed on a sum before it is stored.
cublasLtEpilogue_t epilogue_of(const ProductKey& key) {
  const bool aux = key.stride_aux != 0;
  switch (key.epilogue) {
    case Epilogue::gelu:
      if (aux) return key.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
      return key.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case Epilogue::gelu_backward:
      return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::none:
      break;
  }
  return key.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

// Where this call's bias and aux are.
void point_at(cublasLtMatmulDesc_t product, const Gemm& args) {
  if (!args.bias.empty()) set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias.data);
  const ConstMatrix aux = aux_of(args);
  if (!aux.empty()) set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data);
}

void describe(ProductPlan& plan, const ProductKey& key, const Gemm& args) {
  checked(
      cublasLtMatmulDescInit(&plan.product, key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
      "cublasLtMatmulDescInit");
  set(&plan.product, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(&plan.product, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(&plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(key));
  if (key.stride_aux != 0) {
    set(&plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, static_cast<std::int64_t>(key.stride_aux));
    set(&plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(key.result));
  }
  point_at(&plan.product, args);
  describe(&plan.left, args.b);
  describe(&plan.right, args.a);
  describe(&plan.addend, addend_or_c(args));
  describe(&plan.result, args.c);
}

// Leaves plan.supported false where the library has no algorithm.
void choose_algorithm(cublasLtHandle_t library, ProductPlan& plan, const ProductKey& key) {
  cublasLtMatmulPreferenceOpaque_t wanted;
  checked(cublasLtMatmulPreferenceInit(&wanted), "cublasLtMatmulPreferenceInit");
  set(&wanted, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kCudaProductWorkspaceBytes));
  set(&wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.alignment_b);
  set(&wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.alignment_a);
  set(&wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.alignment_addend);
  set(&wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.alignment_c);
  if (key.result == DType::bf16) {
    set(&wanted, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  }
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(library, &plan.product, &plan.left, &plan.right,
                                                               &plan.addend, &plan.result, &wanted, 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
  // It also says so of an epilogue that these types lack ("in conflict or in an impossible configuration").
  if (status == CUBLAS_STATUS_INVALID_VALUE && key.epilogue != Epilogue::none) return;
  checked(status, "cublasLtMatmulAlgoGetHeuristic");
  plan.algorithm = best.algo;
  plan.supported = found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
}

ProductPlan& plan_of(CudaDevice::Products& products, const Gemm& args) {
  const ProductKey key = key_of(args, products.tf32);
  const auto known = products.plans.find(key);
  if (known != products.plans.end()) return known->second;
  ProductPlan plan;
  describe(plan, key, args);
  choose_algorithm(products.library, plan, key);
  return products.plans.emplace(key, plan).first->second;
}

// What the library is not asked about: it takes no matrix without elements and 32-bit extents only.
bool for_the_library(const Gemm& args) {
  constexpr Index kMostExtent = (Index{1} << 31) - 1;
  for (const ConstMatrix& m : {args.a, args.b, ConstMatrix(args.c)}) {
    if (m.empty() || m.rows > kMostExtent || m.cols > kMostExtent) return false;
  }
  return args.bias.empty() || alignment_of(args.bias.data) >= kVectorAlignment;
}

// Nor about epilogues that it lacks (DGELU with a bias), or whose aux it may not take: an addend that is aux is a case
// that its documentation leaves open.
bool fused_by_the_library(const Gemm& args) {
  if (args.epilogue == Epilogue::gelu_backward && !args.bias.empty()) return false;
  const ConstMatrix aux = aux_of(args);
  if (aux.empty()) return true;
  return stride_of(aux) % kAuxStrideUnit == 0 && alignment_of(aux.data) >= kVectorAlignment &&
         addend_of(args).data != aux.data;
}

// Whether the library took it.
bool multiply(CudaDevice& device, const Gemm& args) {
  CudaDevice::Products& products = device.products();
  ProductPlan& plan = plan_of(products, args);
  if (!plan.supported) return false;
  point_at(&plan.product, args);
  checked(cublasLtMatmul(products.library, &plan.product, &args.alpha, args.b.data, &plan.left, args.a.data,
                         &plan.right, &args.beta, addend_or_c(args).data, &plan.addend, args.c.data, &plan.result,
                         &plan.algorithm, products.workspace.data(), kCudaProductWorkspaceBytes, device.stream()),
          "cublasLtMatmul");
  return true;
}

// The same in two passes.
bool multiply_then_finish(CudaDevice& device, const Gemm& args) {
  const Gemm sum = sum_of(args);
  if (!multiply(device, sum)) return false;
  if (args.epilogue == Epilogue::gelu) gelu_cuda(device, sum.c, args.c);
  if (args.epilogue == Epilogue::gelu_backward) gelu_backward_cuda(device, args.aux_in, args.c, args.c);
  return true;
}

// The same product with operands of one type and a bias of C's, as gemm_cuda_scratch() lays the copies out.
Gemm of_one_type(CudaDevice& device, Gemm args, std::byte* scratch) {
  const auto replace = [&](ConstMatrix& m, const std::optional<Matrix>& copy) {
    if (!copy.has_value()) return;
    if (!m.empty()) copy_cuda(device, m, *copy);
    m = *copy;
  };
  const ProductCopies copies = product_copies(args, scratch);
  replace(args.a, copies.a);
  replace(args.b, copies.b);
  replace(args.bias, copies.bias);
  return args;
}

}  // namespace

CudaDevice::Products::Products(CudaDevice& device)
    : workspace(device, Category::workspace, kCudaProductWorkspaceBytes) {
  checked(cublasLtCreate(&library), "cublasLtCreate");
}

// Destroying the library's handle waits for the device, which an error on its way up must not: what is queued may stand
// behind a collective whose peer is gone.
CudaDevice::Products::~Products() {
  if (library != nullptr && std::uncaught_exceptions() == 0) cublasLtDestroy(library);
}

void gemm_cuda(Device& device, const Gemm& args, std::byte* scratch) {
  CudaDevice& cuda = as_cuda(device);
  const Gemm product = of_one_type(cuda, args, scratch);
  if (for_the_library(product)) {
    if (fused_by_the_library(product) && multiply(cuda, product)) return;
    if (product.epilogue != Epilogue::none && multiply_then_finish(cuda, product)) return;
  }
  gemm_plain_cuda(cuda, product);
}

}  // namespace lorashard::kernels
