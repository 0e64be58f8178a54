// ranks: 1 2 4
// Merging on every mesh: bits that come back, the same file everywhere, values against plain loops and the golden runs.
#include <gtest/gtest.h>

#include <cmath>

#include "core/adapter_file.hpp"
#include "core/checkpoint.hpp"
#include "core/import.hpp"
#include "core/merge.hpp"
#include "core/merged_file.hpp"
#include "core/residual_file.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/temporary_directory.hpp"
#include "kernels/numbers.hpp"
#include "tests/golden/merge_run.hpp"
#include "tests/oracle/golden.hpp"
#include "tests/oracle/tensor_file.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::MergeCase;
using golden::merge_files;
using golden::merge_job;
using golden::on_mesh;
using golden::on_rank_0;
using golden::scratch;
using kernels::DeviceKind;
using kernels::Failure;

const std::vector<MergeCase> kCases{
    {DType::f32, true}, {DType::bf16, true}, {DType::f32, false}, {DType::bf16, false}, {DType::bf16, true, true}};

// One layer of four heads is not for every mesh.
std::vector<dist::MeshExtents> meshes_for(const MergeCase& c) {
  std::vector<dist::MeshExtents> meshes = golden::meshes_of(runtime().size());
  if (c.many_pieces)
    std::erase_if(meshes, [](const dist::MeshExtents& m) { return m.pipeline > 1 || 4 % m.tensor != 0; });
  return meshes;
}
dist::MeshExtents middle(const std::vector<dist::MeshExtents>& meshes) { return meshes[meshes.size() / 2]; }

class Merging : public testing::TestWithParam<MergeCase> {};

// A hundred times on the meshes that the issue names, and some on the others.
TEST_P(Merging, BitsComeBackOnEveryMesh) {
  for (const dist::MeshExtents& extents : meshes_for(GetParam())) {
    const bool named = extents.data == 1 && (extents.pipeline == 1 || extents.tensor == extents.pipeline);
    const bool often = named && runtime().size() <= 4 && GetParam().joint && !GetParam().many_pieces;
    golden::merge_and_unmerge(GetParam(), extents, often ? 100 : 3, DeviceKind::host);
  }
}

TEST_P(Merging, EveryMeshMakesTheSameFile) {
  const std::string path = scratch() + "/alone.h5";
  const std::string alone = golden::merge_to_file(GetParam(), {1, 1, 1}, path, DeviceKind::host);
  for (const dist::MeshExtents& extents : meshes_for(GetParam())) {
    SCOPED_TRACE(dist::to_string(extents));
    golden::merge_to_file(GetParam(), extents, scratch() + "/together.h5", DeviceKind::host);
    on_rank_0([&] {
      EXPECT_EQ(BaseFile(scratch() + "/together.h5").digest().hex(), alone);
      EXPECT_EQ(bytes_of(scratch() + "/together.h5"), bytes_of(path));
    });
  }
}

std::vector<float> read_whole(const CheckpointReader& reader, const std::string& name, Index rows, Index cols) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  reader.read(name, dist::AxisCut::whole(rows), dist::AxisCut::whole(cols), kernels::view(values.data(), rows, cols));
  return values;
}

oracle::Array read_tensor(const BaseFile& base, const TensorInfo& info) {
  oracle::Array array(info.rows, info.cols);
  const dist::AxisCut rows = info.row_cut(0, 1), cols = info.col_cut(0, 1);
  std::vector<float> wide(array.values.size());
  if (base.dtype(info) == DType::f32) {
    base.read(info, rows, cols, kernels::view(wide.data(), info.rows, info.cols));
  } else {
    std::vector<kernels::bf16> narrow(wide.size());
    base.read(info, rows, cols, kernels::view(narrow.data(), info.rows, info.cols));
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = kernels::to_float(narrow[i]);
  }
  array.values.assign(wide.begin(), wide.end());
  return array;
}

// One element in double, and how far rounding may take it: R + 2 operations in fp32 on terms of that size, one rounding to
// the stored type.
struct Sum {
  double value = 0, terms = 0;
};
using Sums = std::vector<Sum>;

