#include "core/merge.hpp"

#include <algorithm>
#include <bit>
#include <span>

#include "core/host_copy.hpp"
#include "core/residual_file.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;
using kernels::store;
using kernels::to_float;

// Elements of a piece: 4 MiB of fp32.
constexpr Index kPiece = Index{1} << 20;
// Sums that are under way at once, in the first level of cache.
constexpr Index kBlock = 512;

// s B A on some rows and columns of a weight.
struct Update {
  ConstMatrix b;  // (rows, R) f32
  ConstMatrix a;  // (R, cols) f32
  float scale = 0;
};

// Of a value stored as T: 7 or 23 bits follow its leading one.
template <class T>
double unit_in_last_place(float x) {
  constexpr std::uint64_t kBits = std::is_same_v<T, float> ? 23 : 7;
  const std::uint64_t exponent = std::max(1u, (std::bit_cast<std::uint32_t>(x) >> 23) & 0xffu);
  return std::bit_cast<double>((exponent - 127 - kBits + 1023) << 52);
}

void fold(MergeRounding& into, const MergeRounding& more) {
  into.largest = std::max(into.largest, more.largest);
  into.largest_ulps = std::max(into.largest_ulps, more.largest_ulps);
  into.lost_squares += more.lost_squares;
  into.update_squares += more.update_squares;
}

// w[0, count) of row `row` plus their updates, from column `first` on.
template <class T>
void merge_block(T* w, Index count, std::span<const Update> updates, Index row, Index first, MergeRounding& rounding) {
  float update[kBlock] = {};
  for (const Update& u : updates) {
    float sum[kBlock] = {};
    for (Index k = 0; k < u.b.cols; ++k) {
      const float b = u.b.row<float>(row)[k];
      const float* a = u.a.row<float>(k) + first;
      for (Index j = 0; j < count; ++j) sum[j] = std::fma(b, a[j], sum[j]);
    }
    for (Index j = 0; j < count; ++j) update[j] = std::fma(u.scale, sum[j], update[j]);
  }
  for (Index j = 0; j < count; ++j) {
    const float before = to_float(w[j]);
    store(w[j], before + update[j]);
    const float after = to_float(w[j]);
    const double lost = std::abs(static_cast<double>(before) + update[j] - after);
    rounding.largest = std::max(rounding.largest, lost);
    rounding.largest_ulps = std::max(rounding.largest_ulps, lost / unit_in_last_place<T>(after));
    rounding.lost_squares += lost * lost;
    rounding.update_squares += static_cast<double>(update[j]) * update[j];
  }
}

template <class T>
MergeRounding merge_rows(Matrix w, std::span<const Update> updates) {
  std::vector<MergeRounding> of_rows(static_cast<std::size_t>(w.rows));  // summed in order, whatever the threads
#pragma omp parallel for schedule(static)
  for (Index i = 0; i < w.rows; ++i)
    for (Index j = 0; j < w.cols; j += kBlock)
      merge_block(w.row<T>(i) + j, std::min(kBlock, w.cols - j), updates, i, j, of_rows[static_cast<std::size_t>(i)]);
  MergeRounding all;
  for (const MergeRounding& row : of_rows) fold(all, row);
  return all;
}

std::vector<TensorInfo> tensors_of(const TrainingPlan& plan, const ModelShape& shape) {
  std::vector<TensorInfo> tensors;
  for (TensorInfo& info : tensor_table(shape)) {
    const bool merged = std::any_of(plan.adapters.begin(), plan.adapters.end(), [&](const AdapterSpec& spec) {
      return spec.layer == info.layer && spec.linear() + ".weight" == info.name;
    });
    if (merged && plan.trains(info.name))
      fail(Failure::configuration, text(info.name, ": found an adapter on a weight that trains itself, expected one or the other"));
    if (merged) tensors.push_back(std::move(info));
  }
  return tensors;
}

