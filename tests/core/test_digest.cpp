#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "core/digest.hpp"
#include "kernels/numbers.hpp"
#include "tests/core/expect_refused.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::ConstMatrix;
using kernels::Index;

std::vector<float> counted(Index n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

ConstMatrix view_of(const std::vector<float>& values, Index rows, Index cols) {
  return kernels::view(values.data(), rows, cols);
}

Digest whole(const std::vector<float>& values, Index rows, Index cols) {
  return digest_of(view_of(values, rows, cols), AxisCut::whole(rows), AxisCut::whole(cols));
}

TEST(Digest, SlicesAddUpToTheWholeOnEveryCut) {
  const Index rows = 24, cols = 10;
  const auto values = counted(rows * cols);
  const Digest expected = whole(values, rows, cols);
  for (int row_parts : {1, 2, 3, 5})
    for (int col_parts : {1, 2, 4}) {
      Digest sum;
      for (int r = 0; r < row_parts; ++r)
        for (int c = 0; c < col_parts; ++c) {
          const AxisCut row_cut({12, 6, 6}, r, row_parts), col_cut({cols}, c, col_parts);
          std::vector<float> part;
          for (const auto& rr : row_cut.runs())
            for (Index i = 0; i < rr.count; ++i)
              for (const auto& cr : col_cut.runs())
                for (Index j = 0; j < cr.count; ++j)
                  part.push_back(values[static_cast<std::size_t>((rr.global.value + i) * cols + cr.global.value + j)]);
          sum += digest_of(view_of(part, row_cut.local_extent(), col_cut.local_extent()), row_cut, col_cut);
        }
      EXPECT_EQ(sum, expected) << row_parts << " x " << col_parts;
    }
}

TEST(Digest, EverySingleBitOfEveryElementCounts) {
  auto values = counted(15);
  std::set<std::string> seen{whole(values, 3, 5).hex()};
  for (float& value : values)
    for (int bit = 0; bit < 32; ++bit) {
      const float before = value;
      value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ (1u << bit));
      EXPECT_TRUE(seen.insert(whole(values, 3, 5).hex()).second) << "bit " << bit << " of " << before;
      value = before;
    }
}

TEST(Digest, EveryExchangedPairCounts) {
  auto values = counted(24);
  std::set<std::string> seen{whole(values, 4, 6).hex()};
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      std::swap(values[i], values[j]);
      EXPECT_TRUE(seen.insert(whole(values, 4, 6).hex()).second) << i << " and " << j;
      std::swap(values[i], values[j]);
    }
}

TEST(Digest, ReadsThroughAStrideAndInBf16) {
  const auto values = counted(20);
  const ConstMatrix left = view_of(values, 4, 5).col_range(0, 3);
  std::vector<float> packed;
  std::vector<kernels::bf16> low;
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 3; ++j) {
      packed.push_back(left.row<const float>(i)[j]);
      low.push_back(kernels::to_bf16(packed.back()));
    }
  EXPECT_EQ(digest_of(left, AxisCut::whole(4), AxisCut::whole(3)), whole(packed, 4, 3));
  const ConstMatrix narrow = kernels::view(low.data(), 4, 3);
  EXPECT_NE(digest_of(narrow, AxisCut::whole(4), AxisCut::whole(3)), whole(packed, 4, 3));
}

// Files carry these numbers: a change of the function would make every file written so far look damaged.
TEST(Digest, KeepsItsValues) {
  EXPECT_EQ(whole(counted(6), 2, 3).hex(), "e78e8d64c5dc54efc6d8bf2692c1f1e1");
  EXPECT_EQ(digest_of("lorashard", 9).hex(), "ad1a908d8c1268dce436e035ba718998");
}

TEST(Digest, BytesCountTheirLengthAndOrder) {
  std::set<std::string> seen;
  const std::string zeros(40, '\0');
  for (std::size_t n = 0; n <= zeros.size(); ++n)
    EXPECT_TRUE(seen.insert(digest_of(zeros.data(), n).hex()).second) << n;
  EXPECT_NE(digest_of("12345678abcdefgh", 16), digest_of("abcdefgh12345678", 16));
}

TEST(Digest, HexGoesBothWaysAndRefusesOtherText) {
  const Digest digest{0x0123456789abcdefu, 0xfedcba9876543210u};
  EXPECT_EQ(digest.hex(), "0123456789abcdeffedcba9876543210");
  EXPECT_EQ(Digest::from_hex(digest.hex()), digest);
  for (const char* bad : {"", "0123", "0123456789ABCDEFfedcba9876543210", "0123456789abcdeffedcba98765432100"})
    expect_refused([&] { Digest::from_hex(bad); }, kernels::Failure::storage, {"32 hexadecimal digits"});
}

TEST(Digest, RefusesAMatrixThatIsNotTheCuts) {
  const auto values = counted(6);
  expect_refused([&] { digest_of(view_of(values, 2, 3), AxisCut::whole(3), AxisCut::whole(2)); },
                 kernels::Failure::other, {"2x3", "3x2"});
}

}  // namespace
}  // namespace lorashard::core
