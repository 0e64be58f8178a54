#include <gtest/gtest.h>

#include <map>
#include <random>

#include "core/base_file.hpp"
#include "kernels/numbers.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/limited_file_size.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::DType;
using kernels::Failure;

ModelShape small_shape() {
  ModelShape shape;
  shape.layers = 2;
  shape.width = 6;
  shape.heads = shape.kv_heads = 2;
  shape.ffn = 10;
  shape.vocab = 7;
  shape.context = 5;
  shape.norm_eps = 1e-6f;
  return shape;
}

float value_at(const TensorInfo& tensor, Index i) {
  return static_cast<float>(static_cast<Index>(tensor.name.size()) * 100 + i % 97) / 8.0f;
}

// A world of one, without MPI.
class BaseFileTest : public testing::Test {
 protected:
  std::string write(const std::string& name, DType dtype = DType::f32, const ModelShape& shape = small_shape()) {
    const std::string path = directory_ / name;
    BaseFileWriter writer(path, shape, dtype, *alone_);
    for (const TensorInfo& tensor : tensor_table(shape)) write(writer, tensor, dtype);
    digest_ = writer.finish();
    return path;
  }

  static void write(BaseFileWriter& writer, const TensorInfo& tensor, DType dtype) {
    std::vector<float> wide;
    std::vector<kernels::bf16> low;
    for (Index i = 0; i < tensor.rows * tensor.cols; ++i) {
      wide.push_back(value_at(tensor, i));
      low.push_back(kernels::to_bf16(wide.back()));
    }
    const kernels::ConstMatrix m = dtype == DType::f32 ? kernels::view(wide.data(), tensor.rows, tensor.cols)
                                                       : kernels::view(low.data(), tensor.rows, tensor.cols);
    writer.write(tensor, AxisCut::whole(tensor.rows), AxisCut::whole(tensor.cols), m);
  }

  // Opens a file for changes behind this program's back.
  template <class Change>
  static void tamper(const std::string& path, const Change& change) {
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    change(file);
    H5Fclose(file);
  }
  static void set_integer(hid_t file, const char* name, std::int64_t value) {
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    EXPECT_GE(H5Awrite(attribute, H5T_NATIVE_INT64, &value), 0);
    H5Aclose(attribute);
  }

  TemporaryDirectory directory_;
  std::unique_ptr<kernels::Device> device_ = kernels::make_meta_device();
  std::unique_ptr<dist::Communicator> alone_ = dist::make_meta_communicator(*device_, "world", 0, 1);
  Digest digest_;
};

TEST_F(BaseFileTest, KeepsShapeTensorsAndDigests) {
  for (const bool tied : {true, false}) {
    ModelShape shape = small_shape();
    shape.tied_head = tied;
    const std::string path = write("base.h5", DType::f32, shape);
    const BaseFile base(path);
    EXPECT_EQ(base.shape(), shape);
    EXPECT_EQ(base.digest(), digest_);
    for (const TensorInfo& tensor : tensor_table(shape)) {
      std::vector<float> values(static_cast<std::size_t>(tensor.rows * tensor.cols));
      const kernels::Matrix m = kernels::view(values.data(), tensor.rows, tensor.cols);
      const AxisCut rows = AxisCut::whole(tensor.rows), cols = AxisCut::whole(tensor.cols);
      base.read(tensor, rows, cols, m);
      for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], value_at(tensor, static_cast<Index>(i)));
      EXPECT_EQ(base.digest(tensor), digest_of(m, rows, cols)) << tensor.name;
      EXPECT_EQ(base.dtype(tensor), DType::f32);
    }
    base.verify();
  }
  EXPECT_EQ(directory_.entries(), 1u) << "a .partial file was left";
}

TEST_F(BaseFileTest, SlicesOfTwoRanksAreTheWholeCutInTwo) {
  const BaseFile base(write("base.h5"));
  const TensorInfo qkv = find(tensor_table(base.shape()), "layers.1.attention.qkv.weight");
  for (int part = 0; part < 2; ++part) {
    const AxisCut rows = qkv.row_cut(part, 2), cols = qkv.col_cut(part, 2);
    std::vector<float> values(static_cast<std::size_t>(rows.local_extent() * cols.local_extent()));
    base.read(qkv, rows, cols, kernels::view(values.data(), rows.local_extent(), cols.local_extent()));
    std::vector<float> expected;
    for (const Index segment : {0, 6, 12})
      for (Index row = segment + 3 * part; row < segment + 3 * part + 3; ++row)
        for (Index col = 0; col < 6; ++col) expected.push_back(value_at(qkv, row * 6 + col));
    EXPECT_EQ(values, expected);
  }
}

TEST_F(BaseFileTest, Bf16IsAnotherFileOfHalfTheSize) {
  const std::string wide = write("wide.h5");
  const Digest of_wide = digest_;
  const BaseFile base(write("low.h5", DType::bf16));
  EXPECT_NE(base.digest(), of_wide);
  const TensorInfo tensor = find(tensor_table(base.shape()), "embedding.token");
  EXPECT_EQ(base.dtype(tensor), DType::bf16);
  base.verify();
  std::vector<kernels::bf16> values(42);
  base.read(tensor, AxisCut::whole(7), AxisCut::whole(6), kernels::view(values.data(), 7, 6));
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(values[i].bits, kernels::to_bf16(value_at(tensor, static_cast<Index>(i))).bits);
}

TEST_F(BaseFileTest, TheSameModelIsTheSameBytes) { EXPECT_EQ(bytes_of(write("one.h5")), bytes_of(write("two.h5"))); }