// The runs of a cut, apart where a lower rank owns the beginning of one; true: it is this rank's own.
std::vector<std::pair<dist::Run, bool>> runs_by_owner(const dist::AxisCut& cut) {
  const std::vector<dist::Run> owned = cut.owned_part().runs();
  std::vector<std::pair<dist::Run, bool>> runs;
  for (const dist::Run& run : cut.runs()) {
    Index lower = run.count;
    for (const dist::Run& own : owned)
      if (own.local >= run.local && own.local.value < run.local.value + run.count) lower = own.local.value - run.local.value;
    if (lower > 0) runs.push_back({{run.global, run.local, lower}, false});
    if (lower < run.count)
      runs.push_back({{{run.global.value + lower}, {run.local.value + lower}, run.count - lower}, true});
  }
  return runs;
}

}  // namespace

struct Merge::Pair {
  HostCopy a, b;
  float scale;
  Index first, count;  // rows of the weight that B's rows are
};

Merge::Merge(const Context& context, Parameters& parameters, const TrainingPlan& plan, const BaseFile* base)
    : context_(context), parameters_(parameters), tensors_(tensors_of(plan, context.shape)) {
  std::vector<Digest> own;
  for (const TensorInfo& tensor : tensors_) own.push_back(merge_into(tensor));
  before_ = sums_of(context.mesh.world(), own);
  sum_rounding();
  digest_adapters(plan);
  if (!base || context.device.meta()) return;
  std::vector<Digest> expected = before_;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (base->dtype(tensors_[i]) != context.activation) continue;
    expected[i] = {};
    for (int data = 0; data < context.mesh.extents().data; ++data) expected[i] += base->digest(tensors_[i]);
  }
  expect_digests(before_, expected, text("before merging, as in ", base->path()));
}

void Merge::for_each_piece(const TensorInfo& tensor, const std::function<void(const Piece&)>& body) const {
  if (!parameters_.has(tensor.name)) return;
  const int part = context_.tensor_rank(), parts = context_.tensor_size();
  const Matrix slice = parameters_.frozen_memory(tensor.name);
  const dist::AxisCut rows = tensor.row_cut(part, parts), cols = tensor.col_cut(part, parts);
  for (const auto& [r, row_counts] : runs_by_owner(rows))
    for (const auto& [c, col_counts] : runs_by_owner(cols)) {
      const bool counts = row_counts && col_counts;
      const Index most = std::max<Index>(1, kPiece / c.count);
      for (Index done = 0; done < r.count; done += most) {
        const Index count = std::min(most, r.count - done);
        body({slice.row_range(r.local.value + done, count).col_range(c.local.value, c.count),
              dist::AxisCut::range({r.global.value + done}, count, tensor.rows),
              dist::AxisCut::range(c.global, c.count, tensor.cols), counts});
      }
    }
}

std::vector<Merge::Pair> Merge::pairs_of(const TensorInfo& tensor) const {
  std::vector<Pair> pairs;
  ReplicatedGroup& group = parameters_.replicated();
  for (const AdapterSpec& spec : parameters_.adapters()) {
    const TargetPlace& place = spec.place;
    if (spec.layer != tensor.layer || text("layers.", spec.layer, ".", place.linear, ".weight") != tensor.name) continue;
    Index first = 0;
    for (int s = 0; s < place.segment; ++s) first += tensor.segments[static_cast<std::size_t>(s)].extent;
    pairs.push_back({HostCopy(context_.device, group.value(parameters_.adapter_a(spec))),
                     HostCopy(context_.device, group.value(parameters_.adapter_b(spec))), spec.scale(), first, spec.out});
  }
  return pairs;
}

// Returns the digest of this rank's elements as they were.
Digest Merge::merge_into(const TensorInfo& tensor) {
  Digest before;
  if (!parameters_.has(tensor.name)) return before;
  context_.device.profile().place().beat();
  const std::vector<Pair> pairs = pairs_of(tensor);
  for_each_piece(tensor, [&](const Piece& piece) {
    const Index row = piece.rows.to_global({0}).value, col = piece.cols.to_global({0}).value;
    std::vector<Update> updates;  // a piece lies in one segment, and a pair covers it or does not
    for (const Pair& pair : pairs)
      if (row >= pair.first && row < pair.first + pair.count)
        updates.push_back({ConstMatrix(pair.b).row_range(row - pair.first, piece.memory.rows),
                           ConstMatrix(pair.a).col_range(col, piece.memory.cols), pair.scale});
    change_on_host(context_.device, piece.memory, [&](Matrix w) {
      if (piece.counts) before += digest_of(w, piece.rows, piece.cols);
      const MergeRounding rounding = w.dtype == DType::f32 ? merge_rows<float>(w, updates)
                                                           : merge_rows<kernels::bf16>(w, updates);
      if (piece.counts && context_.mesh.point().data == 0) fold(rounding_, rounding);
    });
  });
  return before;
}

