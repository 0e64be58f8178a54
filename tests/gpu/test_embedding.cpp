// Embeddings on the cuda device against the host's meaning. Everything here is exact: rows are copied, or added in the
// same order.
#include "kernels/embedding.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

std::vector<std::int32_t> some_ids(Index count, Index vocab) {
  std::vector<std::int32_t> ids(count);
  for (Index m = 0; m < count; ++m) ids[m] = static_cast<std::int32_t>(philox({1, 2}, m)[0] % vocab);
  return ids;
}

// Ids where each device reads them.
struct Ids {
  std::vector<std::int32_t> there;
  Integers here;

  explicit Ids(std::vector<std::int32_t> ids) : there(std::move(ids)), here(cuda(), Category::workspace, there) {}
  TokenIds on(Device& device) const { return device.kind() == DeviceKind::host ? TokenIds(there) : here.view(); }
};

struct Extents {
  Index rows, cols, gap;
};

TEST(CudaEmbedding, CopiesOwnRowsAndZeroesOthers) {
  SKIP_WITHOUT_GPU();
  for (const DType table_type : kTypes) {
    for (const DType y_type : kTypes) {
      for (const Extents& e : {Extents{1, 1, 0}, {60, 31, 1}, {33, 132, 4}, {5, 1030, 0}}) {
        SCOPED_TRACE(text(name(table_type), " ", name(y_type), " ", e.rows, "x", e.cols));
        const Ids ids(some_ids(e.rows, 40));
        Twin table(table_type, 15, e.cols, e.gap), y(y_type, e.rows, e.cols, e.gap);
        table.normals(1);
        Twin::on_both([&](Device& d) { embedding(d, EmbeddingForward{ids.on(d), table.on(d), 10, y.on(d)}); });
        y.expect_same("y");
      }
    }
  }
}

void check_backward(DType dtype, const std::vector<std::int32_t>& tokens, Index first, Index own, const Extents& e) {
  SCOPED_TRACE(text(name(dtype), " ", tokens.size(), "x", e.cols));
  const Ids ids(tokens);
  const auto rows = static_cast<Index>(tokens.size());
  Twin dy(dtype, rows, e.cols, e.gap), dtable(DType::f32, own, e.cols, e.gap);
  dy.normals(1);
  dtable.normals(2);
  Twin::on_both([&](Device& d) { embedding(d, EmbeddingBackward{ids.on(d), dy.on(d), first, dtable.on(d)}); });
  dtable.expect_same("dtable");
}

TEST(CudaEmbedding, BackwardAddsInOrder) {
  SKIP_WITHOUT_GPU();
  for (const DType dtype : kTypes) {
    check_backward(dtype, some_ids(1, 1), 0, 1, {1, 1, 0});
    check_backward(dtype, some_ids(200, 40), 10, 15, {200, 37, 3});
    check_backward(dtype, some_ids(200, 40), 10, 15, {200, 132, 4});
    check_backward(dtype, some_ids(65, 1000), 0, 1000, {65, 40, 0});  // few come again
    check_backward(dtype, some_ids(600, 3), 1, 2, {600, 4, 0});       // many chunks of the ids that a block lists
    check_backward(dtype, std::vector<std::int32_t>(300, 0), 0, 2, {300, 1100, 0});  // one id, two slices of columns
  }
}

TEST(CudaEmbedding, PositionsWrapAroundTheLength) {
  SKIP_WITHOUT_GPU();
  for (const DType dtype : kTypes) {
    for (const DType table_type : kTypes) {
      for (const Extents& e : {Extents{14, 50, 2}, {14, 132, 4}, {1, 1, 0}, {3, 1030, 0}, {40, 8, 0}}) {
        SCOPED_TRACE(text(name(dtype), " ", name(table_type), " ", e.rows, "x", e.cols));
        Twin table(table_type, 8, e.cols, e.gap), y(dtype, e.rows, e.cols, e.gap), dtable(DType::f32, 8, e.cols);
        table.normals(1);
        y.normals(2);
        dtable.normals(3);
        Twin::on_both([&](Device& d) {
          positions_gradient(d, y.on(d), 5, 6, dtable.on(d));  // rows 5 and on of sequences of 6 tokens
          add_positions(d, table.on(d), 5, 6, y.on(d));
        });
        y.expect_same("y");
        dtable.expect_same("dtable");
      }
    }
  }
}

TEST(CudaEmbedding, EmptyIsNothing) {
  SKIP_WITHOUT_GPU();
  Twin none(DType::f32, 0, 4), table(DType::f32, 3, 4), y(DType::f32, 2, 4);
  table.normals(1);
  const Ids no_ids{{}}, ids(some_ids(2, 5));
  Device& d = cuda();
  embedding(d, EmbeddingForward{no_ids.on(d), table.on(d), 0, none.on(d)});
  embedding(d, EmbeddingBackward{no_ids.on(d), none.on(d), 0, table.on(d)});
  positions_gradient(d, none.on(d), 0, 2, table.on(d));
  table.expect_same("table");
  // A rank that owns no vocabulary adds zeros.
  embedding(d, EmbeddingForward{ids.on(d), none.on(d), 5, y.on(d)});
  embedding(d, EmbeddingBackward{ids.on(d), y.on(d), 5, none.on(d)});
  for (Index c = 0; c < 4; ++c) EXPECT_EQ(element(y.from_cuda(), 1, c), 0.0);
}

}  // namespace
}  // namespace lorashard::kernels
