// Attention on a GPU: Dao et al. 2022 (arXiv 2205.14135) with the loop order of Dao 2023 (arXiv 2307.08691): a block
// keeps its queries and walks over the keys, so it needs nothing from other blocks.
#include <cfloat>

#include "kernels/attention_products.cuh"
#include "kernels/attention_tiles.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

template <class T>
struct ForwardArguments {
  HeadShape s;
  int tiles;
  HeadRows<const T> q, k, v;
  HeadRows<T> out;
  float* log_sum;  // (H, B*T), or null
  Index log_sum_stride;
};

// The running softmax of a thread's rows, over scores that are not scaled yet: e^((s - maximum) scale) is
// 2^((s - maximum) scale_log2). A thread sums its own columns; the row's sum is made at the end.
template <class Tile>
struct RunningSoftmax {
  float maximum[Tile::kThreadRows], sum[Tile::kThreadRows];

  // No maximum is ever -infinity, as unseen scores are: with a window, a row may see nothing of its first tile, and the
  // difference of two infinities is no number.
  __device__ RunningSoftmax() {
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) maximum[i] = -FLT_MAX, sum[i] = 0.0f;
  }

  // scores -> 2^..., and what was summed before brought to the new maximum.
  __device__ __forceinline__ void take(typename Tile::Scores& scores, float scale_log2, typename Tile::Output& out) {
    float highest[Tile::kThreadRows], rescale[Tile::kThreadRows];
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) highest[i] = -INFINITY;
    scores.each([&](int i, int, float& s) { highest[i] = fmaxf(highest[i], s); });
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      highest[i] =
          fmaxf(maximum[i], scale_log2 * Tile::over_row(highest[i], [](float a, float b) { return fmaxf(a, b); }));
      rescale[i] = Tile::exp2(maximum[i] - highest[i]);
      maximum[i] = highest[i];
      sum[i] *= rescale[i];
    }
    scores.each([&](int i, int, float& s) {
      s = Tile::exp2(fmaf(s, scale_log2, -maximum[i]));
      sum[i] += s;
    });
    out.each([&](int i, int, float& o) { o *= rescale[i]; });
  }
};

// Scores of keys that the query does not see become -infinity.
template <class Tile>
__device__ __forceinline__ void hide_unseen_keys(const HeadShape& s, int first_query, int first_key,
                                                 typename Tile::Scores& scores) {
  scores.each([&](int i, int col, float& score) {
    if (!s.sees(first_query + Tile::row_of(i), first_key + col)) score = -INFINITY;
  });
}

template <class Tile>
__device__ __forceinline__ void finish(const ForwardArguments<typename Tile::Element>& args, const TileRows& place,
                                       int head, RunningSoftmax<Tile>& softmax, typename Tile::Output& out,
                                       typename Tile::Element* room) {
  float over_sum[Tile::kThreadRows];
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const float sum = Tile::over_row(softmax.sum[i], [](float a, float b) { return a + b; });
    const int row = Tile::row_of(i);
    over_sum[i] = 1.0f / sum;
    if (args.log_sum != nullptr && Tile::leads_row() && row < place.count) {
      args.log_sum[head * args.log_sum_stride + place.row + row] =
          fmaf(softmax.maximum[i], std::numbers::ln2_v<float>, logf(sum));
    }
  }
  Tile::put(out, room, [&](int i) { return over_sum[i]; });
  __syncwarp();
  store_rows<Tile, Tile::kColumns>(room, Tile::first_row(), Tile::kWarpRows, 0, args.out, place, args.s.size);
}

// Shared memory of a block: its queries, and twice the keys and values that it walks over, so that the next tiles
// arrive while these are multiplied.
template <class Tile>
struct ForwardMemory {
  using T = typename Tile::Element;
  static constexpr int kKept = Tile::kRows * Tile::kPitch, kWalked = Tile::kInner * Tile::kPitch;
  static constexpr std::size_t kTileBytes = (kKept + 4 * kWalked) * sizeof(T), kBytes = kTileBytes + Tile::kRoomBytes;
  static_assert(kBytes <= kBlockBytes);

  __device__ T* queries() const { return shared_memory<T>(); }
  __device__ T* keys(int turn) const { return queries() + kKept + turn % 2 * 2 * kWalked; }
  __device__ T* values(int turn) const { return keys(turn) + kWalked; }
  __device__ float* room() const { return shared_memory<float>(kTileBytes); }
};

