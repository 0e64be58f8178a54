#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

// A block has some rows; the threads of a row compute its turns once, in shared memory, then turn all its heads.
struct Turning {
  Operand x, y;
  const float* frequencies;
  const std::int32_t* positions;  // null: row % length
  Index rows;
  unsigned length;
  int heads, pairs;  // pairs: of a head
  float cosine_scale, sine_scale;
};

// Pairs i, ..., i + kWidth - 1 of a head: two vectors, of the first and second values or of neighbours.
template <int kWidth, bool kNeighbours>
__device__ __forceinline__ void turn_pairs(const Turning& args, Index row, Index head_col, int i, const float2* turns) {
  const Index first = head_col + (kNeighbours ? 2 * i : i), second = first + (kNeighbours ? kWidth : args.pairs);
  float values[2][kWidth], turned[2][kWidth];
  load(args.x, row, first, values[0]);
  load(args.x, row, second, values[1]);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    const int at_a = kNeighbours ? 2 * k : k, at_b = kNeighbours ? 2 * k + 1 : kWidth + k;
    const float a = values[at_a / kWidth][at_a % kWidth], b = values[at_b / kWidth][at_b % kWidth];
    const float2 turn = turns[i + k];
    turned[at_a / kWidth][at_a % kWidth] = a * turn.x - b * turn.y;
    turned[at_b / kWidth][at_b % kWidth] = b * turn.x + a * turn.y;
  }
  put(args.y, row, first, turned[0]);
  put(args.y, row, second, turned[1]);
}

template <int kWidth, bool kNeighbours>
__global__ void __launch_bounds__(kThreads) rotary_kernel(Turning args) {
  float2* turns = shared_memory<float2>() + threadIdx.y * args.pairs;
  const Index row = Index{blockIdx.x} * blockDim.y + threadIdx.y;
  const int step = static_cast<int>(blockDim.x);
  if (row < args.rows) {
    const int position =
        args.positions != nullptr ? args.positions[row] : static_cast<int>(static_cast<unsigned>(row) % args.length);
    for (int i = static_cast<int>(threadIdx.x); i < args.pairs; i += step) {
      const Turn turn = turn_by(static_cast<double>(position) * static_cast<double>(args.frequencies[i]));
      turns[i] = make_float2(args.cosine_scale * turn.cosine, args.sine_scale * turn.sine);
    }
  }
  __syncthreads();
  if (row >= args.rows) return;
  const int vectors = args.pairs / kWidth;  // of a head
#pragma unroll 2
  for (int item = static_cast<int>(threadIdx.x); item < args.heads * vectors; item += step) {
    const int head = item / vectors, i = (item - head * vectors) * kWidth;
    turn_pairs<kWidth, kNeighbours>(args, row, Index{head} * (2 * args.pairs), i, turns);
  }
}

}  // namespace

void rotary_cuda(Device& device, const Rotary& args) {
  if (args.x.empty()) return;
  const Index pairs = args.head_size / 2, heads = args.x.cols / args.head_size, length = args.length;
  const Index most = args.positions.empty() ? Index{1} << 32 : std::numeric_limits<Index>::max();
  if (args.x.rows > most || (args.positions.empty() && length >= Index{1} << 31)) {
    fail(Failure::configuration, text("rotary: x is ", extents(args.x), ", length ", length,
                                      "; expected at most 2^32 rows and a length below 2^31 on a GPU"));
  }
  const Turning turning{operand(args.x),
                        operand(args.y),
                        args.frequencies.row<float>(0),
                        args.positions.empty() ? nullptr : args.positions.data(),
                        args.x.rows,
                        static_cast<unsigned>(length),
                        static_cast<int>(heads),
                        static_cast<int>(pairs),
                        args.magnitude,
                        args.backward ? -args.magnitude : args.magnitude};
  // A head's halves are in fours too.
  const bool vectors = in_fours(args.x) && in_fours(args.y) && pairs % 4 == 0;
  const Index items = heads * (vectors ? pairs / 4 : pairs);
  const unsigned across = static_cast<unsigned>(std::clamp<Index>((items + 63) / 64 * 32, 32, kThreads));
  const unsigned down = static_cast<unsigned>(std::min<Index>(kThreads / across, args.x.rows));
  const LaunchShape shape{blocks_for(args.x.rows, down), dim3(across, down),
                          static_cast<std::size_t>(down * pairs) * sizeof(float2)};
  const cudaStream_t stream = stream_of(device);
  const bool neighbours = args.pairs == RotaryPairs::neighbours;
  if (vectors && neighbours) return launch<rotary_kernel<4, true>>(stream, shape, turning);
  if (vectors) return launch<rotary_kernel<4, false>>(stream, shape, turning);
  if (neighbours) return launch<rotary_kernel<1, true>>(stream, shape, turning);
  launch<rotary_kernel<1, false>>(stream, shape, turning);
}

}  // namespace lorashard::kernels
