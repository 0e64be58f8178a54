#include "kernels/numbers.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Bf16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(from_bits(0x3f807fff)).bits, 0x3f80);              // just below the tie
  EXPECT_EQ(to_bf16(from_bits(0x3f808000)).bits, 0x3f80);              // tie, even below
  EXPECT_EQ(to_bf16(from_bits(0x3f818000)).bits, 0x3f82);              // tie, even above
  EXPECT_EQ(to_bf16(from_bits(0x3f808001)).bits, 0x3f81);              // just above the tie
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);  // beyond the largest: infinity
  EXPECT_EQ(to_bf16(-kInfinity).bits, 0xff80);
  EXPECT_EQ(to_bf16(-0.0f).bits, 0x8000);
}

TEST(Bf16, NanStaysNan) {
  // The second has its payload in the lower half only: rounding alone would make it infinity.
  for (const std::uint32_t bits : {0x7fc00000u, 0x7f800001u, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(to_float(to_bf16(from_bits(bits))))) << bits;
  }
}

TEST(Bf16, EveryValueSurvivesTheWayToFloatAndBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 value{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(value))) continue;
    EXPECT_EQ(to_bf16(to_float(value)).bits, bits);
  }
}

// Distance to the true value in units of the last place of the float nearest to it.
double ulps(float found, double expected) {
  const float nearest = static_cast<float>(expected);
  return std::abs(found - expected) / (std::nextafter(std::abs(nearest), kInfinity) - std::abs(nearest));
}

TEST(Exponential, WithinOneAndAHalfUlp) {
  double worst = 0;
  for (int i = -86970; i <= 88720; ++i) {
    for (const float x : {static_cast<float>(i) * 1e-3f, static_cast<float>(i) * 1.1234567e-5f}) {
      worst = std::max(worst, ulps(exponential(x), std::exp(static_cast<double>(x))));
    }
  }
  EXPECT_LE(worst, 1.5);
}

TEST(Exponential, Ends) {
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_EQ(exponential(-kInfinity), 0.0f);
  EXPECT_EQ(exponential(-100.0f), 0.0f);
  EXPECT_EQ(exponential(-1e30f), 0.0f);
  EXPECT_EQ(exponential(kInfinity), kInfinity);
  EXPECT_EQ(exponential(88.73f), kInfinity);
  EXPECT_LT(exponential(88.72f), kInfinity);
  EXPECT_TRUE(std::isnan(exponential(std::nanf(""))));
}

