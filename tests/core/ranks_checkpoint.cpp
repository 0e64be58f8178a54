// Checkpoints and base files written by many ranks together: the same content as written by one, whatever the cut.
#include <gtest/gtest.h>
#include <mpi.h>

#include <filesystem>
#include <vector>

#include "core/base_file.hpp"
#include "core/checkpoint.hpp"
#include "dist/mpi_communicator.hpp"
#include "tests/core/temporary_directory.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;

const std::vector<CheckpointEntry> kEntries = {
    {"a", 24, 10}, {"a/first_moment", 24, 10}, {"b", 5, 101}, {"c", 1, 3}, {"layers.0.attention.qkv.weight", 36, 7}};

float value_at(const std::string& name, Index i) {
  return static_cast<float>(name.size() * 1000) + static_cast<float>(i);
}

std::vector<float> part_of(const std::string& name, const AxisCut& rows, const AxisCut& cols) {
  std::vector<float> part;
  for (Index i = 0; i < rows.local_extent(); ++i)
    for (Index j = 0; j < cols.local_extent(); ++j)
      part.push_back(value_at(name, rows.to_global({i}).value * cols.global_extent() + cols.to_global({j}).value));
  return part;
}

class SharedFiles : public testing::Test {
 protected:
  void SetUp() override {
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    world_ = dist::make_mpi_communicator(*device_, "world", comm);
    // Rank 0's directory is everybody's.
    if (rank() == 0) directory_ = std::make_unique<TemporaryDirectory>();
    std::string name = rank() == 0 ? *directory_ / "" : "";
    name.resize(200);
    MPI_Bcast(name.data(), 200, MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = name.c_str();
  }
  void TearDown() override { world_->barrier(); }  // before rank 0 removes the directory
  int rank() const { return world_->rank(); }
  int size() const { return world_->size(); }

  // Entries are cut over rows or over columns in turns; the smallest is written by the last rank alone.
  void write_together(const std::string& path) {
    CheckpointWriter writer(path, {3, "lora", "text", ""}, kEntries, *world_);
    bool by_rows = true;
    for (const CheckpointEntry& entry : kEntries) {
      by_rows = !by_rows;
      const bool alone = entry.rows * entry.cols < 10;
      if (alone && rank() != size() - 1) continue;
      const std::vector<dist::Segment> rows = entry.rows == 36 ? std::vector<dist::Segment>{12, 12, 12}
                                                               : std::vector<dist::Segment>{entry.rows};
      const AxisCut row_cut = by_rows && !alone ? AxisCut(rows, rank(), size()) : AxisCut::whole(entry.rows);
      const AxisCut col_cut = by_rows || alone ? AxisCut::whole(entry.cols) : AxisCut({entry.cols}, rank(), size());
      const auto part = part_of(entry.name, row_cut, col_cut);
      writer.write(entry.name, row_cut, col_cut,
                   kernels::view(part.data(), row_cut.local_extent(), col_cut.local_extent()));
    }
    writer.finish();
  }

  void write_alone(const std::string& path) {
    const auto alone = dist::make_meta_communicator(*device_, "world", 0, 1);
    CheckpointWriter writer(path, {3, "lora", "text", ""}, kEntries, *alone);
    for (const CheckpointEntry& entry : kEntries) {
      const AxisCut rows = AxisCut::whole(entry.rows), cols = AxisCut::whole(entry.cols);
      const auto whole = part_of(entry.name, rows, cols);
      writer.write(entry.name, rows, cols, kernels::view(whole.data(), entry.rows, entry.cols));
    }
    writer.finish();
  }

  std::unique_ptr<kernels::Device> device_ = kernels::make_host_device(1);
  std::unique_ptr<dist::Communicator> world_;
  std::unique_ptr<TemporaryDirectory> directory_;
  std::string path_;
};

TEST_F(SharedFiles, WhatRanksWriteTogetherEachReadsAsItLikes) {
  const std::string path = path_ + "c.h5";
  write_together(path);
  const CheckpointReader reader(path);
  reader.verify();
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  EXPECT_EQ(reader.info().step, 3);
  for (const CheckpointEntry& entry : kEntries) {
    // Cut the other way round, into another number of parts.
    const int parts = size() + 1;
    for (int part = 0; part < parts; ++part) {
      const AxisCut rows({entry.rows}, part, parts), cols = AxisCut::whole(entry.cols);
      if (rows.local_extent() == 0) continue;
      std::vector<float> values(static_cast<std::size_t>(rows.local_extent() * cols.local_extent()));
      reader.read(entry.name, rows, cols, kernels::view(values.data(), rows.local_extent(), cols.local_extent()));
      EXPECT_EQ(values, part_of(entry.name, rows, cols)) << entry.name;
    }
  }
}

TEST_F(SharedFiles, TogetherAndAloneAreTheSameContentAndTwiceTheSameBytes) {
  write_together(path_ + "one.h5");
  write_together(path_ + "two.h5");
  if (rank() == 0) {
    write_alone(path_ + "alone.h5");
    EXPECT_EQ(bytes_of(path_ + "one.h5"), bytes_of(path_ + "two.h5"));
    EXPECT_EQ(bytes_of(path_ + "one.h5"), bytes_of(path_ + "alone.h5"));
    const H5File together = H5File::open(path_ + "one.h5"), alone = H5File::open(path_ + "alone.h5");
    EXPECT_EQ(together.text("/", "digest"), alone.text("/", "digest"));
  }
}

TEST_F(SharedFiles, AnUnfinishedFileIsRemoved) {
  {
    CheckpointWriter writer(path_ + "c.h5", {}, kEntries, *world_);
    EXPECT_TRUE(std::filesystem::exists(path_ + "c.h5.partial"));
    world_->barrier();
  }
  EXPECT_FALSE(std::filesystem::exists(path_ + "c.h5.partial"));
}

TEST_F(SharedFiles, ABaseFileOfManyRanks) {
  ModelShape shape;
  shape.layers = 1, shape.width = 8, shape.heads = shape.kv_heads = 4, shape.ffn = 12, shape.vocab = 13,
  shape.context = 4;
  BaseFileWriter writer(path_ + "base.h5", shape, kernels::DType::f32, *world_);
  for (const TensorInfo& tensor : tensor_table(shape)) {
    const bool cut = tensor.cut != CutAxis::none;
    if (!cut && rank() != 0) continue;
    const AxisCut rows = tensor.row_cut(rank(), size()), cols = tensor.col_cut(rank(), size());
    const auto part = part_of(tensor.name, rows, cols);
    writer.write(tensor, rows.owned_part(), cols.owned_part(),  // more ranks than heads hold some alike
                 kernels::view(part.data(), rows.local_extent(), cols.local_extent()));
  }
  const Digest digest = writer.finish();
  const BaseFile base(path_ + "base.h5");
  base.verify();
  EXPECT_EQ(base.digest(), digest);
  EXPECT_EQ(base.shape(), shape);
}

}  // namespace
}  // namespace lorashard::core