// Blocks that a multiprocessor has registers for: 170 a thread are enough for small heads, and 255 may not be.
template <class Tile>
inline constexpr int kBlocks = Tile::kThreads <= 128 && Tile::kSize <= 64 ? 3 : 1;

// A warp does nothing about keys that none of its queries sees.
template <class Tile>
__global__ __launch_bounds__(Tile::kThreads,
                             kBlocks<Tile>) void attention_kernel(ForwardArguments<typename Tile::Element> args) {
  const ForwardMemory<Tile> memory;
  const HeadShape& s = args.s;
  const BlockPlace block = block_place<true>(static_cast<int>(blockIdx.x), s.heads, args.tiles);
  const int first_query = block.tile * Tile::kRows, first_turn = std::max(s.oldest_key(first_query), 0) / Tile::kInner;
  const TileRows queries = tile_rows(s, block.batch, block.head, first_query, Tile::kRows);
  const TileRows sequence = tile_rows(s, block.batch, s.kv_head(block.head), first_turn * Tile::kInner, s.length);
  TileReader<Tile> keys(args.k, sequence, s.size), values(args.v, sequence, s.size);
  const auto load_keys = [&](int turn) {
    const int left = s.length - turn * Tile::kInner;
    keys.template next<Tile::kInner>(memory.keys(turn), left);
    values.template next<Tile::kInner>(memory.values(turn), left);
  };
  load_tile<Tile, Tile::kRows>(args.q, queries, s.size, memory.queries());
  load_keys(first_turn);
  typename Tile::Output out;
  RunningSoftmax<Tile> softmax;
  const int end = first_query + queries.count, turns = (end + Tile::kInner - 1) / Tile::kInner;
  const int first_row = warp_uniform(Tile::first_row());
  const int warp_query = first_query + first_row, warp_begin = s.oldest_key(warp_query);
  const int warp_end = first_row < queries.count ? warp_query + Tile::kWarpRows : 0;
#pragma unroll 1
  for (int turn = first_turn; turn < turns; ++turn) {
    wait_copies();
    __syncthreads();  // this turn's tiles have arrived, and no one reads the last turn's any more
    if (turn + 1 < turns) load_keys(turn + 1);
    const int first_key = turn * Tile::kInner;
    if (first_key >= warp_end || first_key + Tile::kInner <= warp_begin) continue;
    typename Tile::Scores scores;
    Tile::scores(memory.queries(), memory.keys(turn), scores);
    if (first_key + Tile::kInner > warp_query + 1 || first_key < warp_begin + Tile::kWarpRows - 1) {
      hide_unseen_keys<Tile>(s, first_query, first_key, scores);
    }
    softmax.take(scores, s.scale_log2, out);
    Tile::accumulate(scores, memory.values(turn), out, memory.room());
  }
  finish<Tile>(args, queries, block.head, softmax, out, memory.queries());
}

template <class Tile>
void forward(Device& device, const AttentionForward& args) {
  using T = typename Tile::Element;
  const AttentionShape& s = args.shape;
  const Index tiles = (s.length + Tile::kRows - 1) / Tile::kRows;
  const ForwardArguments<T> on_device{HeadShape(s),
                                      static_cast<int>(tiles),
                                      head_rows<T>(args.q, s.head_size),
                                      head_rows<T>(args.k, s.head_size),
                                      head_rows<T>(args.v, s.head_size),
                                      head_rows<T>(args.out, s.head_size),
                                      args.log_sum.empty() ? nullptr : args.log_sum.row<float>(0),
                                      args.log_sum.stride};
  launch<attention_kernel<Tile>>(
      stream_of(device), {grid_of(s.batch * s.heads * tiles), Tile::kThreads, ForwardMemory<Tile>::kBytes}, on_device);
}

template <int kSize>
using BFloatTile = TensorTile<kSize, kSize <= 128 ? 2 : 1, 32>;
template <int kSize>
using FloatTile = PlainTile<kSize, kSize <= 128 ? 64 : 16, kSize <= 64 ? 32 : 16>;

}  // namespace

void attention_cuda(Device& device, const AttentionForward& args) {
  if (args.out.empty()) return;
  if (args.q.dtype == DType::bf16) {
    with_padded_size<32, 64, 80, 96, 128, 256>(args.shape.head_size,
                                               [&](auto size) { forward<BFloatTile<size>>(device, args); });
  } else {
    with_padded_size<32, 64, 128, 256>(args.shape.head_size,
                                       [&](auto size) { forward<FloatTile<size>>(device, args); });
  }
}

}  // namespace lorashard::kernels
