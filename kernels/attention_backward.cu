// Gradients of attention on a GPU, with the probabilities made again from the row's log-sum-exp: Dao et al. 2022 (arXiv
// 2205.14135, algorithm 4) and Dao 2023 (arXiv 2307.08691, algorithm 2).
//
// Three kernels: delta, the row sums of dout * out; dk and dv, a block for each tile of keys; dq, a block for each tile
// of queries. One kernel for all three gradients would make 5 products of tiles where these make 7 (scores and their
// gradients twice), but would sum dq over the blocks of its keys by atomics, in another order each time.
#include "kernels/attention_products.cuh"
#include "kernels/attention_tiles.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

template <class T>
struct BackwardArguments {
  HeadShape s;
  Index rows;  // B*T
  HeadRows<const T> q, k, v, out, dout;
  HeadRows<T> dq, dk, dv;
  const float* log_sum;  // (H, B*T)
  Index log_sum_stride;
  float* delta;  // (H, B*T) without gaps
};

// Values [first, first + 16 bytes) of a head's row, zeros behind its `size`.
template <class T>
__device__ __forceinline__ void load_chunk(const T* row, int first, int size, bool wide, T (&to)[16 / sizeof(T)]) {
  if (wide && first < size) {
    const uint4 values = *reinterpret_cast<const uint4*>(row + first);
    memcpy(to, &values, sizeof(values));
  } else {
#pragma unroll
    for (int d = 0; d < static_cast<int>(16 / sizeof(T)); ++d) to[d] = first + d < size ? row[first + d] : T{};
  }
}

// delta = rowsum(dout * out) of each row and head, which is also rowsum(P * dP): 8 lanes for each.
constexpr int kDeltaLanes = 8, kDeltaRows = 128 / kDeltaLanes;  // of a row; of a block
template <class T>
__global__ __launch_bounds__(128) void attention_delta_kernel(BackwardArguments<T> args) {
  constexpr int kChunk = 16 / sizeof(T);
  const HeadShape& s = args.s;
  const int lane = static_cast<int>(threadIdx.x) % kDeltaLanes;
  const Index i = static_cast<Index>(blockIdx.x) * kDeltaRows + threadIdx.x / kDeltaLanes, row = i / s.heads;
  const int head = static_cast<int>(i % s.heads);
  const T* out_row = args.out.data + row * args.out.stride + static_cast<Index>(head) * s.size;
  const T* dout_row = args.dout.data + row * args.dout.stride + static_cast<Index>(head) * s.size;
  float sum = 0.0f;
  for (int first = row < args.rows ? lane * kChunk : s.size; first < s.size; first += kDeltaLanes * kChunk) {
    T out[kChunk], dout[kChunk];
    load_chunk(out_row, first, s.size, args.out.wide, out);
    load_chunk(dout_row, first, s.size, args.dout.wide, dout);
#pragma unroll
    for (int d = 0; d < kChunk; ++d) sum = fmaf(to_float(out[d]), to_float(dout[d]), sum);
  }
#pragma unroll
  for (int lanes = kDeltaLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kWarp, sum, lanes);
  if (lane == 0 && row < args.rows) args.delta[head * args.rows + row] = sum;
}

// Shared memory of a block: the two operands whose rows it keeps, and twice the two that it walks over, so that the
// next tiles arrive while these are multiplied.
template <class Tile>
struct BackwardMemory {
  using T = typename Tile::Element;
  static constexpr int kKept = Tile::kRows * Tile::kPitch, kWalked = Tile::kInner * Tile::kPitch;
  static constexpr std::size_t kTileBytes = (2 * kKept + 4 * kWalked) * sizeof(T);
  static constexpr std::size_t kBytes = kTileBytes + Tile::kRoomBytes + 4 * Tile::kInner * sizeof(float);
  static_assert(kBytes <= kBlockBytes);

