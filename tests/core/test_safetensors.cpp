#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "core/safetensors.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/safetensors_bytes.hpp"
#include "tests/core/temporary_directory.hpp"
#include "tests/oracle/golden.hpp"
#include "tests/oracle/tensor_file.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;

class SafeTensorsTest : public testing::Test {
 protected:
  std::string put(const std::string& bytes, const std::string& name = "m.safetensors") {
    put_bytes(directory_ / name, bytes);
    return directory_ / name;
  }
  void refuse_header(const std::string& header, std::size_t data_bytes, std::initializer_list<std::string> words) {
    const std::string path = put(safetensors_bytes(header, std::string(data_bytes, 'd')));
    SCOPED_TRACE(header);
    expect_refused([&] { SafeTensors::open(path); }, Failure::configuration, words);
    expect_refused([&] { SafeTensors::open(path); }, Failure::configuration, {path});
  }
  TemporaryDirectory directory_;
};

TEST_F(SafeTensorsTest, ReadsEveryFloatingTypeExactly) {
  const float infinity = std::numeric_limits<float>::infinity();
  // One, the largest, the smallest normal, the two ends of the subnormals, minus zero, infinity; then NaN.
  const std::vector<std::uint16_t> half = {0x3c00, 0x7bff, 0x0400, 0x03ff, 0x0001, 0x8000, 0xfc00, 0x7e01};
  const std::vector<float> from_half = {1, 65504, 0x1p-14f, 1023 * 0x1p-24f, 0x1p-24f, -0.0f, -infinity};
  const std::vector<std::uint16_t> brain = {0x3f80, 0xc049, 0x0001, 0x7f80};
  const std::vector<float> from_brain = {1, -3.140625f, 0x1p-133f, infinity};
  const std::string path = put(SafetensorsBuilder()
                                   .add("f64", "F64", {3}, raw<double>({0.1, -2, 1e300}))
                                   .add("f32", {2, 2}, {1.5f, -0.0f, 0x1p-149f, 3e38f})
                                   .add("f16", "F16", {8}, raw(half))
                                   .add("bf16", "BF16", {4, 1}, raw(brain))
                                   .add("scalar", {}, {7})
                                   .add("empty", {0, 5}, {})
                                   .bytes());
  const SafeTensors tensors = SafeTensors::open(path);
  EXPECT_EQ(tensors.read_double("f64"), (std::vector<double>{0.1, -2, 1e300}));
  EXPECT_EQ(tensors.read("f64", 0, 2), (std::vector<float>{0.1f, -2}));
  EXPECT_EQ(tensors.read("f32"), (std::vector<float>{1.5f, -0.0f, 0x1p-149f, 3e38f}));
  EXPECT_EQ(tensors.read("f16", 0, 7), from_half);
  EXPECT_TRUE(std::signbit(tensors.read("f16")[5]));
  EXPECT_TRUE(std::isnan(tensors.read("f16")[7]));
  EXPECT_EQ(tensors.read("bf16"), from_brain);
  EXPECT_EQ(tensors.read("bf16", 1, 2), (std::vector<float>{-3.140625f, 0x1p-133f}));
  EXPECT_EQ(tensors.read("scalar"), std::vector<float>{7});
  EXPECT_TRUE(tensors.read("empty").empty());
  EXPECT_EQ(tensors.entry("f32").extents, (std::vector<Index>{2, 2}));
  EXPECT_EQ(tensors.entry("scalar").count(), 1);
}

TEST_F(SafeTensorsTest, LongTensorsPassThroughTheBufferWhole) {
  std::vector<std::uint16_t> stored(1'500'000);
  for (std::size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<std::uint16_t>(i % 30000);
  const std::string path =
      put(SafetensorsBuilder().add("pad", {1}, {0}).add("x", "BF16", {1500, 1000}, raw(stored)).bytes());
  const SafeTensors tensors = SafeTensors::open(path);
  const auto values = tensors.read("x", 3, 1'499'990);
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::uint32_t{stored[i + 3]} << 16) << i;
}

TEST_F(SafeTensorsTest, TypesThatAreNotReadMayBeThere) {
  const std::string path = put(SafetensorsBuilder()
                                   .add("mask", "BOOL", {2}, "ab")
                                   .add("ids", "I64", {1}, "12345678")
                                   .add("x", {1}, {4})
                                   .bytes());
  const SafeTensors tensors = SafeTensors::open(path);
  EXPECT_EQ(tensors.read("x"), std::vector<float>{4});
  expect_refused([&] { tensors.read("mask"); }, Failure::configuration, {path, "'mask'", "another type"});
  expect_refused([&] { tensors.read("ids"); }, Failure::configuration, {path, "'ids'", "I64"});
  expect_refused([&] { tensors.read("y"); }, Failure::configuration, {path, "'y' is missing"});
  expect_refused([&] { tensors.read("x", 1, 1); }, Failure::other, {"elements 1 to 2 of 1"});
}

