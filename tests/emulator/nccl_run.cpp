// Running a group: its collectives in order, its sends and receives all at once.
#include <algorithm>

#include "tests/emulator/nccl_elements.hpp"
#include "tests/emulator/nccl_group.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::nccl {
namespace {

// The sends and receives of a part, all under way at once.
class Transfers {
 public:
  Transfers(ncclComm& comm, const std::vector<Operation>& operations) : comm_(comm) {
    for (const Operation& op : operations)
      if (point_to_point(op.what.verb)) open_.push_back(&op);
  }

  void offer() {
    for (const Operation* op : open_)
      if (op->what.verb == Verb::send)
        post(comm_.processes[static_cast<std::size_t>(op->peer)], {{.key = comm_.key,
                                                                    .kind = MessageKind::offer,
                                                                    .from = comm_.rank,
                                                                    .sequence = op->sequence,
                                                                    .what = op->what},
                                                                   copy_of(op->from, 0, bytes_of(op->what))});
  }

  void finish() {
    while (!open_.empty()) {
      Lock lock(hub().mutex);
      std::size_t next = 0;
      const bool in_time = wait(lock, [&] {
        while (next < open_.size() && !ready(*open_[next])) ++next;
        if (next < open_.size() || comm_.aborted) return true;
        next = 0;
        return false;
      });
      if (comm_.aborted) return;
      if (!in_time) {
        comm_.error = ncclRemoteError;
        lock.unlock();
        return fault(describe(comm_, *open_.front()), waited_for("rank " + std::to_string(open_.front()->peer)));
      }
      const Operation& op = *open_[next];
      open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(next));
      Box& box = hub().boxes[comm_.key];
      if (op.what.verb == Verb::send) {
        box.receipts.erase({op.peer, op.sequence});
        continue;
      }
      const Message offered = std::move(box.offers[op.peer].front());
      box.offers[op.peer].pop_front();
      lock.unlock();
      receive(op, offered);
    }
  }

 private:
  static std::size_t bytes_of(const Signature& what) {
    return what.count * size_bytes(static_cast<ncclDataType_t>(what.type));
  }

  // The lock is held. Receives from one peer are served in the order of the list, which is that of the offers; an offer
  // whose receive has been given up is dropped.
  bool ready(const Operation& op) const {
    Box& box = hub().boxes[comm_.key];
    if (op.what.verb == Verb::send) return box.receipts.contains({op.peer, op.sequence});
    std::deque<Message>& offers = box.offers[op.peer];
    while (!offers.empty() && offers.front().header.sequence < op.sequence) offers.pop_front();
    return !offers.empty();
  }

  void receive(const Operation& op, const Message& offered) {
    if (offered.body.size() == bytes_of(op.what))
      std::ranges::copy(offered.body, at(op.to, 0));
    else
      fault(describe(comm_, op), "the send and the receive differ in size: rank " + std::to_string(op.peer) +
                                     " sends " + std::to_string(offered.body.size()) + " bytes, rank " +
                                     std::to_string(comm_.rank) + " receives " + std::to_string(bytes_of(op.what)));
    post(comm_.processes[static_cast<std::size_t>(op.peer)],
         {{.key = comm_.key, .kind = MessageKind::receipt, .from = comm_.rank, .sequence = offered.header.sequence},
          {}});
  }

  ncclComm& comm_;
  std::vector<const Operation*> open_;
};

void run_operations(ncclComm& comm, const std::vector<Operation>& operations) {
  Transfers transfers(comm, operations);
  transfers.offer();
  for (const Operation& op : operations)
    if (!point_to_point(op.what.verb) && !run_collective(comm, op)) break;
  transfers.finish();
}

// Waits for the communicator's earlier groups and for this group's other streams.
bool begin(Lock& lock, Group& group) {
  ncclComm& comm = *group.comm;
  std::uint64_t seen = comm.groups_done;
  while (comm.groups_done < group.ticket && !comm.aborted) {
    if (!wait(lock, [&] { return comm.groups_done != seen || comm.aborted; })) return false;
    seen = comm.groups_done;
  }
  ++group.arrived;
  hub().changed.notify_all();
  return wait(lock, [&] { return group.arrived == group.parts.size() || comm.aborted; });
}

// The lock is held.
void finish(Group& group) {
  if (++group.finished == group.parts.size()) ++group.comm->groups_done;
  hub().changed.notify_all();
}

}  // namespace

void leave_out(Group& group) {
  const Lock lock(hub().mutex);
  ++group.arrived;
  finish(group);
}

void run(const std::shared_ptr<Group>& group, std::size_t part) {
  ncclComm& comm = *group->comm;
  const std::vector<Operation>& operations = group->parts[part].operations;
  Lock lock(hub().mutex);
  ++comm.parts_running;
  const bool begun = begin(lock, *group);
  if (begun && !comm.aborted) {
    lock.unlock();
    run_operations(comm, operations);
    lock.lock();
  } else if (!comm.aborted) {
    comm.error = ncclInternalError;
    lock.unlock();
    fault(describe(comm, operations.front()), waited_for("what was issued before it, or with it, on another stream"));
    lock.lock();
  }
  finish(*group);
  hub().changed.wait(lock, [&] { return group->finished == group->parts.size() || comm.aborted; });
  --comm.parts_running;
  hub().changed.notify_all();
}

}  // namespace lorashard::emulator::nccl
