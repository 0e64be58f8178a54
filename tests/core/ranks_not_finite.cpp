// A step that is not finite is searched: the first tensor that was not, and where in the batch, the same answer on every
// rank of every mesh. And it can be left out.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base_file.hpp"
#include "tests/golden/trial.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::scratch;

constexpr oracle::Shape kShape{
    .layers = 3, .width = 16, .heads = 2, .ffn = 24, .vocab = 29, .context = 9, .tied_head = false};
constexpr Index kLength = 5, kBatch = 4, kPoison = 28;

enum class Where { embedding, middle_layer, head };

// A base whose weights are poisoned in one place, and tokens of which only sequence 3 of the second batch has kPoison.
std::string base_of(Where where) {
  const std::string path = scratch() + "/poisoned.h5";
  golden::on_rank_0([&] {
    oracle::Model model = oracle::random_model(kShape, 1);
    if (where == Where::embedding) model.token(kPoison, 3) = std::nan("");
    if (where == Where::middle_layer) model.blocks[1].up_bias(0, 7) = std::numeric_limits<double>::infinity();
    if (where == Where::head) model.head(4, 2) = -std::numeric_limits<double>::infinity();
    golden::write_base(path, model);
  });
  return path;
}

const std::string& tokens() {
  static const std::string path = [] {
    const std::string made = scratch() + "/poisoned_tokens.h5";
    golden::on_rank_0([&] {
      std::vector<golden::Document> documents = golden::random_documents(3 * kBatch, kLength, kPoison, 3);
      documents[kBatch + 3].ids[2] = kPoison;
      golden::write_tokens(made, documents, kShape.vocab);
    });
    return made;
  }();
  return path;
}

Config config_of(const std::string& base, Method method, const dist::MeshExtents& extents) {
  Config config;
  config.model.base = base;
  config.model.shape = BaseFile(base).shape();
  config.adapter.method = method;
  config.data.length = kLength;
  config.train.steps = 3;
  config.train.batch = kBatch;
  config.train.microbatch = 1;
  config.optimizer.lr = 1e-2;
  config.mesh.tensor = extents.tensor;
  config.mesh.pipeline = extents.pipeline;
  config.mesh.sequence_parallel = extents.tensor > 1;
  config.device.threads = 1;
  return config;
}

// body(trainer, data) on every mesh of this job's ranks that the batch divides.
void on_every_mesh(Where where, Method method, const std::function<void(Trainer&, const Dataset&)>& body) {
  const std::string base = base_of(where);
  for (const dist::MeshExtents& extents : golden::meshes_of(runtime().size())) {
    if (kBatch % extents.data != 0 || extents.tensor > 2 || extents.pipeline > 3) continue;
    const Config config = config_of(base, method, extents);
    SCOPED_TRACE(golden::test_name(extents, config));
    const Dataset data(tokens(), kLength, Order::sequential, 1);
    golden::on_mesh(extents, [&](auto& device, auto& mesh) {
      Trainer trainer(config, device, mesh);
      body(trainer, data);
    });
  }
}

// Microbatches have one sequence; sequence 3 of four is the last of the last data rank, so its number depends on the
// mesh.
void expect_starts_and_has(const std::string& words, const std::string& start, const std::string& part) {
  EXPECT_TRUE(words.starts_with(start)) << words;
  EXPECT_NE(words.find(part), std::string::npos) << words;
}

class NotFiniteSteps : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(Gpt2, NotFiniteSteps, testing::Values(Method::lora, Method::full),
                         [](const auto& info) { return info.param == Method::full ? "full" : "lora"; });

TEST_P(NotFiniteSteps, TheFirstTensorIsNamedAndTheStepLeftOut) {
  on_every_mesh(Where::embedding, GetParam(), [](Trainer& trainer, const Dataset& data) {
    trainer.step(data);
    EXPECT_THROW(trainer.step(data), NotFinite);
    const FirstNotFinite::Place place = trainer.find_not_finite(data);
    if (GetParam() == Method::lora) {
      expect_starts_and_has(place.words, "embedding, forward of microbatch ",
                            ": found nan at sequence 3 of the batch, position 2, column 3");
      EXPECT_FALSE(place.in_state);
    } else {  // the table itself is trained
      expect_starts_and_has(place.words, "embedding.token, before the step: found nan at row ", ", column ");
      EXPECT_TRUE(place.in_state);
    }
    EXPECT_EQ(trainer.steps_done(), 1);
    trainer.skip_step();
    EXPECT_EQ(trainer.steps_done(), 2);
    const StepReport third = trainer.step(data);
    EXPECT_EQ(third.step, 2);
    EXPECT_TRUE(std::isfinite(third.loss));
  });
}

TEST(NotFiniteSteps, ALayerInTheMiddle) {
  on_every_mesh(Where::middle_layer, Method::lora, [](Trainer& trainer, const Dataset& data) {
    EXPECT_THROW(trainer.step(data), NotFinite);
    expect_starts_and_has(trainer.find_not_finite(data).words, "layers.1.mlp.up, forward of microbatch 0: found inf at ",
                          " of the batch, position 0, column ");
  });
}

TEST(NotFiniteSteps, TheHead) {
  on_every_mesh(Where::head, Method::lora, [](Trainer& trainer, const Dataset& data) {
    EXPECT_THROW(trainer.step(data), NotFinite);
    expect_starts_and_has(trainer.find_not_finite(data).words, "logits, forward of microbatch 0: found ",
                          " of the batch, position 0, column ");
  });
}

// Nothing is found where nothing is wrong, and nothing is changed by looking.
TEST(NotFiniteSteps, ALookAtAFiniteStep) {
  on_every_mesh(Where::embedding, Method::lora, [](Trainer& trainer, const Dataset& data) {
    EXPECT_EQ(trainer.find_not_finite(data).words, "");
    EXPECT_EQ(trainer.steps_done(), 0);
    const StepReport first = trainer.step(data);
    EXPECT_TRUE(std::isfinite(first.loss));
  });
}

}  // namespace
}  // namespace lorashard::core
