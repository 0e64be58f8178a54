#include "kernels/embedding.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

std::vector<std::int32_t> some_ids(Index count, Index vocab) {
  std::vector<std::int32_t> ids(count);
  for (Index m = 0; m < count; ++m) ids[m] = static_cast<std::int32_t>(philox({1, 2}, m)[0] % vocab);
  return ids;
}

TEST(Embedding, CopiesOwnRowsAndZeroesOthers) {
  const auto device = make_host_device(2);
  for (const DType table_type : {DType::f32, DType::bf16}) {
    for (const DType y_type : {DType::f32, DType::bf16}) {
      const Index vocab = 40, first = 10, own = 15, cols = 1030;
      const auto ids = some_ids(60, vocab);
      Sample table(table_type, own, cols, 2), y(y_type, 60, cols, 1);
      table.normals(1);
      embedding(*device, EmbeddingForward{ids, table, first, y});
      for (Index m = 0; m < 60; ++m) {
        const Index row = ids[m] - first;
        for (Index c = 0; c < cols; ++c) {
          const float value = row >= 0 && row < own ? static_cast<float>(table(row, c)) : 0.0f;
          ASSERT_EQ(y(m, c), y_type == DType::f32 ? value : to_float(to_bf16(value)));
        }
      }
    }
  }
}

TEST(Embedding, ShardsAddUpToTheWhole) {
  const auto device = make_host_device(2);
  const auto ids = some_ids(30, 12);
  Sample table(DType::f32, 12, 9), whole(DType::f32, 30, 9), part(DType::f32, 30, 9), sum(DType::f32, 30, 9);
  table.normals(1);
  sum.fill(0);
  embedding(*device, EmbeddingForward{ids, table, 0, whole});
  for (const Index first : {0, 5}) {
    const Index rows = first == 0 ? 5 : 7;
    embedding(*device, EmbeddingForward{ids, ConstMatrix(table).row_range(first, rows), first, part});
    for (Index m = 0; m < 30; ++m) {
      for (Index c = 0; c < 9; ++c) set_element(sum, m, c, sum(m, c) + part(m, c));
    }
  }
  EXPECT_EQ(sum.image(), whole.image());
}

// Small integers: every order of summation gives the same, exact sums.
Sample& integers(Sample& m) {
  for (Index r = 0; r < m.view().rows; ++r) {
    for (Index c = 0; c < m.view().cols; ++c) set_element(m, r, c, (r * 5 + c * 11) % 13 - 6);
  }
  return m;
}

TEST(Embedding, BackwardAddsToTheRowsOfItsIds) {
  const auto device = make_host_device(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto ids = some_ids(200, 40);
    Sample dy(dtype, 200, 300, 1), dtable(DType::f32, 15, 300);
    integers(dy);
    dtable.fill(2.0);
    embedding(*device, EmbeddingBackward{ids, dy, 10, dtable});
    Doubles expected(15, 300);
    for (double& x : expected.values) x = 2.0;
    for (Index m = 0; m < 200; ++m) {
      if (ids[m] < 10 || ids[m] >= 25) continue;
      for (Index c = 0; c < 300; ++c) expected(ids[m] - 10, c) += dy(m, c);
    }
    for (Index r = 0; r < 15; ++r) {
      for (Index c = 0; c < 300; ++c) ASSERT_EQ(dtable(r, c), expected(r, c));
    }
  }
}

TEST(Positions, WrapAroundTheLength) {
  const auto device = make_host_device(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    // Rows 5 .. 18 of sequences of 6 tokens: a rank's part under sequence parallelism.
    Sample table(dtype, 8, 50, 1), y(dtype, 14, 50, 2), dtable(DType::f32, 8, 50);
    integers(table);
    integers(y);
    const Doubles before = to_doubles(y);
    add_positions(*device, table, 5, 6, y);
    Doubles expected(14, 50), expected_table(8, 50);
    for (Index m = 0; m < 14; ++m) {
      for (Index c = 0; c < 50; ++c) {
        expected(m, c) = before(m, c) + table((5 + m) % 6, c);
        expected_table((5 + m) % 6, c) += expected(m, c);
      }
    }
    dtable.fill(0.0);
    positions_gradient(*device, y, 5, 6, dtable);
    for (Index m = 0; m < 14; ++m) {
      for (Index c = 0; c < 50; ++c) ASSERT_EQ(y(m, c), expected(m, c));
    }
    for (Index p = 0; p < 8; ++p) {
      for (Index c = 0; c < 50; ++c) ASSERT_EQ(dtable(p, c), expected_table(p, c));
    }
  }
}

TEST(Embedding, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    const auto ids = some_ids(300, 20);
    Sample dy(DType::f32, 300, 200), dtable(DType::f32, 20, 200);
    dy.normals(1);
    dtable.fill(0.0);
    embedding(device, EmbeddingBackward{ids, dy, 0, dtable});
    positions_gradient(device, dy, 0, 20, dtable);
    return dtable.image();
  });
}

TEST(Embedding, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::elementwise, [](Device& device) {
    const std::vector<std::int32_t> ids(6, 1);
    Tensor table(device, Category::base, DType::f32, 3, 10), y(device, Category::activation, DType::f32, 6, 10);
    const auto bytes = [&] { return device.profile().entry(Phase::elementwise).bytes; };
    if (!device.meta()) std::memset(table.view().data, 0, table.view().bytes());
    embedding(device, EmbeddingForward{ids, table, 0, y});
    EXPECT_EQ(bytes(), 2 * 240);
    embedding(device, EmbeddingBackward{ids, y, 0, table});
    EXPECT_EQ(bytes(), 2 * 240 + 3 * 240);
    add_positions(device, table, 0, 3, y);
    EXPECT_EQ(bytes(), 5 * 240 + 120 + 480);
    positions_gradient(device, y, 0, 3, table);
    EXPECT_EQ(bytes(), 1800 + 240 + 240);
  });
}

TEST(Embedding, EmptyIsNothing) {
  const auto device = make_host_device(1);
  Sample none(DType::f32, 0, 4), table(DType::f32, 3, 4), y(DType::f32, 2, 4);
  table.normals(1);
  embedding(*device, EmbeddingForward{{}, table, 0, none});
  embedding(*device, EmbeddingBackward{{}, none, 0, table});
  // A rank that owns no vocabulary adds zeros.
  embedding(*device, EmbeddingForward{some_ids(2, 5), none, 5, y});
  for (Index c = 0; c < 4; ++c) EXPECT_EQ(y(1, c), 0.0);
}

TEST(Embedding, RefusesWhatDoesNotFit) {
  const auto device = make_host_device(1);
  Sample table(DType::f32, 3, 4), y(DType::f32, 2, 4), narrow(DType::f32, 2, 3), low(DType::bf16, 3, 4);
  EXPECT_THROW(embedding(*device, EmbeddingForward{some_ids(3, 3), table, 0, y}), Error);
  EXPECT_THROW(embedding(*device, EmbeddingForward{some_ids(2, 3), table, 0, narrow}), Error);
  EXPECT_THROW(embedding(*device, EmbeddingBackward{some_ids(2, 3), y, 0, low}), Error);
  EXPECT_THROW(add_positions(*device, table, 0, 4, y), Error);
}

}  // namespace
}  // namespace lorashard::kernels
