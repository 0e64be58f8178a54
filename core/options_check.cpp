// What keys mean together (options.hpp: complete_config, check_config).
#include <algorithm>

#include "core/family.hpp"
#include "core/option_values.hpp"
#include "core/options.hpp"
#include "core/quote.hpp"
#include "core/tensor_table.hpp"
#include "dist/mesh.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

bool contains(const std::vector<Target>& targets, Target target) {
  return std::find(targets.begin(), targets.end(), target) != targets.end();
}

void expect_agreement(const char* key, Index given, Index in_base, const std::string& base) {
  if (given != 0 && given != in_base)
    fail(Failure::configuration, text(key, ": found ", given, ", expected ", in_base, " as in ", base));
}

void check_shape(const ModelShape& shape) {
  const auto at_least_one = [](const char* key, Index value) {
    if (value < 1)
      fail(Failure::configuration,
           text(key, ": found ", value, ", expected at least 1 (or a base file as model.base)"));
  };
  at_least_one("model.layers", shape.layers);
  at_least_one("model.width", shape.width);
  at_least_one("model.heads", shape.heads);
  at_least_one("model.ffn", shape.ffn);
  at_least_one("model.vocab", shape.vocab);
  at_least_one("model.context", shape.context);
  if (shape.own_head_size == 0 && shape.width % shape.heads != 0)
    fail(Failure::configuration,
         text("model.heads: found ", shape.heads, ", expected a divisor of the width ", shape.width));
  if (shape.kv_heads < 1 || shape.heads % shape.kv_heads != 0)
    fail(Failure::configuration,
         text("model.kv_heads: found ", shape.kv_heads, ", expected a divisor of the ", shape.heads, " heads"));
  const Family& family = family_of(shape);
  const auto only_rotary = [&](const char* key, bool given) {
    if (given && !family.rotary)
      fail(Failure::configuration, text(key, ": found for the family ", shape.family, ", expected it for llama alone"));
  };
  only_rotary("model.head_size", shape.own_head_size != 0);
  only_rotary("model.qkv_bias", shape.qkv_bias);
  only_rotary("model.qk_norm", shape.qk_norm);
  only_rotary("model.window", shape.window != 0);
  only_rotary("model.rope_theta and its like", !(shape.rope == RopeShape{}));
  if (!family.rotary) return;
  if (shape.head_size() % 2 != 0)
    fail(Failure::configuration, text("model.head_size: found ", shape.head_size(), ", expected an even number"));
  const RopeShape& rope = shape.rope;
  if (rope.scaling == RopeScaling::llama3 || rope.scaling == RopeScaling::yarn)
    at_least_one("model.rope_original_context", rope.original_context);
  if (rope.scaling == RopeScaling::llama3 && !(rope.low < rope.high))
    fail(Failure::configuration,
         text("model.rope_low: found ", rope.low, ", expected less than model.rope_high = ", rope.high));
}

void check_adapter(const AdapterConfig& adapter, const ModelShape& shape) {
  const Family& family = family_of(shape);
  const auto& targets = adapter.targets;
  for (const Target target : targets)
    if (!contains(family.targets, target) && !contains(family.further_targets, target)) {
      std::vector<Target> known = family.targets;
      known.insert(known.end(), family.further_targets.begin(), family.further_targets.end());
      fail(Failure::configuration, text("adapter.targets: found ", name(target), ", expected some of ", text_of(known),
                                        " (family ", shape.family, ")"));
    }
  if (contains(targets, Target::qkv))
    for (const Target part : {Target::q, Target::k, Target::v})
      if (contains(targets, part))
        fail(Failure::configuration, text("adapter.targets: found qkv and ", name(part),
                                          ", expected the joint adapter or separate ones, not both"));
  const auto expect_targeted = [&](Target target, const char* key) {
    if (!contains(targets, target))
      fail(Failure::configuration,
           text(key, name(target), ": found for a matrix that is not among adapter.targets = ", text_of(targets)));
  };
  for (const auto& [target, rank] : adapter.rank_of) expect_targeted(target, "adapter.rank.");
  for (const auto& [target, alpha] : adapter.alpha_of) expect_targeted(target, "adapter.alpha.");
  if (!adapter.layers.empty() && adapter.layers.back() >= shape.layers)
    fail(Failure::configuration,
         text("adapter.layers: found ", adapter.layers.back(), ", expected layers from 0 to ", shape.layers - 1));
}

std::string divisors_of(Index n) {
  std::string list;
  for (Index d = 1; d <= n && d <= 4096; ++d)
    if (n % d == 0) list += (list.empty() ? "" : ", ") + std::to_string(d);
  return list;
}

void check_mesh(const Config& config, int ranks) {
  const MeshConfig& mesh = config.mesh;
  check_divides(config.model.shape, mesh.tensor);
  if (mesh.chunks > 1 && mesh.schedule != dist::ScheduleKind::interleaved)
    fail(Failure::configuration,
         text("mesh.chunks: found ", mesh.chunks, ", expected 1 unless mesh.schedule = interleaved"));
  const Index parts = Index{mesh.pipeline} * mesh.chunks;
  if (parts > config.model.shape.layers)
    fail(Failure::configuration,
         text("mesh.pipeline: found ", mesh.pipeline, " stages of ", mesh.chunks, " parts, expected at most ",
              config.model.shape.layers, " parts (one for each layer)"));
  if (ranks == 0) return;
  const dist::MeshExtents extents = dist::make_extents(ranks, mesh.tensor, mesh.pipeline);
  const TrainConfig& train = config.train;
  if (train.batch % extents.data != 0)
    fail(Failure::configuration, text("train.batch: found ", train.batch, ", expected a multiple of the data extent ",
                                      extents.data, " (mesh ", to_string(extents), ")"));
  const Index share = train.batch / extents.data;
  if (train.microbatch != 0 && share % train.microbatch != 0)
    fail(Failure::configuration, text("train.microbatch: found ", train.microbatch, ", expected a divisor of the ",
                                      share, " sequences of a data rank: ", divisors_of(share)));
}

}  // namespace

void complete_config(Config& config, const ModelShape* base) {
  ModelShape& shape = config.model.shape;
  if (base) {
    const std::string& file = config.model.base;
    expect_agreement("model.layers", shape.layers, base->layers, file);
    expect_agreement("model.width", shape.width, base->width, file);
    expect_agreement("model.heads", shape.heads, base->heads, file);
    expect_agreement("model.kv_heads", shape.kv_heads, base->kv_heads, file);
    expect_agreement("model.ffn", shape.ffn, base->ffn, file);
    expect_agreement("model.vocab", shape.vocab, base->vocab, file);
    expect_agreement("model.context", shape.context, base->context, file);
    shape = *base;
  }
  if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
  if (shape.ffn == 0 && !family_of(shape).gated) shape.ffn = 4 * shape.width;
  if (config.data.length == 0) config.data.length = shape.context;
  if (config.adapter.targets.empty()) config.adapter.targets = family_of(shape).targets;
}

void check_config(const Config& config, int ranks) {
  check_shape(config.model.shape);
  if (config.adapter.method == Method::lora) check_adapter(config.adapter, config.model.shape);
  if (config.data.length > config.model.shape.context)
    fail(Failure::configuration, text("data.length: found ", config.data.length,
                                      ", expected at most the model's context ", config.model.shape.context));
  if (config.optimizer.warmup > config.train.steps)
    fail(Failure::configuration, text("optimizer.warmup: found ", config.optimizer.warmup,
                                      " steps, expected at most train.steps = ", config.train.steps));
  check_mesh(config, ranks);
}

}  // namespace lorashard::core
