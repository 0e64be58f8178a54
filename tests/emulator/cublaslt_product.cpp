// The arithmetic of the emulated cuBLASLt: operands widened to f32 (or rounded to TF32), products summed in f32 by
// oneDNN's sgemm on one thread, then the epilogue element by element in f32, rounded once into D's type.
#include <cuda_bf16.h>
#include <dnnl.h>
#include <omp.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string>
#include <vector>

#include "tests/emulator/cublaslt.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::cublaslt {
namespace {

using Size = std::int64_t;

float load(const void* data, std::uint32_t type, Size i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}
void save(void* data, std::uint32_t type, Size i, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(data)[i] = value;
  else
    static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
}

// TF32 keeps 10 bits of the mantissa; to nearest, ties away from zero, as cvt.rna.tf32.f32 does.
float round_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1000u) & ~0x1fffu);
}

const char* matrix_of(const void* data, const Layout& layout, Size batch) {
  return static_cast<const char*>(data) + batch * layout.batch_stride * static_cast<Size>(size_bytes(layout.type));
}

// A matrix as sgemm takes it: f32, line after line.
struct Operand {
  std::vector<float> copy;
  const float* data = nullptr;
  Size ld = 0;
};

Operand widen(const void* data, const Layout& layout, bool tf32) {
  Operand operand;
  operand.ld = static_cast<Size>(layout.line());
  if (layout.type == CUDA_R_32F && !tf32) {
    operand.data = static_cast<const float*>(data);
    operand.ld = layout.ld;
    return operand;
  }
  operand.copy.resize(layout.lines() * layout.line());
  for (Size i = 0; i < static_cast<Size>(layout.lines()); ++i)
    for (Size j = 0; j < operand.ld; ++j) {
      const float value = load(data, layout.type, i * layout.ld + j);
      operand.copy[static_cast<std::size_t>(i * operand.ld + j)] = tf32 ? round_to_tf32(value) : value;
    }
  operand.data = operand.copy.data();
  return operand;
}

// A column-ordered matrix is its transpose in row order, and the transpose of D is op(B)^T op(A)^T: each operand that
// is in column order and not transposed lies there as it is needed.
char sgemm_transpose(const Layout& layout, std::int32_t op) {
  return (layout.order == CUBLASLT_ORDER_COL) == (op == CUBLAS_OP_N) ? 'N' : 'T';
}

// (N,M) in row order, that is op(A) op(B) in column order.
std::vector<float> product(const Problem& p, const Operand& a, const Operand& b) {
  const Size m = static_cast<Size>(p.m()), n = static_cast<Size>(p.n()), k = static_cast<Size>(p.k());
  std::vector<float> sums(static_cast<std::size_t>(m * n));
  omp_set_num_threads(1);  // of the calling thread, a stream's
  const dnnl_status_t status =
      dnnl_sgemm(sgemm_transpose(p.b, p.op.transpose_b), sgemm_transpose(p.a, p.op.transpose_a), n, m, k, 1.0f, b.data,
                 b.ld, a.data, a.ld, 0.0f, sums.data(), m);
  if (status != dnnl_success) fault("cublasLtMatmul", "oneDNN's sgemm returned " + std::to_string(status));
  return sums;
}

// The tanh form, as cuBLASLt has it.
float gelu(float x) {
  const double u = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return static_cast<float>(0.5 * x * (1.0 + std::tanh(u)));
}
float gelu_slope(float x) {
  const double c = std::sqrt(2.0 / std::numbers::pi), t = std::tanh(c * (x + 0.044715 * x * x * x));
  return static_cast<float>(0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x));
}

// Sums over K of op(A)'s rows or op(B)'s columns. The operand's outer extent is its line's index or its line's place.
void sum_operand(const Operand& operand, bool outer_is_line, Size outer, Size inner, const Problem& p) {
  for (Size i = 0; i < outer; ++i) {
    float sum = 0.0f;
    for (Size j = 0; j < inner; ++j) sum += operand.data[outer_is_line ? i * operand.ld + j : j * operand.ld + i];
    save(p.op.bias, p.d.type, i, sum);
  }
}

struct Matrices {
  const char* c;
  char* d;
  char* bias;
  char* aux;
};

void finish(const Problem& p, const Operands& operands, const std::vector<float>& sums, const Matrices& at) {
  const Size m = static_cast<Size>(p.m()), n = static_cast<Size>(p.n());
  const std::uint32_t type = p.d.type;
  const auto place = [](const Layout& layout, Size i, Size j) {
    return layout.order == CUBLASLT_ORDER_COL ? i + j * layout.ld : i * layout.ld + j;
  };
  std::vector<float> gradient(p.op.epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD ? static_cast<std::size_t>(m) : 0, 0.0f);
  for (Size j = 0; j < n; ++j)
    for (Size i = 0; i < m; ++i) {
      float value = operands.alpha * sums[static_cast<std::size_t>(j * m + i)];
      if (operands.beta != 0.0f) value += operands.beta * load(at.c, type, place(p.c, i, j));
      if (p.op.adds_bias()) value += load(at.bias, type, i);
      if (p.op.writes_aux()) save(at.aux, type, i + j * p.op.aux_ld, value);
      if (p.op.applies_gelu()) value = gelu(value);
      if (p.op.reads_aux()) value *= gelu_slope(load(at.aux, type, i + j * p.op.aux_ld));
      if (!gradient.empty()) gradient[static_cast<std::size_t>(i)] += value;
      save(at.d, type, place(p.d, i, j), value);
    }
  for (std::size_t i = 0; i < gradient.size(); ++i) save(at.bias, type, static_cast<Size>(i), gradient[i]);
}

}  // namespace

void multiply(const Problem& p, const Operands& operands) {
  const bool tf32 = p.op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const Size size = static_cast<Size>(size_bytes(p.d.type));
  for (Size batch = 0; batch < p.d.batch; ++batch) {
    const Operand a = widen(matrix_of(operands.a, p.a, batch), p.a, tf32);
    const Operand b = widen(matrix_of(operands.b, p.b, batch), p.b, tf32);
    const std::vector<float> sums = product(p, a, b);
    const Size m = static_cast<Size>(p.m()), n = static_cast<Size>(p.n()), k = static_cast<Size>(p.k());
    if (p.op.epilogue == CUBLASLT_EPILOGUE_BGRADA)
      sum_operand(a, sgemm_transpose(p.a, p.op.transpose_a) == 'T', m, k, p);
    if (p.op.epilogue == CUBLASLT_EPILOGUE_BGRADB)
      sum_operand(b, sgemm_transpose(p.b, p.op.transpose_b) == 'N', n, k, p);
    finish(p, operands, sums,
           {matrix_of(operands.c, p.c, batch), const_cast<char*>(matrix_of(operands.d, p.d, batch)),
            static_cast<char*>(p.op.bias) + batch * p.op.bias_batch_stride * size,
            static_cast<char*>(p.op.aux) + batch * p.op.aux_batch_stride * size});
  }
}

}  // namespace lorashard::emulator::cublaslt
