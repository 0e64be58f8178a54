// ranks: 1 2
// A step whose loss is not finite is named although the next one was begun, neither changes anything, and the trainer
// goes on from a checkpoint as if it had not happened. On host and cuda, on every mesh.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>

#include "core/base_file.hpp"
#include "core/checkpoint.hpp"
#include "tests/golden/trial.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::scratch;
using kernels::DeviceKind;

// The embedding of one token is NaN, and only the second batch has that token: the step after it is finite by itself.
constexpr oracle::Shape kShape{
    .layers = 2, .width = 16, .heads = 2, .ffn = 24, .vocab = 29, .context = 9, .tied_head = false};
constexpr Index kLength = 5, kBatch = 2, kPoison = 28, kDocuments = 3 * kBatch;

struct Files {
  std::string base, tokens;
};

// Collective.
const Files& files() {
  static const Files made = [] {
    Files f{scratch() + "/halted_base.h5", scratch() + "/halted_tokens.h5"};
    golden::on_rank_0([&] {
      oracle::Model model = oracle::random_model(kShape, 1);
      model.token(kPoison, 3) = std::nan("");
      golden::write_base(f.base, model);
      std::vector<golden::Document> documents = golden::random_documents(kDocuments, kLength, kPoison, 3);
      documents[kBatch].ids[2] = kPoison;
      golden::write_tokens(f.tokens, documents, kShape.vocab);
    });
    return f;
  }();
  return made;
}

Config config_of(Method method, const dist::MeshExtents& extents) {
  Config config;
  config.model.base = files().base;
  config.model.shape = BaseFile(config.model.base).shape();
  config.adapter.method = method;
  config.adapter.targets = {Target::qkv, Target::o, Target::up, Target::down};
  config.data.length = kLength;
  config.train.steps = 4;
  config.train.batch = kBatch;
  config.optimizer.lr = 1e-2;
  config.mesh.tensor = extents.tensor;
  config.mesh.pipeline = extents.pipeline;
  config.device.threads = 1;
  return config;
}

// The bits of the values and moments that a trainer holds. Collective.
std::vector<std::uint32_t> state_of(const Trainer& trainer) {
  const std::string path = scratch() + "/halted_now.h5";
  trainer.save(path);
  const CheckpointReader reader(path);
  std::vector<std::uint32_t> all;
  for (const CheckpointEntry& entry : reader.entries()) {
    std::vector<float> values(entry.rows * entry.cols);
    reader.read(entry.name, dist::AxisCut::whole(entry.rows), dist::AxisCut::whole(entry.cols),
                kernels::view(values.data(), entry.rows, entry.cols));
    for (const float value : values) all.push_back(std::bit_cast<std::uint32_t>(value));
  }
  return all;
}

void expect_halt(Trainer& trainer) {
  try {
    trainer.finish();
    ADD_FAILURE() << "no error";
  } catch (const kernels::Error& error) {
    EXPECT_EQ(error.failure(), kernels::Failure::numerics);
    EXPECT_NE(std::string(error.what()).find("step 1: found loss "), std::string::npos) << error.what();
  }
}

void halt_and_go_on(const Config& config, kernels::Device& device, dist::Mesh& mesh) {
  const Dataset data(files().tokens, kLength, Order::sequential, 1);
  const std::string start = scratch() + "/halted_start.h5";
  Trainer trainer(config, device, mesh);
  trainer.save(start);
  const StepReport first = trainer.step(data);
  const std::vector<std::uint32_t> after_first = state_of(trainer);
  trainer.begin(data);
  trainer.begin(data);
  expect_halt(trainer);
  EXPECT_EQ(trainer.steps_done(), 1);
  EXPECT_EQ(trainer.under_way(), 0);
  EXPECT_TRUE(state_of(trainer) == after_first) << "a step that is not finite changed something";

  trainer.load(start);
  const StepReport again = trainer.step(data);
  EXPECT_EQ(again.loss, first.loss);
  EXPECT_EQ(again.grad_norm, first.grad_norm);
  EXPECT_TRUE(state_of(trainer) == after_first) << "the step after a load was not taken";
}

class Halted : public testing::TestWithParam<Method> {};

TEST_P(Halted, ChangesNothing) {
  const int ranks = runtime().size(), gpus = kernels::cuda_device_count();
  for (const dist::MeshExtents& extents : golden::meshes_of(ranks)) {
    const Config config = config_of(GetParam(), extents);
    SCOPED_TRACE(golden::test_name(extents, config));
    const auto body = [&](auto& device, auto& mesh) { halt_and_go_on(config, device, mesh); };
    golden::on_mesh(extents, body);
    // NCCL wants a GPU for each rank of a host; ranks that call their host by names of their own may share one.
    if (gpus >= ranks || (gpus > 0 && std::getenv("NCCL_HOSTID"))) golden::on_mesh(extents, body, DeviceKind::cuda);
  }
  if (gpus == 0) GTEST_SKIP() << "on the host alone: no GPU here; " << kernels::cuda_build();
}
INSTANTIATE_TEST_SUITE_P(Gpt2, Halted, testing::Values(Method::lora, Method::full),
                         [](const auto& info) { return info.param == Method::full ? "full" : "lora"; });

}  // namespace
}  // namespace lorashard::core
