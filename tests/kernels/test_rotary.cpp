#include "kernels/rotary.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

// What a test turns; frequencies as a model has them, base^(-2i/D).
struct Case {
  Sample x, y, frequencies;
  std::vector<std::int32_t> positions;
  Rotary args;

  Case(DType from, DType to, Index rows, Index heads, Index size, RotaryPairs pairs, double base = 10000.0)
      : x(from, rows, heads * size, 3), y(to, rows, heads * size, 1), frequencies(DType::f32, 1, size / 2) {
    x.normals(1);
    for (Index i = 0; i < size / 2; ++i) {
      set_element(frequencies, 0, i, std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(size)));
    }
    args.x = x, args.y = y, args.frequencies = frequencies;
    args.head_size = size;
    args.length = std::max<Index>(rows, 1);
    args.pairs = pairs;
  }
  // Where pair i of a head has its two values.
  Index a(Index head, Index i) const { return head * args.head_size + (args.pairs == RotaryPairs::halves ? i : 2 * i); }
  Index b(Index head, Index i) const {
    return a(head, i) + (args.pairs == RotaryPairs::halves ? args.head_size / 2 : 1);
  }
  long double angle(Index row, Index i) const {
    const Index position = positions.empty() ? row % args.length : positions[row];
    return static_cast<long double>(position) * static_cast<long double>(frequencies(0, i));
  }
  void expect_turned() const {
    const double magnitude = args.magnitude, sign = args.backward ? -1 : 1;
    Doubles expected(x.view().rows, x.view().cols), size = expected;
    for (Index r = 0; r < expected.rows; ++r) {
      for (Index h = 0; h < expected.cols / args.head_size; ++h) {
        for (Index i = 0; i < args.head_size / 2; ++i) {
          const double c = static_cast<double>(cosl(angle(r, i))), s = sign * static_cast<double>(sinl(angle(r, i)));
          const double p = x(r, a(h, i)), q = x(r, b(h, i));
          expected(r, a(h, i)) = magnitude * (p * c - q * s);
          expected(r, b(h, i)) = magnitude * (q * c + p * s);
          size(r, a(h, i)) = magnitude * (std::abs(p * c) + std::abs(q * s));
          size(r, b(h, i)) = magnitude * (std::abs(q * c) + std::abs(p * s));
        }
      }
    }
    // Two terms with a cosine or sine of 3 half ulps, the magnitude's rounding, the product's and the sum's; an angle
    // that is off by 2^-50 where a sine is 0.
    expect_close(
        y, expected,
        [&](Index r, Index c) {
          return 6 * kFloatEpsilon * size(r, c) + unit_roundoff(y.view().dtype) * std::abs(expected(r, c)) + 1e-13;
        },
        "y");
  }
};

const RotaryPairs kPairs[] = {RotaryPairs::halves, RotaryPairs::neighbours};

TEST(Rotary, MatchesTheDefinition) {
  const auto device = make_host_device(2);
  for (const RotaryPairs pairs : kPairs) {
    for (const DType from : {DType::f32, DType::bf16}) {
      for (const DType to : {DType::f32, DType::bf16}) {
        for (const auto& [rows, heads, size] :
             {std::tuple<Index, Index, Index>{1, 1, 2}, {5, 3, 6}, {40, 4, 64}, {300, 2, 80}}) {
          SCOPED_TRACE(text(pairs == RotaryPairs::halves ? "halves " : "neighbours ", name(from), " ", name(to), " ",
                            rows, " rows of ", heads, " heads of ", size));
          Case c(from, to, rows, heads, size, pairs);
          c.args.length = rows > 1 ? rows / 2 : 1;  // two sequences
          rotary(*device, c.args);
          c.expect_turned();
        }
      }
    }
  }
}

TEST(Rotary, BackwardAndMagnitude) {
  const auto device = make_host_device(2);
  for (const RotaryPairs pairs : kPairs) {
    Case c(DType::f32, DType::f32, 20, 2, 16, pairs);
    c.args.magnitude = 1.375f;
    rotary(*device, c.args);
    c.expect_turned();
    c.args.backward = true;
    rotary(*device, c.args);
    c.expect_turned();
  }
}

TEST(Rotary, PositionsOfTheirOwn) {
  for (const RotaryPairs pairs : kPairs) {
    Case c(DType::f32, DType::f32, 6, 2, 8, pairs);
    c.positions = {0, 5, 5, 131071, 1000000, 2147483647};
    c.args.positions = c.positions;
    c.args.length = 0;
    rotary(*make_host_device(1), c.args);
    c.expect_turned();
  }
}

// Position 0 turns nothing, whatever the frequencies; y may be x.
TEST(Rotary, PositionZeroIsExact) {
  Case c(DType::f32, DType::f32, 3, 2, 8, RotaryPairs::halves);
  c.args.length = 1;
  c.args.y = c.x;
  const Doubles before = to_doubles(c.x);
  rotary(*make_host_device(1), c.args);
  for (Index r = 0; r < 3; ++r) {
    for (Index col = 0; col < 16; ++col) EXPECT_EQ(c.x(r, col), before(r, col));
  }
}

