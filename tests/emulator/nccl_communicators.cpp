// Making and ending the emulated NCCL's communicators. An id names the process that made it; the ranks send that
// process what they are, and it answers all of them when the last one has come.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "tests/emulator/nccl_group.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::nccl {
namespace {

struct Id {
  char mark[16] = "emulated NCCL";
  std::uint64_t key = 0;
  std::int32_t process = 0;
};
static_assert(sizeof(Id) <= sizeof(ncclUniqueId));

thread_local std::string last_error;

// All that this process ever made; guarded by the hub's lock.
std::set<ncclComm*>& communicators() {
  static auto* const all = new std::set<ncclComm*>;
  return *all;
}

std::string label_of(std::uint64_t key) {
  char text[40];
  std::snprintf(text, sizeof(text), "communicator %04x", static_cast<unsigned>(key & 0xffff));
  return text;
}

// NCCL_HOSTID makes one host look like several, as for the real NCCL.
Member this_member(int rank, int ranks) {
  Member member;
  member.rank = rank;
  member.ranks = ranks;
  member.process = process();
  cudaGetDevice(&member.device);
  if (const char* host = std::getenv("NCCL_HOSTID"))
    std::strncpy(member.host, host, sizeof(member.host) - 1);
  else
    gethostname(member.host, sizeof(member.host) - 1);
  return member;
}

std::string missing_of(std::uint64_t key, int ranks) {
  std::string missing;
  const Box& box = hub().boxes[key];
  for (int rank = 0; rank < ranks && !box.joined.empty(); ++rank)
    if (!box.joined.contains(rank)) missing += (missing.empty() ? ": rank " : ", rank ") + std::to_string(rank);
  return missing + (missing.empty() ? "" : " never came");
}

// The members by rank; empty after a fault.
std::vector<Member> join(const Id& id, const Member& self) {
  const std::byte* first = reinterpret_cast<const std::byte*>(&self);
  post(id.process, {{.key = id.key, .kind = MessageKind::join, .from = self.rank}, {first, first + sizeof(self)}});
  Lock lock(hub().mutex);
  Box& box = hub().boxes[id.key];
  if (!wait(lock, [&] { return box.members.has_value(); })) {
    const std::string missing = missing_of(id.key, self.ranks);
    lock.unlock();
    fault("ncclCommInitRank", "rank " + std::to_string(self.rank) + " of " + std::to_string(self.ranks) + " waited " +
                                  std::to_string(static_cast<int>(patience().count())) + " s for the other ranks" +
                                  missing);
    return {};
  }
  std::vector<Member> members(box.members->body.size() / sizeof(Member));
  std::memcpy(members.data(), box.members->body.data(), members.size() * sizeof(Member));
  box.members.reset();
  return members;
}

ncclResult_t check_members(const std::vector<Member>& members, const Member& self) {
  if (members.size() != static_cast<std::size_t>(self.ranks))
    return refuse(ncclInvalidUsage,
                  "rank " + std::to_string(self.rank) + " of " + std::to_string(self.ranks) +
                      ": the id was used before, the rank was taken, or another number of ranks was given");
  for (const Member& a : members)
    for (const Member& b : members)
      if (a.rank < b.rank && a.device == b.device && std::strcmp(a.host, b.host) == 0)
        return refuse(ncclInvalidUsage, "Duplicate GPU detected : rank " + std::to_string(a.rank) + " and rank " +
                                            std::to_string(b.rank) + " both on CUDA device " +
                                            std::to_string(a.device));
  return ncclSuccess;
}

ncclResult_t make(ncclComm_t* made, int ranks, const ncclUniqueId& opaque, int rank) {
  Id id;
  std::memcpy(&id, opaque.internal, sizeof(id));
  if (!made || ranks < 1 || rank < 0 || rank >= ranks || std::strncmp(id.mark, Id().mark, sizeof(id.mark)) != 0)
    return refuse(ncclInvalidArgument,
                  "ncclCommInitRank: rank " + std::to_string(rank) + " of " + std::to_string(ranks) + ", or no id");
  if (inside_group()) return refuse(ncclInvalidUsage, "ncclCommInitRank inside a group is not emulated");
  if (ranks > 1 && !has_peers()) return refuse(ncclSystemError, "MPI was not started by MPI_Init_thread");
  start_wire(watch_open_groups);
  const Member self = this_member(rank, ranks);
  const std::vector<Member> members = join(id, self);
  if (members.empty()) return refuse(ncclRemoteError, "not all ranks came");
  if (const ncclResult_t code = check_members(members, self); code != ncclSuccess) return code;
  auto* const comm = new ncclComm;
  comm->key = id.key;
  comm->label = label_of(id.key);
  comm->rank = rank;
  comm->device = self.device;
  for (const Member& member : members) comm->processes.push_back(member.process);
  comm->sends.resize(members.size());
  comm->receives.resize(members.size());
  const Lock lock(hub().mutex);
  communicators().insert(comm);
  *made = comm;
  return ncclSuccess;
}

// Ends a communicator whose operations are awaited first.
ncclResult_t end(ncclComm* comm, const char* function, const char* as) {
  if (inside_group()) fault(function, "called inside a group that is still open");
  Lock lock(hub().mutex);
  const bool finalized =
      comm && communicators().contains(comm) && comm->ended && comm->ended == std::string("finalized");
  lock.unlock();
  if (!(finalized && as == std::string("destroyed")) && !usable(comm, function)) return ncclInvalidArgument;
  lock.lock();
  hub().changed.wait(lock, [&] { return comm->groups_done == comm->groups_issued; });
  comm->ended = as;
  return ncclSuccess;
}

}  // namespace

