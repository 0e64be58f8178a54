// Communicators and the groups of operations that run on them. All fields that change are guarded by the hub's lock.
//
//   nccl_communicators.cpp   made, ended, asked for errors
//   nccl_verbs.cpp           the calls: arguments checked, operations gathered into groups and queued
//   nccl_operations.cpp      what an operation is called and which buffers it touches
//   nccl_run.cpp             a group on its streams; sends and receives
//   nccl_collectives.cpp     collectives; nccl_elements.cpp: types and reductions
//   nccl_wire.cpp            messages between the processes
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulator/nccl_wire.hpp"
#include "tests/emulator/queue.hpp"

// Never freed, so that a communicator that is used after its end is known as what it was.
struct ncclComm {
  std::uint64_t key = 0;
  std::string label;  // "communicator 3f2a"
  int rank = 0, device = 0;
  std::vector<int> processes;  // by rank

  const char* ended = nullptr;  // "finalized", "destroyed" or "aborted"
  bool aborted = false;
  ncclResult_t error = ncclSuccess;  // what ncclCommGetAsyncError tells
  std::uint64_t groups_issued = 0, groups_done = 0;
  int parts_running = 0;
  std::uint64_t collectives = 0;               // issued
  std::vector<std::uint64_t> sends, receives;  // issued, by peer

  int size() const { return static_cast<int>(processes.size()); }
};

namespace lorashard::emulator::nccl {

struct Operation {
  Signature what;
  const void* from = nullptr;
  void* to = nullptr;
  int peer = -1;               // of a send or receive
  std::uint64_t sequence = 0;  // among the collectives, or among the sends to (receives from) the peer
};

using Bytes = std::vector<std::byte>;
inline std::byte* at(void* data, std::size_t bytes) { return static_cast<std::byte*>(data) + bytes; }
inline Bytes copy_of(const void* data, std::size_t first, std::size_t bytes) {
  const std::byte* begin = static_cast<const std::byte*>(data) + first;
  return Bytes(begin, begin + bytes);
}

// "ncclAllReduce(count 4, float32, sum)"
std::string describe(const Signature& what);
// The same with who and where: "ncclSend(count 4, float32) to rank 1, rank 0 of 2 of communicator 3f2a".
std::string describe(const ncclComm& comm, const Operation& operation);

// The operations of one group on one communicator. NCCL makes one step of them: it starts when all its streams have
// come to it, and ends on all of them together.
struct Group {
  ncclComm* comm = nullptr;
  std::uint64_t ticket = 0;  // groups of a communicator run in the order in which they were issued, whatever the stream
  struct Part {
    cudaStream_t stream = nullptr;
    std::vector<Operation> operations;
  };
  std::vector<Part> parts;
  std::size_t arrived = 0, finished = 0;
};

// False when it was left: the communicator was aborted, a peer never came or entered something else (a fault then).
bool run_collective(ncclComm& comm, const Operation& operation);

// Runs one part on its stream's thread.
void run(const std::shared_ptr<Group>& group, std::size_t part);
// For a part that its stream left out after a fault, so that nobody waits for it.
void leave_out(Group& group);

// What an operation reads and writes on this rank.
std::vector<Access> accesses_of(const ncclComm& comm, const Operation& operation);
// Faults for buffers that overlap: within one verb other than in place; in one group, for its operations have no order
// among them.
void check_in_place(const ncclComm& comm, const Operation& operation);
void check_apart(const ncclComm& comm, const Operation& operation, const ncclComm& other_comm, const Operation& other);

// "ncclAllReduce"
const char* function_of(Verb verb);
inline bool point_to_point(Verb verb) { return verb == Verb::send || verb == Verb::receive; }

// nullptr after a fault when `comm` is none, or has ended.
ncclComm* usable(ncclComm* comm, const char* function);

// Sets what ncclGetLastError tells this thread.
ncclResult_t refuse(ncclResult_t code, std::string text);

bool inside_group();
// Reports groups that have been open for longer than patience().
void watch_open_groups();

}  // namespace lorashard::emulator::nccl