  __device__ T* kept(int operand) const { return shared_memory<T>() + operand * kKept; }
  __device__ T* walked(int operand, int turn) const {
    return shared_memory<T>() + 2 * kKept + (turn % 2 * 2 + operand) * kWalked;
  }
  __device__ float* room() const { return shared_memory<float>(kTileBytes); }
  // Log-sum-exp (0) or delta (1) of the queries that are walked over.
  __device__ float* sums(int which, int turn) const {
    return shared_memory<float>(kTileBytes + Tile::kRoomBytes) + (turn % 2 * 2 + which) * Tile::kInner;
  }
};

// Scores -> probabilities, and gradients of probabilities -> gradients of scores but for the factor D^-1/2. `sums(i,
// col)` gives the query's log-sum-exp to base 2 and its delta.
template <class Tile, class Visible, class Sums>
__device__ __forceinline__ void score_gradients(float scale_log2, const Visible& visible, const Sums& sums,
                                                typename Tile::Scores& p, typename Tile::Scores& ds) {
  p.each(
      [&](int i, int col, float& score, float& gradient) {
        const float2 of_query = sums(i, col);
        score = visible(i, col) ? Tile::exp2(fmaf(score, scale_log2, -of_query.x)) : 0.0f;
        gradient = score * (gradient - of_query.y);
      },
      ds);
}

// The warp's rows of a gradient, through its rows of an operand that it needs no more.
template <class Tile>
__device__ __forceinline__ void store_gradient(typename Tile::Output& gradient, float factor, int first_col,
                                               const HeadRows<typename Tile::Element>& to, const TileRows& place,
                                               int size, typename Tile::Element* room) {
  Tile::put(gradient, room, [&](int) { return factor; });
  __syncwarp();
  store_rows<Tile, Tile::kColumns>(room, Tile::first_row(), Tile::kWarpRows, first_col, to, place, size);
}

constexpr float kLog2E = std::numbers::log2e_v<float>;

// dv = P^T dout and dk = dS^T q of a tile of keys, over the heads that share them and over their queries, in order.
// Scores are (keys, queries) here. A block makes kColumns columns of both: two blocks share a head of 256, for which
// there are not registers enough.
template <class Tile>
__global__ __launch_bounds__(Tile::kThreads,
                             1) void keys_gradient_kernel(BackwardArguments<typename Tile::Element> args, int tiles) {
  constexpr int kParts = Tile::kSize / Tile::kColumns;
  const BackwardMemory<Tile> memory;
  const HeadShape& s = args.s;
  const int part = static_cast<int>(blockIdx.x) % kParts, first_col = part * Tile::kColumns;
  const BlockPlace block = block_place<false>(static_cast<int>(blockIdx.x) / kParts, s.kv_heads, tiles);
  const int first_key = block.tile * Tile::kRows, first_head = s.first_head(block.head);
  const TileRows keys = tile_rows(s, block.batch, block.head, first_key, Tile::kRows);
  const int query_count = std::min(s.length - first_key, s.window + Tile::kRows - 1);  // that see any of the keys
  const int turns_of_head = (query_count + Tile::kInner - 1) / Tile::kInner;
  const int turns = (s.first_head(block.head + 1) - first_head) * turns_of_head;
  const auto first_query = [&](int turn) { return first_key + turn % turns_of_head * Tile::kInner; };
  const auto load_queries = [&](int turn) {
    const int head = first_head + turn / turns_of_head;
    const TileRows queries = tile_rows(s, block.batch, head, first_query(turn), Tile::kInner);
    load_tile<Tile, Tile::kInner>(args.q, queries, s.size, memory.walked(0, turn));
    load_tile<Tile, Tile::kInner>(args.dout, queries, s.size, memory.walked(1, turn));
    const int i = static_cast<int>(threadIdx.x);
    if (i < Tile::kInner) {
      const bool exists = i < queries.count;
      copy_word_later(memory.sums(0, turn) + i, args.log_sum + head * args.log_sum_stride + queries.row + i, exists);
      copy_word_later(memory.sums(1, turn) + i, args.delta + head * args.rows + queries.row + i, exists);
    }
    __syncwarp();  // products must have the whole warp
  };
  load_tile<Tile, Tile::kRows>(args.k, keys, s.size, memory.kept(0));
  load_tile<Tile, Tile::kRows>(args.v, keys, s.size, memory.kept(1));
  load_queries(0);
  typename Tile::Output dk, dv;
  const int first_row = warp_uniform(Tile::first_row());
  const int warp_key = first_row < keys.count ? first_key + first_row : s.length;
#pragma unroll 1
  for (int turn = 0; turn < turns; ++turn) {
    wait_copies();
    __syncthreads();  // this turn's tiles have arrived, and no one reads the last turn's any more
    if (turn + 1 < turns) load_queries(turn + 1);
    const int query = first_query(turn);
    if (query + Tile::kInner <= warp_key) continue;                    // all before the warp's keys
    if (query - warp_key >= s.window + Tile::kWarpRows - 1) continue;  // all beyond their windows
    typename Tile::Scores p, ds;
    Tile::scores(memory.kept(0), memory.walked(0, turn), p);
    Tile::scores(memory.kept(1), memory.walked(1, turn), ds);
    const float *log_sum = memory.sums(0, turn), *delta = memory.sums(1, turn);
    score_gradients<Tile>(
        s.scale_log2, [&](int i, int col) { return s.sees(query + col, first_key + Tile::row_of(i)); },
        [&](int, int col) {
          return float2{log_sum[col] * kLog2E, delta[col]};
        },
        p, ds);
    Tile::accumulate(p, memory.walked(1, turn) + first_col, dv, memory.room());
    Tile::accumulate(ds, memory.walked(0, turn) + first_col, dk, memory.room());
  }
  store_gradient<Tile>(dk, s.scale, first_col, args.dk, keys, s.size, memory.kept(0));
  store_gradient<Tile>(dv, 1.0f, first_col, args.dv, keys, s.size, memory.kept(1));
}

