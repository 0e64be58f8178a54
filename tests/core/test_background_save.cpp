// A checkpoint written beside the training is the one that was begun, whatever happens to the state meanwhile; and what
// goes wrong in writing it is thrown when it is finished, with nothing left behind.
#include "core/background_save.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/core/expect_refused.hpp"
#include "tests/core/limited_file_size.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::Failure;

constexpr Index kRows = 300, kCols = 1000;
const std::vector<CheckpointEntry> kEntries = {{"a", kRows, kCols}, {"b", 7, 5}};

class BackgroundSaveTest : public testing::Test {
 protected:
  std::unique_ptr<CheckpointWriter> writer(const std::string& name) {
    return std::make_unique<CheckpointWriter>(directory_ / name, CheckpointInfo{3, "lora", "text", ""}, kEntries, *alone_);
  }
  std::unique_ptr<BackgroundSave> begin(const std::string& name) {
    auto save = std::make_unique<BackgroundSave>(writer(name), memory_);
    save->add(*host_, "a", AxisCut::whole(kRows), AxisCut::whole(kCols), kernels::view(a_.data(), kRows, kCols));
    save->add(*host_, "b", AxisCut::whole(7), AxisCut::whole(5), kernels::view(b_.data(), 7, 5));
    return save;
  }

  TemporaryDirectory directory_;
  kernels::HostMemory memory_;
  std::unique_ptr<kernels::Device> host_ = kernels::make_host_device(1), device_ = kernels::make_meta_device();
  std::unique_ptr<dist::Communicator> alone_ = dist::make_meta_communicator(*device_, "world", 0, 1);
  std::vector<float> a_ = std::vector<float>(kRows * kCols, 1.5f), b_ = std::vector<float>(35, -2);
};

TEST_F(BackgroundSaveTest, IsTheFileOfTheMomentWhenItWasBegun) {
  const auto plain = writer("plain.h5");
  plain->write("a", AxisCut::whole(kRows), AxisCut::whole(kCols), kernels::view(a_.data(), kRows, kCols));
  plain->write("b", AxisCut::whole(7), AxisCut::whole(5), kernels::view(b_.data(), 7, 5));
  const Index bytes = plain->finish();

  const auto save = begin("beside.h5");
  save->start();
  std::fill(a_.begin(), a_.end(), 99.0f);  // training goes on
  std::fill(b_.begin(), b_.end(), 99.0f);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "beside.h5")) << "it has its name before it is whole";
  EXPECT_EQ(save->finish(), bytes);
  EXPECT_TRUE(save->ended());
  EXPECT_TRUE(bytes_of(directory_ / "beside.h5") == bytes_of(directory_ / "plain.h5"));
  EXPECT_EQ(directory_.entries(), 2u);
}

TEST_F(BackgroundSaveTest, OneThatIsGivenUpLeavesNothing) {
  { begin("never.h5"); }
  {
    const auto save = begin("begun.h5");
    save->start();
  }
  EXPECT_EQ(directory_.entries(), 0u);
}

TEST_F(BackgroundSaveTest, AFullDiskShowsWhenItIsFinished) {
  const auto save = begin("full.h5");
  // The blocks are taken when the file is made, so a limit stands in for a quota that falls meanwhile.
  const LimitedFileSize limit(500'000);
  save->start();
  expect_refused([&] { save->finish(); }, Failure::storage, {"full.h5.partial: cannot write tensors/a: "});
}

// What was written is read again before the file gets its name: a disk that keeps other bytes is found out.
TEST_F(BackgroundSaveTest, OtherBytesOnTheDiskAreFound) {
  const auto checkpoint = writer("other.h5");
  checkpoint->write("a", AxisCut::whole(kRows), AxisCut::whole(kCols), kernels::view(a_.data(), kRows, kCols));
  checkpoint->write("b", AxisCut::whole(7), AxisCut::whole(5), kernels::view(b_.data(), 7, 5));
  const int file = ::open((directory_ / "other.h5.partial").c_str(), O_RDWR);
  ASSERT_GE(file, 0);
  const std::string content = bytes_of(directory_ / "other.h5.partial");
  const std::string first(reinterpret_cast<const char*>(a_.data()), 4 * kCols);
  const std::size_t at = content.find(first);
  ASSERT_NE(at, std::string::npos);
  const char flipped = static_cast<char>(content[at + 3] ^ 1);
  ASSERT_EQ(::pwrite(file, &flipped, 1, static_cast<off_t>(at + 3)), 1);
  ::close(file);
  expect_refused([&] { checkpoint->finish(); }, Failure::storage, {"a reads otherwise than it was written"});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "other.h5"));
}

}  // namespace
}  // namespace lorashard::core
