// What every rank of a group must give to a verb, what it gets, and where. A communicator belongs to one axis of the
// mesh; verbs are entered by all its ranks in the same order. On one rank every verb is a copy or nothing.
//
// Host: MPI. Cuda: NCCL, data in device memory; a verb is queued like an operation, behind those queued before it and
// before those queued after it, and the host does not wait. Meta: nothing moves, bytes are recorded, the values of
// gather_values are this rank's own, repeated.
// Reduced values are f32. On the host sums are made in rank order, so the result is bitwise the same on every rank and
// does not depend on how data is cut into calls; NCCL's order depends on the group and the length, and is the same from
// run to run. A NaN makes every sum of it NaN; a maximum keeps it on the host, and may drop it on cuda.
// Errors throw Failure::communication and name the verb, the axis and the rank. On cuda, one that shows after the verb
// has returned is thrown where the host waits for the device; lengths that differ from rank to rank go unseen there.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dist/traffic.hpp"
#include "kernels/device.hpp"

namespace lorashard::dist {

using kernels::ConstMatrix;
using kernels::Index;
using kernels::Matrix;

enum class Reduction { sum, maximum };

// A transfer that may still be under way. Waiting is done by wait() or by the destructor; until then its memory must
// stay, and what it writes must not be read. On cuda wait() makes the device's stream wait, not the host.
// While an error unwinds the destructor waits a second at most, so that the job can end.
class Pending {
 public:
  virtual ~Pending() = default;  // waits
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& axis() const { return axis_; }  // "tensor", "data", ...

  // data (rows, cols) f32 contiguous: replaced on every rank by the reduction over ranks.
  virtual void all_reduce(Matrix data, Reduction reduction = Reduction::sum) = 0;
  // part: r rows contiguous, same extents and type on every rank; whole: r * size rows; rank i's part becomes rows
  // [i r, (i + 1) r). part may be that very range of whole.
  virtual void all_gather(ConstMatrix part, Matrix whole) = 0;
  // whole: r * size rows f32 contiguous; rank i gets the sum over ranks of rows [i r, (i + 1) r) in part (f32).
  virtual void reduce_scatter(ConstMatrix whole, Matrix part) = 0;
  // data contiguous, any type: overwritten by that of `root`.
  virtual void broadcast(Matrix data, int root) = 0;
  // Point to point, any type, contiguous; matched by (peer, tag). Sends never wait for the receiver.
  virtual std::unique_ptr<Pending> send(ConstMatrix data, int peer, int tag) = 0;
  virtual void receive(Matrix data, int peer, int tag) = 0;
  // The same, begun now and complete after wait(): beside what is computed meanwhile where the device can do that.
  // On cuda messages have no tags: those of one sender, receiver and parity of the tag are received in the order in
  // which they were sent, and go from an even tag's sender to the next rank of the axis, from an odd one's to the one
  // before (the last rank is before the first).
  virtual std::unique_ptr<Pending> start_receive(Matrix data, int peer, int tag) = 0;
  virtual std::unique_ptr<Pending> start_all_reduce(Matrix data) = 0;  // a sum
  virtual std::unique_ptr<Pending> start_reduce_scatter(ConstMatrix whole, Matrix part) = 0;

  // Control plane, in host memory: every rank's values in rank order. Sums made from the result in that order are the
  // same on every rank, whatever the algorithm underneath.
  virtual std::vector<double> gather_values(std::span<const double> values) = 0;
  virtual void barrier() = 0;

 protected:
  Communicator(std::string axis, int rank, int size) : axis_(std::move(axis)), rank_(rank), size_(size) {}

 private:
  std::string axis_;
  int rank_;
  int size_;
};

// Sum over ranks of one value, in rank order.
double sum_of(Communicator& communicator, double value);

// A group of one when size is 1; otherwise counts what would be sent, and tells `observer` (which outlives it) of it. The
// planner builds any rank of any mesh with it.
std::unique_ptr<Communicator> make_meta_communicator(kernels::Device& device, std::string axis, int rank, int size,
                                                     TrafficObserver* observer = nullptr);

}  // namespace lorashard::dist
