// What the operations of the emulated NCCL are called, and which buffers they touch.
#include <cstdint>

#include "tests/emulator/nccl_elements.hpp"
#include "tests/emulator/nccl_group.hpp"

namespace lorashard::emulator::nccl {
namespace {

std::uintptr_t begin_of(const Access& access) { return reinterpret_cast<std::uintptr_t>(access.data); }
bool overlap(const Access& a, const Access& b) {
  return begin_of(a) < begin_of(b) + b.row_bytes && begin_of(b) < begin_of(a) + a.row_bytes;
}

// A verb's buffers are apart, or in place: the same, or this rank's part of the whole.
bool in_place_or_apart(const ncclComm& comm, const Operation& op) {
  const std::vector<Access> accesses = accesses_of(comm, op);
  if (accesses.size() < 2 || !overlap(accesses[0], accesses[1])) return true;
  const std::size_t part =
      static_cast<std::size_t>(comm.rank) * op.what.count * size_bytes(static_cast<ncclDataType_t>(op.what.type));
  if (op.what.verb == Verb::all_gather) return begin_of(accesses[0]) == begin_of(accesses[1]) + part;
  if (op.what.verb == Verb::reduce_scatter) return begin_of(accesses[1]) == begin_of(accesses[0]) + part;
  return op.from == op.to;
}

}  // namespace

const char* function_of(Verb verb) {
  switch (verb) {
    case Verb::all_reduce:
      return "ncclAllReduce";
    case Verb::all_gather:
      return "ncclAllGather";
    case Verb::reduce_scatter:
      return "ncclReduceScatter";
    case Verb::broadcast:
      return "ncclBroadcast";
    case Verb::reduce:
      return "ncclReduce";
    case Verb::send:
      return "ncclSend";
    default:
      return "ncclRecv";
  }
}

std::string describe(const Signature& what) {
  std::string text = function_of(what.verb);
  text += "(count " + std::to_string(what.count) + ", " + name(static_cast<ncclDataType_t>(what.type));
  if (what.reduction >= 0) text += ", " + name(static_cast<ncclRedOp_t>(what.reduction));
  if (what.root >= 0) text += ", root " + std::to_string(what.root);
  return text + ")";
}

std::string describe(const ncclComm& comm, const Operation& op) {
  std::string text = describe(op.what);
  if (op.peer >= 0) text += (op.what.verb == Verb::send ? " to rank " : " from rank ") + std::to_string(op.peer);
  return text + ", rank " + std::to_string(comm.rank) + " of " + std::to_string(comm.size()) + " of " + comm.label;
}

std::vector<Access> accesses_of(const ncclComm& comm, const Operation& op) {
  const std::size_t one = op.what.count * size_bytes(static_cast<ncclDataType_t>(op.what.type));
  const std::size_t all = one * comm.processes.size();
  const Access reads{op.from, op.what.verb == Verb::reduce_scatter ? all : one};
  const Access writes{op.to, op.what.verb == Verb::all_gather ? all : one, 1, 0, true};
  switch (op.what.verb) {
    case Verb::send:
      return {reads};
    case Verb::receive:
      return {writes};
    case Verb::broadcast:
      return comm.rank == op.what.root ? std::vector{reads, writes} : std::vector{writes};
    case Verb::reduce:
      return comm.rank == op.what.root ? std::vector{reads, writes} : std::vector{reads};
    default:
      return {reads, writes};
  }
}

void check_in_place(const ncclComm& comm, const Operation& op) {
  if (!in_place_or_apart(comm, op)) fault(describe(comm, op), "the buffers overlap, but not in place");
}

void check_apart(const ncclComm& comm, const Operation& op, const ncclComm& other_comm, const Operation& other) {
  for (const Access& a : accesses_of(comm, op))
    for (const Access& b : accesses_of(other_comm, other))
      if ((a.write || b.write) && overlap(a, b))
        return fault(describe(comm, op), "its buffer overlaps that of " + describe(other.what) + " in the same group");
}

}  // namespace lorashard::emulator::nccl