TEST_F(SafeTensorsTest, RefusesBadHeaders) {
  const std::string x = R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  refuse_header("", 0, {"invalid JSON"});
  refuse_header("[]", 0, {"an array"});
  refuse_header("{" + x + "}", 4, {"'x'", "0 to 8", "4 bytes"});
  refuse_header("{" + x + "}", 12, {"12 bytes", "expected 8"});
  refuse_header("{" + x + R"(,"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, {"'y'", "begins at 4"});
  refuse_header("{" + x + R"(,"y":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", 16, {"'y'", "begins at 12"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, {"'x'", "8 bytes", "expected 12"});
  refuse_header(R"({"x":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8, {"'x'", "dtype", "'F33'"});
  refuse_header(R"({"x":{"shape":[2],"data_offsets":[0,8]}})", 8, {"'x'", "dtype", "nothing"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, {"'x'", "shape", "-2"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, {"'x'", "shape"});
  refuse_header(R"({"x":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8, {"'x'", "shape", "an array"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0, {"'x'", "2^63"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,0]}})", 0, {"'x'", "2^63"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, {"'x'", "8 to 0"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8, {"'x'", "3 entries"});
  refuse_header(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", 8,
                {"'x'", "data_offsets"});
  refuse_header(R"({"x":7})", 0, {"'x'", "an object"});
  refuse_header(R"({"a\nb":7})", 0, {"'a?b'"});
  refuse_header("{\"x\":" + std::string(100, '[') + std::string(100, ']') + "}", 0, {"invalid JSON"});
}

TEST_F(SafeTensorsTest, RefusesFilesThatAreNone) {
  const std::string path = directory_ / "m.safetensors";
  expect_refused([&] { SafeTensors::open(path); }, Failure::configuration, {path, "No such file"});
  expect_refused([&] { SafeTensors::open(directory_ / ""); }, Failure::configuration, {"directory"});
  put("1234567");
  expect_refused([&] { SafeTensors::open(path); }, Failure::configuration, {path, "7 bytes"});
  put(std::string(8, '\xff') + "{}");
  expect_refused([&] { SafeTensors::open(path); }, Failure::configuration, {path, "18446744073709551615"});
}

TEST_F(SafeTensorsTest, EveryTruncationIsFound) {
  const std::string whole = SafetensorsBuilder().add("x", {2, 3}, {1, 2, 3, 4, 5, 6}).add("y", {1}, {7}).bytes();
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const std::string path = put(whole.substr(0, bytes));
    expect_refused([&] { SafeTensors::open(path); }, Failure::configuration, {path});
  }
}

TEST_F(SafeTensorsTest, FlippedBitsNeverCrash) {
  const std::string whole = SafetensorsBuilder().add("x", {2, 3}, {1, 2, 3, 4, 5, 6}).add("y", {1}, {7}).bytes();
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const std::string path = put(flipped);
    try {
      const SafeTensors tensors = SafeTensors::open(path);
      for (const auto& [name, entry] : tensors.entries()) tensors.read(name);
    } catch (const kernels::Error& error) {
      EXPECT_EQ(error.failure(), Failure::configuration) << error.what();
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
}

TEST_F(SafeTensorsTest, ShardsAreFoundThroughTheIndex) {
  put(SafetensorsBuilder().add("a", {2}, {1, 2}).add("unlisted", {1}, {9}).bytes(), "1.safetensors");
  put(SafetensorsBuilder().add("b", {1}, {3}).bytes(), "2.safetensors");
  const auto open = [&](const std::string& index) {
    return SafeTensors::open(put(index, "model.safetensors.index.json"));
  };
  const SafeTensors tensors =
      open(R"({"metadata":{"total_size":12},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  EXPECT_EQ(tensors.read("a"), (std::vector<float>{1, 2}));
  EXPECT_EQ(tensors.read("b"), std::vector<float>{3});
  EXPECT_EQ(tensors.entries().size(), 2u);
  for (const char* name : {"../1.safetensors", "/etc/passwd", "..", "", "x/1.safetensors", "1.safetensors\\u0000"})
    expect_refused([&] { open(kernels::text(R"({"weight_map":{"a":")", name, R"("}})")); }, Failure::configuration,
                   {"index.json", "'a'", "same directory"});
  expect_refused([&] { open(R"({"weight_map":{"a":"2.safetensors"}})"); }, Failure::configuration,
                 {"'a' is not in '2.safetensors'"});
  expect_refused([&] { open(R"({"weight_map":{"a":"3.safetensors"}})"); }, Failure::configuration,
                 {"3.safetensors", "No such file"});
  expect_refused([&] { open(R"({"weight_map":{"a":3}})"); }, Failure::configuration, {"'a'", "found 3"});
  expect_refused([&] { open("{}"); }, Failure::configuration, {"index.json", "'weight_map'", "nothing"});
}

// Against the tests' own reader, which shares no code.
TEST_F(SafeTensorsTest, ReadsTheGoldenFiles) {
  const auto golden = oracle::golden_folder();
  if (!golden) GTEST_SKIP() << oracle::kNoGolden;
  for (const char* name :
       {"/gpt2/base/model.safetensors", "/gpt2/lora_qv/final.safetensors", "/llama/base/model.safetensors"}) {
    const SafeTensors tensors = SafeTensors::open(*golden + name);
    const auto expected = oracle::read_tensor_file(*golden + name);
    EXPECT_EQ(tensors.entries().size(), expected.size());
    for (const auto& [tensor, array] : expected) EXPECT_EQ(tensors.read_double(tensor), array.values) << tensor;
  }
}

}  // namespace
}  // namespace lorashard::core
