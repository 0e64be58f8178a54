// Ranks as points of (data, pipeline, tensor); the tensor axis runs fastest so that a tensor group sits inside a node.
//
//   world rank = (data * pipeline_extent + pipeline) * tensor_extent + tensor
//
// On 12 ranks with tensor 2, pipeline 3 (data 2), rank 7 is data 1, pipeline 0, tensor 1.
#pragma once

#include <memory>
#include <string>

#include "dist/communicator.hpp"

namespace lorashard::dist {

struct MeshExtents {
  int tensor = 1;
  int pipeline = 1;
  int data = 1;
  int ranks() const { return tensor * pipeline * data; }
};
std::string to_string(const MeshExtents& extents);  // "2x1x3" = tensor x pipeline x data

struct MeshPoint {
  int tensor = 0;
  int pipeline = 0;
  int data = 0;
};
MeshPoint point_of(const MeshExtents& extents, int rank);
int rank_of(const MeshExtents& extents, const MeshPoint& point);

// data = ranks / (tensor * pipeline). Throws Failure::configuration when that leaves a rest; the message lists the
// extents that would work for this number of ranks.
MeshExtents make_extents(int ranks, int tensor, int pipeline);

// A value that owns one communicator per axis. Move-only.
class Mesh {
 public:
  struct Communicators {
    std::unique_ptr<Communicator> world, tensor, pipeline, data;
    std::unique_ptr<Communicator> replica;  // tensor x data: every rank that holds the same layers
  };
  Mesh(MeshExtents extents, int rank, Communicators communicators);

  const MeshExtents& extents() const { return extents_; }
  const MeshPoint& point() const { return point_; }
  int rank() const { return rank_; }
  Communicator& world() const { return *communicators_.world; }
  Communicator& tensor() const { return *communicators_.tensor; }
  Communicator& pipeline() const { return *communicators_.pipeline; }
  Communicator& data() const { return *communicators_.data; }
  Communicator& replica() const { return *communicators_.replica; }
  bool first_stage() const { return point_.pipeline == 0; }
  bool last_stage() const { return point_.pipeline == extents_.pipeline - 1; }
  // A table of all ranks and their points.
  std::string print() const;

 private:
  MeshExtents extents_;
  int rank_;
  MeshPoint point_;
  Communicators communicators_;
};

// Any rank of any mesh, in one process, without MPI (the meta device). `observer` outlives it.
Mesh make_meta_mesh(kernels::Device& device, MeshExtents extents, int rank, TrafficObserver* observer = nullptr);

}  // namespace lorashard::dist