void Merge::sum_rounding() {
  const std::vector<double> all = context_.mesh.world().gather_values(
      std::vector<double>{rounding_.largest, rounding_.largest_ulps, rounding_.lost_squares, rounding_.update_squares});
  rounding_ = {};
  for (std::size_t i = 0; i < all.size(); i += 4) fold(rounding_, {all[i], all[i + 1], all[i + 2], all[i + 3]});
  if (!std::isfinite(rounding_.lost_squares))
    fail(Failure::numerics, "merging: found weights that are not finite with the adapter's update, expected finite values");
}

void Merge::digest_adapters(const TrainingPlan& plan) {
  const bool speaks = context_.mesh.point().tensor == 0 && context_.mesh.point().data == 0;
  std::vector<DigestLine> lines;
  std::vector<Digest> own;
  std::string scales = "lorashard adapter";
  for (const AdapterSpec& spec : plan.adapters) {
    const float scale = spec.scale();
    scales += " " + digest_of(&scale, sizeof scale).hex();
    lines.push_back({spec.a_name(), DType::f32, spec.rank, spec.in, {}});
    lines.push_back({spec.b_name(), DType::f32, spec.out, spec.rank, {}});
    const bool here = speaks && !context_.device.meta() &&
                      parameters_.has(spec.linear() + ".weight");
    for (const bool b : {false, true}) {
      own.emplace_back();
      if (!here) continue;
      const HostCopy values(context_.device,
                            parameters_.replicated().value(b ? parameters_.adapter_b(spec) : parameters_.adapter_a(spec)));
      const ConstMatrix m = values;
      own.back() = digest_of(m, dist::AxisCut::whole(m.rows), dist::AxisCut::whole(m.cols));
    }
  }
  const std::vector<Digest> sums = sums_of(context_.mesh.world(), own);
  for (std::size_t i = 0; i < lines.size(); ++i) lines[i].digest = sums[i];
  adapter_digest_ = digest_of(scales, lines);
}

void Merge::expect_digests(const std::vector<Digest>& found, const std::vector<Digest>& expected,
                           const std::string& what) const {
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (found[i] != expected[i])
      fail(Failure::storage, text(tensors_[i].name, ": found digest ", found[i].hex(), ", expected ", expected[i].hex(), " ",
                                  what));
}

// refill(tensor, piece) gives a piece its bits; what then lies in device memory is read back for its digest.
template <class Refill>
void Merge::undo_with(const std::string& from, const Refill& refill) {
  std::vector<Digest> own;
  for (const TensorInfo& tensor : tensors_) {
    context_.device.profile().place().beat();
    Digest& digest = own.emplace_back();
    for_each_piece(tensor, [&](const Piece& piece) {
      refill(tensor, piece);
      const HostCopy copy(context_.device, piece.memory);
      if (piece.counts && !context_.device.meta()) digest += digest_of(copy, piece.rows, piece.cols);
    });
  }
  expect_digests(sums_of(context_.mesh.world(), own), before_, text("as before merging; made again from ", from));
}

void Merge::undo(const BaseFile& base) {
  undo_with(base.path(), [&](const TensorInfo& tensor, const Piece& piece) {
    const auto read = [&](Matrix host) { base.read(tensor, piece.rows, piece.cols, host); };
    if (base.dtype(tensor) == piece.memory.dtype) return fill_from_host(context_.device, piece.memory, read);
    Tensor staging(context_.device, Category::workspace, base.dtype(tensor), piece.memory.rows, piece.memory.cols);
    fill_from_host(context_.device, staging, read);
    kernels::copy(context_.device, staging, piece.memory);
  });
}

void Merge::undo(const ResidualFile& residual) {
  undo_with(residual.path(), [&](const TensorInfo& tensor, const Piece& piece) {
    change_on_host(context_.device, piece.memory,
                   [&](Matrix host) { residual.apply(tensor, piece.rows, piece.cols, host); });
  });
}

}  // namespace lorashard::core
