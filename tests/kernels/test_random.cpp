#include <set>

#include "kernels/elementwise.hpp"
#include "kernels/random.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

// Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, KnownAnswers) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint64_t ones = ~std::uint64_t{0};
  EXPECT_EQ(philox({ones, ones}, ones), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
  EXPECT_EQ(philox({0x299f31d0a4093822, 0x0370734413198a2e}, 0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, ElementsUseTheirOwnWords) {
  const RandomKey key{3, 4};
  for (std::uint64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(uniform(key, i), static_cast<float>(philox(key, i / 4)[i % 4] >> 8) * 0x1.0p-24f);
  }
  std::set<float> distinct;
  for (std::uint64_t stream = 0; stream < 100; ++stream) distinct.insert(uniform({1, stream}, 0));
  EXPECT_GE(distinct.size(), 99u);  // 24-bit values: two equal ones among 100 have odds of 1 in 3000, a third none
}

// Six standard deviations of the estimate each; the values are fixed, so a pass is a pass for ever.
TEST(Uniform, MeanAndVariance) {
  const int n = 1 << 20;
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const double u = uniform({11, 5}, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
  }
  EXPECT_NEAR(sum / n, 0.5, 6 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 12, 6 * std::sqrt((1.0 / 80 - 1.0 / 144) / n));
}

TEST(Normal, MomentsAndNeighbours) {
  const int n = 1 << 20;
  double sum = 0, squares = 0, fourths = 0, neighbours = 0;
  for (int i = 0; i < n; ++i) {
    const double x = normal({11, 6}, i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
    neighbours += x * normal({11, 6}, i + 1);
  }
  EXPECT_NEAR(sum / n, 0.0, 6 * std::sqrt(1.0 / n));
  EXPECT_NEAR(squares / n, 1.0, 6 * std::sqrt(2.0 / n));
  EXPECT_NEAR(fourths / n, 3.0, 6 * std::sqrt(96.0 / n));
  EXPECT_NEAR(neighbours / n, 0.0, 6 * std::sqrt(1.0 / n));
}

TEST(FillNormal, IsTheElementsFunctionAndCutsAnywhere) {
  const auto device = make_host_device(2);
  const RandomKey key{5, 9};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Sample whole(dtype, 37, 1100, 3);
    fill_normal(*device, {key, 0.02f, 0, 0, 1100}, whole);
    for (Index r = 0; r < 37; ++r) {
      for (Index c = 0; c < 1100; ++c) {
        const float expected = 0.02f * normal(key, r * 1100 + c);
        ASSERT_EQ(whole(r, c), dtype == DType::f32 ? expected : to_float(to_bf16(expected))) << r << " " << c;
      }
    }
    Sample part(dtype, 5, 301);
    fill_normal(*device, {key, 0.02f, 11, 77, 1100}, part);
    for (Index r = 0; r < 5; ++r) {
      for (Index c = 0; c < 301; ++c) ASSERT_EQ(part(r, c), whole(11 + r, 77 + c));
    }
  }
}

TEST(FillNormal, RefusesColumnsBeyondTheMatrix) {
  Sample m(DType::f32, 2, 5);
  EXPECT_THROW(fill_normal(*make_host_device(1), {{1, 1}, 1.0f, 0, 6, 10}, m), Error);
}

TEST(Dropout, KeepsWhatUniformKeeps) {
  const auto device = make_host_device(2);
  const float p = 0.3f, kept = 1.0f / (1.0f - p);
  const DropoutMask mask{{2, 8}, p, 3, 5, 2100};
  Sample x(DType::f32, 21, 2050, 1), y(DType::f32, 21, 2050);
  x.normals(1);
  dropout(*device, mask, x, y);
  Index dropped = 0;
  for (Index r = 0; r < 21; ++r) {
    for (Index c = 0; c < 2050; ++c) {
      const bool keep = uniform(mask.key, (3 + r) * 2100 + 5 + c) >= p;
      ASSERT_EQ(y(r, c), keep ? kept * static_cast<float>(x(r, c)) : 0.0f) << r << " " << c;
      dropped += !keep;
    }
  }
  const double n = 21 * 2050;
  EXPECT_NEAR(dropped / n, p, 6 * std::sqrt(p * (1 - p) / n));
}

TEST(Dropout, TheMaskIsTheSameHoweverTheMatrixIsCut) {
  const auto device = make_host_device(2);
  Sample ones(DType::f32, 12, 1500), whole(DType::f32, 12, 1500);
  ones.fill(1.0);
  dropout(*device, {{2, 8}, 0.5f, 0, 0, 1500}, ones, whole);
  for (const Index first : {0, 1, 2, 3, 5, 750}) {
    Sample part(DType::f32, 4, 700);
    dropout(*device, {{2, 8}, 0.5f, 6, first, 1500}, ConstMatrix(ones).row_range(0, 4).col_range(0, 700), part);
    for (Index r = 0; r < 4; ++r) {
      for (Index c = 0; c < 700; ++c) ASSERT_EQ(part(r, c), whole(6 + r, first + c));
    }
  }
}

TEST(Dropout, AddIsTheSameMaskOntoWhatIsThere) {
  const auto device = make_host_device(2);
  const DropoutMask mask{{2, 8}, 0.25f, 0, 2, 40};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Sample x(dtype, 9, 33, 2), y(DType::f32, 9, 33), sum(dtype, 9, 33, 3), before(dtype, 9, 33);
    x.normals(1);
    sum.normals(2);
    before.normals(2);
    dropout(*device, mask, x, y);
    dropout_add(*device, mask, x, sum);
    for (Index r = 0; r < 9; ++r) {
      for (Index c = 0; c < 33; ++c) {
        const double expected = before(r, c) + y(r, c);
        ASSERT_LE(std::abs(sum(r, c) - expected), unit_roundoff(dtype) * (std::abs(expected) + std::abs(y(r, c))));
      }
    }
  }
}

TEST(Dropout, ProbabilityZeroIsACopy) {
  const auto device = make_host_device(1);
  Sample x(DType::f32, 3, 7), y(DType::f32, 3, 7);
  x.normals(1);
  dropout(*device, {{2, 8}, 0.0f, 0, 0, 7}, x, y);
  EXPECT_EQ(x.image(), y.image());
  dropout_add(*device, {{2, 8}, 0.0f, 0, 0, 7}, x, y);
  for (Index c = 0; c < 7; ++c) EXPECT_EQ(y(2, c), 2 * x(2, c));
}

TEST(Dropout, RefusesImpossibleMasks) {
  const auto device = make_host_device(1);
  Sample x(DType::f32, 3, 7), y(DType::f32, 3, 7);
  EXPECT_THROW(dropout(*device, {{2, 8}, 1.0f, 0, 0, 7}, x, y), Error);
  EXPECT_THROW(dropout(*device, {{2, 8}, -0.1f, 0, 0, 7}, x, y), Error);
  EXPECT_THROW(dropout(*device, {{2, 8}, 0.1f, 0, 1, 7}, x, y), Error);
}

TEST(Dropout, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Sample x(DType::f32, 50, 700), y(DType::f32, 50, 700);
    x.normals(1);
    dropout(device, {{2, 8}, 0.1f, 0, 0, 700}, x, y);
    dropout_add(device, {{2, 9}, 0.1f, 0, 0, 700}, x, y);
    return y.image();
  });
}

}  // namespace
}  // namespace lorashard::kernels