// dq = dS k of a tile of queries, over their keys in order. Scores are (queries, keys).
template <class Tile>
__global__ __launch_bounds__(Tile::kThreads,
                             1) void queries_gradient_kernel(BackwardArguments<typename Tile::Element> args,
                                                             int tiles) {
  const BackwardMemory<Tile> memory;
  const HeadShape& s = args.s;
  const BlockPlace block = block_place<true>(static_cast<int>(blockIdx.x), s.heads, tiles);
  const int first_query = block.tile * Tile::kRows, first_turn = std::max(s.oldest_key(first_query), 0) / Tile::kInner;
  const TileRows queries = tile_rows(s, block.batch, block.head, first_query, Tile::kRows);
  const int end = first_query + queries.count, turns = (end + Tile::kInner - 1) / Tile::kInner;
  const TileRows sequence = tile_rows(s, block.batch, s.kv_head(block.head), first_turn * Tile::kInner, s.length);
  TileReader<Tile> keys(args.k, sequence, s.size), values(args.v, sequence, s.size);
  const auto load_keys = [&](int turn) {
    const int left = s.length - turn * Tile::kInner;
    keys.template next<Tile::kInner>(memory.walked(0, turn), left);
    values.template next<Tile::kInner>(memory.walked(1, turn), left);
  };
  load_tile<Tile, Tile::kRows>(args.q, queries, s.size, memory.kept(0));
  load_tile<Tile, Tile::kRows>(args.dout, queries, s.size, memory.kept(1));
  load_keys(first_turn);
  float2 sums[Tile::kThreadRows];
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const int row = Tile::row_of(i);
    sums[i] = row < queries.count ? float2{args.log_sum[block.head * args.log_sum_stride + queries.row + row] * kLog2E,
                                           args.delta[block.head * args.rows + queries.row + row]}
                                  : float2{0.0f, 0.0f};
  }
  typename Tile::Output dq;
  const int first_row = warp_uniform(Tile::first_row());
  const int warp_begin = s.oldest_key(first_query + first_row);
  const int warp_end = first_row < queries.count ? first_query + first_row + Tile::kWarpRows : 0;
