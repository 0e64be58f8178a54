// How the processes of the emulated NCCL talk: messages over a communicator of their own, sent and received by one
// thread of each process, and sorted into boxes by the NCCL communicator that they belong to. Operations run on their
// streams' threads and only ever wait for a box to change, so no operation holds up another one's messages.
//
// The program's own MPI calls go on beside this: MPI_Init_thread asks MPI for MPI_THREAD_MULTIPLE here.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace lorashard::emulator::nccl {

enum class Verb : std::int32_t { all_reduce, all_gather, reduce_scatter, broadcast, reduce, send, receive };

// What all ranks of a collective have to agree on. `count` as NCCL counts for the verb.
struct Signature {
  Verb verb = Verb::all_reduce;
  std::int32_t type = 0;
  std::int32_t reduction = -1;  // -1: the verb has none
  std::int32_t root = -1;
  std::uint64_t count = 0;
  bool operator==(const Signature&) const = default;
};

enum class MessageKind : std::int32_t {
  join,        // a rank asks the process that made the id for the members
  members,     // the answer
  collective,  // what one rank gives another in one phase of a collective
  offer,       // a send, with its data
  receipt,     // the receive that matches it has come
  abort,       // the sender's rank has aborted the communicator
};

struct Header {
  std::uint64_t key = 0;  // of the communicator
  MessageKind kind = MessageKind::join;
  std::int32_t from = 0;  // rank in the communicator
  std::uint64_t sequence = 0;
  std::uint64_t phase = 0;
  Signature what = {};
  std::uint64_t body_bytes = 0;
};
struct Message {
  Header header;
  std::vector<std::byte> body;
};

struct Member {
  std::int32_t rank = 0, ranks = 0, process = 0, device = 0;
  char host[64] = "";
};

// What has come for one NCCL communicator and waits to be taken.
struct Box {
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::map<int, Message>> collectives;  // (sequence, phase), from
  std::map<int, std::deque<Message>> offers;                                              // by sender, in order
  std::set<std::pair<int, std::uint64_t>> receipts;                                       // (receiver, sequence)
  std::map<int, Member> joined;  // in the process that made the id
  bool answered = false;
  std::optional<Message> members;
  int aborted_by = -1;
};

// Everything that threads share, behind one lock. Never destroyed: streams may outlive main().
struct Hub {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint64_t, Box> boxes;
  int waiting = 0;  // operations that wait for messages
};
Hub& hub();

using Lock = std::unique_lock<std::mutex>;
using Clock = std::chrono::steady_clock;

// LORASHARD_EMULATOR_NCCL_S: seconds without progress after which an operation is a fault. 60 by default.
std::chrono::duration<double> patience();

// "waited 60 s for WHOM"
inline std::string waited_for(const std::string& whom) {
  return "waited " + std::to_string(static_cast<int>(patience().count())) + " s for " + whom;
}

// Waits until ready(), which is called with the lock held. False when nothing has come of it for patience().
template <class Ready>
bool wait(Lock& lock, const Ready& ready) {
  const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience());
  ++hub().waiting;
  const bool came = hub().changed.wait_until(lock, until, ready);
  --hub().waiting;
  return came;
}

// This process's place in MPI_COMM_WORLD; 0 without MPI.
int process();
// False when MPI is not there, or was not initialised by MPI_Init_thread: then this process is alone.
bool has_peers();

// Sends in the order of the calls; without waiting. The calling thread must not hold the hub's lock.
void post(int process, Message message);

// `watch` is called every 100 ms or so by the thread that moves messages.
void start_wire(void (*watch)());

}  // namespace lorashard::emulator::nccl
