// What the parts of the emulated cuBLASLt share: the contents of its opaque descriptors, and a product taken from them.
//
//   cublaslt_descriptors.cpp   creates descriptors, sets and gets their attributes one by one
//   cublaslt_rules.cpp         which products cuBLASLt has: types, orders, epilogues, leading dimensions
//   cublaslt_matmul.cpp        chooses an "algorithm", checks buffers, queues the product
//   cublaslt_product.cpp       the arithmetic
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace lorashard::emulator::cublaslt {

// Each begins with a mark, so that a descriptor that was never initialised, or is of another kind, is refused.
enum class Kind : std::uint32_t { none = 0, layout = 0x4c61796fu, operation, preference, algorithm };

struct Layout {
  Kind kind = Kind::layout;
  std::uint32_t type = CUDA_R_32F;
  std::int32_t order = CUBLASLT_ORDER_COL;
  std::int32_t batch = 1;
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::int64_t ld = 0;
  std::int64_t batch_stride = 0;

  bool operator==(const Layout&) const = default;
  // Lines that are contiguous in memory (columns in column order), and elements of each.
  std::uint64_t lines() const { return order == CUBLASLT_ORDER_COL ? cols : rows; }
  std::uint64_t line() const { return order == CUBLASLT_ORDER_COL ? rows : cols; }
};

struct Operation {
  Kind kind = Kind::operation;
  std::int32_t compute = 0, scale = 0, pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  std::int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, transpose_c = CUBLAS_OP_N;
  std::int32_t fill = CUBLAS_FILL_MODE_FULL;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  std::int32_t bias_type = -1, aux_type = -1;
  std::int32_t sm_count_target = 0;
  void* bias = nullptr;
  std::int64_t bias_batch_stride = 0;
  void* aux = nullptr;
  std::int64_t aux_ld = 0, aux_batch_stride = 0;

  bool adds_bias() const { return epilogue & CUBLASLT_EPILOGUE_BIAS; }
  bool sums_bias_gradient() const {
    return epilogue == CUBLASLT_EPILOGUE_BGRADA || epilogue == CUBLASLT_EPILOGUE_BGRADB ||
           epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD;
  }
  bool writes_aux() const {
    return epilogue == CUBLASLT_EPILOGUE_GELU_AUX || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  bool reads_aux() const { return epilogue == CUBLASLT_EPILOGUE_DGELU || epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD; }
  bool applies_gelu() const { return epilogue & CUBLASLT_EPILOGUE_GELU; }
};

struct Preference {
  Kind kind = Kind::preference;
  std::uint32_t search_mode = CUBLASLT_SEARCH_BEST_FIT;
  std::uint64_t max_workspace_bytes = 0;
  std::uint64_t implementations = ~std::uint64_t{0};
  std::uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
  float max_waves = 0.0f;
};

// What an algorithm relies on. With split_k > 1 partial sums go to the workspace.
struct Algorithm {
  Kind kind = Kind::algorithm;
  std::int32_t id = 0, split_k = 1;
  std::uint32_t reduction_scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  std::uint32_t type_ab = 0, type_cd = 0, epilogue = 0;
  std::uint32_t alignment_a = 1, alignment_b = 1, alignment_c = 1, alignment_d = 1, alignment_bias = 1,
                alignment_aux = 1;
};

static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(Operation) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

// D (M,N) = epilogue(alpha * op(A) (M,K) * op(B) (K,N) + beta * C).
struct Problem {
  Operation op;
  Layout a, b, c, d;
  std::uint64_t m() const { return d.rows; }
  std::uint64_t n() const { return d.cols; }
  std::uint64_t k() const { return op.transpose_a == CUBLAS_OP_N ? a.cols : a.rows; }
};
struct Operands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;  // read when beta is not 0
  void* d = nullptr;
  float alpha = 1.0f, beta = 0.0f;
};

inline std::size_t size_bytes(std::uint32_t type) { return type == CUDA_R_16BF ? 2 : 4; }

// False for a null pointer and for a descriptor of another kind.
bool read_descriptors(cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                      cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, Problem* problem);

// Whether cuBLASLt has this product, whatever the buffers.
cublasStatus_t supported(const Problem& problem);

// All of the batch, on the calling thread.
void multiply(const Problem& problem, const Operands& operands);

}  // namespace lorashard::emulator::cublaslt
