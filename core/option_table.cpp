// Longer than most: it is one table, and is read as one.
#include "core/option_table.hpp"

#include "core/option_kinds.hpp"

namespace lorashard::core {

using kernels::DeviceKind;
using kernels::DType;
using kernels::text;

namespace {

bool set_rank(Index& rank, const std::string& value) {
  const auto number = value == "full" ? std::optional<Index>(kFullRank) : to_whole(value);
  if (!number || (*number < 1 && value != "full")) return false;
  rank = *number;
  return true;
}
std::string text_of_rank(Index rank) { return rank == kFullRank ? "full" : std::to_string(rank); }
const char* kRankExpected = "a whole number of at least 1, or full";

void add_rope(std::vector<Option>& table) {
  const Interval above_zero{.above = true};
  table.push_back(real(
      "model.rope_theta", [](auto& c) -> auto& { return c.model.shape.rope.theta; }, above_zero,
      "base of the rotary positions' frequencies"));
  table.push_back(words(
      "model.rope_scaling", [](auto& c) -> auto& { return c.model.shape.rope.scaling; },
      {{"none", RopeScaling::none}, {"linear", RopeScaling::linear}, {"llama3", RopeScaling::llama3}, {"yarn", RopeScaling::yarn}},
      "how they were stretched over a longer context"));
  table.push_back(real(
      "model.rope_factor", [](auto& c) -> auto& { return c.model.shape.rope.factor; }, above_zero, "how far"));
  table.push_back(real(
      "model.rope_low", [](auto& c) -> auto& { return c.model.shape.rope.low; }, above_zero,
      "llama3: low_freq_factor; yarn: beta_slow"));
  table.push_back(real(
      "model.rope_high", [](auto& c) -> auto& { return c.model.shape.rope.high; }, above_zero,
      "llama3: high_freq_factor; yarn: beta_fast"));
  table.push_back(real(
      "model.rope_attention_factor", [](auto& c) -> auto& { return c.model.shape.rope.attention_factor; }, {},
      "yarn: of queries and keys; 0: 0.1 ln(factor) + 1"));
  table.push_back(whole(
      "model.rope_original_context", [](auto& c) -> auto& { return c.model.shape.rope.original_context; }, 0,
      "llama3, yarn: context before the stretching", "tokens"));
  table.push_back(flag(
      "model.rope_neighbours", [](auto& c) -> auto& { return c.model.shape.rope.neighbours; },
      "turn features 2i and 2i + 1 together, instead of i and i + head_size / 2"));
}

void add_model(std::vector<Option>& table) {
  table.push_back(line(
      "model.base", [](auto& c) -> auto& { return c.model.base; }, "a file",
      "frozen base (made by import); empty: start from nothing with the extents below"));
  table.push_back(line(
      "model.family", [](auto& c) -> auto& { return c.model.shape.family; }, "a family",
      "gpt2, or llama (also Mistral, Qwen 2 and 3)"));
  table.push_back(whole(
      "model.layers", [](auto& c) -> auto& { return c.model.shape.layers; }, 0, "blocks"));
  table.push_back(whole(
      "model.width", [](auto& c) -> auto& { return c.model.shape.width; }, 0, "features of a token"));
  table.push_back(whole(
      "model.heads", [](auto& c) -> auto& { return c.model.shape.heads; }, 0, "attention heads"));
  table.push_back(whole(
      "model.kv_heads", [](auto& c) -> auto& { return c.model.shape.kv_heads; }, 0,
      "key/value heads; 0: as many as heads"));
  table.push_back(whole(
      "model.ffn", [](auto& c) -> auto& { return c.model.shape.ffn; }, 0,
      "feed-forward width; 0: four times the width (gpt2)"));
  table.push_back(whole(
      "model.vocab", [](auto& c) -> auto& { return c.model.shape.vocab; }, 0, "token ids"));
  table.push_back(whole(
      "model.context", [](auto& c) -> auto& { return c.model.shape.context; }, 0, "most positions of a row"));
  table.push_back(flag(
      "model.tied_head", [](auto& c) -> auto& { return c.model.shape.tied_head; }, "the head is the token embedding"));
  table.push_back(real(
      "model.norm_eps", [](auto& c) -> auto& { return c.model.shape.norm_eps; }, {.high = 1, .above = true},
      "added to a norm's variance"));
  table.push_back(whole(
      "model.head_size", [](auto& c) -> auto& { return c.model.shape.own_head_size; }, 0,
      "features of a head; 0: width / heads (llama, as all that follow)"));
  table.push_back(flag(
      "model.qkv_bias", [](auto& c) -> auto& { return c.model.shape.qkv_bias; }, "queries, keys and values have biases"));
  table.push_back(flag(
      "model.qk_norm", [](auto& c) -> auto& { return c.model.shape.qk_norm; }, "queries and keys are normed by heads"));
  table.push_back(whole(
      "model.window", [](auto& c) -> auto& { return c.model.shape.window; }, 0,
      "tokens that a token sees, itself included; 0: all before it", "tokens"));
  add_rope(table);
}

void add_adapter(std::vector<Option>& table) {
  table.push_back(words(
      "adapter.method", [](auto& c) -> auto& { return c.adapter.method; },
      {{"lora", Method::lora}, {"full", Method::full}}, "train adapters on a frozen base, or every weight"));
  table.push_back({"adapter.targets", "adapter.targets", "names out of q,k,v,o,up,gate,down,qkv, none twice, or all",
                   "", "matrices with an adapter; all: every matrix of a block",
                   [](Config& c, const std::string& value) {
                     const auto targets = to_targets(value);
                     if (targets) c.adapter.targets = *targets;
                     return targets.has_value();
                   },
                   [](const Config& c) { return text_of(c.adapter.targets); }});
  table.push_back({"adapter.layers", "adapter.layers", "rising layers such as 0-3,7, or all", "",
                   "layers with adapters",
                   [](Config& c, const std::string& value) {
                     const auto layers = to_layers(value);
                     if (layers) c.adapter.layers = *layers;
                     return layers.has_value();
                   },
                   [](const Config& c) { return text_of(c.adapter.layers); }});
  table.push_back({"adapter.rank", "adapter.rank", kRankExpected, "",
                   "rank of the pairs; full: train the matrix itself",
                   [](Config& c, const std::string& value) { return set_rank(c.adapter.rank, value); },
                   [](const Config& c) { return text_of_rank(c.adapter.rank); }});
  for (int i = 0; i < kTargetCount; ++i) {
    const Target target = static_cast<Target>(i);
    table.push_back({text("adapter.rank.", name(target)), i ? "" : "adapter.rank.<target>", kRankExpected, "",
                     "rank of one target",
                     [=](Config& c, const std::string& value) {
                       Index rank = 0;
                       if (!set_rank(rank, value)) return false;
                       c.adapter.rank_of[target] = rank;
                       return true;
                     },
                     [=](const Config& c) {
                       const auto found = c.adapter.rank_of.find(target);
                       return found == c.adapter.rank_of.end() ? "" : text_of_rank(found->second);
                     }});
  }
  table.push_back(real(
      "adapter.alpha", [](auto& c) -> auto& { return c.adapter.alpha; }, {.above = true},
      "the update is scaled by alpha / rank"));
  for (int i = 0; i < kTargetCount; ++i) {
    const Target target = static_cast<Target>(i);
    const Interval above_zero{.above = true};
    table.push_back({text("adapter.alpha.", name(target)), i ? "" : "adapter.alpha.<target>", above_zero.print(), "",
                     "alpha of one target",
                     [=](Config& c, const std::string& value) {
                       const auto number = to_real(value);
                       if (!number || !above_zero.holds(*number)) return false;
                       c.adapter.alpha_of[target] = *number;
                       return true;
                     },
                     [=](const Config& c) {
                       const auto found = c.adapter.alpha_of.find(target);
                       return found == c.adapter.alpha_of.end() ? "" : text_of(found->second);
                     }});
  }
  table.push_back(real(
      "adapter.dropout", [](auto& c) -> auto& { return c.adapter.dropout; }, {.high = 1},
      "share of an adapter's input that is dropped in training"));
  table.push_back(line(
      "adapter.init", [](auto& c) -> auto& { return c.adapter.init; }, "a file or directory",
      "start from this PEFT adapter or checkpoint; empty: A random, B zero"));
  table.push_back(seed(
      "adapter.seed", [](auto& c) -> auto& { return c.adapter.seed; }, "of initial values and dropout"));
}

void add_data_and_training(std::vector<Option>& table) {
  table.push_back(line(
      "data.train", [](auto& c) -> auto& { return c.data.train; }, "a file", "token file (made by tokenize)"));
  table.push_back(line(
      "data.valid", [](auto& c) -> auto& { return c.data.valid; }, "a file", "held-out token file"));
  table.push_back(whole(
      "data.length", [](auto& c) -> auto& { return c.data.length; }, 0, "positions of a row; 0: the model's context",
      "tokens"));
  table.push_back(words(
      "data.order", [](auto& c) -> auto& { return c.data.order; },
      {{"shuffled", Order::shuffled}, {"sequential", Order::sequential}}, "of rows"));
  table.push_back(seed(
      "data.seed", [](auto& c) -> auto& { return c.data.seed; }, "of the shuffling"));

  table.push_back(whole(
      "train.steps", [](auto& c) -> auto& { return c.train.steps; }, 1, "optimizer steps", "steps"));
  table.push_back(whole(
      "train.batch", [](auto& c) -> auto& { return c.train.batch; }, 1, "sequences a step, over all ranks",
      "sequences"));
  table.push_back(whole(
      "train.microbatch", [](auto& c) -> auto& { return c.train.microbatch; }, 0,
      "sequences at once, per data rank; 0: all of its share", "sequences"));
  table.push_back(words(
      "train.precision", [](auto& c) -> auto& { return c.train.precision; },
      {{"fp32", DType::f32}, {"bf16", DType::bf16}}, "of weights and activations"));
  table.push_back(words(
      "train.recompute", [](auto& c) -> auto& { return c.train.recompute; },
      {{"none", Recompute::none}, {"selective", Recompute::selective}, {"full", Recompute::full}},
      "what backward makes again: nothing, norms and activation functions, whole blocks"));
  table.push_back(real(
      "train.label_smoothing", [](auto& c) -> auto& { return c.train.label_smoothing; }, {.high = 1},
      "share of the target spread over the vocabulary"));
  table.push_back(whole(
      "train.evaluate_every", [](auto& c) -> auto& { return c.train.evaluate_every; }, 0,
      "between evaluations; 0: before and after training only", "steps"));
  table.push_back(words(
      "train.on_nan", [](auto& c) -> auto& { return c.train.on_nan; }, {{"stop", OnNan::stop}, {"skip", OnNan::skip}},
      "a loss or gradient that is not finite: end the run, or leave the step out"));

  table.push_back(real(
      "optimizer.lr", [](auto& c) -> auto& { return c.optimizer.lr; }, {}, "peak learning rate"));
  table.push_back(real(
      "optimizer.beta1", [](auto& c) -> auto& { return c.optimizer.beta1; }, {.high = 1}, "decay of the first moment"));
  table.push_back(real(
      "optimizer.beta2", [](auto& c) -> auto& { return c.optimizer.beta2; }, {.high = 1},
      "decay of the second moment"));
  table.push_back(real(
      "optimizer.eps", [](auto& c) -> auto& { return c.optimizer.eps; }, {.above = true},
      "added to the root of the second moment"));
  table.push_back(real(
      "optimizer.weight_decay", [](auto& c) -> auto& { return c.optimizer.weight_decay; }, {},
      "decoupled; not on biases and norms"));
  table.push_back(real(
      "optimizer.clip", [](auto& c) -> auto& { return c.optimizer.clip; }, {},
      "most the gradient's global norm may be; 0: off"));
  table.push_back(words(
      "optimizer.schedule", [](auto& c) -> auto& { return c.optimizer.schedule; },
      {{"linear", LearningRate::linear}, {"cosine", LearningRate::cosine}, {"constant", LearningRate::constant}},
      "of the learning rate after the warm-up"));
  table.push_back(whole(
      "optimizer.warmup", [](auto& c) -> auto& { return c.optimizer.warmup; }, 0, "linear from 0", "steps"));
}

void add_machine_and_run(std::vector<Option>& table) {
  table.push_back(whole(
      "mesh.tensor", [](auto& c) -> auto& { return c.mesh.tensor; }, 1, "ranks that share each layer", "ranks"));
  table.push_back(whole(
      "mesh.pipeline", [](auto& c) -> auto& { return c.mesh.pipeline; }, 1,
      "stages; data = ranks / (tensor x pipeline)", "ranks"));
  table.push_back(flag(
      "mesh.sequence_parallel", [](auto& c) -> auto& { return c.mesh.sequence_parallel; },
      "cut norms and residuals over the tensor axis too"));
  table.push_back(words(
      "mesh.schedule", [](auto& c) -> auto& { return c.mesh.schedule; },
      {{"gpipe", dist::ScheduleKind::gpipe},
       {"1f1b", dist::ScheduleKind::one_f_one_b},
       {"interleaved", dist::ScheduleKind::interleaved}},
      "of the pipeline"));
  table.push_back(whole(
      "mesh.chunks", [](auto& c) -> auto& { return c.mesh.chunks; }, 1,
      "model parts of a stage, with schedule = interleaved"));

  table.push_back(words(
      "device.kind", [](auto& c) -> auto& { return c.device.kind; },
      {{"host", DeviceKind::host}, {"cuda", DeviceKind::cuda}, {"meta", DeviceKind::meta}},
      "meta stores and computes nothing and counts everything"));
  table.push_back(whole(
      "device.threads", [](auto& c) -> auto& { return c.device.threads; }, 0,
      "of one rank; 0: this host's cores shared by its ranks"));
  table.push_back(line(
      "device.hardware", [](auto& c) -> auto& { return c.device.hardware; }, "a file",
      "figures of the device, for planned times"));
  table.push_back(flag(
      "device.oversubscribe", [](auto& c) -> auto& { return c.device.oversubscribe; },
      "cuda: let ranks of a host share a GPU"));
  table.push_back(flag(
      "device.tf32", [](auto& c) -> auto& { return c.device.tf32; },
      "cuda: fp32 products in TF32, faster and with 10 bits of fraction"));

  table.push_back(line(
      "run.dir", [](auto& c) -> auto& { return c.run.dir; }, "a directory", "where results go"));
  table.push_back(whole(
      "run.checkpoint_every", [](auto& c) -> auto& { return c.run.checkpoint_every; }, 0,
      "between checkpoints; 0: only at the end", "steps"));
  table.push_back(whole(
      "run.keep", [](auto& c) -> auto& { return c.run.keep; }, 1, "newest checkpoints kept"));
  table.push_back(flag(
      "run.background_save", [](auto& c) -> auto& { return c.run.background_save; },
      "write checkpoints beside the training, from a copy of the state in host memory"));
  table.push_back(line(
      "run.resume", [](auto& c) -> auto& { return c.run.resume; }, "auto, never, or a checkpoint",
      "auto: continue from the newest checkpoint of run.dir, if any"));
  table.push_back(whole(
      "run.trace", [](auto& c) -> auto& { return c.run.trace; }, 0,
      "put on a time axis in trace.json, for Perfetto, from the second step on; 0: none", "steps"));
  table.push_back(flag(
      "run.tensorboard", [](auto& c) -> auto& { return c.run.tensorboard; },
      "write what metrics.jsonl has to event files for TensorBoard too, in events/"));
  table.push_back(whole(
      "run.norms_every", [](auto& c) -> auto& { return c.run.norms_every; }, 0,
      "between norms of each layer's adapters and gradients, in metrics.jsonl; 0: none", "steps"));
}

}  // namespace

const std::vector<Option>& option_table() {
  static const std::vector<Option> table = [] {
    std::vector<Option> rows;
    add_model(rows);
    add_adapter(rows);
    add_data_and_training(rows);
    add_machine_and_run(rows);
    return rows;
  }();
  return table;
}

const Option* find_option(const std::string& key) {
  for (const Option& option : option_table())
    if (option.key == key) return &option;
  return nullptr;
}

}  // namespace lorashard::core
