// The emulated cuBLASLt's arithmetic, on integers whose products and sums are exact in every type.
#include <cmath>
#include <numbers>

#include "tests/emulator/cublaslt_case.hpp"

namespace lorashard::emulator {
namespace {

std::vector<Case> type_cases() {
  std::vector<Case> cases(4);
  cases[1].input = CUDA_R_16BF;
  cases[1].output = CUDA_R_16BF;
  cases[2].input = CUDA_R_16BF;
  cases[3].compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  return cases;
}

// Every element of D, and that what lies between its columns is as it was.
void expect_product(const Buffers& buffers) {
  const Case& c = buffers.c;
  const std::vector<double> got = buffers.d.read();
  std::vector<double> expected = small_integers(got.size(), 4);
  for (int batch = 0; batch < c.batch; ++batch)
    for (int j = 0; j < c.n; ++j)
      for (int i = 0; i < c.m; ++i)
        expected[static_cast<std::size_t>(batch) * c.stride_d() + static_cast<std::size_t>(i + j * c.ld_d())] =
            buffers.expected(i, j, batch);
  EXPECT_EQ(got, expected);
}

TEST(CublasLt, ProductsOfAllTypesAndTransposes) {
  for (Case c : type_cases())
    for (int transposes = 0; transposes < 4; ++transposes) {
      c.transpose_a = transposes & 1;
      c.transpose_b = transposes & 2;
      Descriptors descriptors(c);
      Buffers buffers(c);
      ASSERT_EQ(buffers.run(descriptors), CUBLAS_STATUS_SUCCESS) << transposes;
      expect_product(buffers);
    }
}

TEST(CublasLt, AlphaAndBetaWithAnotherC) {
  Case c;
  c.alpha = 2.0f;
  c.beta = -0.5f;
  Descriptors descriptors(c);
  Buffers buffers(c);
  ASSERT_EQ(buffers.run(descriptors), CUBLAS_STATUS_SUCCESS);
  expect_product(buffers);
}

TEST(CublasLt, BatchesAndLargerExtents) {
  Case c;
  c.m = 65, c.n = 33, c.k = 130, c.batch = 3;
  c.transpose_b = true;
  Descriptors descriptors(c);
  Buffers buffers(c);
  ASSERT_EQ(buffers.run(descriptors), CUBLAS_STATUS_SUCCESS);
  expect_product(buffers);
}

// The same memory with A said to be in row order is the transposed A.
TEST(CublasLt, RowOrderIsTheTranspose) {
  Case c;
  c.transpose_a = true;
  Descriptors descriptors(c);
  descriptors.set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{CUBLAS_OP_N});
  descriptors.set(descriptors.a, CUBLASLT_MATRIX_LAYOUT_ORDER, std::int32_t{CUBLASLT_ORDER_ROW});
  descriptors.set(descriptors.a, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t(c.m));
  descriptors.set(descriptors.a, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t(c.k));
  Buffers buffers(c);
  ASSERT_EQ(buffers.run(descriptors), CUBLAS_STATUS_SUCCESS);
  expect_product(buffers);
}

// 1 + 2^-11 is halfway between two TF32 numbers and goes up, 1 + 2^-12 goes down; fp32 keeps both.
TEST(CublasLt, Tf32RoundsOperands) {
  for (const bool tf32 : {false, true}) {
    Case c;
    c.m = 2, c.n = 1, c.k = 1, c.gap = 2;
    if (tf32) c.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    Descriptors descriptors(c);
    Buffers buffers(c);
    std::vector<double> a(c.stride_a(), 0.0), b(c.stride_b(), 1.0);
    a[0] = 1.0 + std::ldexp(1.0, -11);
    a[1] = 1.0 + std::ldexp(1.0, -12);
    buffers.a.write(a);
    buffers.b.write(b);
    ASSERT_EQ(buffers.run(descriptors), CUBLAS_STATUS_SUCCESS);
    const std::vector<double> got = buffers.d.read();
    EXPECT_EQ(got[0], tf32 ? 1.0 + std::ldexp(1.0, -10) : a[0]);
    EXPECT_EQ(got[1], tf32 ? 1.0 : a[1]);
  }
}

struct EpilogueResult {
  std::vector<double> d, bias, aux;
};
EpilogueResult run_epilogue(const Case& c, Buffers& buffers) {
  Descriptors descriptors(c);
  descriptors.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, buffers.bias.at());
  descriptors.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, buffers.aux.at());
  descriptors.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{c.ld_aux()});
  EXPECT_EQ(buffers.run(descriptors), CUBLAS_STATUS_SUCCESS);
  return {buffers.d.read(), buffers.bias.read(), buffers.aux.read()};
}

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; }

