// Meshes of 1, 2, 4 and 6 ranks, square and oblong: every group holds the ranks it should, in the right order.
#include <gtest/gtest.h>

#include "dist/mpi_communicator.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::dist {
namespace {

using kernels::Error;

// All cuts of `ranks` into tensor x pipeline x data.
std::vector<MeshExtents> meshes_of(int ranks) {
  std::vector<MeshExtents> meshes;
  for (int tensor = 1; tensor <= ranks; ++tensor)
    for (int pipeline = 1; pipeline <= ranks; ++pipeline)
      if (ranks % (tensor * pipeline) == 0) meshes.push_back(make_extents(ranks, tensor, pipeline));
  return meshes;
}

// World ranks of the group's members, in group order, written as doubles by the group itself.
std::vector<double> members(Communicator& group, int world_rank) {
  const double own = world_rank;
  return group.gather_values({&own, 1});
}

// The same from the definition: all ranks whose point agrees with `mine` where `same` says so, in rank order.
template <class Same>
std::vector<double> ranks_where(const MeshExtents& extents, const Same& same) {
  std::vector<double> ranks;
  for (int rank = 0; rank < extents.ranks(); ++rank)
    if (same(point_of(extents, rank))) ranks.push_back(rank);
  return ranks;
}

void expect_groups(const Mesh& mesh) {
  const MeshPoint mine = mesh.point();
  const MeshExtents& extents = mesh.extents();
  EXPECT_EQ(members(mesh.world(), mesh.rank()), ranks_where(extents, [](MeshPoint) { return true; }));
  EXPECT_EQ(members(mesh.tensor(), mesh.rank()),
            ranks_where(extents, [&](MeshPoint p) { return p.pipeline == mine.pipeline && p.data == mine.data; }));
  EXPECT_EQ(members(mesh.pipeline(), mesh.rank()),
            ranks_where(extents, [&](MeshPoint p) { return p.tensor == mine.tensor && p.data == mine.data; }));
  EXPECT_EQ(members(mesh.data(), mesh.rank()),
            ranks_where(extents, [&](MeshPoint p) { return p.tensor == mine.tensor && p.pipeline == mine.pipeline; }));
  EXPECT_EQ(members(mesh.replica(), mesh.rank()),
            ranks_where(extents, [&](MeshPoint p) { return p.pipeline == mine.pipeline; }));
  EXPECT_EQ(mesh.first_stage(), mine.pipeline == 0);
  EXPECT_EQ(mesh.last_stage(), mine.pipeline + 1 == extents.pipeline);
}

TEST(RankMesh, GroupsOfTheWholeWorld) {
  const auto device = kernels::make_host_device(1);
  for (const MeshExtents& extents : meshes_of(runtime().size())) {
    SCOPED_TRACE(to_string(extents));
    expect_groups(runtime().make_mesh(*device, extents));
  }
}

TEST(RankMesh, GroupsOfTheFirstRanks) {
  const auto device = kernels::make_host_device(1);
  for (int ranks = 1; ranks <= runtime().size(); ++ranks)
    for (const MeshExtents& extents : meshes_of(ranks)) {
      SCOPED_TRACE(to_string(extents));
      const std::unique_ptr<Mesh> mesh = runtime().make_sub_mesh(*device, extents);
      EXPECT_EQ(mesh != nullptr, runtime().rank() < ranks);
      if (mesh) expect_groups(*mesh);
    }
}

TEST(RankMesh, MetaDeviceTakesThisProcessAsItsRank) {
  const auto device = kernels::make_meta_device();
  const MeshExtents extents{1, runtime().size(), 1};
  const Mesh mesh = runtime().make_mesh(*device, extents);
  EXPECT_EQ(mesh.rank(), runtime().rank());
  EXPECT_EQ(mesh.pipeline().rank(), runtime().rank());
}

TEST(RankMesh, ExtentsThatAreNotTheWorldAreRefused) {
  const auto device = kernels::make_host_device(1);
  EXPECT_THROW(runtime().make_mesh(*device, {runtime().size() + 1, 1, 1}), Error);
  EXPECT_THROW(runtime().make_sub_mesh(*device, {1, runtime().size() + 1, 1}), Error);
}

TEST(RankRuntime, KnowsItsHost) {
  EXPECT_FALSE(runtime().host().empty());
  EXPECT_EQ(runtime().local_size(), runtime().size());  // these tests run on one host
  EXPECT_EQ(runtime().local_rank(), runtime().rank());
}

TEST(RankRuntime, TakesTheGpuOfItsLocalRank) {
  EXPECT_EQ(gpu_of(0, 4, 4, false, "a"), 0);
  EXPECT_EQ(gpu_of(3, 4, 8, false, "a"), 3);
  EXPECT_EQ(gpu_of(5, 6, 4, true, "a"), 1);
  EXPECT_EQ(gpu_of(3, 4, 0, false, "a"), 0);  // no GPU at all is refused by make_cuda_device
  try {
    gpu_of(0, 4, 2, false, "node7");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.failure(), kernels::Failure::configuration);
    EXPECT_STREQ(error.what(),
                 "ranks on host node7: found 4, expected at most 2, its GPUs; device.oversubscribe = true "
                 "shares them");
  }
  EXPECT_EQ(runtime().gpu(runtime().local_size(), false), runtime().local_rank());
  EXPECT_EQ(runtime().gpu(1, true), 0);
}

}  // namespace
}  // namespace lorashard::dist
