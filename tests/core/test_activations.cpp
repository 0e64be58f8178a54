// What a layer keeps between its passes, held against Korthikanti et al. 2022 (arXiv 2205.05198), in bytes of 16-bit
// activations for one microbatch of b sequences of s tokens, width h, a heads:
//
//   none     34 s b h: attention 11 (input 2, q k v 6, its result 2, a dropout mask 1), feed-forward 19 (input 2,
//   before and
//            after GELU 8 + 8, a mask 1), norms 4; the 5 a s^2 b of a stored attention matrix falls away with a fused
//            one
//   full     2 s b h
//
// This program has no dropout on activations, so 34 less 2 masks; it keeps fp32 statistics of norms and attention
// beside.
#include <gtest/gtest.h>

#include "core/options.hpp"
#include "core/plan.hpp"
#include "launch/synthetic_tokens.hpp"

namespace lorashard::core {
namespace {

constexpr Index s = 64, b = 2, h = 128, a = 4, kVocab = 101, kRank = 8;
constexpr Index kNorms = 2 * 2 * 4 * s * b;  // mean and 1 / deviation of both norms, fp32
constexpr Index kLogSums = 4 * a * s * b;    // one fp32 a head and token

// Of Qwen 3: heads of their own size, norms of queries and keys, a gated feed-forward part.
constexpr Index g = 2, d = 48, F = 96;

struct Job {
  Method method = Method::full;
  Recompute recompute = Recompute::none;
  int tensor = 1;
  bool qwen = false;
};

class KeptByALayer : public testing::Test {
 protected:
  // Of eight layers, less that of four, a layer.
  Index bytes(const Job& job) const { return (activations(job, 8) - activations(job, 4)) / 4; }

 private:
  Index activations(const Job& job, Index layers) const {
    Config config;
    config.model.shape.layers = layers;
    config.model.shape.width = h;
    config.model.shape.heads = a;
    config.model.shape.vocab = kVocab;
    config.model.shape.context = s;
    if (job.qwen) {
      config.model.shape.family = "llama";
      config.model.shape.kv_heads = g;
      config.model.shape.own_head_size = d;
      config.model.shape.ffn = F;
      config.model.shape.qk_norm = true;
    }
    config.adapter.method = job.method;
    config.adapter.rank = kRank;
    config.train.batch = b;
    config.train.precision = kernels::DType::bf16;
    config.train.recompute = job.recompute;
    config.mesh.tensor = job.tensor;
    config.mesh.sequence_parallel = job.tensor > 1;
    complete_config(config, nullptr);
    const PlanRequest request{config, {job.tensor, 1, 1}, kernels::DeviceKind::cuda, data_, {}};
    return plan_memory(request).front().peak_bytes[static_cast<int>(kernels::Category::activation)];
  }
  launch::SyntheticTokens tokens_{kVocab, s, b};
  Dataset data_{tokens_.path(), s, Order::sequential, 1};
};

TEST_F(KeptByALayer, FullTrainingKeepsWhatTheFormulaSays) {
  EXPECT_EQ(bytes({Method::full, Recompute::none, 1}), (34 - 2) * s * b * h + kNorms + kLogSums);
}

TEST_F(KeptByALayer, TensorAndSequenceParallelismDivideIt) {
  EXPECT_EQ(bytes({Method::full, Recompute::none, 2}), ((34 - 2) * s * b * h + kNorms + kLogSums) / 2);
  EXPECT_EQ(bytes({Method::full, Recompute::none, 4}), ((34 - 2) * s * b * h + kNorms + kLogSums) / 4);
}

TEST_F(KeptByALayer, FullRecomputationKeepsTheInput) {
  EXPECT_EQ(bytes({Method::full, Recompute::full, 1}), 2 * s * b * h);
  EXPECT_EQ(bytes({Method::lora, Recompute::full, 1}), 2 * s * b * h);
}

// Norms' results and GELU's are made again from their inputs.
TEST_F(KeptByALayer, SelectiveRecomputationKeepsNoNormAndNoGelu) {
  EXPECT_EQ(bytes({Method::full, Recompute::selective, 1}), (34 - 2 - 2 - 2 - 8) * s * b * h + kNorms + kLogSums);
}

// Queries and keys are kept before their norm, and normed; when the norm is made again, only before. One fp32
// statistic of each norm.
TEST_F(KeptByALayer, NormsOfQueriesAndKeysAreMadeAgainToo) {
  const Index before_norms = 2 * s * b * (a + g) * d, statistics = 4 * s * b * (a + g);
  const Index both = 2 * s * b * (2 * h + (a + 2 * g) * d + a * d + 2 * F) + 2 * 4 * s * b + kLogSums;
  EXPECT_EQ(bytes({Method::full, Recompute::selective, 1, true}), both);
  EXPECT_EQ(bytes({Method::full, Recompute::none, 1, true}),
            both + before_norms + statistics + 2 * s * b * (2 * h + F));
}

// LoRA on q and v: no gradient of a frozen weight is asked for, so the inputs of up and down are not kept; A's results
// are.
TEST_F(KeptByALayer, LoraKeepsLess) {
  const Index projected = 4 * 2 * kRank * s * b;
  EXPECT_EQ(bytes({Method::lora, Recompute::none, 1}), (34 - 2 - 2 - 8) * s * b * h + kNorms + kLogSums + projected);
  EXPECT_EQ(bytes({Method::lora, Recompute::selective, 1}),
            (34 - 2 - 2 - 8 - 2) * s * b * h + kNorms + kLogSums + projected);
}

}  // namespace
}  // namespace lorashard::core
