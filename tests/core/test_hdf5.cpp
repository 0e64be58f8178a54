#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <random>
#include <thread>

#include "core/hdf5.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/limited_file_size.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::DType;
using kernels::Failure;

std::vector<float> counted(Index n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

void write_whole(H5File& file, const std::string& name, Index rows, Index cols) {
  file.create_matrix(name, DType::f32, rows, cols);
  const auto values = counted(rows * cols);
  file.write(name, AxisCut::whole(rows), AxisCut::whole(cols), kernels::view(values.data(), rows, cols));
}

std::vector<float> read_whole(const H5File& file, const std::string& name) {
  const auto info = file.matrix_info(name);
  std::vector<float> values(static_cast<std::size_t>(info.rows * info.cols));
  file.read(name, AxisCut::whole(info.rows), AxisCut::whole(info.cols),
            kernels::view(values.data(), info.rows, info.cols));
  return values;
}

void write_sample(const std::string& path) {
  H5File file = H5File::create(path);
  write_whole(file, "tensors/a", 6, 5);
  write_whole(file, "tensors/layers.0.b", 1, 7);
  file.set_text("tensors/a", "digest", "00112233445566778899aabbccddeeff");
  file.set_text("/", "format", "sample 1");
  file.set_integer("/", "step", 12);
  file.set_real("/", "eps", 1e-5);
  file.write_array("tokens", std::vector<std::int32_t>{4, 5, 6, -100});
  file.write_array("offsets", std::vector<std::int64_t>{0, 3, 4});
  file.close();
}

TEST(Hdf5, AttributesKeepTheirValues) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a.h5";
  H5File out = H5File::create(path);
  for (int round = 0; round < 2; ++round) {  // the second round replaces
    out.set_text("/", "text", round == 0 ? "first" : std::string(70000, 'x') + "\n\u00e9");
    out.set_text("/", "empty", "");
    out.set_integer("/", "integer", round == 0 ? 1 : std::numeric_limits<std::int64_t>::min());
    out.set_real("/", "real", round == 0 ? 1.0 : 0.1);
  }
  out.close();
  const H5File in = H5File::open(path);
  EXPECT_EQ(in.text("/", "text"), std::string(70000, 'x') + "\n\u00e9");
  EXPECT_EQ(in.text("/", "empty"), "");
  EXPECT_EQ(in.integer("/", "integer"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(in.real("/", "real"), 0.1);
  expect_refused([&] { in.text("/", "absent"); }, Failure::storage, {path, "'absent' is missing"});
  expect_refused([&] { in.integer("/", "text"); }, Failure::storage, {path, "'text'", "64-bit integer"});
  expect_refused([&] { in.real("/", "integer"); }, Failure::storage, {path, "'integer'", "64-bit real"});
  expect_refused([&] { in.text("/", "real"); }, Failure::storage, {path, "'real'", "expected text"});
}

TEST(Hdf5, MatricesAreWrittenAndReadInSlices) {
  const TemporaryDirectory directory;
  const std::string path = directory / "m.h5";
  const Index rows = 8, cols = 9;
  const auto values = counted(rows * cols);
  H5File out = H5File::create(path);
  out.create_matrix("tensors/m", DType::f32, rows, cols);
  for (int part = 0; part < 3; ++part) {
    const AxisCut row_cut({4, 2, 2}, part, 3), col_cut({9}, 0, 1);
    std::vector<float> mine;
    for (const auto& run : row_cut.runs())
      for (Index i = 0; i < run.count * cols; ++i)
        mine.push_back(values[static_cast<std::size_t>(run.global.value * cols + i)]);
    out.write("tensors/m", row_cut, col_cut, kernels::view(mine.data(), row_cut.local_extent(), cols));
  }
  out.close();
  const H5File in = H5File::open(path);
  EXPECT_EQ(read_whole(in, "tensors/m"), values);
  // A cut of both axes, into a slice of columns of a wider matrix.
  const AxisCut row_cut({4, 2, 2}, 1, 2), col_cut({6, 3}, 0, 2);
  ASSERT_EQ(col_cut.local_extent(), 5);
  std::vector<float> wide(4 * 7, -1.0f);
  in.read("tensors/m", row_cut, col_cut, kernels::view(wide.data(), 4, 7).col_range(1, 5));
  std::vector<float> expected;
  for (const Index i : {2, 3, 5, 7}) {
    expected.push_back(-1.0f);
    for (const Index j : {0, 1, 2, 6, 7}) expected.push_back(values[static_cast<std::size_t>(i * cols + j)]);
    expected.push_back(-1.0f);
  }
  EXPECT_EQ(wide, expected);
  expect_refused([&] { in.read("tensors/m", AxisCut::whole(7), AxisCut::whole(9), kernels::view(wide.data(), 7, 9)); },
                 Failure::storage, {path, "tensors/m", "found 8x9, expected 7x9"});
}

TEST(Hdf5, Bf16IsKeptBitForBit) {
  const TemporaryDirectory directory;
  const std::string path = directory / "b.h5";
  std::vector<kernels::bf16> values(6), back(6);
  for (std::size_t i = 0; i < values.size(); ++i) values[i].bits = static_cast<std::uint16_t>(0x3f80 + 0x1111 * i);
  H5File out = H5File::create(path);
  out.create_matrix("b", DType::bf16, 2, 3);
  out.write("b", AxisCut::whole(2), AxisCut::whole(3), kernels::view(values.data(), 2, 3));
  out.close();
  const H5File in = H5File::open(path);
  EXPECT_EQ(in.matrix_info("b").dtype, DType::bf16);
  in.read("b", AxisCut::whole(2), AxisCut::whole(3), kernels::view(back.data(), 2, 3));
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(back[i].bits, values[i].bits);
}

TEST(Hdf5, ArraysAndNames) {
  const TemporaryDirectory directory;
  const std::string path = directory / "s.h5";
  write_sample(path);
  const H5File in = H5File::open(path);
  EXPECT_EQ(in.names("/"), (std::vector<std::string>{"offsets", "tensors", "tokens"}));
  EXPECT_EQ(in.names("tensors"), (std::vector<std::string>{"a", "layers.0.b"}));
  EXPECT_TRUE(in.exists("tensors/a"));
  EXPECT_FALSE(in.exists("tensors/c"));
  EXPECT_FALSE(in.exists("nothing/a"));
  EXPECT_EQ(in.array_length("tokens"), 4);
  EXPECT_EQ(in.read_int32("tokens", 1, 3), (std::vector<std::int32_t>{5, 6, -100}));
  EXPECT_EQ(in.read_int64("offsets", 0, 3), (std::vector<std::int64_t>{0, 3, 4}));
  EXPECT_TRUE(in.read_int32("tokens", 4, 0).empty());
  expect_refused([&] { in.read_int32("tokens", 2, 3); }, Failure::storage, {path, "tokens", "found 4", "expected 3"});
  expect_refused([&] { in.read_int32("offsets", 0, 1); }, Failure::storage, {path, "offsets", "32-bit integers"});
  expect_refused([&] { in.matrix_info("tokens"); }, Failure::storage, {"found 1 extents, expected 2"});
  expect_refused([&] { in.matrix_info("tensors"); }, Failure::storage, {"found a group"});
  expect_refused([&] { in.names("tokens"); }, Failure::storage, {"found a dataset"});
}

TEST(Hdf5, AnEmptyArrayIsAnArray) {
  const TemporaryDirectory directory;
  H5File out = H5File::create(directory / "e.h5");
  out.write_array("none", std::vector<std::int32_t>{});
  out.close();
  const H5File in = H5File::open(directory / "e.h5");
  EXPECT_EQ(in.array_length("none"), 0);
  EXPECT_TRUE(in.read_int32("none", 0, 0).empty());
}

TEST(Hdf5, EqualContentIsEqualBytesAtAnotherTime) {
  const TemporaryDirectory directory;
  write_sample(directory / "one.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times in files count seconds
  write_sample(directory / "two.h5");
  EXPECT_EQ(bytes_of(directory / "one.h5"), bytes_of(directory / "two.h5"));
}

TEST(Hdf5, RefusesWhatIsNoFileOfThisKind) {
  const TemporaryDirectory directory;
  const std::string path = directory / "f.h5";
  expect_refused([&] { H5File::open(path); }, Failure::storage, {path, "No such file"});
  expect_refused([&] { H5File::open(directory / ""); }, Failure::storage, {"directory"});
  put_bytes(path, "");
  expect_refused([&] { H5File::open(path); }, Failure::storage, {path, "empty"});
  put_bytes(path, std::string(3000, 'n'));
  expect_refused([&] { H5File::open(path); }, Failure::storage, {path, "cannot open as HDF5", "signature"});
  expect_refused([&] { H5File::create(directory / "no/such/f.h5"); }, Failure::storage,
                 {"no/such/f.h5", "cannot create", "No such file"});
}

// Everything that the library would follow out of the file, or run a plug-in for, or make up from nothing.
TEST(Hdf5, RefusesLinksFiltersAndDataElsewhere) {
  const TemporaryDirectory directory;
  const std::string path = directory / "hostile.h5", other = directory / "other.h5";
  write_sample(other);
  H5File::create(path).close();
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(H5Lcreate_soft("tokens", file, "soft", H5P_DEFAULT, H5P_DEFAULT), 0);
  ASSERT_GE(H5Lcreate_external(other.c_str(), "tokens", file, "outside", H5P_DEFAULT, H5P_DEFAULT), 0);
  ASSERT_GE(H5Lcreate_external(other.c_str(), "tensors", file, "group", H5P_DEFAULT, H5P_DEFAULT), 0);
  const hsize_t small[2] = {4, 4}, huge[2] = {hsize_t{1} << 30, hsize_t{1} << 30};
  const auto add = [&](const char* name, hid_t type, const hsize_t* extents, auto prepare) {
    const hid_t space = H5Screate_simple(2, extents, nullptr), creation = H5Pcreate(H5P_DATASET_CREATE);
    prepare(creation);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    EXPECT_GE(set, 0) << name;
    H5Dclose(set), H5Pclose(creation), H5Sclose(space);
  };
  const auto plain = [](hid_t) {};
  add("unwritten", H5T_IEEE_F32LE, huge, plain);
  add("big_endian", H5T_IEEE_F32BE, small, [](hid_t p) { H5Pset_alloc_time(p, H5D_ALLOC_TIME_EARLY); });
  add("u16", H5T_STD_U16LE, small, [](hid_t p) { H5Pset_alloc_time(p, H5D_ALLOC_TIME_EARLY); });
  add("deflated", H5T_IEEE_F32LE, small, [&](hid_t p) { H5Pset_chunk(p, 2, small), H5Pset_deflate(p, 1); });
  add("elsewhere", H5T_IEEE_F32LE, small, [&](hid_t p) { H5Pset_external(p, other.c_str(), 0, 64); });
  add("virtual", H5T_IEEE_F32LE, small, [&](hid_t p) {
    const hid_t space = H5Screate_simple(2, small, nullptr);
    H5Pset_virtual(p, space, other.c_str(), "tensors/a", space);
    H5Sclose(space);
  });
  H5Fclose(file);
  const H5File in = H5File::open(path);
  for (const char* name : {"soft", "outside", "group/a"})
    expect_refused([&] { in.matrix_info(name); }, Failure::storage, {path, name, "link"});
  for (const char* name : {"deflated", "elsewhere", "virtual"})
    expect_refused([&] { in.matrix_info(name); }, Failure::storage, {path, name, "refused"});
  expect_refused([&] { in.matrix_info("unwritten"); }, Failure::storage, {path, "unwritten", "do not lie in the file"});
  expect_refused([&] { in.matrix_info("big_endian"); }, Failure::storage, {path, "big_endian", "element type"});
  expect_refused([&] { in.matrix_info("u16"); }, Failure::storage, {path, "u16", "dtype"});
}

// Reads everything a reader would; what a damaged file may do is throw Failure::storage or show other values.
void read_all(const std::string& path) {
  try {
    const H5File in = H5File::open(path);
    for (const std::string& name : in.names("tensors")) read_whole(in, "tensors/" + name);
    in.text("tensors/a", "digest"), in.text("/", "format"), in.integer("/", "step"), in.real("/", "eps");
    in.read_int32("tokens", 0, in.array_length("tokens"));
    in.read_int64("offsets", 0, in.array_length("offsets"));
  } catch (const kernels::Error& error) {
    EXPECT_EQ(error.failure(), Failure::storage) << error.what();
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

TEST(Hdf5, EveryTruncationIsFound) {
  const TemporaryDirectory directory;
  write_sample(directory / "whole.h5");
  const std::string whole = bytes_of(directory / "whole.h5"), path = directory / "cut.h5";
  for (std::size_t bytes = 0; bytes < whole.size(); bytes += 17) {
    put_bytes(path, whole.substr(0, bytes));
    expect_refused([&] { H5File::open(path); }, Failure::storage, {path});
  }
}

TEST(Hdf5, FlippedBitsNeverCrash) {
  const TemporaryDirectory directory;
  write_sample(directory / "whole.h5");
  const std::string whole = bytes_of(directory / "whole.h5"), path = directory / "flipped.h5";
  std::mt19937 random(7);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << random() % 8));
    put_bytes(path, flipped);
    read_all(path);
  }
}

TEST(Hdf5, AFullDiskIsOneErrorAndNothingAfterIt) {
  const TemporaryDirectory directory;
  const std::string path = directory / "full.h5";
  {
    const LimitedFileSize limit(100000);
    expect_refused(
        [&] {
          H5File file = H5File::create(path);
          write_whole(file, "tensors/small", 10, 10);
          write_whole(file, "tensors/big", 1000, 100);
          file.close();
        },
        Failure::storage, {path, "File too large"});
    expect_refused(
        [&] {
          H5File file = H5File::create(path);
          for (int i = 0; i < 3000; ++i) file.set_integer("/", kernels::text("attribute", i), i);
          file.close();
        },
        Failure::storage, {path});
  }
  write_sample(path);  // the library is as good as new
  EXPECT_EQ(H5File::open(path).integer("/", "step"), 12);
}

}  // namespace
}  // namespace lorashard::core
