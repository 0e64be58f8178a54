#include "tests/golden/ledger_run.hpp"

#include <gtest/gtest.h>

#include <array>
#include <sstream>

#include "core/base_file.hpp"
#include "core/family.hpp"

namespace lorashard::golden {
namespace {

constexpr core::Index kLength = 16, kVocab = 101, kDocuments = 36;

struct Files {
  std::string gpt2, llama, tokens;
  const std::string& base(const std::string& family) const { return family == "llama" ? llama : gpt2; }
};

// Collective.
const Files& files() {
  static const Files made = [] {
    Files f{scratch() + "/ledger_gpt2.h5", scratch() + "/ledger_llama.h5", scratch() + "/ledger_tokens.h5"};
    oracle::Shape shape{.layers = 4, .width = 48, .heads = 6, .ffn = 192, .vocab = kVocab, .context = 32};
    on_rank_0([&] {
      write_base(f.gpt2, oracle::random_model(shape, 1));
      // Every tensor that a member of the family has.
      shape.family = "llama", shape.tied_head = false;
      shape.kv_heads = 2, shape.head_size = 12, shape.qkv_bias = shape.qk_norm = true, shape.window = 5;
      write_base(f.llama, oracle::random_model(shape, 1));
      write_tokens(f.tokens, random_documents(kDocuments, kLength, kVocab, 2), kVocab);
    });
    return f;
  }();
  return made;
}

// What the golden runs train, without their files.
void set_training(const std::string& run, core::Config& config) {
  using core::Target;
  core::AdapterConfig& a = config.adapter;
  a.rank = 4;
  if (run == "full") a.method = core::Method::full;
  if (run == "lora_all") a.targets = core::family_of(config.model.shape).targets;
  if (run == "lora_qv") a.targets = {Target::q, Target::v}, a.dropout = 0.1;
  if (run == "lora_some") {
    a.targets = {Target::o, Target::up}, a.layers = {1, 2};
    a.rank_of[Target::o] = core::kFullRank;
  }
}

core::Config config_of(const GoldenCase& c, kernels::DType precision) {
  core::Config config = modes_of(c);
  config.model.base = files().base(c.family);
  config.model.shape = core::BaseFile(config.model.base).shape();
  set_training(c.run, config);
  config.data.length = kLength;
  config.train.batch = c.mesh.data == 5 ? 10 : 12;
  config.train.steps = 4;
  config.train.precision = precision;
  config.run.norms_every = 2;  // the second of the two steps
  return config;
}

// The books of a device, as text, so that a difference reads well.
std::vector<std::string> books(kernels::Device& device, const std::string& when) {
  std::vector<std::string> lines;
  for (int i = 0; i < kernels::kCategoryCount; ++i) {
    const auto category = static_cast<kernels::Category>(i);
    lines.push_back(kernels::text(when, ": ", kernels::name(category), " now ", device.ledger().current_bytes(category),
                                  ", peak ", device.ledger().peak_bytes(category)));
  }
  for (int i = 0; i < kernels::kActivationKindCount; ++i) {
    const auto kind = static_cast<kernels::ActivationKind>(i);
    lines.push_back(kernels::text(when, ": activations, ", kernels::name(kind), " ", device.ledger().peak_bytes(kind)));
  }
  lines.push_back(kernels::text(when, ": all now ", device.ledger().current_bytes(), ", peak ",
                                device.ledger().peak_bytes(), ", host copy ", device.ledger().largest_host_copy()));
  for (int i = 0; i < kernels::kPhaseCount; ++i) {
    const auto phase = static_cast<kernels::Phase>(i);
    const kernels::Profile::Entry& e = device.profile().entry(phase);
    std::ostringstream line;
    line.precision(17);
    line << when << ": " << kernels::name(phase) << " flops " << e.flops << ", bytes " << e.bytes << ", sent "
         << e.sent_bytes << ", calls " << e.calls;
    lines.push_back(line.str());
  }
  return lines;
}

// Construction, two steps, an evaluation, the end.
std::vector<std::string> books_of_a_job(const core::Config& config, const std::string& tokens, kernels::Device& device,
                                        dist::Mesh& mesh) {
  std::vector<std::string> all;
  std::array<core::Index, kernels::kCategoryCount> before;  // what the device keeps for itself
  for (int i = 0; i < kernels::kCategoryCount; ++i)
    before[i] = device.ledger().current_bytes(static_cast<kernels::Category>(i));
  const auto note = [&](const char* when) {
    for (std::string& line : books(device, when)) all.push_back(std::move(line));
  };
  {
    const core::Dataset data(tokens, config.data.length, core::Order::shuffled, 1);
    core::Trainer trainer(config, device, mesh);
    note("made");
    trainer.step(data);
    note("step 0");
    trainer.step(data);
    note("step 1");
    trainer.evaluate(data);
    note("evaluated");
  }
  note("ended");
  for (int i = 0; i < kernels::kCategoryCount; ++i)
    EXPECT_EQ(device.ledger().current_bytes(static_cast<kernels::Category>(i)), before[i]) << "bytes left behind";
  return all;
}

}  // namespace

void expect_plan_is_run(const core::Config& config, const dist::MeshExtents& extents, const std::string& tokens,
                        kernels::DeviceKind kind) {
  const auto body = [&](kernels::Device& device, dist::Mesh& mesh) {
    const std::vector<std::string> run = books_of_a_job(config, tokens, device, mesh);
    const std::unique_ptr<kernels::Device> meta = kernels::make_meta_device(kind);
    dist::Mesh planned = dist::make_meta_mesh(*meta, extents, mesh.rank());
    core::Config plan = config;
    plan.device.kind = kernels::DeviceKind::meta;
    const std::vector<std::string> expected = books_of_a_job(plan, tokens, *meta, planned);
    ASSERT_EQ(run.size(), expected.size());
    for (std::size_t i = 0; i < run.size(); ++i) EXPECT_EQ(run[i], expected[i]) << "(the run's line, the plan's line)";
    EXPECT_GT(device.ledger().peak_bytes(kernels::Category::activation), 0);
    EXPECT_EQ(device.ledger().largest_host_copy() > 0, kind == kernels::DeviceKind::cuda);
    EXPECT_GT(device.profile().entry(kernels::Phase::matmul).flops, 0);
    double sent = 0;
    for (int i = 0; i < kernels::kPhaseCount; ++i)
      sent += device.profile().entry(static_cast<kernels::Phase>(i)).sent_bytes;
    EXPECT_EQ(sent > 0, extents.ranks() > 1);
  };
  on_mesh(extents, body, kind);
}

void expect_plan_is_run(const GoldenCase& c, kernels::DType precision, kernels::DeviceKind kind) {
  expect_plan_is_run(config_of(c, precision), c.mesh, files().tokens, kind);
}

}  // namespace lorashard::golden
