// How much of a layer's time is not the products of its weights, by count: every operation that a GPU would run is walked
// on the meta device, and takes as long as its FLOPs at the speed of a large product or its bytes at the speed of a large
// copy, whichever is longer. What a real card adds (launches, lower rates of small operations) is not in it; attention is
// taken at half the rate of a product.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "core/options.hpp"
#include "core/trainer.hpp"
#include "launch/synthetic_tokens.hpp"

namespace lorashard::core {
namespace {

using kernels::Phase;

struct Card {
  const char* name;
  double flops, bytes;  // a second
};
// H200: measured, a product of 8192 cubed and a device-to-device copy. A100: data sheet, at the same 0.80 and 0.90 of it.
constexpr Card kCards[] = {{"H200", 790e12, 4.3e12}, {"A100", 250e12, 1.8e12}};

struct Job {
  const char* name;
  Index width, heads, length, batch;
  int tensor;
  Method method;
};

// Seconds of one layer's forward and backward pass by phase.
struct LayerTime {
  double products = 0, adapters = 0, attention = 0, rest = 0;
  double all() const { return products + adapters + attention + rest; }
};

std::array<kernels::Cost, kernels::kPhaseCount> costs_of(const Job& job, Index layers) {
  Config config;
  config.model.shape.layers = layers;
  config.model.shape.width = job.width;
  config.model.shape.heads = job.heads;
  config.model.shape.vocab = 50257;
  config.model.shape.context = job.length;
  config.adapter.method = job.method;
  config.data.length = job.length;
  config.train.batch = job.batch;
  config.train.precision = kernels::DType::bf16;
  config.mesh.tensor = job.tensor;
  config.mesh.sequence_parallel = job.tensor > 1;
  complete_config(config, nullptr);
  const launch::SyntheticTokens tokens(config.model.shape.vocab, job.length, job.batch);
  const Dataset data(tokens.path(), job.length, Order::sequential, 1);
  const auto device = kernels::make_meta_device(kernels::DeviceKind::cuda);
  dist::Mesh mesh = dist::make_meta_mesh(*device, {job.tensor, 1, 1}, 0);
  Trainer trainer(config, *device, mesh);
  device->profile().reset();
  trainer.step(data);
  std::array<kernels::Cost, kernels::kPhaseCount> costs;
  for (int p = 0; p < kernels::kPhaseCount; ++p) {
    const kernels::Profile::Entry& entry = device->profile().entry(static_cast<Phase>(p));
    costs[p] = {entry.flops, entry.bytes};
  }
  return costs;
}

// Two layers less one: what is left is a layer, without embedding, head and optimizer.
LayerTime layer_time(const Job& job, const Card& card) {
  const auto one = costs_of(job, 1), two = costs_of(job, 2);
  const auto seconds = [&](Phase phase, double rate) {
    const int p = static_cast<int>(phase);
    return std::max((two[p].flops - one[p].flops) / (rate * card.flops), (two[p].bytes - one[p].bytes) / card.bytes);
  };
  return {seconds(Phase::matmul, 1), seconds(Phase::adapter, 1), seconds(Phase::attention, 0.5),
          seconds(Phase::elementwise, 1)};
}

TEST(Roofline, LittleOfALayerIsNotAProduct) {
  const Job jobs[] = {{"GPT-3 175B, tensor 8, LoRA", 12288, 96, 2048, 1, 8, Method::lora},
                      {"GPT-3 175B, tensor 8, full", 12288, 96, 2048, 1, 8, Method::full},
                      {"7B, one GPU, LoRA", 4096, 32, 2048, 4, 1, Method::lora},
                      {"7B, one GPU, full", 4096, 32, 2048, 4, 1, Method::full}};
  std::printf("%-30s %-6s %9s %9s %9s %9s %9s\n", "layer, forward and backward", "card", "ms", "products", "adapters",
              "attention", "the rest");
  for (const Job& job : jobs)
    for (const Card& card : kCards) {
      const LayerTime t = layer_time(job, card);
      const auto percent = [&](double x) { return 100 * x / t.all(); };
      std::printf("%-30s %-6s %9.3f %8.1f%% %8.1f%% %8.1f%% %8.1f%%\n", job.name, card.name, 1e3 * t.all(),
                  percent(t.products), percent(t.adapters), percent(t.attention), percent(t.rest));
      EXPECT_LT((t.adapters + t.rest) / t.all(), 0.12) << job.name << " on " << card.name;
    }
}

}  // namespace
}  // namespace lorashard::core
