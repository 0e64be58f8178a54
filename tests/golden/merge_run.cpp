#include "tests/golden/merge_run.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "core/logit_change.hpp"
#include "core/merge.hpp"
#include "core/residual_file.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::golden {
namespace {

using core::Target;
using kernels::DType;
using kernels::text;

constexpr Index kLength = 7, kVocab = 53, kDocuments = 5;

oracle::Shape shape_for(const MergeCase& c) {
  if (c.many_pieces) return {.layers = 1, .width = 512, .heads = 4, .ffn = 2304, .vocab = kVocab, .context = kLength};
  return {.layers = 6, .width = 24, .heads = 12, .ffn = 36, .vocab = kVocab, .context = kLength};
}

void round_base(const std::string& from, const std::string& to) {
  const core::BaseFile base(from);
  const auto device = kernels::make_host_device(1);
  const auto alone = dist::make_meta_communicator(*device, "alone", 0, 1);
  core::BaseFileWriter writer(to, base.shape(), DType::bf16, *alone);
  for (const core::TensorInfo& info : core::tensor_table(base.shape())) {
    const dist::AxisCut rows = info.row_cut(0, 1), cols = info.col_cut(0, 1);
    std::vector<float> values(static_cast<std::size_t>(info.rows * info.cols));
    base.read(info, rows, cols, kernels::view(values.data(), info.rows, info.cols));
    std::vector<kernels::bf16> rounded(values.size());
    std::transform(values.begin(), values.end(), rounded.begin(), kernels::to_bf16);
    writer.write(info, rows, cols, kernels::view(rounded.data(), info.rows, info.cols));
  }
  writer.finish();
}

void set_adapter(const MergeCase& c, core::AdapterConfig& adapter) {
  adapter.rank = 3;
  adapter.alpha = 5;  // a scale that is no power of two
  if (c.joint) {
    adapter.targets = {Target::qkv, Target::o, Target::up, Target::down};
  } else {
    adapter.targets = {Target::q, Target::k, Target::v, Target::down};
    adapter.rank_of = {{Target::k, 1}, {Target::down, 33}};
    adapter.layers = {1, 4};
  }
}

void make_files(const MergeCase& c, const MergeFiles& files) {
  const std::string plain = files.base + ".fp32";
  write_base(plain, oracle::random_model(shape_for(c), 7));
  if (c.dtype == DType::bf16)
    round_base(plain, files.base);
  else
    std::filesystem::rename(plain, files.base);
  write_tokens(files.rows, random_documents(kDocuments, kLength, kVocab, 3), kVocab);
}

core::Config plain_job(const MergeCase& c, const MergeFiles& files, const dist::MeshExtents& mesh) {
  core::Config config;
  config.model.base = files.base;
  config.model.shape = core::BaseFile(files.base).shape();
  config.data.length = kLength;
  config.train.steps = 3;
  config.train.batch = 2 * mesh.data;
  config.train.precision = c.dtype;
  config.optimizer.lr = 3e-2;
  config.mesh.tensor = mesh.tensor;
  config.mesh.pipeline = mesh.pipeline;
  config.mesh.sequence_parallel = mesh.tensor > 1;
  config.device.threads = 1;
  set_adapter(c, config.adapter);
  return config;
}

// What the three states of a model answer, and what merging lost.
struct Answers {
  double beside = 0, merged = 0, base = 0, largest_change = 0;
};

Answers answers_of(core::Trainer& trainer, const core::Dataset& rows, kernels::Device& device, dist::Mesh& mesh) {
  Answers a;
  core::LogitChange change(device);
  trainer.skip_adapters(true);
  a.base = trainer.evaluate(rows).loss;
  trainer.skip_adapters(false);
  a.beside = trainer.evaluate(rows, &change).loss;
  trainer.merge();
  change.compare();
  a.merged = trainer.evaluate(rows, &change).loss;
  a.largest_change = change.largest(mesh.world());
  return a;
}

}  // namespace

std::string title(const MergeCase& c) {
  return text(kernels::name(c.dtype), c.joint ? "_joint" : "_apart", c.many_pieces ? "_pieces" : "");
}

const MergeFiles& merge_files(const MergeCase& c) {
  static std::map<std::string, MergeFiles> made;
  const auto found = made.find(title(c));
  if (found != made.end()) return found->second;
  const std::string path = scratch() + "/" + title(c);
  const MergeFiles files{path + ".h5", path + "_adapter.h5", path + "_rows.h5"};
  on_rank_0([&] { make_files(c, files); });
  on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    core::Trainer trainer(plain_job(c, files, {1, 1, 1}), device, mesh);
    const core::Dataset data(files.rows, kLength, core::Order::sequential, 0);
    for (int step = 0; step < 3; ++step) trainer.step(data);
    trainer.save(files.adapter);
  });
  return made[title(c)] = files;
}

core::Config merge_job(const MergeCase& c, const dist::MeshExtents& mesh) {
  const MergeFiles& files = merge_files(c);
  core::Config config = plain_job(c, files, mesh);
  config.adapter.init = files.adapter;
  return config;
}

void merge_and_unmerge(const MergeCase& c, const dist::MeshExtents& extents, int times, kernels::DeviceKind kind) {
  SCOPED_TRACE(text(title(c), " on ", dist::to_string(extents)));
  const core::Config config = merge_job(c, extents);
  on_mesh(
      extents,
      [&](kernels::Device& device, dist::Mesh& mesh) {
        const core::Dataset rows(merge_files(c).rows, kLength, core::Order::sequential, 0);
        core::Trainer trainer(config, device, mesh);
        const Answers first = answers_of(trainer, rows, device, mesh);
        const std::string path = scratch() + "/times.h5";
        const core::Digest merged = trainer.export_merged(path);
        trainer.unmerge();
        for (int i = 2; i < times; ++i) {
          trainer.merge();
          trainer.unmerge();  // proves itself
        }
        const Answers last = answers_of(trainer, rows, device, mesh);
        EXPECT_EQ(trainer.export_merged(path), merged);
        trainer.unmerge();
        EXPECT_EQ(last.base, first.base);
        EXPECT_EQ(last.beside, first.beside);
        EXPECT_EQ(last.merged, first.merged);
        EXPECT_EQ(last.largest_change, first.largest_change);
        EXPECT_NE(first.base, first.beside);  // the adapter does something
        EXPECT_NE(merged, core::BaseFile(config.model.base).digest());
        // Merging changes answers by its rounding alone: far less than the adapter did.
        const double adapted = std::abs(first.beside - first.base);
        EXPECT_LT(std::abs(first.merged - first.beside), (c.dtype == DType::f32 ? 1e-4 : 0.2) * adapted);
        EXPECT_GT(first.largest_change, 0);
      },
      kind);
}

std::string merge_to_file(const MergeCase& c, const dist::MeshExtents& extents, const std::string& path,
                          kernels::DeviceKind kind) {
  const core::Config config = merge_job(c, extents);
  std::string digest;
  on_mesh(
      extents,
      [&](kernels::Device& device, dist::Mesh& mesh) {
        core::Trainer trainer(config, device, mesh);
        trainer.merge();
        digest = trainer.export_merged(path).hex();
      },
      kind);
  return digest;
}

}  // namespace lorashard::golden
