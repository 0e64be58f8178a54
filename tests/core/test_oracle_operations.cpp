// What slopes cannot show: that the Llama family's operations mean what their formulae say. Values worked out by hand,
// identities between shapes, and a public model's own text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/oracle/attention.hpp"
#include "tests/oracle/golden.hpp"
#include "tests/oracle/operations.hpp"

namespace lorashard::oracle {
namespace {

// Sums of at most 100 terms of order 1 in different orders: 100 times 1.1e-16, with as much again through a softmax.
constexpr double kRounding = 1e-13;

Array array(Index rows, std::vector<double> values) {
  Array m(rows, static_cast<Index>(values.size()) / rows);
  m.values = std::move(values);
  return m;
}

Array random_array(Index rows, Index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  Array m(rows, cols);
  for (double& x : m.values) x = normal(engine);
  return m;
}

TEST(OracleOperations, RmsNormDividesByTheRootOfTheMeanSquare) {
  const Array whole = rms_norm(array(1, {2, 4, 4, 8}), array(1, {1, 2, 3, 0.5}), 0);  // mean square 25
  EXPECT_LT(largest_difference(whole, array(1, {0.4, 1.6, 2.4, 0.8})), kRounding);
  const Array inside = rms_norm(array(1, {1, -1}), array(1, {1, 1}), 3);  // eps is under the root
  EXPECT_LT(largest_difference(inside, array(1, {0.5, -0.5})), kRounding);
  const Array groups = rms_norm(array(1, {1, 7, 10, 70}), array(1, {5, 10}), 0);  // mean squares 25 and 2500
  EXPECT_LT(largest_difference(groups, array(1, {1, 14, 1, 14})), kRounding);
}

TEST(OracleOperations, SwigluLetsTheFirstHalfGateTheSecond) {
  const double g = std::log(3.0);  // sigmoid 3/4
  const Array y = swiglu(array(1, {0, g, -g, 9, 4, 8}));
  EXPECT_LT(largest_difference(y, array(1, {0, 0.75 * g * 4, -0.25 * g * 8})), kRounding);
}

TEST(OracleOperations, FrequenciesFallFromOneByTheta) {
  const std::vector<double> f = rotary_frequencies(10000, 8);
  EXPECT_LT(largest_difference(array(1, f), array(1, {1, 0.1, 0.01, 0.001})), kRounding);
}

// A quarter turn a position in the first pair, a sixth in the second, of two heads in two rows of three tokens.
TEST(OracleOperations, RotaryTurnsEachPairByItsOwnAngle) {
  const double c = 0.5, s = std::sqrt(3.0) / 2;
  Rotary positions{{M_PI / 2, M_PI / 3}, 2, false};
  const Array x = array(6, {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
                            1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8});
  const Array halves = rotary(x, positions, 3);
  const Array second = array(1, {-6, 2 * (2 * c - 4 * s), 2, 2 * (2 * s + 4 * c),  //
                                 -14, 2 * (6 * c - 8 * s), 10, 2 * (6 * s + 8 * c)});
  EXPECT_LT(largest_difference(rows_of(halves, 0, 1), array(1, {2, 4, 6, 8, 10, 12, 14, 16})), kRounding);
  EXPECT_LT(largest_difference(rows_of(halves, 1, 1), second), kRounding);
  EXPECT_LT(largest_difference(rows_of(halves, 3, 3), rows_of(halves, 0, 3)), kRounding);

  positions.neighbours = true;
  const Array third = array(1, {-2, -4, 2 * (-c * 3 - s * 4), 2 * (s * 3 - c * 4),  // half a turn, a third of a turn
                                -10, -12, 2 * (-c * 7 - s * 8), 2 * (s * 7 - c * 8)});
  EXPECT_LT(largest_difference(rows_of(rotary(x, positions, 3), 2, 1), third), kRounding);
}

TEST(OracleOperations, GroupedHeadsAreHeadsWithRepeatedKeysAndValues) {
  constexpr Index kHeadSize = 4, kRepeated = 3;
  const AttentionShape shape{5, kHeadSize, 0};
  const Array q = random_array(10, 6 * kHeadSize, 1), k = random_array(10, 2 * kHeadSize, 2),
              v = random_array(10, 2 * kHeadSize, 3);
  const auto repeated = [&](const Array& m) {
    Array wide(m.rows, m.cols * kRepeated);
    for (Index head = 0; head < 6; ++head)
      add_to_columns(columns_of(m, head / kRepeated * kHeadSize, kHeadSize), head * kHeadSize, wide);
    return wide;
  };
  const Array expected = attention(q, repeated(k), repeated(v), shape);
  EXPECT_LT(largest_difference(attention(q, k, v, shape), expected), kRounding);
  EXPECT_THROW(attention(columns_of(q, 0, 5 * kHeadSize), k, v, shape), std::invalid_argument);
}

// A windowed query is the last one of a row that holds nothing but its window.
TEST(OracleOperations, WindowHidesEarlierKeys) {
  constexpr Index kLength = 6, kWindow = 3;
  const Array q = random_array(kLength, 4, 1), k = random_array(kLength, 4, 2), v = random_array(kLength, 4, 3);
  const Array found = attention(q, k, v, {kLength, 2, kWindow});
  for (Index t = 0; t < kLength; ++t) {
    const Index seen = std::min(t + 1, kWindow), first = t + 1 - seen;
    const Array alone =
        attention(rows_of(q, first, seen), rows_of(k, first, seen), rows_of(v, first, seen), {seen, 2, 0});
    EXPECT_LT(largest_difference(rows_of(found, t, 1), rows_of(alone, seen - 1, 1)), kRounding) << "position " << t;
  }
  EXPECT_GT(largest_difference(found, attention(q, k, v, {kLength, 2, 0})), 0.01);
}

Shape small_llama() {
  return {.layers = 2,
          .width = 12,
          .heads = 4,
          .ffn = 20,
          .vocab = 11,
          .context = 12,
          .norm_eps = 0,
          .family = "llama",
          .kv_heads = 2,
          .head_size = 4,
          .qk_norm = true};
}
Batch periodic_batch(Index length) {
  Batch batch{length, {}, std::vector<std::int32_t>(length, 0)};
  for (Index t = 0; t < length; ++t) batch.ids.push_back(t % 2 ? 7 : 3);
  return batch;
}

TEST(OracleOperations, NormedQueriesAndKeysForgetTheirLengthAndNothingElse) {
  Shape shape = small_llama();
  const Batch batch = periodic_batch(6);
  for (const bool normed : {true, false}) {
    shape.qk_norm = normed;
    Model model = random_model(shape, 5);
    const Array before = logits(model, {}, batch);
    for (Index row = 0; row < shape.q_width() + shape.kv_width(); ++row)
      for (Index col = 0; col < shape.width; ++col) model.blocks[0].qkv_weight(row, col) *= 3;
    const double change = largest_difference(logits(model, {}, batch), before);
    if (normed)
      EXPECT_LT(change, kRounding);
    else
      EXPECT_GT(change, 1e-3);
  }
}

// Scores depend on t - s alone, which holds only where heads are normalised before they are turned. So where every
// position sees the same window of a text with period two, the logits have that period as well; two layers of window 3
// look 4 positions back.
TEST(OracleOperations, PositionsAreRelative) {
  for (const bool neighbours : {false, true}) {
    Shape shape = small_llama();
    shape.window = 3, shape.rope_neighbours = neighbours, shape.rope_magnitude = 1.2;
    const Array found = logits(random_model(shape, 5), {}, periodic_batch(12));
    EXPECT_LT(largest_difference(rows_of(found, 4, 6), rows_of(found, 6, 6)), kRounding);
    EXPECT_GT(largest_difference(rows_of(found, 1, 1), rows_of(found, 3, 1)), 1e-4);
  }
}

TEST(OracleOperations, GateIsAnAdaptersPlaceInLlamaOnly) {
  const Shape shape{.layers = 1, .width = 4, .heads = 2, .ffn = 6, .vocab = 5, .context = 4};
  const std::vector<Adapter> adapters{{0, Where::gate, 1, Array(1, 4, 1), Array(6, 1, 1)}};
  EXPECT_THROW(logits(random_model(shape, 1), adapters, {2, {1, 2}, {2, 3}}), std::invalid_argument);
}

// The file's layout is in ../shared/models/stories260K/README.md.

template <class T>
T take(std::istream& in) {
  T value{};
  in.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

Array take_array(std::istream& in, Index rows, Index cols) {
  Array m(rows, cols);
  for (double& x : m.values) x = take<float>(in);
  return m;
}

Model read_llama2c(std::istream& in) {
  Shape s{.family = "llama", .rope_neighbours = true};
  for (Index* extent : {&s.width, &s.ffn, &s.layers, &s.heads, &s.kv_heads, &s.vocab, &s.context})
    *extent = take<std::int32_t>(in);
  Model m = zeros(s);
  m.token = take_array(in, s.vocab, s.width);
  const auto each = [&](const auto& read) {
    for (Block& b : m.blocks) read(b);
  };
  std::vector<Array> q, k, v, gate;
  each([&](Block& b) { b.norm1_weight = take_array(in, 1, s.width); });
  each([&](Block&) { q.push_back(take_array(in, s.q_width(), s.width)); });
  each([&](Block&) { k.push_back(take_array(in, s.kv_width(), s.width)); });
  each([&](Block&) { v.push_back(take_array(in, s.kv_width(), s.width)); });
  each([&](Block& b) { b.o_weight = take_array(in, s.width, s.q_width()); });
  each([&](Block& b) { b.norm2_weight = take_array(in, 1, s.width); });
  each([&](Block&) { gate.push_back(take_array(in, s.ffn, s.width)); });
  each([&](Block& b) { b.down_weight = take_array(in, s.width, s.ffn); });
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    m.blocks[i].qkv_weight = stacked({q[i], k[i], v[i]});
    m.blocks[i].up_weight = stacked({gate[i], take_array(in, s.ffn, s.width)});
  }
  m.norm_weight = take_array(in, 1, s.width);
  return m;
}

std::vector<std::string> read_pieces(std::istream& in, Index count) {
  std::vector<std::string> pieces;
  take<std::int32_t>(in);
  for (Index i = 0; i < count; ++i) {
    take<float>(in);
    std::string piece(take<std::int32_t>(in), '\0');
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    unsigned byte = 0;
    pieces.push_back(std::sscanf(piece.c_str(), "<0x%02X>", &byte) == 1 ? std::string(1, static_cast<char>(byte))
                                                                        : piece);
  }
  return pieces;
}

TEST(OracleOperations, Stories260KBeginsItsStoryAsUpstreamDoes) {
  constexpr Index kTokens = 60;
  constexpr std::int32_t kBegin = 1;
  const auto golden = golden_folder();
  if (!golden) GTEST_SKIP() << kNoGolden;
  const std::string folder = *golden + "/../models/stories260K";
  std::ifstream weights(folder + "/stories260K.bin", std::ios::binary),
      vocabulary(folder + "/tok512.bin", std::ios::binary), text(folder + "/expected_stdout.txt");
  if (!weights || !vocabulary || !text) GTEST_SKIP() << folder << " is not here";
  const Model model = read_llama2c(weights);
  const std::vector<std::string> pieces = read_pieces(vocabulary, model.shape.vocab);
  const std::string expected{std::istreambuf_iterator<char>(text), std::istreambuf_iterator<char>()};

  Batch batch{1, {kBegin}, {}};
  std::string found;
  for (; batch.length <= kTokens; ++batch.length) {
    const Array z = logits(model, {}, batch);
    const double* last = z.row(batch.length - 1);
    batch.ids.push_back(static_cast<std::int32_t>(std::max_element(last, last + z.cols) - last));
    found += pieces[batch.ids.back()];
  }
  found.erase(0, found.find_first_not_of(' '));  // the blank that a first word brings along
  EXPECT_GT(found.size(), 100U);
  EXPECT_EQ(found, expected.substr(0, found.size()));
}

}  // namespace
}  // namespace lorashard::oracle