// Bias exactly; GELU within one rounding of the output's type and of fp32; what GELU was applied to is kept exactly.
TEST(CublasLt, BiasAndGelu) {
  for (const std::uint32_t epilogue : {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS,
                                       CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS})
    for (Case c : type_cases()) {
      c.epilogue = epilogue;
      Buffers buffers(c);
      const EpilogueResult got = run_epilogue(c, buffers);
      const std::vector<double> bias = small_integers(static_cast<std::size_t>(std::max(c.m, c.n)), 5);
      const double unit = std::ldexp(1.0, c.output == CUDA_R_16BF ? -8 : -22);
      for (int j = 0; j < c.n; ++j)
        for (int i = 0; i < c.m; ++i) {
          const double x =
              buffers.expected(i, j) + (epilogue & CUBLASLT_EPILOGUE_BIAS ? bias[static_cast<std::size_t>(i)] : 0.0);
          const double y = epilogue & CUBLASLT_EPILOGUE_GELU ? gelu(x) : x;
          EXPECT_NEAR(got.d[static_cast<std::size_t>(i + j * c.ld_d())], y,
                      y == x && epilogue == CUBLASLT_EPILOGUE_BIAS ? 0.0 : unit * std::abs(y) + 1e-30);
          if (epilogue & 128) {
            EXPECT_EQ(got.aux[static_cast<std::size_t>(i + j * c.ld_aux())], x);
          }
        }
    }
}

// The difference quotient of gelu() above is off by some 1e-10; one rounding of each value, m of them in the sum.
TEST(CublasLt, GeluGradientWithItsSum) {
  for (const std::uint32_t epilogue : {CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_DGELU_BGRAD}) {
    Case c;
    c.epilogue = epilogue;
    Buffers buffers(c);
    const EpilogueResult got = run_epilogue(c, buffers);
    for (int i = 0; i < c.m; ++i) {
      double sum = 0.0, sizes = 0.0;
      for (int j = 0; j < c.n; ++j) {
        const double value = buffers.expected(i, j) * gelu_slope(got.aux[static_cast<std::size_t>(i + j * c.ld_aux())]);
        EXPECT_NEAR(got.d[static_cast<std::size_t>(i + j * c.ld_d())], value, std::ldexp(std::abs(value), -22) + 1e-8);
        sum += value;
        sizes += std::abs(value);
      }
      if (epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD) {
        EXPECT_NEAR(got.bias[static_cast<std::size_t>(i)], sum, c.n * std::ldexp(sizes, -22) + 1e-7);
      }
    }
  }
}

TEST(CublasLt, OperandSumsOverK) {
  for (const std::uint32_t epilogue : {CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB})
    for (int transposes = 0; transposes < 4; ++transposes) {
      Case c;
      c.epilogue = epilogue;
      c.transpose_a = transposes & 1;
      c.transpose_b = transposes & 2;
      Buffers buffers(c);
      const EpilogueResult got = run_epilogue(c, buffers);
      expect_product(buffers);
      const bool of_a = epilogue == CUBLASLT_EPILOGUE_BGRADA;
      for (int outer = 0; outer < (of_a ? c.m : c.n); ++outer) {
        double sum = 0.0;
        for (int l = 0; l < c.k; ++l) sum += of_a ? buffers.a_at(outer, l) : buffers.b_at(l, outer);
        EXPECT_EQ(got.bias[static_cast<std::size_t>(outer)], sum) << transposes;
      }
    }
}

}  // namespace
}  // namespace lorashard::emulator
