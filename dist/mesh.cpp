#include "dist/mesh.hpp"

#include <iomanip>

namespace lorashard::dist {

using kernels::fail;
using kernels::Failure;
using kernels::text;

std::string to_string(const MeshExtents& extents) {
  return text(extents.tensor, "x", extents.pipeline, "x", extents.data);
}

MeshPoint point_of(const MeshExtents& extents, int rank) {
  if (rank < 0 || rank >= extents.ranks())
    fail(Failure::other, text("rank ", rank, " lies outside the mesh ", to_string(extents)));
  return {rank % extents.tensor, rank / extents.tensor % extents.pipeline, rank / extents.tensor / extents.pipeline};
}

int rank_of(const MeshExtents& extents, const MeshPoint& point) {
  const bool inside = point.tensor >= 0 && point.tensor < extents.tensor && point.pipeline >= 0 &&
                      point.pipeline < extents.pipeline && point.data >= 0 && point.data < extents.data;
  if (!inside)
    fail(Failure::other, text("tensor ", point.tensor, ", pipeline ", point.pipeline, ", data ", point.data,
                              " lies outside the mesh ", to_string(extents)));
  return (point.data * extents.pipeline + point.pipeline) * extents.tensor + point.tensor;
}

namespace {

// The numbers that divide ranks / other, as "1, 2, 3, 6"; "none" when `other` itself does not divide the ranks.
std::string divisors(int ranks, int other) {
  if (other < 1 || ranks % other != 0) return "none";
  std::string list;
  for (int n = 1; n <= ranks / other; ++n)
    if (ranks / other % n == 0) list += text(list.empty() ? "" : ", ", n);
  return list;
}

}  // namespace

MeshExtents make_extents(int ranks, int tensor, int pipeline) {
  if (tensor < 1 || pipeline < 1 || ranks < 1)
    fail(Failure::configuration, text("mesh.tensor = ", tensor, ", mesh.pipeline = ", pipeline, " on ", ranks,
                                      " ranks: expected whole numbers of at least 1"));
  if (ranks % tensor != 0 || ranks / tensor % pipeline != 0)
    fail(Failure::configuration,
         text("mesh.tensor = ", tensor, ", mesh.pipeline = ", pipeline, " do not divide ", ranks,
              " ranks; tensor * pipeline may be ", divisors(ranks, 1), "; with pipeline ", pipeline, ", tensor may be ",
              divisors(ranks, pipeline), "; with tensor ", tensor, ", pipeline may be ", divisors(ranks, tensor)));
  return {tensor, pipeline, ranks / tensor / pipeline};
}

Mesh::Mesh(MeshExtents extents, int rank, Communicators communicators)
    : extents_(extents), rank_(rank), point_(point_of(extents, rank)), communicators_(std::move(communicators)) {
  const auto expect = [&](const std::unique_ptr<Communicator>& group, const char* axis, int size, int place) {
    if (!group || group->size() != size || group->rank() != place)
      fail(Failure::other, text("mesh ", to_string(extents_), ", rank ", rank_, ": the ", axis, " communicator is ",
                                group ? text("rank ", group->rank(), " of ", group->size()) : "missing",
                                ", expected rank ", place, " of ", size));
  };
  expect(communicators_.world, "world", extents_.ranks(), rank_);
  expect(communicators_.tensor, "tensor", extents_.tensor, point_.tensor);
  expect(communicators_.pipeline, "pipeline", extents_.pipeline, point_.pipeline);
  expect(communicators_.data, "data", extents_.data, point_.data);
  expect(communicators_.replica, "replica", extents_.tensor * extents_.data,
         point_.data * extents_.tensor + point_.tensor);
}

std::string Mesh::print() const {
  std::ostringstream out;
  out << "mesh: tensor " << extents_.tensor << " x pipeline " << extents_.pipeline << " x data " << extents_.data
      << " = " << extents_.ranks() << " ranks\n"
      << "  rank  data  pipeline  tensor\n";
  for (int rank = 0; rank < extents_.ranks(); ++rank) {
    const MeshPoint point = point_of(extents_, rank);
    out << std::setw(6) << rank << std::setw(6) << point.data << std::setw(10) << point.pipeline << std::setw(8)
        << point.tensor << "\n";
  }
  return out.str();
}

Mesh make_meta_mesh(kernels::Device& device, MeshExtents extents, int rank, TrafficObserver* observer) {
  const MeshPoint point = point_of(extents, rank);
  Mesh::Communicators groups;
  const auto group = [&](const char* axis, int own, int size) {
    return make_meta_communicator(device, axis, own, size, observer);
  };
  groups.world = group("world", rank, extents.ranks());
  groups.tensor = group("tensor", point.tensor, extents.tensor);
  groups.pipeline = group("pipeline", point.pipeline, extents.pipeline);
  groups.data = group("data", point.data, extents.data);
  groups.replica = group("replica", point.data * extents.tensor + point.tensor, extents.tensor * extents.data);
  return Mesh(extents, rank, std::move(groups));
}

}  // namespace lorashard::dist
