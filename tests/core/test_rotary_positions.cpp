#include "core/rotary_positions.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace lorashard::core {
namespace {

ModelShape shape_of(const RopeShape& rope, Index head_size) {
  ModelShape shape;
  shape.family = "llama";
  shape.width = head_size;
  shape.heads = shape.kv_heads = 1;
  shape.rope = rope;
  return shape;
}

std::vector<double> plain(double theta, Index head_size) {
  std::vector<double> frequencies;
  for (Index i = 0; i < head_size / 2; ++i) frequencies.push_back(std::pow(theta, -2.0 * i / head_size));
  return frequencies;
}

TEST(RotaryFrequencies, PlainAndInterpolated) {
  const auto found = rotary_frequencies(shape_of({.theta = 10000}, 8));
  ASSERT_EQ(found.size(), 4u);
  const double expected[] = {1, 0.1, 0.01, 0.001};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(found[i], expected[i], 1e-15);
  const auto half = rotary_frequencies(shape_of({.scaling = RopeScaling::linear, .factor = 2}, 8));
  for (std::size_t i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(half[i], found[i] / 2);
}

// Wavelengths above 8192 / 1 are stretched by 8, those below 8192 / 4 are not.
TEST(RotaryFrequencies, Llama3) {
  const RopeShape rope{500000, RopeScaling::llama3, 8, 1, 4, 0, 8192};
  const auto found = rotary_frequencies(shape_of(rope, 128)), before = plain(500000, 128);
  int kept = 0, stretched = 0, between = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double wavelength = 2 * std::numbers::pi / before[i];
    if (wavelength < 8192.0 / 4) {
      ++kept;
      EXPECT_DOUBLE_EQ(found[i], before[i]);
    } else if (wavelength > 8192) {
      ++stretched;
      EXPECT_DOUBLE_EQ(found[i], before[i] / 8);
    } else {
      ++between;
      const double smooth = (8192 / wavelength - 1) / 3;
      EXPECT_NEAR(found[i], (1 - smooth) * before[i] / 8 + smooth * before[i], 1e-18);
    }
  }
  EXPECT_GT(kept, 20);
  EXPECT_GT(stretched, 20);
  EXPECT_GT(between, 3);
}

// Pairs that turn more than 32 times within 4096 tokens stay, those of less than one turn are stretched by 4.
TEST(RotaryFrequencies, Yarn) {
  const RopeShape rope{10000, RopeScaling::yarn, 4, 1, 32, 0, 4096};
  const auto found = rotary_frequencies(shape_of(rope, 128)), before = plain(10000, 128);
  // 128 ln(4096 / (32 2 pi)) / (2 ln 10000) = 20.9; 128 ln(4096 / (2 pi)) / (2 ln 10000) = 45.03.
  EXPECT_DOUBLE_EQ(found[20], before[20]);
  EXPECT_NEAR(found[33], before[33] * (0.5 + 0.5 / 4), 1e-12);  // halfway between 20 and 46
  EXPECT_DOUBLE_EQ(found[46], before[46] / 4);
  EXPECT_DOUBLE_EQ(rotary_magnitude(rope), 0.1 * std::log(4.0) + 1);
  EXPECT_DOUBLE_EQ(rotary_magnitude({.scaling = RopeScaling::yarn, .factor = 4, .attention_factor = 1.5}), 1.5);
  EXPECT_DOUBLE_EQ(rotary_magnitude({.scaling = RopeScaling::llama3, .factor = 4}), 1);
}

}  // namespace
}  // namespace lorashard::core
