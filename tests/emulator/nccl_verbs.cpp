// The emulated NCCL's verbs: arguments are checked, operations gathered into groups, and groups queued on their
// streams.
#include <algorithm>

#include "tests/emulator/nccl_elements.hpp"
#include "tests/emulator/nccl_group.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::nccl {
namespace {

struct Issued {
  ncclComm* comm;
  cudaStream_t stream;
  Operation operation;
};

struct OpenGroup;
// Of all threads; guarded by the hub's lock.
std::set<OpenGroup*>& open_groups() {
  static auto* const all = new std::set<OpenGroup*>;
  return *all;
}

// The group that a thread has open. A thread that ends inside one never started what it issued.
struct OpenGroup {
  int depth = 0;
  ncclResult_t error = ncclSuccess;
  std::vector<Issued> issued;
  Clock::time_point since;
  ~OpenGroup() {
    if (depth == 0) return;
    {
      const Lock lock(hub().mutex);
      open_groups().erase(this);
    }
    fault("ncclGroupStart",
          "the group was never closed; its " + std::to_string(issued.size()) + " operations were not started");
  }
};
thread_local OpenGroup this_group;

std::shared_ptr<Group> group_of(const std::vector<Issued>& issued, ncclComm* comm) {
  const auto group = std::make_shared<Group>();
  group->comm = comm;
  for (const Issued& item : issued) {
    if (item.comm != comm) continue;
    const auto at = std::ranges::find(group->parts, item.stream, &Group::Part::stream);
    Group::Part& part = at == group->parts.end() ? group->parts.emplace_back(Group::Part{item.stream, {}}) : *at;
    part.operations.push_back(item.operation);
  }
  return group;
}

// A part that waits on its stream. The stream lets go of it when it has run, or has been left out.
class Waiting {
 public:
  Waiting(std::shared_ptr<Group> group, std::size_t part) : group_(std::move(group)), part_(part) {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() {
    if (!ran_) leave_out(*group_);
  }
  void run() {
    ran_ = true;
    nccl::run(group_, part_);
  }

 private:
  std::shared_ptr<Group> group_;
  std::size_t part_;
  bool ran_ = false;
};

// Communicator by communicator in the order of their first operation, as NCCL launches them: two communicators of one
// group on one stream run one after the other.
ncclResult_t start(std::vector<Issued> issued) {
  for (std::size_t i = 0; i < issued.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      check_apart(*issued[i].comm, issued[i].operation, *issued[j].comm, issued[j].operation);
  while (!issued.empty()) {
    ncclComm* const comm = issued.front().comm;
    const std::shared_ptr<Group> group = group_of(issued, comm);
    std::erase_if(issued, [&](const Issued& item) { return item.comm == comm; });
    {
      const Lock lock(hub().mutex);
      group->ticket = comm->groups_issued++;
    }
    for (std::size_t i = 0; i < group->parts.size(); ++i) {
      const std::vector<Operation>& operations = group->parts[i].operations;
      std::vector<Access> accesses;
      for (const Operation& op : operations)
        for (const Access& access : accesses_of(*comm, op))
          if (access.row_bytes > 0) accesses.push_back(access);
      const auto waiting = std::make_shared<Waiting>(group, i);
      enqueue(
          group->parts[i].stream, describe(*comm, operations.front()), std::move(accesses),
          [waiting] { waiting->run(); }, true);
    }
  }
  return ncclSuccess;
}

ncclResult_t check_arguments(const ncclComm& comm, const Operation& op) {
  const auto type = static_cast<ncclDataType_t>(op.what.type);
  const std::string where = describe(comm, op);
  if (size_bytes(type) == 0) return refuse(ncclInvalidArgument, where + ": no such type");
  if (op.what.reduction >= 0 && !reducible(type, static_cast<ncclRedOp_t>(op.what.reduction)))
    return refuse(ncclInvalidArgument, where + ": this reduction of this type is not there, or not emulated");
  const bool rooted = op.what.verb == Verb::broadcast || op.what.verb == Verb::reduce;
  if (rooted && (op.what.root < 0 || op.what.root >= comm.size()))
    return refuse(ncclInvalidArgument, where + ": no such root");
  if (point_to_point(op.what.verb) && (op.peer < 0 || op.peer >= comm.size()))
    return refuse(ncclInvalidArgument, where + ": no such peer");
  for (const Access& access : accesses_of(comm, op))
    if (access.row_bytes > 0 && !access.data) return refuse(ncclInvalidArgument, where + ": a buffer is null");
  check_in_place(comm, op);
  return ncclSuccess;
}

ncclResult_t issue(ncclComm* comm, cudaStream_t stream, Operation op) {
  if (!usable(comm, function_of(op.what.verb))) return ncclInvalidArgument;
  const ncclResult_t code = check_arguments(*comm, op);
  if (code != ncclSuccess) {
    if (this_group.depth > 0) this_group.error = code;
    return code;
  }
  if (op.what.count == 0 && !point_to_point(op.what.verb)) return ncclSuccess;  // as NCCL does: no rank waits for it
  {
    const Lock lock(hub().mutex);
    const std::size_t peer = static_cast<std::size_t>(std::max(0, op.peer));
    op.sequence = op.what.verb == Verb::send      ? comm->sends[peer]++
                  : op.what.verb == Verb::receive ? comm->receives[peer]++
                                                  : comm->collectives++;
  }
  if (this_group.depth == 0) return start({{comm, stream, op}});
  this_group.issued.push_back({comm, stream, op});
  return ncclSuccess;
}

Signature signature(Verb verb, std::size_t count, ncclDataType_t type, int reduction = -1, int root = -1) {
  return {verb, static_cast<std::int32_t>(type), reduction, root, count};
}

}  // namespace

bool inside_group() { return this_group.depth > 0; }

void watch_open_groups() {
  std::size_t late = 0;
  {
    const Lock lock(hub().mutex);
    late =
        std::erase_if(open_groups(), [](const OpenGroup* group) { return Clock::now() - group->since > patience(); });
  }
  if (late > 0)
    fault("ncclGroupStart", "a group has been open for " + std::to_string(static_cast<int>(patience().count())) +
                                " s; its operations start when ncclGroupEnd closes it");
}

}  // namespace lorashard::emulator::nccl

using namespace lorashard::emulator::nccl;

extern "C" {

ncclResult_t ncclGroupStart() {
  if (++this_group.depth > 1) return ncclSuccess;
  const Lock lock(hub().mutex);
  this_group.since = Clock::now();
  open_groups().insert(&this_group);
  return ncclSuccess;
}

// Starts nothing when an operation of the group was refused.
ncclResult_t ncclGroupEnd() {
  if (this_group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--this_group.depth > 0) return ncclSuccess;
  {
    const Lock lock(hub().mutex);
    open_groups().erase(&this_group);
  }
  std::vector<Issued> issued = std::move(this_group.issued);
  this_group.issued.clear();
  if (const ncclResult_t error = std::exchange(this_group.error, ncclSuccess); error != ncclSuccess) return error;
  return start(std::move(issued));
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t reduction,
                           ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::all_reduce, count, type, reduction), from, to});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t reduction,
                               ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::reduce_scatter, count, type, reduction), from, to});
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::all_gather, count, type), from, to});
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::broadcast, count, type, -1, root), from, to});
}
ncclResult_t ncclBcast(void* data, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return ncclBroadcast(data, data, count, type, root, comm, stream);
}
ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t reduction, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::reduce, count, type, reduction, root), from, to});
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::send, count, type), from, nullptr, peer});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, stream, {signature(Verb::receive, count, type), nullptr, to, peer});
}

}  // extern "C"