ncclComm* usable(ncclComm* comm, const char* function) {
  std::string problem;
  {
    const Lock lock(hub().mutex);
    if (!comm || !communicators().contains(comm))
      problem = "this is no communicator";
    else if (comm->ended)
      problem = comm->label + " was " + comm->ended + " before";
    else
      return comm;
  }
  fault(function, problem);
  return nullptr;
}

ncclResult_t refuse(ncclResult_t code, std::string text) {
  last_error = std::move(text);
  return code;
}

}  // namespace lorashard::emulator::nccl

using namespace lorashard::emulator::nccl;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  if (!version) return ncclInvalidArgument;
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (!id) return ncclInvalidArgument;
  std::random_device random;
  Id made;
  made.key = (std::uint64_t{random()} << 32) | random();
  made.process = process();
  start_wire(watch_open_groups);
  std::memset(id, 0, sizeof(*id));
  std::memcpy(id->internal, &made, sizeof(made));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  return make(comm, ranks, id, rank);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const ncclConfig_t standard = NCCL_CONFIG_INITIALIZER;
  if (config && (config->magic != standard.magic || config->size != standard.size))
    return refuse(ncclInvalidArgument, "the configuration was not initialised with NCCL_CONFIG_INITIALIZER");
  if (config && config->blocking == 0)
    return refuse(ncclInvalidArgument, "non-blocking communicators are not emulated");
  return make(comm, ranks, id, rank);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) { return end(comm, "ncclCommFinalize", "finalized"); }
ncclResult_t ncclCommDestroy(ncclComm_t comm) { return end(comm, "ncclCommDestroy", "destroyed"); }

// What runs is left at once, what is queued ends without effect when its stream comes to it.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!usable(comm, "ncclCommAbort")) return ncclInvalidArgument;
  Lock lock(hub().mutex);
  comm->aborted = true;
  comm->ended = "aborted";
  hub().changed.notify_all();
  hub().changed.wait(lock, [&] { return comm->parts_running == 0; });
  lock.unlock();
  for (int peer = 0; peer < comm->size(); ++peer)
    if (peer != comm->rank)
      post(comm->processes[static_cast<std::size_t>(peer)],
           {{.key = comm->key, .kind = MessageKind::abort, .from = comm->rank}, {}});
  return ncclSuccess;
}

// Also an error once another rank has aborted.
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (!error || !usable(comm, "ncclCommGetAsyncError")) return ncclInvalidArgument;
  const Lock lock(hub().mutex);
  const int aborted_by = hub().boxes[comm->key].aborted_by;
  if (comm->error == ncclSuccess && aborted_by >= 0) {
    comm->error = ncclRemoteError;
    last_error = "rank " + std::to_string(aborted_by) + " aborted " + comm->label;
  }
  *error = comm->error;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  if (!count || !usable(comm, "ncclCommCount")) return ncclInvalidArgument;
  *count = comm->size();
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  if (!rank || !usable(comm, "ncclCommUserRank")) return ncclInvalidArgument;
  *rank = comm->rank;
  return ncclSuccess;
}
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  if (!device || !usable(comm, "ncclCommCuDevice")) return ncclInvalidArgument;
  *device = comm->device;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "in progress";
    default:
      return "unknown result code";
  }
}
const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

}  // extern "C"
