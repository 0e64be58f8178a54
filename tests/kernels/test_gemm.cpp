// Products against naive double loops. The bound: a sum of k terms in fp32, in any order, is off by at most
// k eps sum |a b| (Higham 2002, section 3.1), and the roundings of alpha, beta, bias and C add a few eps of their own.
#include "kernels/gemm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/numbers.hpp"
#include "kernels/random.hpp"

namespace lorashard::kernels {
namespace {

constexpr double kEpsilon32 = 0x1.0p-23, kEpsilon16 = 0x1.0p-8;
double epsilon(DType dtype) { return dtype == DType::f32 ? kEpsilon32 : kEpsilon16; }

// A matrix of random values in plain memory, with a gap of `gap` elements after each row.
struct Host {
  Host(DType dtype, Index rows, Index cols, Index gap, std::uint64_t stream)
      : dtype(dtype), rows(rows), cols(cols), stride(cols + gap), bytes((rows * stride + 1) * size_bytes(dtype)) {
    for (Index i = 0; i < rows * stride; ++i) {
      const float x = 2.0f * uniform({1, stream}, i) - 1.0f;
      if (dtype == DType::f32) reinterpret_cast<float*>(bytes.data())[i] = x;
      else reinterpret_cast<bf16*>(bytes.data())[i] = to_bf16(x);
    }
  }
  Matrix view() { return {bytes.data(), dtype, rows, cols, stride}; }
  double at(Index r, Index c) const {
    const Index i = r * stride + c;
    if (dtype == DType::f32) return reinterpret_cast<const float*>(bytes.data())[i];
    return to_float(reinterpret_cast<const bf16*>(bytes.data())[i]);
  }
  DType dtype;
  Index rows, cols, stride;
  std::vector<std::byte> bytes;
};

struct Case {
  Index m, n, k;
  bool ta = false, tb = false;
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  float alpha = 1, beta = 0;
  int bias = 0;  // none, f32, bf16
  Index gap = 0;
};

std::string describe(const Case& t) {
  return text(t.m, "x", t.n, "x", t.k, t.ta ? " t" : " n", t.tb ? "t " : "n ", name(t.a), " ", name(t.b), " ", name(t.c),
              " alpha ", t.alpha, " beta ", t.beta, " bias ", t.bias, " gap ", t.gap);
}

void expect_product(Device& device, const Case& t) {
  SCOPED_TRACE(describe(t));
  Host a(t.a, t.ta ? t.k : t.m, t.ta ? t.m : t.k, t.gap, 1), b(t.b, t.tb ? t.n : t.k, t.tb ? t.k : t.n, t.gap, 2);
  Host c(t.c, t.m, t.n, t.gap, 3), bias(t.bias == 2 ? DType::bf16 : DType::f32, 1, t.n, 0, 4);
  const Host before = c;
  gemm(device, {.a = a.view(), .b = b.view(), .c = c.view(), .transpose_a = t.ta, .transpose_b = t.tb,
                .alpha = t.alpha, .beta = t.beta, .bias = t.bias ? ConstMatrix(bias.view()) : ConstMatrix()});
  int wrong = 0;
  for (Index i = 0; i < t.m; ++i) {
    for (Index j = 0; j < t.n; ++j) {
      double sum = 0, size = 0;
      for (Index l = 0; l < t.k; ++l) {
        const double term = (t.ta ? a.at(l, i) : a.at(i, l)) * (t.tb ? b.at(j, l) : b.at(l, j));
        sum += term;
        size += std::abs(term);
      }
      const double add = t.beta * before.at(i, j) + (t.bias ? bias.at(0, j) : 0.0);
      const double expected = t.alpha * sum + add;
      const double scale = std::abs(t.alpha) * size + std::abs(t.beta * before.at(i, j)) + (t.bias ? 1.0 : 0.0);
      const double bound = (t.k + 4) * kEpsilon32 * scale + epsilon(t.c) * std::abs(expected);
      if (!(std::abs(c.at(i, j) - expected) <= bound)) {
        if (++wrong <= 3) ADD_FAILURE() << "(" << i << ", " << j << ") is " << c.at(i, j) << ", expected " << expected
                                        << " within " << bound;
      }
    }
    // The gap after a row belongs to someone else.
    const std::size_t gap_bytes = t.gap * size_bytes(t.c), at = (i * c.stride + t.n) * size_bytes(t.c);
    ASSERT_EQ(std::memcmp(c.bytes.data() + at, before.bytes.data() + at, gap_bytes), 0) << "row " << i;
  }
  EXPECT_EQ(wrong, 0);
}

class Gemms : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_host_device(2);
};

TEST_F(Gemms, EveryLayoutTypeAndScale) {
  const DType types[] = {DType::f32, DType::bf16};
  int bias = 0;
  for (DType a : types) for (DType b : types) for (DType c : types) {
    for (bool ta : {false, true}) for (bool tb : {false, true}) {
      for (const auto& [alpha, beta] : {std::pair{1.0f, 0.0f}, {0.5f, 1.0f}, {-2.0f, 0.75f}}) {
        for (Index gap : {0, 5}) {
          bias = (bias + 1) % 3;
          expect_product(*device_, {70, 93, 81, ta, tb, a, b, c, alpha, beta, bias, gap});
        }
      }
    }
  }
}

TEST_F(Gemms, EveryBias) {
  for (DType a : {DType::f32, DType::bf16}) for (DType c : {DType::f32, DType::bf16}) {
    for (int bias : {0, 1, 2}) for (float beta : {0.0f, 1.0f}) {
      expect_product(*device_, {66, 129, 72, false, true, a, a, c, 1.0f, beta, bias, 0});
    }
  }
}

// Larger than one panel of widened operands in each extent.
TEST_F(Gemms, ManyPanels) {
  for (bool ta : {false, true}) {
    expect_product(*device_, {1100, 70, 66, ta, !ta, DType::bf16, DType::f32, DType::bf16, 1, 1, 1, 1});
    expect_product(*device_, {70, 1100, 66, ta, ta, DType::f32, DType::bf16, DType::bf16, 1, 1, 1, 1});
    expect_product(*device_, {70, 65, 4500, ta, !ta, DType::bf16, DType::f32, DType::bf16, 1, 1, 1, 1});
  }
}

TEST_F(Gemms, EmptyExtents) {
  expect_product(*device_, {0, 5, 5});
  expect_product(*device_, {5, 0, 5});
  expect_product(*device_, {3, 2, 0, false, false, DType::f32, DType::f32, DType::f32, 1, 0.5f, 1});
  expect_product(*device_, {3, 2, 0, false, false, DType::bf16, DType::bf16, DType::bf16, 1, 0.5f, 1});
}

TEST_F(Gemms, RefusesWhatDoesNotFit) {
  Host a(DType::f32, 64, 128, 0, 1), b(DType::f32, 256, 32, 0, 2), c(DType::f32, 64, 32, 0, 3);
  try {
    gemm(*device_, {.a = a.view(), .b = b.view(), .c = c.view()});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.failure(), Failure::configuration);
    EXPECT_STREQ(error.what(), "gemm: op(A) is 64x128, op(B) is 256x32, C is 64x32: inner extents differ");
  }
  Host fits(DType::f32, 128, 32, 0, 2), bias(DType::f32, 1, 31, 0, 4);
  EXPECT_THROW(gemm(*device_, {.a = a.view(), .b = fits.view(), .c = b.view()}), Error);
  EXPECT_THROW(gemm(*device_, {.a = a.view(), .b = fits.view(), .c = c.view(), .bias = bias.view()}), Error);
}

}  // namespace
}  // namespace lorashard::kernels
