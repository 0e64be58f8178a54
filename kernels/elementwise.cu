#include "kernels/cuda_column_sums.cuh"

namespace lorashard::kernels {
namespace {

struct Constant {
  float value;
  __device__ float operator()() const { return value; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};
struct AddScaled {
  float scale;
  __device__ float operator()(float y, float x) const { return y + scale * x; }
};
struct AddTwo {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct AddThree {
  __device__ float operator()(float a, float b, float c) const { return a + b + c; }
};
struct Gelu {
  __device__ float operator()(float x) const { return gelu(x); }
};
struct GeluBackward {
  __device__ float operator()(float x, float dy) const { return dy * gelu_derivative(x); }
};

struct Swiglu {
  __device__ float operator()(float gate, float up) const { return silu(gate) * up; }
};
// Puts dgate where the loop puts its result and dup, which only this thread's up may share, by itself.
struct SwigluBackward {
  Operand dup;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, const float (&from)[3][kWidth], float (&dgate)[kWidth]) const {
    float to_up[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float gate = from[0][i], up = from[1][i], dy = from[2][i];
      dgate[i] = dy * up * silu_derivative(gate);
      to_up[i] = dy * silu(gate);
    }
    put(dup, r, c, to_up);
  }
};

struct ColumnSum {
  static constexpr int kSums = 1;
  Operand dy;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, float (&sums)[1][kWidth]) const {
    float values[kWidth];
    load(dy, r, c, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[0][i] += values[i];
  }
};

}  // namespace

void fill_cuda(Device& device, Matrix m, float value) { map_elements(device, Constant{value}, m); }

void copy_cuda(Device& device, ConstMatrix from, Matrix to) { map_elements(device, Same{}, to, from); }

void add_cuda(Device& device, ConstMatrix x, Matrix y, float scale) {
  map_elements(device, AddScaled{scale}, y, ConstMatrix(y), x);
}

void add_residual_cuda(Device& device, ConstMatrix x, ConstMatrix residual, ConstMatrix bias, Matrix y) {
  if (bias.empty()) return map_elements(device, AddTwo{}, y, x, residual);
  const ConstMatrix repeated(bias.data, bias.dtype, x.rows, x.cols, 0);
  map_elements(device, AddThree{}, y, x, residual, repeated);
}

void gelu_cuda(Device& device, ConstMatrix x, Matrix y) { map_elements(device, Gelu{}, y, x); }

void gelu_backward_cuda(Device& device, ConstMatrix x, ConstMatrix dy, Matrix dx) {
  map_elements(device, GeluBackward{}, dx, x, dy);
}

void swiglu_cuda(Device& device, ConstMatrix gate_up, Matrix y) {
  map_elements(device, Swiglu{}, y, gate_up.col_range(0, y.cols), gate_up.col_range(y.cols, y.cols));
}

void swiglu_backward_cuda(Device& device, ConstMatrix gate_up, ConstMatrix dy, Matrix dgate_up) {
  const Index half = dy.cols;
  const Matrix dgate = dgate_up.col_range(0, half), dup = dgate_up.col_range(half, half);
  map_rows(device, SwigluBackward{operand(dup)}, in_fours(dup), dgate, gate_up.col_range(0, half),
           gate_up.col_range(half, half), dy);
}

void bias_gradient_cuda(Device& device, ConstMatrix dy, Matrix db, std::byte* scratch) {
  if (dy.empty()) return;
  add_column_sums(device, ColumnSum{operand(dy)}, {dy.rows, dy.cols, rows_in_fours(dy), scratch}, {db.row<float>(0)});
}

}  // namespace lorashard::kernels
