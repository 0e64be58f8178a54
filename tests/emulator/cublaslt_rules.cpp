// Which products cuBLASLt has, after the tables of cublasLtMatmul() in NVIDIA's cuBLAS documentation and the comments
// of cublasLt.h. Where those leave a case open the emulator refuses it, so that what runs here runs on a GPU.
#include "tests/emulator/cublaslt.hpp"

namespace lorashard::emulator::cublaslt {
namespace {

bool valid(const Layout& layout) {
  return layout.rows > 0 && layout.cols > 0 && layout.batch >= 1 &&
         layout.ld >= static_cast<std::int64_t>(layout.line()) &&
         (layout.order == CUBLASLT_ORDER_COL || layout.order == CUBLASLT_ORDER_ROW);
}

// The matrices of a batch of results must not share elements.
bool apart(const Layout& layout) {
  const std::int64_t extent =
      layout.ld * static_cast<std::int64_t>(layout.lines() - 1) + static_cast<std::int64_t>(layout.line());
  return layout.batch == 1 || layout.batch_stride >= extent;
}

bool extents_agree(const Problem& p) {
  const bool normal_a = p.op.transpose_a == CUBLAS_OP_N, normal_b = p.op.transpose_b == CUBLAS_OP_N;
  return (normal_a ? p.a.rows : p.a.cols) == p.m() && (normal_b ? p.b.cols : p.b.rows) == p.n() &&
         (normal_b ? p.b.rows : p.b.cols) == p.k() && p.c.rows == p.m() && p.c.cols == p.n() &&
         p.a.batch == p.d.batch && p.b.batch == p.d.batch && p.c.batch == p.d.batch;
}

bool is_transpose(std::int32_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; }

// A and B are of one type, C and D are; f32 operands have no bf16 result, and TF32 is for f32 alone.
bool types_supported(const Problem& p) {
  if (p.op.scale != CUDA_R_32F || p.a.type != p.b.type || p.c.type != p.d.type) return false;
  const bool fp32 = p.a.type == CUDA_R_32F && p.d.type == CUDA_R_32F;
  const bool bf16 = p.a.type == CUDA_R_16BF && (p.d.type == CUDA_R_16BF || p.d.type == CUDA_R_32F);
  switch (p.op.compute) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return fp32 || bf16;
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return fp32;
    default:
      return false;
  }
}

bool has_epilogue(std::uint32_t epilogue) {
  switch (epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB:
      return true;
    default:
      return false;
  }
}

// The bias and the auxiliary matrix have D's type; the auxiliary matrix's leading dimension is a multiple of 8.
cublasStatus_t epilogue_status(const Problem& p) {
  const Operation& op = p.op;
  if (!has_epilogue(op.epilogue)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (op.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.d.order != CUBLASLT_ORDER_COL) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto is_output_type = [&](std::int32_t type) {
    return type == -1 || static_cast<std::uint32_t>(type) == p.d.type;
  };
  if ((op.adds_bias() || op.sums_bias_gradient()) && !is_output_type(op.bias_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (op.sums_bias_gradient() && p.d.batch > 1) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (op.writes_aux() || op.reads_aux()) {
    if (!is_output_type(op.aux_type)) return CUBLAS_STATUS_INVALID_VALUE;
    if (op.aux_ld % 8 != 0 || op.aux_ld < static_cast<std::int64_t>(p.m()) || op.aux_batch_stride % 8 != 0)
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t supported(const Problem& p) {
  if (!valid(p.a) || !valid(p.b) || !valid(p.c) || !valid(p.d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_transpose(p.op.transpose_a) || !is_transpose(p.op.transpose_b)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!extents_agree(p) || !apart(p.d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (p.op.transpose_c != CUBLAS_OP_N || p.op.fill != CUBLAS_FILL_MODE_FULL) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.op.pointer_mode != CUBLASLT_POINTER_MODE_HOST) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.c.order != p.d.order || !types_supported(p)) return CUBLAS_STATUS_NOT_SUPPORTED;
  return epilogue_status(p);
}

}  // namespace lorashard::emulator::cublaslt