TEST_F(BaseFileTest, RefusesAttributesOutOfRange) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"layers", 0},   {"layers", 1 << 20}, {"width", -6}, {"width", std::int64_t{1} << 62},   {"heads", 4},
      {"kv_heads", 3}, {"ffn", 0},          {"vocab", -1}, {"context", std::int64_t{1} << 40}, {"tied_head", 2}};
  for (const auto& [name, value] : cases) {
    const std::string path = write("base.h5");
    tamper(path, [&, name = name, value = value](hid_t file) { set_integer(file, name, value); });
    expect_refused([&] { BaseFile base(path); }, Failure::configuration, {path, name, std::to_string(value), "found"});
  }
}

TEST_F(BaseFileTest, RefusesTensorsThatAreNotTheShapes) {
  std::string path = write("base.h5");
  tamper(path, [](hid_t file) { H5Ldelete(file, "tensors/layers.1.norm2.bias", H5P_DEFAULT); });
  expect_refused([&] { BaseFile base(path); }, Failure::configuration,
                 {path, "layers.1.norm2.bias", "missing", "expected 1x6"});
  path = write("base.h5");
  tamper(path, [](hid_t file) { H5Lmove(file, "tensors/layers.0.attention.o.weight", file, "tensors/surplus", 0, 0); });
  tamper(path, [](hid_t file) {
    H5Lcreate_hard(file, "tensors/layers.0.mlp.up.weight", file, "tensors/layers.0.attention.o.weight", 0, 0);
  });
  expect_refused([&] { BaseFile base(path); }, Failure::configuration,
                 {path, "layers.0.attention.o.weight", "found 10x6", "expected 6x6"});
  path = write("base.h5");
  tamper(path, [](hid_t file) { H5Lcreate_hard(file, "tensors/layers.0.mlp.up.bias", file, "tensors/surplus", 0, 0); });
  expect_refused([&] { BaseFile base(path); }, Failure::configuration, {path, "'surplus'"});
  path = write("base.h5");
  tamper(path, [](hid_t file) { set_integer(file, "context", 4); });
  expect_refused([&] { BaseFile base(path); }, Failure::configuration,
                 {"embedding.position", "found 5x6", "expected 4x6"});
}

TEST_F(BaseFileTest, RefusesExchangedTensorsAndADigestThatIsMissing) {
  std::string path = write("base.h5");
  tamper(path, [](hid_t file) {
    H5Lmove(file, "tensors/layers.0.norm1.weight", file, "tensors/aside", 0, 0);
    H5Lmove(file, "tensors/layers.1.norm1.weight", file, "tensors/layers.0.norm1.weight", 0, 0);
    H5Lmove(file, "tensors/aside", file, "tensors/layers.1.norm1.weight", 0, 0);
    set_integer(file, "heads", 3), set_integer(file, "kv_heads", 3);
  });
  expect_refused([&] { BaseFile base(path); }, Failure::storage, {path, "damaged"});
  path = write("base.h5");
  tamper(path, [](hid_t file) { H5Adelete_by_name(file, "tensors/embedding.token", "digest", 0); });
  expect_refused([&] { BaseFile base(path); }, Failure::storage, {path, "embedding.token", "'digest' is missing"});
}

// One flipped bit at a time, all over the file: it is found on opening, or by verify(), or it was in unused space.
TEST_F(BaseFileTest, FlippedBitsAreFoundOrHarmless) {
  const std::string path = write("base.h5"), whole = bytes_of(path);
  const Digest digest = digest_;
  std::mt19937 random(3);
  std::size_t found = 0;
  for (std::size_t at = 0; at < whole.size(); at += 1 + random() % 48) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << random() % 8));
    put_bytes(path, flipped);
    try {
      const BaseFile base(path);
      base.verify();
      EXPECT_EQ(base.digest(), digest) << "byte " << at;
      EXPECT_EQ(base.shape(), small_shape()) << "byte " << at;
    } catch (const kernels::Error& error) {
      ++found;
      EXPECT_TRUE(error.failure() == Failure::storage || error.failure() == Failure::configuration) << error.what();
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(found, whole.size() / 100);
}

TEST_F(BaseFileTest, AFullDiskLeavesThePreviousFileAlone) {
  const std::string path = write("base.h5"), before = bytes_of(path);
  for (std::size_t limit = 0; limit < before.size(); limit += 997) {
    const LimitedFileSize full(limit);
    expect_refused([&] { write("base.h5"); }, Failure::storage, {path + ".partial", "File too large"});
    EXPECT_EQ(directory_.entries(), 1u);
  }
  EXPECT_EQ(bytes_of(path), before);
}

TEST_F(BaseFileTest, AnUnfinishedWriterLeavesNothing) {
  const std::string path = directory_ / "base.h5";
  const auto table = tensor_table(small_shape());
  {
    BaseFileWriter writer(path, small_shape(), DType::f32, *alone_);
    write(writer, table[0], DType::f32);
    EXPECT_EQ(directory_.entries(), 1u);
  }
  EXPECT_EQ(directory_.entries(), 0u);
  expect_refused(
      [&] {
        BaseFileWriter writer(path, small_shape(), DType::f32, *alone_);
        for (std::size_t i = 0; i + 1 < table.size(); ++i) write(writer, table[i], DType::f32);
        writer.finish();
      },
      Failure::other, {path, table.back().name, "0 elements were written, expected 6"});
  EXPECT_EQ(directory_.entries(), 0u);
  expect_refused([&] { BaseFileWriter(directory_ / "no/base.h5", small_shape(), DType::f32, *alone_); },
                 Failure::storage, {"no/base.h5.partial", "No such file"});
}

}  // namespace
}  // namespace lorashard::core
