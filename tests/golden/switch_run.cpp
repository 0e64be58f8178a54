#include "tests/golden/switch_run.hpp"

#include <gtest/gtest.h>

#include "core/base_file.hpp"
#include "core/export.hpp"
#include "core/inference.hpp"

namespace lorashard::golden {
namespace {

using core::Inference;
using core::Target;

constexpr Index kLength = 7, kVocab = 53, kDocuments = 4;
constexpr oracle::Shape kShape{.layers = 3, .width = 24, .heads = 12, .ffn = 36, .vocab = kVocab, .context = kLength};

core::AdapterConfig adapter_number(int i) {
  core::AdapterConfig adapter;
  adapter.alpha = 5;
  adapter.seed = static_cast<std::uint64_t>(i + 1);
  if (i < 2) {  // alike but for the values
    adapter.rank = 3;
    adapter.targets = {Target::qkv, Target::down};
  } else {
    adapter.rank = 2;
    adapter.targets = {Target::q, Target::v, Target::o, Target::up};
    adapter.rank_of = {{Target::v, 5}};
    adapter.layers = {1, 2};  // a stage of the first layer alone has none
  }
  return adapter;
}

void train(const SwitchFiles& files, int i) {
  on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    core::Config config = switch_job({1, 1, 1}, "");
    config.adapter = adapter_number(i);
    config.train.steps = 3;
    config.train.batch = 2;
    config.optimizer.lr = 3e-2;
    core::Trainer trainer(config, device, mesh);
    const core::Dataset data(files.rows, kLength, core::Order::sequential, 0);
    for (int step = 0; step < 3; ++step) trainer.step(data);
    trainer.save(files.adapters[static_cast<std::size_t>(i)]);
  });
}

// What a model answers: losses of all rows, then the logits behind a prompt.
std::vector<float> answers_of(Inference& model) {
  const core::Dataset data(switch_files().rows, kLength, core::Order::sequential, 0);
  std::vector<float> answers = model.losses(data.in_order(0, kDocuments), kLength);
  model.reserve(1, kLength);
  const std::vector<float> logits = model.prompt(0, std::vector<std::int32_t>{5, 40, 2});
  answers.insert(answers.end(), logits.begin(), logits.end());
  return answers;
}

}  // namespace

const SwitchFiles& switch_files() {
  static SwitchFiles files;
  if (!files.base.empty()) return files;
  files = {scratch() + "/switch.h5", scratch() + "/switch_other.h5", scratch() + "/switch_rows.h5", {}};
  for (const char* name : {"/one.h5", "/two.h5", "/three.h5", "/peft"}) files.adapters.push_back(scratch() + name);
  on_rank_0([&] {
    write_base(files.base, oracle::random_model(kShape, 7));
    write_base(files.other_base, oracle::random_model(kShape, 8));
    write_tokens(files.rows, random_documents(kDocuments, kLength, kVocab, 3), kVocab);
  });
  for (int i = 0; i < 3; ++i) train(files, i);
  on_rank_0([&] { core::export_adapter(files.adapters[0], files.base, files.adapters[3]); });
  return files;
}

core::Config switch_job(const dist::MeshExtents& mesh, const std::string& adapter) {
  core::Config config;
  config.model.base = switch_files().base;
  config.model.shape = core::BaseFile(config.model.base).shape();
  config.adapter.init = adapter;
  config.data.length = kLength;
  config.mesh.tensor = mesh.tensor;
  config.mesh.pipeline = mesh.pipeline;
  config.device.threads = 1;
  return config;
}

void take_turns(const dist::MeshExtents& extents, kernels::DeviceKind kind) {
  const SwitchFiles& files = switch_files();
  on_mesh(
      extents,
      [&](kernels::Device& device, dist::Mesh& mesh) {
        std::map<std::string, std::vector<float>> alone;
        for (const std::string& adapter : files.adapters) {
          Inference model(switch_job(extents, adapter), device, mesh);
          alone[adapter] = answers_of(model);
        }
        Inference bare(switch_job(extents, ""), device, mesh);
        alone[""] = answers_of(bare);
        EXPECT_NE(alone[files.adapters[0]], alone[""]);
        EXPECT_NE(alone[files.adapters[0]], alone[files.adapters[1]]);
        EXPECT_EQ(alone[files.adapters[0]], alone[files.adapters[3]]);  // the same in PEFT's files

        Inference all(switch_job(extents, ""), device, mesh, Index{1} << 20);
        for (int i = 0; i < 3; ++i) all.use_adapter(files.adapters[static_cast<std::size_t>(i)]);
        EXPECT_EQ(all.held().count(), 3);
        const Index room = all.held().bytes() - 1;

        Inference model(switch_job(extents, ""), device, mesh, room);
        const auto turn = [&](const std::string& adapter) {
          model.use_adapter(adapter);
          EXPECT_EQ(answers_of(model), alone.at(adapter)) << adapter;
          EXPECT_LE(model.held().bytes(), room);
        };
        const auto& [one, two, three, peft] =
            std::tie(files.adapters[0], files.adapters[1], files.adapters[2], files.adapters[3]);
        turn("");
        for (const std::string* adapter : {&one, &two, &one, &three}) turn(*adapter);  // two was used longest ago
        EXPECT_EQ(model.switch_cost().read, 3);
        EXPECT_EQ(model.held().let_go(), 1);
        for (const std::string* adapter : {&one, &three, &three}) turn(*adapter);  // both are still there
        EXPECT_EQ(model.switch_cost().read, 3);
        EXPECT_EQ(model.switch_cost().switches, 6);
        turn("");
        turn(three);  // which is on the device all the time
        EXPECT_EQ(model.switch_cost().switches, 6);
        turn(two);
        EXPECT_EQ(model.switch_cost().read, 4);
        turn(peft);
        turn(one);
      },
      kind);
}

}  // namespace lorashard::golden
