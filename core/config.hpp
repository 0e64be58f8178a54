// A job as plain structs: what the keys of DESIGN section 11 mean once they are read and checked. Filled by options.cpp
// from one table of keys; nothing here knows about files or command lines.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dist/schedule.hpp"
#include "kernels/device.hpp"

namespace lorashard::core {

using kernels::Index;

// The matrices an adapter can sit on. qkv is one joint adapter over the fused product; q, k, v are separate ones.
enum class Target { q, k, v, o, up, gate, down, qkv };
inline constexpr int kTargetCount = 8;
const char* name(Target target);

// How rotary positions were stretched beyond the context that a model was first trained with: rotary_positions.hpp.
enum class RopeScaling { none, linear, llama3, yarn };
struct RopeShape {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;             // of the context's length
  double low = 1, high = 4;      // llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast
  double attention_factor = 0;   // yarn: of queries and keys; 0: 0.1 ln(factor) + 1
  Index original_context = 0;    // llama3, yarn
  bool neighbours = false;       // pairs are (2i, 2i + 1) instead of (i, i + D/2)
  bool operator==(const RopeShape&) const = default;
};

// A model's extents: L layers, C width, H heads, G key/value heads, F feed-forward width, V vocabulary, P context; and
// what members of a family (family.hpp) differ in.
struct ModelShape {
  std::string family = "gpt2";
  Index layers = 0;
  Index width = 0;
  Index heads = 0;
  Index kv_heads = 0;
  Index ffn = 0;
  Index vocab = 0;
  Index context = 0;
  bool tied_head = true;
  float norm_eps = 1e-5f;
  Index own_head_size = 0;  // D, where it is not width / heads
  bool qkv_bias = false;    // llama; gpt2 has all biases
  bool qk_norm = false;     // an RMSNorm over each head's queries and keys
  Index window = 0;         // keys that a query sees; 0: all before it
  RopeShape rope;
  Index head_size() const { return own_head_size != 0 ? own_head_size : width / heads; }
  bool operator==(const ModelShape&) const = default;
};

struct ModelConfig {
  std::string base;   // an HDF5 base file, or empty to start from nothing with `shape`
  ModelShape shape;   // as given; when `base` is set it is replaced by the file's
};

inline constexpr Index kFullRank = -1;  // `rank = full`: the matrix itself is trained

enum class Method { lora, full };
const char* name(Method method);

struct AdapterConfig {
  Method method = Method::lora;
  std::vector<Target> targets{Target::q, Target::v};
  std::vector<Index> layers;  // empty: all
  Index rank = 8;             // or kFullRank
  double alpha = 16;
  std::map<Target, Index> rank_of;   // overrides by target
  std::map<Target, double> alpha_of;
  double dropout = 0;
  std::string init;  // a PEFT directory, a loralib .safetensors file or a checkpoint; empty: A random, B zero
  std::uint64_t seed = 1;
};

enum class Order { shuffled, sequential };

struct DataConfig {
  std::string train;
  std::string valid;
  Index length = 0;  // T: positions a row; 0: the model's context
  Order order = Order::shuffled;
  std::uint64_t seed = 1;
};

// What a block keeps for its backward pass. none: all that a gradient needs; selective: not the outputs of norms and
// GELU, which are made again; full: only the block's input, and the block runs forward again.
enum class Recompute { none, selective, full };

// What becomes of a run whose loss or gradient is not finite: it ends, or goes on without that step.
enum class OnNan { stop, skip };

struct TrainConfig {
  Index steps = 100;
  Index batch = 8;       // sequences a step, over all ranks
  Index microbatch = 0;  // sequences, per data rank; 0: all of the rank's share
  kernels::DType precision = kernels::DType::f32;
  Recompute recompute = Recompute::none;
  double label_smoothing = 0;
  Index evaluate_every = 0;  // 0: only at the end (when data.valid is given)
  OnNan on_nan = OnNan::stop;
};

// Sequences of a data rank that go through the model at once.
inline Index microbatch_of(const TrainConfig& train, int data_ranks) {
  return train.microbatch == 0 ? train.batch / data_ranks : train.microbatch;
}

enum class LearningRate { linear, cosine, constant };

struct OptimizerConfig {
  double lr = 1e-4;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.01;
  double clip = 1.0;  // global norm; 0: off
  LearningRate schedule = LearningRate::linear;
  Index warmup = 0;
};

struct MeshConfig {
  int tensor = 1;
  int pipeline = 1;
  bool sequence_parallel = false;
  dist::ScheduleKind schedule = dist::ScheduleKind::one_f_one_b;
  int chunks = 1;
};

struct DeviceConfig {
  kernels::DeviceKind kind = kernels::DeviceKind::host;
  int threads = 0;       // 0: the cores this process may use, shared with the ranks of its host
  std::string hardware;  // a file under configs/hardware, for the clock
  bool oversubscribe = false;  // cuda: ranks of a host may share its GPUs
  bool tf32 = false;           // cuda: fp32 products in TF32
};

struct RunConfig {
  std::string dir;
  Index checkpoint_every = 0;  // 0: only at the end
  Index keep = 2;              // newest checkpoints kept
  bool background_save = true;  // write checkpoints beside the training, from a copy of the state in host memory
  std::string resume = "auto";  // auto, never, or a checkpoint's path
  Index trace = 0;              // steps whose works are written to trace.json
  bool tensorboard = false;     // write event files beside metrics.jsonl
  Index norms_every = 0;        // steps between norms of each layer; 0: never
};

struct Config {
  ModelConfig model;
  AdapterConfig adapter;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  MeshConfig mesh;
  DeviceConfig device;
  RunConfig run;
};

}  // namespace lorashard::core
