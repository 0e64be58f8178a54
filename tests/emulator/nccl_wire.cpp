#include "tests/emulator/nccl_wire.hpp"

#include <mpi.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::nccl {
namespace {

constexpr int kHeaderTag = 1, kBodyTag = 2;

struct Outgoing {
  int process = 0;
  Message message;
  MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
};

struct Wire {
  MPI_Comm comm = MPI_COMM_NULL;
  int process = 0;
  std::mutex mutex;
  std::condition_variable woken;
  std::deque<std::unique_ptr<Outgoing>> outbox;  // guarded by mutex
  bool stopping = false;                         // guarded by mutex
  std::thread mover;
  std::vector<std::unique_ptr<Outgoing>> under_way;  // the mover's own
  void (*watch)() = nullptr;
};
Wire& wire() {
  static Wire* one = new Wire;
  return *one;
}

std::vector<std::byte> bytes_of(const std::map<int, Member>& members) {
  std::vector<std::byte> bytes;
  for (const auto& [rank, member] : members) {
    const std::byte* first = reinterpret_cast<const std::byte*>(&member);
    bytes.insert(bytes.end(), first, first + sizeof(member));
  }
  return bytes;
}

// A rank that joins twice, or with another number of ranks, is answered at once with what is known: each rank that is
// told checks the members itself.
void register_member(std::uint64_t key, const Message& message) {
  Member member;
  std::memcpy(&member, message.body.data(), sizeof(member));
  std::map<int, Member> members;
  {
    const Lock lock(hub().mutex);
    Box& box = hub().boxes[key];
    const bool odd = box.answered || box.joined.contains(member.rank) ||
                     (!box.joined.empty() && box.joined.begin()->second.ranks != member.ranks);
    if (odd) {
      members = {{member.rank, member}};
    } else {
      box.joined[member.rank] = member;
      if (static_cast<int>(box.joined.size()) < member.ranks) return;
      box.answered = true;
      members = box.joined;
    }
  }
  for (const auto& [rank, to] : members)
    post(to.process, {{.key = key, .kind = MessageKind::members, .from = rank}, bytes_of(members)});
}

void deliver(Message message) {
  const Header head = message.header;
  if (head.kind == MessageKind::join) return register_member(head.key, message);
  const Lock lock(hub().mutex);
  Box& box = hub().boxes[head.key];
  switch (head.kind) {
    case MessageKind::collective:
      box.collectives[{head.sequence, head.phase}][head.from] = std::move(message);
      break;
    case MessageKind::offer:
      box.offers[head.from].push_back(std::move(message));
      break;
    case MessageKind::receipt:
      box.receipts.insert({head.from, head.sequence});
      break;
    case MessageKind::members:
      box.members = std::move(message);
      break;
    case MessageKind::abort:
      box.aborted_by = head.from;
      break;
    case MessageKind::join:
      break;
  }
  hub().changed.notify_all();
}

bool send_waiting() {
  std::deque<std::unique_ptr<Outgoing>> batch;
  {
    const std::lock_guard lock(wire().mutex);
    batch.swap(wire().outbox);
  }
  for (std::unique_ptr<Outgoing>& item : batch) {
    Message& message = item->message;
    MPI_Isend(&message.header, sizeof(Header), MPI_BYTE, item->process, kHeaderTag, wire().comm, &item->requests[0]);
    if (!message.body.empty())
      MPI_Isend(message.body.data(), static_cast<int>(message.body.size()), MPI_BYTE, item->process, kBodyTag,
                wire().comm, &item->requests[1]);
    wire().under_way.push_back(std::move(item));
  }
  std::erase_if(wire().under_way, [](const std::unique_ptr<Outgoing>& item) {
    int done = 0;
    MPI_Testall(2, item->requests, &done, MPI_STATUSES_IGNORE);
    return done != 0;
  });
  return !batch.empty();
}

bool receive_one() {
  int found = 0;
  MPI_Status status;
  MPI_Iprobe(MPI_ANY_SOURCE, kHeaderTag, wire().comm, &found, &status);
  if (!found) return false;
  Message message;
  MPI_Recv(&message.header, sizeof(Header), MPI_BYTE, status.MPI_SOURCE, kHeaderTag, wire().comm, MPI_STATUS_IGNORE);
  message.body.resize(message.header.body_bytes);
  if (!message.body.empty())  // sent right behind the header
    MPI_Recv(message.body.data(), static_cast<int>(message.body.size()), MPI_BYTE, status.MPI_SOURCE, kBodyTag,
             wire().comm, MPI_STATUS_IGNORE);
  deliver(std::move(message));
  return true;
}

bool stop_asked() {
  const std::lock_guard lock(wire().mutex);
  return wire().stopping && wire().outbox.empty();
}

void rest() {
  const int waiting = [] {
    const Lock lock(hub().mutex);
    return hub().waiting;
  }();
  std::unique_lock lock(wire().mutex);
  if (wire().outbox.empty()) wire().woken.wait_for(lock, std::chrono::microseconds(waiting > 0 ? 20 : 500));
}

// Until this process finalises MPI and so do the others: a peer may still wait for its last message to be taken.
void move_messages() {
  MPI_Request all_stop = MPI_REQUEST_NULL;
  bool stopping = false;
  auto watched = Clock::now();
  for (int stopped = 0; !stopped;) {
    const bool sent = send_waiting(), received = receive_one();
    if (!stopping && wire().under_way.empty() && stop_asked()) {
      stopping = true;
      MPI_Ibarrier(wire().comm, &all_stop);
    }
    if (stopping) MPI_Test(&all_stop, &stopped, MPI_STATUS_IGNORE);
    if (!stopping && Clock::now() - watched > std::chrono::milliseconds(100)) {
      wire().watch();
      watched = Clock::now();
    }
    if (!sent && !received && !stopped) rest();
  }
}

}  // namespace

