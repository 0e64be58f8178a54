// A mesh with one fault in it: communicators that pass everything on, but for what they are told to spoil.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "dist/mesh.hpp"

namespace lorashard::core {

using kernels::ConstMatrix;
using kernels::Index;
using kernels::Matrix;

enum class FaultKind {
  none,
  missing,          // all_reduce does nothing
  doubled,          // a sum is made twice: n times too much
  averaged,         // and divided by the number of ranks
  counts_replicas,  // the world's all_gather of (loss, squares) shows the squares of a stage's first rank for all its
                    // ranks
};

struct Fault {
  FaultKind kind = FaultKind::none;
  std::string axis;
};

inline int size_of(const dist::MeshExtents& extents, const std::string& axis) {
  if (axis == "tensor") return extents.tensor;
  if (axis == "data") return extents.data;
  return axis == "replica" ? extents.tensor * extents.data : extents.ranks();
}

// Host memory only.
class FaultyCommunicator final : public dist::Communicator {
 public:
  FaultyCommunicator(dist::Communicator& inner, FaultKind fault, const dist::MeshExtents& extents)
      : Communicator(inner.axis(), inner.rank(), inner.size()), inner_(inner), fault_(fault), extents_(extents) {}

  void all_reduce(Matrix data, dist::Reduction reduction) override {
    if (reduction != dist::Reduction::sum) return inner_.all_reduce(data, reduction);
    if (fault_ != FaultKind::missing) inner_.all_reduce(data, reduction);
    if (fault_ == FaultKind::doubled) inner_.all_reduce(data, reduction);
    if (fault_ == FaultKind::averaged) divide(data);
  }
  std::unique_ptr<dist::Pending> start_all_reduce(Matrix data) override {
    all_reduce(data, dist::Reduction::sum);
    return std::make_unique<Done>();
  }
  void reduce_scatter(ConstMatrix whole, Matrix part) override {
    inner_.reduce_scatter(whole, part);
    if (fault_ == FaultKind::averaged) divide(part);
  }
  std::unique_ptr<dist::Pending> start_reduce_scatter(ConstMatrix whole, Matrix part) override {
    reduce_scatter(whole, part);
    return std::make_unique<Done>();
  }
  void all_gather(ConstMatrix part, Matrix whole) override {
    inner_.all_gather(part, whole);
    if (fault_ != FaultKind::counts_replicas || whole.dtype != kernels::DType::f64) return;
    for (int rank = 0; rank < size(); ++rank) {
      const dist::MeshPoint speaker{0, dist::point_of(extents_, rank).pipeline, 0};
      whole.row<double>(rank)[1] = whole.row<double>(dist::rank_of(extents_, speaker))[1];
    }
  }
  void broadcast(Matrix data, int root) override { inner_.broadcast(data, root); }
  std::unique_ptr<dist::Pending> send(ConstMatrix data, int peer, int tag) override {
    return inner_.send(data, peer, tag);
  }
  void receive(Matrix data, int peer, int tag) override { inner_.receive(data, peer, tag); }
  std::unique_ptr<dist::Pending> start_receive(Matrix data, int peer, int tag) override {
    return inner_.start_receive(data, peer, tag);
  }
  std::vector<double> gather_values(std::span<const double> values) override { return inner_.gather_values(values); }
  void barrier() override { inner_.barrier(); }

 private:
  struct Done final : dist::Pending {
    void wait() override {}
  };
  void divide(Matrix data) const {
    for (Index row = 0; row < data.rows; ++row)
      for (Index col = 0; col < data.cols; ++col) data.row<float>(row)[col] /= static_cast<float>(size());
  }

  dist::Communicator& inner_;
  FaultKind fault_;
  dist::MeshExtents extents_;
};

// `mesh` outlives what is returned. The replicas' norm is gathered over the world.
inline dist::Mesh with_fault(dist::Mesh& mesh, const Fault& fault) {
  const auto wrapped = [&](dist::Communicator& inner) {
    const bool counts = fault.kind == FaultKind::counts_replicas;
    const bool spoilt = inner.axis() == (counts ? "world" : fault.axis);
    return std::make_unique<FaultyCommunicator>(inner, spoilt ? fault.kind : FaultKind::none, mesh.extents());
  };
  dist::Mesh::Communicators groups;
  groups.world = wrapped(mesh.world());
  groups.tensor = wrapped(mesh.tensor());
  groups.pipeline = wrapped(mesh.pipeline());
  groups.data = wrapped(mesh.data());
  groups.replica = wrapped(mesh.replica());
  return dist::Mesh(mesh.extents(), mesh.rank(), std::move(groups));
}

}  // namespace lorashard::core
