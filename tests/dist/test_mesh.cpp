#include <gtest/gtest.h>

#include "dist/mesh.hpp"

namespace lorashard::dist {
namespace {

using kernels::Error;
using kernels::Failure;

// The example of mesh.hpp: 12 ranks with tensor 2, pipeline 3.
TEST(Mesh, RankSevenOfTwelve) {
  const MeshExtents extents = make_extents(12, 2, 3);
  EXPECT_EQ(extents.data, 2);
  EXPECT_EQ(to_string(extents), "2x3x2");
  const MeshPoint point = point_of(extents, 7);
  EXPECT_EQ(point.data, 1);
  EXPECT_EQ(point.pipeline, 0);
  EXPECT_EQ(point.tensor, 1);
}

TEST(Mesh, PointsAndRanksAreInverse) {
  for (int tensor = 1; tensor <= 4; ++tensor)
    for (int pipeline = 1; pipeline <= 4; ++pipeline)
      for (int data = 1; data <= 4; ++data) {
        const MeshExtents extents{tensor, pipeline, data};
        for (int rank = 0; rank < extents.ranks(); ++rank) EXPECT_EQ(rank_of(extents, point_of(extents, rank)), rank);
      }
  EXPECT_THROW(point_of({2, 3, 2}, 12), Error);
  EXPECT_THROW(point_of({2, 3, 2}, -1), Error);
  EXPECT_THROW(rank_of({2, 3, 2}, {2, 0, 0}), Error);
}

std::string refusal(int ranks, int tensor, int pipeline) {
  try {
    make_extents(ranks, tensor, pipeline);
  } catch (const Error& error) {
    EXPECT_EQ(error.failure(), Failure::configuration);
    return error.what();
  }
  return "accepted";
}

TEST(Mesh, ExtentsThatDoNotDivideNameThoseThatWould) {
  EXPECT_EQ(refusal(6, 4, 1),
            "mesh.tensor = 4, mesh.pipeline = 1 do not divide 6 ranks; tensor * pipeline may be 1, 2, 3, 6; with "
            "pipeline 1, tensor may be 1, 2, 3, 6; with tensor 4, pipeline may be none");
  EXPECT_EQ(refusal(12, 4, 2),
            "mesh.tensor = 4, mesh.pipeline = 2 do not divide 12 ranks; tensor * pipeline may be 1, 2, 3, 4, 6, 12; "
            "with pipeline 2, tensor may be 1, 2, 3, 6; with tensor 4, pipeline may be 1, 3");
  EXPECT_EQ(refusal(6, 0, 1), "mesh.tensor = 0, mesh.pipeline = 1 on 6 ranks: expected whole numbers of at least 1");
  EXPECT_EQ(refusal(6, 3, 2), "accepted");
}

TEST(Mesh, PrintsAllPoints) {
  const auto device = kernels::make_meta_device();
  const Mesh mesh = make_meta_mesh(*device, {2, 1, 2}, 3);
  EXPECT_EQ(mesh.print(),
            "mesh: tensor 2 x pipeline 1 x data 2 = 4 ranks\n"
            "  rank  data  pipeline  tensor\n"
            "     0     0         0       0\n"
            "     1     0         0       1\n"
            "     2     1         0       0\n"
            "     3     1         0       1\n");
}

// What the planner does: the last rank of 96, in one process.
TEST(Mesh, MetaMeshIsAnyRankOfAnyMesh) {
  const auto device = kernels::make_meta_device();
  const Mesh mesh = make_meta_mesh(*device, {4, 6, 4}, 95);
  EXPECT_EQ(mesh.world().size(), 96);
  EXPECT_EQ(mesh.tensor().rank(), 3);
  EXPECT_EQ(mesh.pipeline().rank(), 5);
  EXPECT_EQ(mesh.data().rank(), 3);
  EXPECT_EQ(mesh.replica().size(), 16);
  EXPECT_EQ(mesh.replica().rank(), 15);
  EXPECT_TRUE(mesh.last_stage());
  kernels::Tensor gradient(*device, kernels::Category::gradient, kernels::DType::f32, 10, 100);
  mesh.replica().all_reduce(gradient);
  EXPECT_EQ(device->profile().entry(kernels::Phase::data).sent_bytes, 4000);
  const double own[] = {2.5};
  EXPECT_EQ(mesh.data().gather_values(own), std::vector<double>(4, 2.5));
}

TEST(Mesh, CommunicatorsOfAnotherMeshAreRefused) {
  const auto device = kernels::make_meta_device();
  Mesh::Communicators groups;
  groups.world = make_meta_communicator(*device, "world", 0, 2);
  groups.tensor = make_meta_communicator(*device, "tensor", 0, 1);
  EXPECT_THROW(Mesh({2, 1, 1}, 0, std::move(groups)), Error);
}

// One process on the host needs no MPI; several ranks that do not exist would leave their part of a sum out.
TEST(MetaCommunicator, HostDeviceOnlyAlone) {
  const auto device = kernels::make_host_device(1);
  const Mesh alone = make_meta_mesh(*device, {1, 1, 1}, 0);
  std::vector<float> from{1, 2, 3}, to(3);
  alone.tensor().all_gather(kernels::view(from.data(), 1, 3), kernels::view(to.data(), 1, 3));
  EXPECT_EQ(to, from);
  EXPECT_THROW(make_meta_communicator(*device, "tensor", 0, 2), Error);
}

}  // namespace
}  // namespace lorashard::dist
