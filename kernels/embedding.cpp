#include "kernels/embedding.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

void expect_ids(const char* operation, const TokenIds& ids, const ConstMatrix& rows) {
  if (static_cast<Index>(ids.size()) != rows.rows) {
    fail(Failure::configuration, text(operation, ": ", ids.size(), " ids for a matrix of ", extents(rows)));
  }
}

void expect_positions(const char* operation, const ConstMatrix& table, Index first_row, Index length,
                      const ConstMatrix& y) {
  if (first_row < 0 || length < 1 || length > table.rows) {
    fail(Failure::configuration, text(operation, ": first row ", first_row, ", length ", length,
                                      ", expected 0 or more, and 1 to the table's ", table.rows, " rows"));
  }
  expect_extents(operation, "table", table, table.rows, y.cols);
}

bool owns(const ConstMatrix& table, Index row) { return row >= 0 && row < table.rows; }

}  // namespace

void embedding(Device& device, const EmbeddingForward& args) {
  expect_ids("embedding", args.ids, args.y);
  expect_extents("embedding", "table", args.table, args.table.rows, args.y.cols);
  // As many rows are read as are written, at most: which of the ids are this shard's is not known on meta.
  const double read_bytes = static_cast<double>(args.y.count() * size_bytes(args.table.dtype));
  const Operation run(device, Phase::elementwise, {0, read_bytes + moved_bytes(args.y)});
  if (run.host()) embedding_host(args);
  if (run.cuda()) embedding_cuda(device, args);
}

void embedding(Device& device, const EmbeddingBackward& args) {
  expect_ids("embedding backward", args.ids, args.dy);
  expect_f32("embedding backward", "dtable", args.dtable, args.dtable.rows, args.dy.cols);
  const double table_bytes = 2.0 * static_cast<double>(args.dy.count() * size_bytes(DType::f32));
  const Operation run(device, Phase::elementwise, {1.0 * args.dy.count(), table_bytes + moved_bytes(args.dy)});
  if (run.host()) embedding_host(args);
  if (run.cuda()) embedding_cuda(device, args);
}

void add_positions(Device& device, ConstMatrix table, Index first_row, Index length, Matrix y) {
  expect_positions("add_positions", table, first_row, length, y);
  const double read_bytes = static_cast<double>(std::min(length, y.rows) * y.cols * size_bytes(table.dtype));
  const Operation run(device, Phase::elementwise, {1.0 * y.count(), read_bytes + moved_bytes(y, y)});
  if (run.host()) add_positions_host(table, first_row, length, y);
  if (run.cuda()) add_positions_cuda(device, table, first_row, length, y);
}

void positions_gradient(Device& device, ConstMatrix dy, Index first_row, Index length, Matrix dtable) {
  expect_positions("positions_gradient", dtable, first_row, length, dy);
  expect_dtype("positions_gradient", "dtable", dtable, DType::f32);
  const double table_bytes = 2.0 * static_cast<double>(std::min(length, dy.rows) * dy.cols * size_bytes(DType::f32));
  const Operation run(device, Phase::elementwise, {1.0 * dy.count(), table_bytes + moved_bytes(dy)});
  if (run.host()) positions_gradient_host(dy, first_row, length, dtable);
  if (run.cuda()) positions_gradient_cuda(device, dy, first_row, length, dtable);
}

void embedding_host(const EmbeddingForward& args) {
  for_blocks(args.y.rows, args.y.cols, [&](Index r, Index first, Index count) {
    float room[kBlock], result[kBlock];
    float* to = target(args.y, r, first, result);
    const Index row = args.ids[r] - args.first;
    if (owns(args.table, row)) {
      std::copy_n(read(args.table, row, first, count, room), count, to);
    } else {
      std::fill_n(to, count, 0.0f);
    }
    write(args.y, r, first, count, to);
  });
}

void embedding_host(const EmbeddingBackward& args) {
  for_column_blocks(args.dy.rows, args.dy.cols, [&](Index first, Index count) {
    float room[kColumns];
    for (Index r = 0; r < args.dy.rows; ++r) {
      const Index row = args.ids[r] - args.first;
      if (!owns(args.dtable, row)) continue;
      const float* from = read(args.dy, r, first, count, room);
      float* to = args.dtable.row<float>(row) + first;
#pragma omp simd
      for (Index i = 0; i < count; ++i) to[i] += from[i];
    }
  });
}

void add_positions_host(ConstMatrix table, Index first_row, Index length, Matrix y) {
  for_blocks(y.rows, y.cols, [&](Index r, Index first, Index count) {
    float room[kBlock], before[kBlock], result[kBlock];
    const float* position = read(table, (first_row + r) % length, first, count, room);
    const float* old = read(y, r, first, count, before);
    float* to = target(y, r, first, result);
#pragma omp simd
    for (Index i = 0; i < count; ++i) to[i] = old[i] + position[i];
    write(y, r, first, count, to);
  });
}

void positions_gradient_host(ConstMatrix dy, Index first_row, Index length, Matrix dtable) {
  for_column_blocks(dy.rows, dy.cols, [&](Index first, Index count) {
    float room[kColumns];
    for (Index r = 0; r < dy.rows; ++r) {
      const float* from = read(dy, r, first, count, room);
      float* to = dtable.row<float>((first_row + r) % length) + first;
#pragma omp simd
      for (Index i = 0; i < count; ++i) to[i] += from[i];
    }
  });
}

}  // namespace lorashard::kernels
