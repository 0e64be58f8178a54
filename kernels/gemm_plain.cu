// Products that cuBLASLt does not take. A block makes a tile of C, kTile x kTile, and walks along k in steps of kDepth:
// the steps' parts of op(A) and op(B) are laid in shared memory as floats, k outermost, and each thread sums a square
// of kEach x kEach. Every sum runs from the first k to the last, so the bits depend on nothing else.
#include "kernels/gemm_cuda.hpp"
#include "kernels/launch.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {
namespace {

constexpr int kTile = 32, kDepth = 16, kEach = 4;
constexpr int kSide = kTile / kEach, kThreads = kSide * kSide;
constexpr int kPitch = kTile + 4;  // so that writes along k reach different banks

// Element (i, k) of an operand is data[i * outer + k * inner].
template <class T>
struct Operand {
  const T* data;
  Index outer, inner;
};

// A matrix (M, N) beside the product, or none.
template <class T>
struct Companion {
  T* data;
  Index stride;
  __device__ T& at(Index row, Index col) const { return data[row * stride + col]; }
};

template <class T, class Out>
struct PlainProduct {
  Operand<T> a, b;  // (M, K) and, as rows of columns, (N, K)
  const Out* bias;  // or null
  Companion<Out> c, aux;
  Companion<const Out> addend, aux_in;
  Index m, n, k;
  float alpha, beta;
  Epilogue epilogue;
};

// One step's part of an operand, zeros beyond its end. Threads go along whichever index is contiguous in memory.
template <class T>
__device__ void load_step(const Operand<T>& x, Index first, Index count, Index k, Index k_end, float* tile) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kDepth; e += kThreads) {
    const int i = x.inner == 1 ? e / kDepth : e % kTile;
    const int step = x.inner == 1 ? e % kDepth : e / kTile;
    const bool inside = first + i < count && k + step < k_end;
    tile[step * kPitch + i] = inside ? to_float(x.data[(first + i) * x.outer + (k + step) * x.inner]) : 0.0f;
  }
}

__device__ void add_step(const float* a, const float* b, float (&sums)[kEach][kEach]) {
  for (int step = 0; step < kDepth; ++step) {
    float left[kEach], right[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      left[i] = a[step * kPitch + i];
      right[i] = b[step * kPitch + i];
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) sums[i][j] = std::fma(left[i], right[j], sums[i][j]);
    }
  }
}

// The addend is not read where beta is 0: it may hold anything.
template <class T, class Out>
__device__ void finish(const PlainProduct<T, Out>& p, Index row, Index col, float sum) {
  float z = p.alpha * sum;
  if (p.beta != 0.0f) z += p.beta * to_float(p.addend.at(row, col));
  if (p.bias != nullptr) z += to_float(p.bias[col]);
  if (p.epilogue == Epilogue::gelu) {
    if (p.aux.data != nullptr) store(p.aux.at(row, col), z);
    z = gelu(z);
  } else if (p.epilogue == Epilogue::gelu_backward) {
    z *= gelu_derivative(to_float(p.aux_in.at(row, col)));
  }
  store(p.c.at(row, col), z);
}

template <class T, class Out>
__global__ void __launch_bounds__(kThreads) plain_product_kernel(PlainProduct<T, Out> p) {
  float* a = shared_memory<float>();
  float* b = a + kDepth * kPitch;
  const Index tiles_across = (p.n + kTile - 1) / kTile;
  const Index first_row = static_cast<Index>(blockIdx.x) / tiles_across * kTile;
  const Index first_col = static_cast<Index>(blockIdx.x) % tiles_across * kTile;
  const int row = static_cast<int>(threadIdx.x) / kSide * kEach, col = static_cast<int>(threadIdx.x) % kSide * kEach;
  float sums[kEach][kEach] = {};
  for (Index k = 0; k < p.k; k += kDepth) {
    load_step(p.a, first_row, p.m, k, p.k, a);
    load_step(p.b, first_col, p.n, k, p.k, b);
    __syncthreads();
    add_step(a + row, b + col, sums);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const Index r = first_row + row + i, c = first_col + col + j;
      if (r < p.m && c < p.n) finish(p, r, c, sums[i][j]);
    }
  }
}

template <class T>
Operand<T> operand(const ConstMatrix& m, bool rows_are_k) {
  return {m.row<T>(0), rows_are_k ? 1 : m.stride, rows_are_k ? m.stride : 1};
}

template <class Out, class View>
auto companion(const View& m) -> Companion<std::remove_reference_t<decltype(*m.template row<Out>(0))>> {
  if (m.empty()) return {};
  return {m.template row<Out>(0), m.stride};
}

template <class T, class Out>
void run(CudaDevice& device, const Gemm& args) {
  PlainProduct<T, Out> p{};
  p.a = operand<T>(args.a, args.transpose_a);
  p.b = operand<T>(args.b, !args.transpose_b);
  p.bias = args.bias.empty() ? nullptr : args.bias.row<Out>(0);
  p.c = companion<Out>(args.c);
  p.addend = companion<Out>(addend_of(args));
  p.aux = companion<Out>(args.aux);
  p.aux_in = companion<Out>(args.aux_in);
  p.m = args.c.rows, p.n = args.c.cols, p.k = args.transpose_a ? args.a.rows : args.a.cols;
  p.alpha = args.alpha, p.beta = args.beta, p.epilogue = args.epilogue;
  const Index tiles = (p.m + kTile - 1) / kTile * ((p.n + kTile - 1) / kTile);
  if (tiles > (Index{1} << 31) - 1) fail(Failure::configuration, text("gemm: C is ", extents(args.c), ", too large"));
  launch<plain_product_kernel<T, Out>>(
      device.stream(), {static_cast<unsigned>(tiles), kThreads, 2 * kDepth * kPitch * sizeof(float)}, p);
}

}  // namespace

void gemm_plain_cuda(CudaDevice& device, const Gemm& args) {
  if (args.a.dtype == DType::f32) return run<float, float>(device, args);
  args.c.dtype == DType::f32 ? run<bf16, float>(device, args) : run<bf16, bf16>(device, args);
}

}  // namespace lorashard::kernels
