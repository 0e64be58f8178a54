#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {

void fill_host(Matrix m, float value) {
  map([value] { return value; }, m);
}

void copy_host(ConstMatrix from, Matrix to) {
  map([](float x) { return x; }, to, from);
}

void add_host(ConstMatrix x, Matrix y, float scale) {
  map([scale](float a, float b) { return a + scale * b; }, y, ConstMatrix(y), x);
}

void add_residual_host(ConstMatrix x, ConstMatrix residual, ConstMatrix bias, Matrix y) {
  if (bias.empty()) return map([](float a, float b) { return a + b; }, y, x, residual);
  const ConstMatrix repeated(bias.data, bias.dtype, x.rows, x.cols, 0);
  map([](float a, float b, float c) { return a + b + c; }, y, x, residual, repeated);
}

void gelu_host(ConstMatrix x, Matrix y) {
  map([](float a) { return gelu(a); }, y, x);
}

void gelu_backward_host(ConstMatrix x, ConstMatrix dy, Matrix dx) {
  map([](float a, float d) { return d * gelu_derivative(a); }, dx, x, dy);
}

void swiglu_host(ConstMatrix gate_up, Matrix y) {
  map([](float gate, float up) { return silu(gate) * up; }, y, gate_up.col_range(0, y.cols),
      gate_up.col_range(y.cols, y.cols));
}

void swiglu_backward_host(ConstMatrix gate_up, ConstMatrix dy, Matrix dgate_up) {
  const Index half = dy.cols;
  for_blocks(dy.rows, half, [&](Index r, Index first, Index count) {
    float rooms[5][kBlock];
    const float* gate = read(gate_up, r, first, count, rooms[0]);
    const float* up = read(gate_up, r, half + first, count, rooms[1]);
    const float* from = read(dy, r, first, count, rooms[2]);
    float* dgate = target(dgate_up, r, first, rooms[3]);
    float* dup = target(dgate_up, r, half + first, rooms[4]);
#pragma omp simd
    for (Index i = 0; i < count; ++i) {  // read before it is written, which may be the same place
      const float g = gate[i], u = up[i], d = from[i];
      dgate[i] = d * u * silu_derivative(g);
      dup[i] = d * silu(g);
    }
    write(dgate_up, r, first, count, dgate);
    write(dgate_up, r, half + first, count, dup);
  });
}

// Sums of 64 rows, then the sum of those: the error grows with 64 + M / 64 instead of M.
void bias_gradient_host(ConstMatrix dy, Matrix db) {
  for_column_blocks(dy.rows, dy.cols, [&](Index first, Index count) {
    float room[kColumns], part[kColumns], total[kColumns] = {};
    for (Index begin = 0; begin < dy.rows; begin += 64) {
      std::fill_n(part, count, 0.0f);
      for (Index r = begin; r < std::min(begin + 64, dy.rows); ++r) {
        const float* row = read(dy, r, first, count, room);
#pragma omp simd
        for (Index i = 0; i < count; ++i) part[i] += row[i];
      }
      for (Index i = 0; i < count; ++i) total[i] += part[i];
    }
    float* sums = db.row<float>(0) + first;
    for (Index i = 0; i < count; ++i) sums[i] += total[i];
  });
}

}  // namespace lorashard::kernels
