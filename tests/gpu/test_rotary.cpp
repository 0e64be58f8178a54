// Rotary positions on the cuda device against the host's meaning.
#include "kernels/rotary.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

struct Extents {
  Index rows, heads, size, gap;
};
// Heads of whole vectors and others; rows of one warp and of a block; rows that fill no block.
const Extents kExtents[] = {{1, 1, 2, 0},  {3, 2, 8, 4},   {5, 3, 6, 0},  {9, 1, 128, 0},
                            {2, 9, 64, 3}, {3, 20, 80, 4}, {70, 2, 16, 0}};
const RotaryPairs kPairs[] = {RotaryPairs::halves, RotaryPairs::neighbours};

struct Case {
  Twin x, y, frequencies;
  Index size, length;

  Case(DType from, DType to, const Extents& e)
      : x(from, e.rows, e.heads * e.size, e.gap),
        y(to, e.rows, e.heads * e.size, e.gap),
        frequencies(DType::f32, 1, e.size / 2),
        size(e.size),
        length(e.rows > 1 ? e.rows / 2 : 1) {
    x.normals(1);
    for (Index i = 0; i < size / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(size);
      set_element(frequencies.host(), 0, i, std::pow(10000.0, exponent));
    }
    frequencies.send();
  }
  Rotary on(Device& d, RotaryPairs pairs) {
    Rotary args;
    args.x = x.on(d), args.y = y.on(d), args.frequencies = frequencies.on(d);
    args.head_size = size, args.length = length, args.pairs = pairs;
    return args;
  }
  // One function gives both devices their turns; two products and a sum, fused or not, are three roundings.
  void expect_near(RotaryPairs pairs, double magnitude = 1.0) {
    y.expect_near(
        [&](Index r, Index c) {
          const Index first = c / size * size, i = c - first, half = size / 2;
          const Index other = first + (pairs == RotaryPairs::halves ? (i + half) % size : i ^ 1);
          const double terms = magnitude * (std::abs(x.host()(r, c)) + std::abs(x.host()(r, other)));
          return 6 * kFloatEpsilon * terms + 2 * unit_roundoff(y.host().view().dtype) * std::abs(y.host()(r, c));
        },
        "y");
  }
};

void for_cases(const std::function<void(DType, DType, const Extents&, RotaryPairs)>& check) {
  for (const RotaryPairs pairs : kPairs) {
    for (const Extents& e : kExtents) {
      for (const DType from : kTypes) {
        for (const DType to : kTypes) {
          SCOPED_TRACE(text(pairs == RotaryPairs::halves ? "halves " : "neighbours ", name(from), " ", name(to), " ",
                            e.rows, " rows of ", e.heads, " heads of ", e.size));
          check(from, to, e, pairs);
        }
      }
    }
  }
}

TEST(CudaRotary, FollowsTheHost) {
  SKIP_WITHOUT_GPU();
  for_cases([](DType from, DType to, const Extents& e, RotaryPairs pairs) {
    Case c(from, to, e);
    Twin::on_both([&](Device& d) { rotary(d, c.on(d, pairs)); });
    c.expect_near(pairs);
  });
}

TEST(CudaRotary, BackwardAndMagnitude) {
  SKIP_WITHOUT_GPU();
  for (const RotaryPairs pairs : kPairs) {
    Case c(DType::f32, DType::f32, {12, 3, 24, 0});
    Twin::on_both([&](Device& d) {
      Rotary args = c.on(d, pairs);
      args.magnitude = 1.375f;
      args.backward = true;
      rotary(d, args);
    });
    c.expect_near(pairs, 1.375);
  }
}

TEST(CudaRotary, PositionsOfTheirOwn) {
  SKIP_WITHOUT_GPU();
  const std::vector<std::int32_t> positions = {0, 5, 5, 131071, 1000000, 2147483647};
  // Into device memory as the bits of fp32 values, which is what a tensor holds.
  Tensor there(cuda(), Category::workspace, DType::f32, 1, 6);
  upload(cuda(), {reinterpret_cast<const std::byte*>(positions.data()), DType::f32, 1, 6, 6}, there);
  for (const RotaryPairs pairs : kPairs) {
    Case c(DType::f32, DType::f32, {6, 2, 16, 0});
    Twin::on_both([&](Device& d) {
      Rotary args = c.on(d, pairs);
      args.length = 0;
      args.positions = {
          d.kind() == DeviceKind::host ? positions.data() : reinterpret_cast<const std::int32_t*>(there.view().data),
          6};
      rotary(d, args);
    });
    c.expect_near(pairs);
  }
}

TEST(CudaRotary, ResultMayBeTheOperand) {
  SKIP_WITHOUT_GPU();
  for (const RotaryPairs pairs : kPairs) {
    for (const DType dtype : kTypes) {
      for (const Extents& e : kExtents) {
        Case c(dtype, dtype, e);
        Rotary args = c.on(cuda(), pairs);
        rotary(cuda(), args);
        args.y = c.x.on(cuda());
        rotary(cuda(), args);
        EXPECT_EQ(c.x.bytes(), c.y.bytes());
      }
    }
  }
}

// Position 0 turns nothing, and a plan with no rows or heads does nothing.
TEST(CudaRotary, PositionZeroIsExactAndEmptyIsNothing) {
  SKIP_WITHOUT_GPU();
  Case c(DType::f32, DType::f32, {3, 2, 8, 0});
  Rotary args = c.on(cuda(), RotaryPairs::halves);
  args.length = 1;
  rotary(cuda(), args);
  EXPECT_EQ(c.y.bytes(), bytes_of(c.x.host().view()));
  for (const auto& [rows, heads] : {std::pair<Index, Index>{0, 2}, {2, 0}}) {
    Case none(DType::f32, DType::f32, {rows, heads, 4, 0});
    rotary(cuda(), none.on(cuda(), RotaryPairs::halves));
  }
  cuda().synchronize();
}

}  // namespace
}  // namespace lorashard::kernels