TEST(Rotary, ResultMayBeTheOperand) {
  const auto device = make_host_device(2);
  for (const RotaryPairs pairs : kPairs) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Case apart(dtype, dtype, 50, 3, 20, pairs), same(dtype, dtype, 50, 3, 20, pairs);
      same.args.y = same.x;
      rotary(*device, apart.args);
      rotary(*device, same.args);
      for (Index r = 0; r < 50; ++r) {
        for (Index c = 0; c < 60; ++c) ASSERT_EQ(same.x(r, c), apart.y(r, c));
      }
    }
  }
}

// The two ways to pair are the same with the columns of a head put in another order, bit for bit.
TEST(Rotary, TheWaysToPairDifferByOrderAlone) {
  Case halves(DType::f32, DType::f32, 30, 2, 12, RotaryPairs::halves);
  Case neighbours(DType::f32, DType::f32, 30, 2, 12, RotaryPairs::neighbours);
  const auto each = [&](const auto& body) {
    for (Index r = 0; r < 30; ++r) {
      for (Index h = 0; h < 2; ++h) {
        for (Index i = 0; i < 6; ++i)
          body(r, halves.a(h, i), neighbours.a(h, i)), body(r, halves.b(h, i), neighbours.b(h, i));
      }
    }
  };
  each([&](Index r, Index from, Index to) { set_element(neighbours.x, r, to, halves.x(r, from)); });
  const auto device = make_host_device(2);
  rotary(*device, halves.args);
  rotary(*device, neighbours.args);
  each([&](Index r, Index from, Index to) { ASSERT_EQ(neighbours.y(r, to), halves.y(r, from)); });
}

TEST(Rotary, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Case c(DType::f32, DType::bf16, 200, 3, 64, RotaryPairs::halves);
    rotary(device, c.args);
    return c.y.image();
  });
}

TEST(Rotary, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::elementwise, [](Device& device) {
    const auto tensor = [&](DType dtype, Index rows, Index cols) {
      Tensor t(device, Category::activation, dtype, rows, cols);
      if (!device.meta()) std::memset(t.view().data, 0, t.view().bytes());
      return t;
    };
    Tensor x = tensor(DType::f32, 4, 16), y = tensor(DType::bf16, 4, 16), frequencies = tensor(DType::f32, 1, 4);
    std::vector<std::int32_t> positions(4);
    Rotary args{x, y, frequencies, 8, 4, {}};
    rotary(device, args);
    EXPECT_EQ(device.profile().entry(Phase::elementwise).bytes, 4.0 * 64 + 2.0 * 64 + 16);
    EXPECT_EQ(device.profile().entry(Phase::elementwise).flops, 3.0 * 64 + 30.0 * 16);
    args.positions = positions;
    rotary(device, args);
    EXPECT_EQ(device.profile().entry(Phase::elementwise).bytes, 2 * (4.0 * 64 + 2.0 * 64 + 16) + 16);
  });
}

TEST(Rotary, EmptyIsNothing) {
  for (const auto& [rows, heads] : {std::pair<Index, Index>{0, 2}, {2, 0}}) {
    Case c(DType::f32, DType::f32, rows, heads, 4, RotaryPairs::halves);
    rotary(*make_host_device(1), c.args);
  }
}

TEST(Rotary, RefusesWhatDoesNotFit) {
  const auto device = make_meta_device();
  const auto m = [](Index rows, Index cols) { return Matrix{nullptr, DType::f32, rows, cols, cols}; };
  const auto refusal = [&](const Rotary& args) -> std::string {
    try {
      rotary(*device, args);
    } catch (const Error& error) {
      EXPECT_EQ(error.failure(), Failure::configuration);
      return error.what();
    }
    return "";
  };
  const std::vector<std::int32_t> three(3);
  EXPECT_EQ(refusal({m(4, 16), m(4, 16), m(1, 4), 8, 4, {}}), "");
  EXPECT_EQ(refusal({m(4, 15), m(4, 15), m(1, 2), 5, 4, {}}),
            "rotary: head size 5, x is 4x15; expected an even size, of which x's columns are a multiple");
  EXPECT_NE(refusal({m(4, 16), m(4, 16), m(1, 3), 6, 4, {}}), "");
  EXPECT_NE(refusal({m(4, 16), m(4, 16), m(1, 0), 0, 4, {}}), "");
  EXPECT_EQ(refusal({m(4, 16), m(4, 8), m(1, 4), 8, 4, {}}), "rotary: y is 4x8, expected 4x16");
  EXPECT_EQ(refusal({m(4, 16), m(4, 16), m(1, 8), 8, 4, {}}), "rotary: frequencies is 1x8, expected 1x4");
  EXPECT_EQ(refusal({m(4, 16), m(4, 16), m(1, 4), 8, 0, {}}),
            "rotary: length is 0 without positions, expected 1 or more");
  EXPECT_EQ(refusal({m(4, 16), m(4, 16), m(1, 4), 8, 4, three}), "rotary: 3 positions for a matrix of 4x16");
}

}  // namespace
}  // namespace lorashard::kernels