Hub& hub() {
  static Hub* one = new Hub;
  return *one;
}

std::chrono::duration<double> patience() {
  static const double seconds = [] {
    const char* value = std::getenv("LORASHARD_EMULATOR_NCCL_S");
    const double given = value ? std::atof(value) : 0;
    return given > 0 ? given : 60.0;
  }();
  return std::chrono::duration<double>(seconds);
}

int process() { return wire().process; }
bool has_peers() { return wire().comm != MPI_COMM_NULL; }

void post(int process, Message message) {
  message.header.body_bytes = message.body.size();
  if (process == wire().process) return deliver(std::move(message));
  auto item = std::make_unique<Outgoing>();
  item->process = process;
  item->message = std::move(message);
  const std::lock_guard lock(wire().mutex);
  wire().outbox.push_back(std::move(item));
  wire().woken.notify_one();
}

void start_wire(void (*watch)()) {
  const std::lock_guard lock(wire().mutex);
  if (!has_peers() || wire().mover.joinable()) return;
  wire().watch = watch;
  wire().mover = std::thread(move_messages);
}

}  // namespace lorashard::emulator::nccl

using lorashard::emulator::nccl::wire;

// The product's own MPI calls come from its main thread, and it asks for no more; the wire's come from a thread beside
// it.
extern "C" int MPI_Init_thread(int* argc, char*** argv, int, int* provided) {
  const int code = PMPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, provided);
  if (code != MPI_SUCCESS) return code;
  if (*provided < MPI_THREAD_MULTIPLE) {
    lorashard::emulator::fault("MPI_Init_thread", "the emulated NCCL needs an MPI with MPI_THREAD_MULTIPLE");
    return code;
  }
  MPI_Comm_rank(MPI_COMM_WORLD, &wire().process);
  return MPI_Comm_dup(MPI_COMM_WORLD, &wire().comm);
}

extern "C" int MPI_Finalize() {
  if (wire().comm != MPI_COMM_NULL) {
    lorashard::emulator::nccl::start_wire([] {});  // all processes stop together, those that made no communicator too
    {
      const std::lock_guard lock(wire().mutex);
      wire().stopping = true;
    }
    wire().woken.notify_one();
    wire().mover.join();
    MPI_Comm_free(&wire().comm);
  }
  return PMPI_Finalize();
}