void add_pair(const AdapterSpec& spec, const CheckpointReader& reader, const TensorInfo& info, Sums& sums) {
  const std::vector<float> a = read_whole(reader, spec.a_name(), spec.rank, spec.in);
  const std::vector<float> b = read_whole(reader, spec.b_name(), spec.out, spec.rank);
  const int segment = spec.place.segment;
  Index first = 0;
  for (int s = 0; s < segment; ++s) first += info.segments[s].extent;
  for (Index i = 0; i < spec.out; ++i)
    for (Index j = 0; j < spec.in; ++j) {
      Sum& sum = sums[(first + i) * info.cols + j];
      for (Index k = 0; k < spec.rank; ++k) {
        const double term = spec.alpha / spec.rank * b[i * spec.rank + k] * a[k * spec.in + j];
        sum.value += term;
        sum.terms += std::abs(term);
      }
    }
}

TEST_P(Merging, WeightsAreThoseOfPlainLoops) {
  const std::string path = scratch() + "/merged.h5";
  golden::merge_to_file(GetParam(), middle(meshes_for(GetParam())), path, DeviceKind::host);
  const Config config = merge_job(GetParam(), {1, 1, 1});
  on_rank_0([&] {
    const BaseFile base(config.model.base), merged(path);
    merged.verify();
    ASSERT_TRUE(merged.merged_from().has_value());
    EXPECT_EQ(merged.merged_from()->base, base.digest().hex());
    const CheckpointReader reader(config.adapter.init);
    const TrainingPlan plan = make_plan(config);
    for (const TensorInfo& info : tensor_table(base.shape())) {
      const oracle::Array before = read_tensor(base, info), after = read_tensor(merged, info);
      Sums sums(before.values.size());
      for (const AdapterSpec& spec : plan.adapters)
        if (spec.linear() + ".weight" == info.name)
          add_pair(spec, reader, info, sums);
      const double half_ulp = GetParam().dtype == DType::f32 ? 0x1p-24 : 0x1p-8;  // relative
      for (std::size_t i = 0; i < sums.size(); ++i) {
        if (sums[i].terms == 0) {
          EXPECT_EQ(after.values[i], before.values[i]) << info.name;
          continue;
        }
        const double expected = before.values[i] + sums[i].value, size = std::abs(before.values[i]) + sums[i].terms;
        EXPECT_NEAR(after.values[i], expected, half_ulp * std::abs(expected) + 35 * 0x1p-23 * size) << info.name << " " << i;
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, Merging, testing::ValuesIn(kCases), [](const auto& info) { return title(info.param); });

// Back by a residual, in place and from file to file, on any number of ranks.
TEST(Residual, GivesTheBaseBack) {
  for (const MergeCase& c : kCases) {
    SCOPED_TRACE(title(c));
    const dist::MeshExtents extents = middle(meshes_for(c));
    const Config config = merge_job(c, extents);
    const std::string merged = scratch() + "/m.h5", residual = scratch() + "/r.h5", back = scratch() + "/back.h5";
    on_mesh(extents, [&](kernels::Device& device, dist::Mesh& mesh) {
      Trainer trainer(config, device, mesh);
      trainer.merge();
      trainer.export_merged(merged);
      if (mesh.rank() == 0) write_residual(residual, BaseFile(config.model.base), BaseFile(merged), [] {});
      mesh.world().barrier();
      trainer.unmerge(ResidualFile(residual));  // proves itself
      const Digest base = BaseFile(config.model.base).digest();
      EXPECT_EQ(unmerge_file({merged, "", residual, back}, mesh.world(), device.profile().place()), base);
      EXPECT_EQ(unmerge_file({merged, config.model.base, "", back + "2"}, mesh.world(), device.profile().place()), base);
    });
    on_rank_0([&] {
      const std::string expected = bytes_of(config.model.base);
      EXPECT_EQ(bytes_of(back), expected);
      EXPECT_EQ(bytes_of(back + "2"), expected);
    });
  }
}

// The proof of unmerging is one: bits that are not the base's are found, and named.
TEST(Residual, OfAnotherAdapterIsFoundOut) {
  const MergeCase c{DType::bf16, true};
  const dist::MeshExtents extents = middle(meshes_for(c));
  const std::string merged = scratch() + "/m1.h5", residual = scratch() + "/r1.h5";
  golden::merge_to_file(c, extents, merged, DeviceKind::host);
  on_rank_0([&] { write_residual(residual, BaseFile(merge_files(c).base), BaseFile(merged), [] {}); });
  Config other = merge_job(c, extents);
  other.adapter.init.clear();
  other.optimizer.lr = 1e-2;
  on_mesh(extents, [&](kernels::Device& device, dist::Mesh& mesh) {
    Trainer trainer(other, device, mesh);
    const Dataset data(merge_files(c).rows, other.data.length, Order::sequential, 0);
    trainer.step(data);
    trainer.step(data);
    trainer.merge();
    EXPECT_THROW(trainer.begin(data), kernels::Error);
    expect_refused([&] { trainer.unmerge(ResidualFile(residual)); }, Failure::storage,
                   {"layers.0.attention.qkv.weight", "found digest", "expected", residual});
  });
}

TEST(Residual, DamageIsRefusedAndNothingWritten) {
  const MergeCase c{DType::f32, true};
  const std::string merged = scratch() + "/m2.h5", residual = scratch() + "/r2.h5", bad = scratch() + "/bad.h5";
  golden::merge_to_file(c, {1, 1, 1}, merged, DeviceKind::host);
  on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    write_residual(residual, BaseFile(merge_files(c).base), BaseFile(merged), [] {});
    const std::string good = bytes_of(residual), to = scratch() + "/never.h5";
    int refused = 0;
    for (std::size_t sixteenth = 1; sixteenth < 16; ++sixteenth) {
      std::string content = good;
      content.at(content.find_first_not_of('\0', content.size() * sixteenth / 16)) ^= 0x10;
      put_bytes(bad, content);
      expect_refused([&] { unmerge_file({merged, "", bad, to}, mesh.world(), device.profile().place()); }, Failure::storage,
                     {bad});
      EXPECT_FALSE(std::filesystem::exists(to));
      EXPECT_FALSE(std::filesystem::exists(to + ".partial"));
      ++refused;
    }
    EXPECT_EQ(refused, 15);
  });
}

// Planning is running: no storage, and no byte of device memory more than before.
TEST(MergeOnMeta, TakesNoMemory) {
  const Config config = merge_job({DType::bf16, true}, {1, 1, 1});
  for (const DeviceKind target : {DeviceKind::host, DeviceKind::cuda})
    on_mesh({1, 1, 1}, [&](kernels::Device&, dist::Mesh&) {
      const auto device = kernels::make_meta_device(target);
      dist::Mesh mesh = dist::make_meta_mesh(*device, {1, 1, 1}, 0);
      Trainer trainer(config, *device, mesh);
      const Index held = device->ledger().current_bytes(), peak = device->ledger().peak_bytes();
      trainer.merge();
      trainer.unmerge();
      EXPECT_EQ(device->ledger().current_bytes(), held);
      EXPECT_EQ(device->ledger().peak_bytes(), peak);
    });
}

// The merged weights that the public implementation made of the same adapters, in double.
TEST(MergeGolden, WeightsAreTheReferences) {
  const auto root = oracle::golden_folder();
  if (!root) GTEST_SKIP() << oracle::kNoGolden;
  const std::string base_path = scratch() + "/golden.h5", path = scratch() + "/golden_merged.h5";
  on_rank_0([&] { import_base(*root + "/gpt2/base", base_path, DType::f32); });
  for (const std::string run : {"lora_all", "lora_some"})
    for (const dist::MeshExtents& extents : golden::meshes_of(runtime().size())) {
      if (extents.pipeline > 4) continue;  // layers
      SCOPED_TRACE(run + " on " + dist::to_string(extents));
      const std::string folder = *root + "/gpt2/" + run;
      Config config;
      config.model.base = base_path;
      config.model.shape = BaseFile(base_path).shape();
      if (config.model.shape.heads % extents.tensor != 0) continue;
      config.adapter.init = folder + "/adapter";
      config.data.length = 16;
      config.train.batch = extents.data;
      on_mesh(extents, [&](kernels::Device& device, dist::Mesh& mesh) {
        Trainer trainer(config, device, mesh);
        const MergeRounding& rounding = trainer.merge();
        EXPECT_GT(rounding.largest, 0);
        EXPECT_LE(rounding.largest_ulps, 0.5);
        trainer.export_merged(path);
      });
      on_rank_0([&] {
        const auto expected = oracle::translated(oracle::read_tensor_file(folder + "/merged.safetensors"));
        EXPECT_EQ(expected.size(), run == "lora_all" ? 16u : 8u);
        const BaseFile merged(path);
        for (const auto& [name, array] : expected) {
          const oracle::Array found = read_tensor(merged, find(tensor_table(merged.shape()), name));
          // fp32 adapters and weights on both sides; the reference's sums are double.
          EXPECT_LE(largest_difference(found, array), 1e-6) << name;
        }
      });
    }
}

}  // namespace
}  // namespace lorashard::core
