// Running a collective of one rank. Data goes directly from each rank to each other one; every rank waits for every
// other, so a collective is also a rendezvous.
#include <algorithm>
#include <cstring>

#include "tests/emulator/nccl_elements.hpp"
#include "tests/emulator/nccl_group.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::nccl {
namespace {

// A collective of one rank. Its functions return false when it was left: the communicator was aborted, a peer never
// came or entered something else (which has been reported).
class Collective {
 public:
  Collective(ncclComm& comm, const Operation& op)
      : comm_(comm),
        op_(op),
        type_(static_cast<ncclDataType_t>(op.what.type)),
        reduction_(static_cast<ncclRedOp_t>(std::max(0, op.what.reduction))),
        size_(size_bytes(type_)),
        bytes_(op.what.count * size_) {}

  bool run() {
    switch (op_.what.verb) {
      case Verb::all_reduce:
        return all_reduce();
      case Verb::all_gather:
        return all_gather();
      case Verb::reduce_scatter:
        return reduce_scatter();
      case Verb::broadcast:
        return broadcast();
      default:
        return reduce();
    }
  }

 private:
  // Gives body(peer) to every other rank and gets theirs, by rank; this rank's own place is empty.
  template <class Body>
  bool exchange(std::uint64_t phase, const Body& body, std::vector<Message>* got);
  bool all_enter_the_same(const std::vector<Message>& got);

  // This rank's values as they enter a sum.
  Bytes own(std::size_t first, std::size_t bytes) const {
    Bytes values = copy_of(op_.from, first, bytes);
    if (reduction_ == ncclAvg) scale_for_average(type_, comm_.size(), values.data(), bytes / size_);
    return values;
  }
  // The reduction of `mine` and what the others gave, in rank order, so that every rank would get the same bits.
  Bytes reduce_in_order(const Bytes& mine, const std::vector<Message>& got) const {
    const auto values_of = [&](int rank) -> const Bytes& {
      return rank == comm_.rank ? mine : got[static_cast<std::size_t>(rank)].body;
    };
    Bytes result = values_of(0);
    for (int rank = 1; rank < comm_.size(); ++rank)
      combine(type_, reduction_, values_of(rank).data(), result.data(), result.size() / size_);
    return result;
  }

  // Elements [first(r), first(r + 1)) are summed by rank r.
  std::size_t first(int rank) const {
    return op_.what.count * static_cast<std::size_t>(rank) / static_cast<std::size_t>(comm_.size()) * size_;
  }

  bool all_reduce() {
    std::vector<Message> got;
    const auto slice = [&](int rank) { return own(first(rank), first(rank + 1) - first(rank)); };
    if (!exchange(0, slice, &got)) return false;
    const Bytes sums = reduce_in_order(slice(comm_.rank), got);
    if (!exchange(
            1, [&](int) { return sums; }, &got))
      return false;
    for (int rank = 0; rank < comm_.size(); ++rank) {
      const Bytes& part = rank == comm_.rank ? sums : got[static_cast<std::size_t>(rank)].body;
      std::ranges::copy(part, at(op_.to, first(rank)));
    }
    return true;
  }
  bool all_gather() {
    std::vector<Message> got;
    const Bytes mine = copy_of(op_.from, 0, bytes_);
    if (!exchange(
            0, [&](int) { return mine; }, &got))
      return false;
    for (int rank = 0; rank < comm_.size(); ++rank)
      std::ranges::copy(rank == comm_.rank ? mine : got[static_cast<std::size_t>(rank)].body,
                        at(op_.to, static_cast<std::size_t>(rank) * bytes_));
    return true;
  }
  bool reduce_scatter() {
    std::vector<Message> got;
    const auto block = [&](int rank) { return own(static_cast<std::size_t>(rank) * bytes_, bytes_); };
    if (!exchange(0, block, &got)) return false;
    std::ranges::copy(reduce_in_order(block(comm_.rank), got), at(op_.to, 0));
    return true;
  }
  bool broadcast() {
    std::vector<Message> got;
    const bool root = comm_.rank == op_.what.root;
    if (!exchange(
            0, [&](int) { return root ? copy_of(op_.from, 0, bytes_) : Bytes(); }, &got))
      return false;
    if (!root)
      std::ranges::copy(got[static_cast<std::size_t>(op_.what.root)].body, at(op_.to, 0));
    else if (op_.to != op_.from)
      std::memcpy(op_.to, op_.from, bytes_);
    return true;
  }
  bool reduce() {
    std::vector<Message> got;
    const auto body = [&](int peer) { return peer == op_.what.root ? own(0, bytes_) : Bytes(); };
    if (!exchange(0, body, &got)) return false;
    if (comm_.rank == op_.what.root) std::ranges::copy(reduce_in_order(own(0, bytes_), got), at(op_.to, 0));
    return true;
  }

  ncclComm& comm_;
  const Operation& op_;
  ncclDataType_t type_;
  ncclRedOp_t reduction_;
  std::size_t size_, bytes_;
};

template <class Body>
bool Collective::exchange(std::uint64_t phase, const Body& body, std::vector<Message>* got) {
  for (int peer = 0; peer < comm_.size(); ++peer)
    if (peer != comm_.rank)
      post(comm_.processes[static_cast<std::size_t>(peer)], {{.key = comm_.key,
                                                              .kind = MessageKind::collective,
                                                              .from = comm_.rank,
                                                              .sequence = op_.sequence,
                                                              .phase = phase,
                                                              .what = op_.what},
                                                             body(peer)});
  Lock lock(hub().mutex);
  std::map<int, Message>& come = hub().boxes[comm_.key].collectives[{op_.sequence, phase}];
  const std::size_t others = comm_.processes.size() - 1;
  const bool in_time = wait(lock, [&] { return come.size() == others || comm_.aborted; });
  if (comm_.aborted) return false;
  if (!in_time) {
    std::string missing;
    for (int peer = 0; peer < comm_.size(); ++peer)
      if (peer != comm_.rank && !come.contains(peer))
        missing += (missing.empty() ? "rank " : ", rank ") + std::to_string(peer);
    comm_.error = ncclRemoteError;
    lock.unlock();
    fault(describe(comm_, op_), waited_for(missing));
    return false;
  }
  got->assign(comm_.processes.size(), {});
  for (auto& [from, message] : come) (*got)[static_cast<std::size_t>(from)] = std::move(message);
  hub().boxes[comm_.key].collectives.erase({op_.sequence, phase});
  lock.unlock();
  return all_enter_the_same(*got);
}

bool Collective::all_enter_the_same(const std::vector<Message>& got) {
  for (int peer = 0; peer < comm_.size(); ++peer) {
    const Signature& theirs = got[static_cast<std::size_t>(peer)].header.what;
    if (peer == comm_.rank || theirs == op_.what) continue;
    {
      const Lock lock(hub().mutex);
      comm_.error = ncclInternalError;
    }
    fault(describe(comm_, op_), "ranks entered different collectives: rank " + std::to_string(comm_.rank) + " " +
                                    describe(op_.what) + ", rank " + std::to_string(peer) + " " + describe(theirs));
    return false;
  }
  return true;
}

}  // namespace

bool run_collective(ncclComm& comm, const Operation& operation) { return Collective(comm, operation).run(); }

}  // namespace lorashard::emulator::nccl
