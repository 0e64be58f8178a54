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

void bias_gradient_cuda(Device& device, ConstMatrix dy, Matrix db, std::byte* scratch) {
  if (dy.empty()) return;
  add_column_sums(device, ColumnSum{operand(dy)}, {dy.rows, dy.cols, rows_in_fours(dy), scratch}, {db.row<float>(0)});
}

}  // namespace lorashard::kernels