#pragma unroll 1
  for (int turn = first_turn; turn < turns; ++turn) {
    wait_copies();
    __syncthreads();  // as above
    if (turn + 1 < turns) load_keys(turn + 1);
    const int key = turn * Tile::kInner;
    if (key >= warp_end || key + Tile::kInner <= warp_begin) continue;
    typename Tile::Scores p, ds;
    Tile::scores(memory.kept(0), memory.walked(0, turn), p);
    Tile::scores(memory.kept(1), memory.walked(1, turn), ds);
    score_gradients<Tile>(
        s.scale_log2, [&](int i, int col) { return s.sees(first_query + Tile::row_of(i), key + col); },
        [&](int i, int) { return sums[i]; }, p, ds);
    Tile::accumulate(ds, memory.walked(0, turn), dq, memory.room());
  }
  store_gradient<Tile>(dq, s.scale, 0, args.dq, queries, s.size, memory.kept(0));
}

template <class T>
BackwardArguments<T> arguments(const AttentionBackward& args, std::byte* scratch) {
  const Index size = args.shape.head_size;
  return {HeadShape(args.shape),
          args.shape.rows(),
          head_rows<T>(args.q, size),
          head_rows<T>(args.k, size),
          head_rows<T>(args.v, size),
          head_rows<T>(args.out, size),
          head_rows<T>(args.dout, size),
          head_rows<T>(args.dq, size),
          head_rows<T>(args.dk, size),
          head_rows<T>(args.dv, size),
          args.log_sum.row<float>(0),
          args.log_sum.stride,
          reinterpret_cast<float*>(scratch)};
}

template <class KeysTile, class QueriesTile>
void backward(Device& device, const AttentionBackward& args, std::byte* scratch) {
  using T = typename KeysTile::Element;
  const AttentionShape& s = args.shape;
  const BackwardArguments<T> on_device = arguments<T>(args, scratch);
  const cudaStream_t stream = stream_of(device);
  const auto tiles = [&](int rows) { return static_cast<int>((s.length + rows - 1) / rows); };
  const int key_tiles = tiles(KeysTile::kRows), query_tiles = tiles(QueriesTile::kRows);
  launch<attention_delta_kernel<T>>(stream, {grid_of((s.rows() * s.heads + kDeltaRows - 1) / kDeltaRows), 128},
                                    on_device);
  launch<keys_gradient_kernel<KeysTile>>(
      stream,
      {grid_of(s.batch * s.kv_heads * key_tiles * (KeysTile::kSize / KeysTile::kColumns)), KeysTile::kThreads,
       BackwardMemory<KeysTile>::kBytes},
      on_device, key_tiles);
  launch<queries_gradient_kernel<QueriesTile>>(
      stream, {grid_of(s.batch * s.heads * query_tiles), QueriesTile::kThreads, BackwardMemory<QueriesTile>::kBytes},
      on_device, query_tiles);
}

// Tiles by head size: as many rows as registers hold sums for, and shared memory for two blocks on an A100.
template <int kSize>
using BFloatKeysTile =
    TensorTile<kSize, kSize <= 64 ? 2 : 1, kSize <= 128 ? 32 : 16, kSize <= 128 ? 4 : 2, kSize <= 128 ? kSize : 128>;
template <int kSize>
using BFloatQueriesTile = TensorTile<kSize, kSize <= 96 ? 2 : 1, kSize <= 128 ? 32 : 16, kSize <= 128 ? 4 : 2>;
template <int kSize>
using FloatTile = PlainTile<kSize,
                            kSize <= 64    ? 64
                            : kSize <= 128 ? 32
                                           : 16,
                            kSize <= 64 ? 32 : 16>;

}  // namespace

void attention_cuda(Device& device, const AttentionBackward& args, std::byte* scratch) {
  if (args.out.empty()) return;
  if (args.q.dtype == DType::bf16) {
    with_padded_size<32, 64, 80, 96, 128, 256>(args.shape.head_size, [&](auto size) {
      backward<BFloatKeysTile<size>, BFloatQueriesTile<size>>(device, args, scratch);
    });
  } else {
    with_padded_size<32, 64, 128, 256>(
        args.shape.head_size, [&](auto size) { backward<FloatTile<size>, FloatTile<size>>(device, args, scratch); });
  }
}

}  // namespace lorashard::kernels
