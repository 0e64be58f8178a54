#include "core/shrink.hpp"

#include <algorithm>
#include <cmath>

#include "core/family.hpp"

namespace lorashard::core {
namespace {

constexpr Index kHeadSize = 8, kWidth = 64, kVocabShare = 32, kVocab = 128, kLengthShare = 8, kLength = 16, kRank = 4;

// 2 where there was more than one, so that nothing that was plural becomes singular.
Index one_or_two(Index had) { return std::min<Index>(had, 2); }

// `share` for each of `parts` and `least` in all, and the remainder that `extent` has over them.
Index with_remainder(Index extent, Index share, Index least, Index parts) {
  const Index even = std::max(share, (least + parts - 1) / parts) * parts;
  return std::min(extent, even + extent % parts);
}

ModelShape shrunken_shape(const ModelShape& had, const MeshConfig& mesh) {
  ModelShape shape = had;
  const Index parts = Index{mesh.pipeline} * mesh.chunks, tensor = mesh.tensor;
  shape.layers = std::min(had.layers, 2 * parts);
  if (had.kv_heads % tensor == 0) {  // else ranks share some, and all stay
    shape.kv_heads = tensor * one_or_two(had.kv_heads / tensor);
    shape.heads = shape.kv_heads * one_or_two(had.heads / had.kv_heads);
  }
  Index head_size = std::min(had.head_size(), std::max(kHeadSize, kWidth / shape.heads));
  if (family_of(had).rotary) head_size += head_size % 2;  // pairs
  shape.width = shape.heads * head_size;
  if (had.own_head_size != 0) shape.own_head_size = head_size;
  const double ratio = static_cast<double>(had.ffn) / static_cast<double>(had.width);
  const Index ffn_share = std::llround(ratio * static_cast<double>(shape.width) / static_cast<double>(tensor));
  shape.ffn = std::min(had.ffn, tensor * std::max<Index>(1, ffn_share));
  shape.vocab = with_remainder(had.vocab, kVocabShare, kVocab, tensor);
  return shape;
}

void shrink_rows(Config& config, const dist::MeshExtents& extents) {
  const Index had_length = config.data.length, had_context = config.model.shape.context;
  config.data.length = with_remainder(had_length, kLengthShare, kLength, extents.tensor);
  Index& window = config.model.shape.window;
  if (window != 0) window = std::max<Index>(1, window * config.data.length / had_length);
  config.model.shape.context = config.data.length + (had_context > had_length ? 1 : 0);
  TrainConfig& train = config.train;
  const Index had_microbatch = microbatch_of(train, extents.data);
  const Index had_count = train.batch / extents.data / had_microbatch;
  const Index count = std::min<Index>(had_count, std::max(2, extents.pipeline + 1));
  const Index microbatch = one_or_two(had_microbatch);
  if (train.microbatch != 0) train.microbatch = microbatch;
  train.batch = extents.data * count * microbatch;
}

// The layers that stand where the job's stood: what lies below the lowest adapter is left out of the backward pass.
std::vector<Index> moved(const std::vector<Index>& had, Index had_layers, Index layers) {
  std::vector<Index> result;
  for (const Index layer : had) {
    const Index place = layer * layers / had_layers;
    if (result.empty() || result.back() != place) result.push_back(place);
  }
  return result;
}

void shrink_adapters(AdapterConfig& adapter, Index had_layers, Index layers) {
  const auto ranks_for = [](Index had) { return had == kFullRank ? had : std::min(had, kRank); };
  const AdapterConfig had = adapter;
  for (auto& [target, rank] : adapter.rank_of) rank = ranks_for(rank);
  adapter.rank = ranks_for(had.rank);
  for (const Target target : had.targets) {
    const auto rank = had.rank_of.find(target);
    const auto alpha = had.alpha_of.find(target);
    const Index own_rank = rank == had.rank_of.end() ? had.rank : rank->second;
    if (own_rank == kFullRank) continue;
    const double own_alpha = alpha == had.alpha_of.end() ? had.alpha : alpha->second;
    const double scale = static_cast<double>(ranks_for(own_rank)) / static_cast<double>(own_rank);
    adapter.alpha_of[target] = own_alpha * scale;
  }
  adapter.layers = moved(had.layers, had_layers, layers);
  adapter.init.clear();
}

}  // namespace

Config shrunken(const Config& config, const dist::MeshExtents& extents) {
  Config small = config;
  small.model.base.clear();
  small.model.shape = shrunken_shape(config.model.shape, config.mesh);
  shrink_rows(small, extents);
  shrink_adapters(small.adapter, config.model.shape.layers, small.model.shape.layers);
  small.data.train.clear();
  small.data.valid.clear();
  return small;
}

}  // namespace lorashard::core
