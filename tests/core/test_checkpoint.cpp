#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "core/checkpoint.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/limited_file_size.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::Failure;

const std::vector<CheckpointEntry> kEntries = {{"layers.3.attention.qkv.q.lora_b", 12, 4},
                                               {"layers.3.attention.qkv.q.lora_a", 4, 6},
                                               {"layers.3.attention.qkv.q.lora_a/first_moment", 4, 6},
                                               {"layers.3.attention.qkv.q.lora_a/second_moment", 4, 6},
                                               {"layers.10.mlp.up.lora_a", 1, 1}};

CheckpointInfo sample_info() { return {17, "lora", "train.steps = 20\nadapter.rank = 4\n", Digest{1, 2}.hex()}; }

std::vector<float> values_of(const CheckpointEntry& entry) {
  std::vector<float> values(static_cast<std::size_t>(entry.rows * entry.cols));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(entry.name.size() * 10 + i);
  return values;
}

class CheckpointTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const CheckpointInfo& info = sample_info()) {
    const std::string path = directory_ / name;
    CheckpointWriter writer(path, info, kEntries, *alone_);
    for (const CheckpointEntry& entry : kEntries) write(writer, entry);
    bytes_ = writer.finish();
    return path;
  }
  static void write(CheckpointWriter& writer, const CheckpointEntry& entry) {
    const auto values = values_of(entry);
    writer.write(entry.name, AxisCut::whole(entry.rows), AxisCut::whole(entry.cols),
                 kernels::view(values.data(), entry.rows, entry.cols));
  }

  TemporaryDirectory directory_;
  std::unique_ptr<kernels::Device> device_ = kernels::make_meta_device();
  std::unique_ptr<dist::Communicator> alone_ = dist::make_meta_communicator(*device_, "world", 0, 1);
  Index bytes_ = 0;
};

TEST_F(CheckpointTest, KeepsEverything) {
  const std::string path = write("c.h5");
  EXPECT_EQ(bytes_, static_cast<Index>(bytes_of(path).size()));
  EXPECT_EQ(directory_.entries(), 1u);
  const CheckpointReader reader(path);
  EXPECT_EQ(reader.info().step, 17);
  EXPECT_EQ(reader.info().method, "lora");
  EXPECT_EQ(reader.info().config, sample_info().config);
  EXPECT_EQ(reader.info().base_digest, sample_info().base_digest);
  ASSERT_EQ(reader.entries().size(), kEntries.size());
  for (const CheckpointEntry& entry : kEntries) {
    EXPECT_TRUE(reader.has(entry.name));
    std::vector<float> values(static_cast<std::size_t>(entry.rows * entry.cols));
    reader.read(entry.name, AxisCut::whole(entry.rows), AxisCut::whole(entry.cols),
                kernels::view(values.data(), entry.rows, entry.cols));
    EXPECT_EQ(values, values_of(entry)) << entry.name;
  }
  reader.verify();
  EXPECT_TRUE(std::is_sorted(reader.entries().begin(), reader.entries().end(),
                             [](const auto& a, const auto& b) { return a.name < b.name; }));
}

TEST_F(CheckpointTest, AMissingTensorOrOtherExtentsAreNamed) {
  const CheckpointReader reader(write("c.h5"));
  std::vector<float> values(64);
  EXPECT_FALSE(reader.has("layers.10.mlp.up.lora_a/first_moment"));
  expect_refused(
      [&] { reader.read("layers.9.x", AxisCut::whole(1), AxisCut::whole(1), kernels::view(values.data(), 1, 1)); },
      Failure::storage, {reader.path(), "'layers.9.x' is missing"});
  expect_refused(
      [&] {
        reader.read(kEntries[0].name, AxisCut::whole(4), AxisCut::whole(12), kernels::view(values.data(), 4, 12));
      },
      Failure::storage, {reader.path(), kEntries[0].name, "found 12x4, expected 4x12"});
}

TEST_F(CheckpointTest, TheSameStateIsTheSameBytes) {
  const std::string one = write("one.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // a time stamp would count seconds
  EXPECT_EQ(bytes_of(one), bytes_of(write("two.h5")));
}

TEST_F(CheckpointTest, TheDigestCoversTheAttributes) {
  const std::string path = write("c.h5");
  const auto change = [&](const char* name, const std::string& value) {
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), at = H5Aopen(file, name, H5P_DEFAULT);
    const hid_t type = H5Aget_type(at);
    EXPECT_GE(H5Awrite(at, type, value.c_str()), 0);
    H5Tclose(type), H5Aclose(at), H5Fclose(file);
  };
  change("config", "train.steps = 30\nadapter.rank = 4\n");
  expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "damaged"});
  change("config", sample_info().config);
  EXPECT_EQ(CheckpointReader(path).info().step, 17);
  change("base_digest", Digest{2, 1}.hex());
  expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "damaged"});
  change("method", "both");
  expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "method: found 'both'"});
  change("format", "lorashard checkpoint 2");
  expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "'lorashard checkpoint 2'"});
}

TEST_F(CheckpointTest, EveryTruncationIsFound) {
  const std::string path = write("c.h5"), whole = bytes_of(path);
  for (std::size_t bytes = 0; bytes < whole.size(); bytes += 61) {
    put_bytes(path, whole.substr(0, bytes));
    expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path});
  }
}