double true_gelu(double x) {
  const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-2.0 * u));
}
double true_gelu_derivative(double x) {
  const double k = std::sqrt(2.0 / M_PI), t = std::tanh(k * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * k * (1.0 + 3.0 * 0.044715 * x * x);
}

// The argument 2u of the exponential carries 5 roundings, relative; an error of the argument is a relative error of the
// exponential, which reaches the result by at most as much. 4 roundings around it.
TEST(Gelu, KeepsItsDigitsForNegativeInputsToo) {
  for (int i = -60000; i <= 60000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    const double twice_u = 2.0 * std::sqrt(2.0 / M_PI) * std::abs(x + 0.044715 * x * x * x);
    const double expected = true_gelu(x);
    EXPECT_LE(std::abs(gelu(x) - expected), (5 * twice_u + 7) * kFloatEpsilon * std::abs(expected)) << x;
  }
}

// Terms of the derivative: s, and x s (1 - s) 2k (1 + 3 * 0.044715 x^2); each with the error above.
TEST(Gelu, Derivative) {
  for (int i = -60000; i <= 60000; ++i) {
    const double x = static_cast<float>(i) * 1e-4f;
    const double k = std::sqrt(2.0 / M_PI), u = k * (x + 0.044715 * x * x * x), s = 1.0 / (1.0 + std::exp(-2.0 * u));
    const double terms = s + std::abs(x) * s * (1.0 - s) * 2.0 * k * (1.0 + 3.0 * 0.044715 * x * x);
    const double bound = (2 * 5 * 2 * std::abs(u) + 16) * kFloatEpsilon * terms;
    EXPECT_LE(std::abs(gelu_derivative(static_cast<float>(x)) - true_gelu_derivative(x)), bound + 1e-16) << x;
  }
}

TEST(Gelu, FarOut) {
  EXPECT_EQ(gelu(0.0f), 0.0f);
  EXPECT_EQ(gelu(50.0f), 50.0f);
  EXPECT_NEAR(gelu(-50.0f), 0.0f, 1e-30);
  EXPECT_EQ(gelu_derivative(50.0f), 1.0f);
  EXPECT_NEAR(gelu_derivative(-50.0f), 0.0f, 1e-28);
  EXPECT_TRUE(std::isfinite(gelu_derivative(-1e6f)));
  EXPECT_TRUE(std::isnan(gelu(std::nanf(""))));
  EXPECT_TRUE(std::isnan(gelu_derivative(std::nanf(""))));
}

// The exponential's 1.5 ulp (3 units), the sum's and the quotient's.
TEST(Silu, KeepsItsDigits) {
  for (int i = -80000; i <= 80000; ++i) {
    const float x = static_cast<float>(i) * 1e-3f;
    const double s = 1.0 / (1.0 + std::exp(-static_cast<double>(x))), e = std::exp(-static_cast<double>(x));
    EXPECT_LE(std::abs(silu(x) - x * s), 6 * kFloatEpsilon * std::abs(x * s) + 1e-37) << x;
    const double terms = s + std::abs(x) * s * s * e;
    EXPECT_LE(std::abs(silu_derivative(x) - (s + x * s * s * e)), 16 * kFloatEpsilon * terms + 1e-37) << x;
  }
}

TEST(Silu, FarOut) {
  EXPECT_EQ(silu(0.0f), 0.0f);
  EXPECT_EQ(silu_derivative(0.0f), 0.5f);
  EXPECT_EQ(silu(200.0f), 200.0f);
  EXPECT_EQ(silu(-200.0f), 0.0f);
  EXPECT_EQ(silu_derivative(200.0f), 1.0f);
  EXPECT_NEAR(silu_derivative(-200.0f), 0.0f, 1e-30);
  EXPECT_TRUE(std::isnan(silu(std::nanf(""))));
  EXPECT_TRUE(std::isnan(silu_derivative(std::nanf(""))));
}

// Angles as rotary positions make them, to the largest 32-bit position, and on both sides of every quarter's edges.
TEST(Turn, WithinOneAndAHalfUlp) {
  double worst = 0;
  const auto take = [&](double angle) {
    const Turn turn = turn_by(angle);
    const auto c = static_cast<double>(cosl(angle)), s = static_cast<double>(sinl(angle));
    // Near 0 the angle's own last digit counts: 2^-50 of it.
    const double slack = std::abs(angle) * 0x1.0p-50;
    if (std::abs(turn.cosine - c) > slack) worst = std::max(worst, ulps(turn.cosine, c));
    if (std::abs(turn.sine - s) > slack) worst = std::max(worst, ulps(turn.sine, s));
  };
  for (int position = 0; position < 4000; ++position) {
    for (const float frequency : {1.0f, 0.8659643f, 0.1f, 0.01f, 1.1547819e-4f}) {
      take(static_cast<double>(position) * static_cast<double>(frequency));
      take(-static_cast<double>(position * 536870) * static_cast<double>(frequency));
      take((position * 0.25) * M_PI);
      take((position * 0.25) * M_PI + 1e-4);
      take((position * 0.25) * M_PI - 1e-7);
      take(position * 1e-9);
    }
  }
  EXPECT_LE(worst, 1.5);
}

TEST(Turn, Ends) {
  EXPECT_EQ(turn_by(0.0).cosine, 1.0f);
  EXPECT_EQ(turn_by(0.0).sine, 0.0f);
  EXPECT_TRUE(std::isnan(turn_by(std::nan("")).cosine));
  EXPECT_TRUE(std::isnan(turn_by(std::nan("")).sine));
}

}  // namespace
}  // namespace lorashard::kernels