TEST_F(CheckpointTest, FlippedBitsAreFoundOrHarmless) {
  const std::string path = write("c.h5"), whole = bytes_of(path);
  std::mt19937 random(5);
  std::size_t found = 0;
  for (std::size_t at = 0; at < whole.size(); at += 1 + random() % 24) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << random() % 8));
    put_bytes(path, flipped);
    try {
      const CheckpointReader reader(path);
      reader.verify();
      EXPECT_EQ(reader.info().config, sample_info().config) << "byte " << at;
      EXPECT_EQ(reader.info().step, 17) << "byte " << at;
      EXPECT_EQ(reader.entries().size(), kEntries.size()) << "byte " << at;
    } catch (const kernels::Error& error) {
      ++found;
      EXPECT_EQ(error.failure(), Failure::storage) << error.what();
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(found, whole.size() / 80);
}

TEST_F(CheckpointTest, ADamagedTensorIsNamed) {
  const std::string path = write("c.h5");
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t set = H5Dopen2(file, "first_moment/layers.3.attention.qkv.q.lora_a", H5P_DEFAULT);
  std::vector<float> values(24);
  H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  std::swap(values[3], values[4]);
  H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  H5Dclose(set), H5Fclose(file);
  const CheckpointReader reader(path);
  expect_refused([&] { reader.verify(); }, Failure::storage,
                 {path, "first_moment/layers.3.attention.qkv.q.lora_a", "damaged"});
}

TEST_F(CheckpointTest, AMissingOrAddedTensorIsNamed) {
  const std::string path = write("c.h5"), whole = bytes_of(path);
  const std::string missing = "tensors/layers.3.attention.qkv.q.lora_b",
                    moment = "second_moment/layers.3.attention.qkv.q.lora_a";
  for (const std::string& name : {missing, moment}) {
    put_bytes(path, whole);
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    EXPECT_GE(H5Ldelete(file, name.c_str(), H5P_DEFAULT), 0);
    H5Fclose(file);
    expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "'" + name + "' is missing"});
  }
  put_bytes(path, whole);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  EXPECT_GE(H5Lcreate_hard(file, missing.c_str(), file, "tensors/more", H5P_DEFAULT, H5P_DEFAULT), 0);
  H5Fclose(file);
  expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "'tensors/more' is none of"});
}

// A digest that was changed is no other than a changed tensor: the one that does not agree with its data is named.
TEST_F(CheckpointTest, ADamagedDigestNamesItsTensor) {
  const std::string path = write("c.h5"), name = "tensors/layers.10.mlp.up.lora_a";
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t set = H5Dopen2(file, name.c_str(), H5P_DEFAULT), at = H5Aopen(set, "digest", H5P_DEFAULT);
  const hid_t type = H5Aget_type(at);
  EXPECT_GE(H5Awrite(at, type, Digest{3, 4}.hex().c_str()), 0);
  H5Tclose(type), H5Aclose(at), H5Dclose(set), H5Fclose(file);
  expect_refused([&] { CheckpointReader reader(path); }, Failure::storage, {path, "'" + name + "' is damaged"});
}

// The reservation must cover the file: on many ranks nothing may fail for want of space after it.
TEST_F(CheckpointTest, TheReservationIsEnoughAndNotMuchMore) {
  for (const std::size_t count : {1, 30, 700})
    for (const std::size_t name_bytes : {20, 150})
      for (const std::size_t config_bytes : {500, 90'000})
        for (const auto dtype : {kernels::DType::f32, kernels::DType::bf16}) {
          std::vector<DigestLine> lines;
          for (std::size_t i = 0; i < count; ++i)
            lines.push_back({kernels::text("tensors/", i, std::string(name_bytes, 'n')), dtype, 3, 5, {}});
          ShardedWriter writer(directory_ / "r.h5", *alone_, lines, config_bytes);
          writer.file()->set_text("/", "config", std::string(config_bytes, 'c'));
          const std::vector<float> values(15);
          for (const DigestLine& line : lines)
            writer.write(line.name, AxisCut::whole(3), AxisCut::whole(5),
                         {reinterpret_cast<const std::byte*>(values.data()), dtype, 3, 5, 5});
          writer.finish("");
          const double found = static_cast<double>(std::filesystem::file_size(directory_ / "r.h5"));
          EXPECT_LE(found, most_bytes(lines, config_bytes)) << count << " " << name_bytes << " " << config_bytes;
          EXPECT_GE(found, 0.5 * most_bytes(lines, config_bytes) - 0x1p14) << count << " " << name_bytes;
        }
}

TEST_F(CheckpointTest, AFullDiskLeavesThePreviousFileAlone) {
  const std::string path = write("c.h5"), before = bytes_of(path);
  CheckpointInfo later = sample_info();
  later.step = 18;
  for (std::size_t limit = 0; limit < before.size(); limit += 499) {
    const LimitedFileSize full(limit);
    expect_refused([&] { write("c.h5", later); }, Failure::storage, {path + ".partial", "File too large"});
    EXPECT_EQ(directory_.entries(), 1u);
  }
  EXPECT_EQ(bytes_of(path), before);
}

TEST_F(CheckpointTest, RefusesUnknownAndRepeatedNames) {
  const std::string path = directory_ / "c.h5";
  CheckpointWriter writer(path, sample_info(), kEntries, *alone_);
  expect_refused([&] { write(writer, {"layers.9.x", 1, 1}); }, Failure::other, {path, "layers.9.x"});
  expect_refused(
      [&] {
        CheckpointWriter(directory_ / "d.h5", sample_info(), {{"a", 1, 1}, {"a", 1, 1}}, *alone_);
      },
      Failure::storage, {"d.h5", "tensors/a"});
}

}  // namespace
}  // namespace lorashard::core
