// One rank of each node, its first, speaks for it: those are the group `leaders`, in which rank i is node i.
#include "launch/check_measure.hpp"

#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "kernels/error.hpp"

namespace lorashard::launch {

using kernels::Failure;
using kernels::text;

namespace {

constexpr double kPatience_s = 60;
constexpr int kTag = 1;

struct Leaders {
  MPI_Comm comm = MPI_COMM_NULL;
  int node = 0, nodes = 1;
};

Leaders make_leaders(const dist::Runtime& runtime) {
  Leaders leaders;
  MPI_Comm_split(MPI_COMM_WORLD, runtime.local_rank() == 0 ? 0 : MPI_UNDEFINED, runtime.rank(), &leaders.comm);
  if (leaders.comm == MPI_COMM_NULL) return leaders;
  MPI_Comm_rank(leaders.comm, &leaders.node);
  MPI_Comm_size(leaders.comm, &leaders.nodes);
  return leaders;
}

// Cores that any rank of this host may run on.
int cores_of_host(MPI_Comm local) {
  cpu_set_t mine, all;
  CPU_ZERO(&mine);
  CPU_ZERO(&all);
  ::sched_getaffinity(0, sizeof mine, &mine);
  MPI_Allreduce(&mine, &all, sizeof mine, MPI_BYTE, MPI_BOR, local);
  return CPU_COUNT(&all);
}

double free_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) return 1024 * std::strtod(line.c_str() + line.find(':') + 1, nullptr);
  return 0;
}

// Seconds from `first` to `second`: half a round trip, the median of `rounds` after one that opens the connection.
double message_s(const Leaders& leaders, int first, int second, std::vector<char>& data, int rounds) {
  std::vector<double> seconds;
  const int bytes = static_cast<int>(data.size()), peer = leaders.node == first ? second : first;
  for (int round = 0; round <= rounds; ++round) {
    const double start = MPI_Wtime();
    if (leaders.node == first) MPI_Send(data.data(), bytes, MPI_BYTE, peer, kTag, leaders.comm);
    MPI_Recv(data.data(), bytes, MPI_BYTE, peer, kTag, leaders.comm, MPI_STATUS_IGNORE);
    if (leaders.node == second) MPI_Send(data.data(), bytes, MPI_BYTE, peer, kTag, leaders.comm);
    if (round > 0) seconds.push_back((MPI_Wtime() - start) / 2);
  }
  return median(seconds);
}

// Node i to node i + 1, in turns that give each node one link at a time: even i, odd i, and the link that closes a ring
// of an odd number of nodes.
void measure_links(const Leaders& leaders, NodeRow& row) {
  if (leaders.nodes < 2) return;
  std::vector<char> one(1), many(std::size_t{16} << 20);
  for (int turn = 0; turn < 3; ++turn) {
    for (const int first : {leaders.node, (leaders.node + leaders.nodes - 1) % leaders.nodes}) {
      const bool closes = leaders.nodes % 2 == 1 && first == leaders.nodes - 1;
      if ((closes ? 2 : first % 2) != turn) continue;
      const int second = (first + 1) % leaders.nodes;
      const double latency_s = message_s(leaders, first, second, one, 101),
                   bulk_s = message_s(leaders, first, second, many, 5);
      if (first != leaders.node) continue;
      row.latency_s = latency_s;
      row.link_bytes_per_s = static_cast<double>(many.size()) / std::max(bulk_s - latency_s, 1e-9);
    }
    MPI_Barrier(leaders.comm);
  }
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Each node in turn is asked by the first for its time. Of several answers the one with the smallest round trip is off
// by half of that at most (Cristian 1989).
void measure_skew(const Leaders& leaders, NodeRow& row) {
  constexpr int kRounds = 20;
  for (int node = 1; node < leaders.nodes; ++node) {
    double best_trip_ms = 1e30, skew_ms = 0;
    for (int round = 0; round < kRounds && (leaders.node == 0 || leaders.node == node); ++round) {
      double answer_ms = 0;
      const double start_ms = now_ms();
      if (leaders.node == 0) MPI_Send(nullptr, 0, MPI_BYTE, node, kTag, leaders.comm);
      if (leaders.node == 0) MPI_Recv(&answer_ms, 1, MPI_DOUBLE, node, kTag, leaders.comm, MPI_STATUS_IGNORE);
      const double trip_ms = now_ms() - start_ms;
      if (leaders.node == node) {
        MPI_Recv(nullptr, 0, MPI_BYTE, 0, kTag, leaders.comm, MPI_STATUS_IGNORE);
        answer_ms = now_ms();
        MPI_Send(&answer_ms, 1, MPI_DOUBLE, 0, kTag, leaders.comm);
      } else if (trip_ms < best_trip_ms) {
        best_trip_ms = trip_ms;
        skew_ms = answer_ms - (start_ms + trip_ms / 2);
      }
    }
    if (leaders.node == 0) MPI_Send(&skew_ms, 1, MPI_DOUBLE, node, kTag, leaders.comm);
    if (leaders.node == node) MPI_Recv(&row.skew_ms, 1, MPI_DOUBLE, 0, kTag, leaders.comm, MPI_STATUS_IGNORE);
  }
}

// "" when the file holds `word` within 10 s of `since`, else what was found.
std::string seen_by(const std::filesystem::path& path, const std::string& word,
                    std::chrono::steady_clock::time_point since) {
  std::string found;
  do {
    std::ifstream file(path);
    found.clear();
    if (file && std::getline(file, found) && found == word) return "";
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  } while (std::chrono::steady_clock::now() - since < std::chrono::seconds(10));
  return found.empty() ? "found no such file within 10 s" : "found something else in the file";
}

bool write_word(const std::filesystem::path& path, const std::string& word) {
  std::ofstream file(path);
  file << word << "\n" << std::flush;
  return file.good();
}

// The first node writes a word that every node is to read; then each writes one that the first is to read. A file is
// looked for only after a barrier, when it is there: NFS remembers for seconds that a name was not.
void measure_folder(const Leaders& leaders, const std::string& folder, NodeRow& row) {
  unsigned long word_bits = std::random_device{}();
  MPI_Bcast(&word_bits, 1, MPI_UNSIGNED_LONG, 0, leaders.comm);
  const std::string word = text("lorashard-check-", word_bits);
  const auto path_of = [&](int node) { return std::filesystem::path(folder) / text(word, "-", node); };
  const auto write = [&] {
    if (!write_word(path_of(leaders.node), word))
      row.folder = text("cannot write into ", folder, ", expected that it can");
  };
  if (leaders.node == 0) write();
  int first_wrote = row.folder.empty();
  MPI_Bcast(&first_wrote, 1, MPI_INT, 0, leaders.comm);
  if (!first_wrote) return;  // then nothing can be said of the others
  if (leaders.node != 0) {
    const std::string fault = seen_by(path_of(0), word, std::chrono::steady_clock::now());
    if (!fault.empty()) row.folder = text(fault, " in ", folder, ", expected the first node's");
    if (fault.empty()) write();
  }
  const std::string mine = row.folder;
  std::vector<int> wrote(leaders.nodes);
  const int own = mine.empty();
  MPI_Allgather(&own, 1, MPI_INT, wrote.data(), 1, MPI_INT, leaders.comm);
  std::vector<int> read_back(leaders.nodes, 1);
  const auto since = std::chrono::steady_clock::now();
  for (int node = 1; leaders.node == 0 && node < leaders.nodes; ++node)
    if (wrote[node]) read_back[node] = seen_by(path_of(node), word, since).empty();
  MPI_Bcast(read_back.data(), leaders.nodes, MPI_INT, 0, leaders.comm);
  if (mine.empty())
    row.folder = read_back[leaders.node] ? "yes" : "what it wrote was not seen by the first node in 10 s";
  std::error_code error;  // on another file system it is another file: each takes away its own
  std::filesystem::remove(path_of(leaders.node), error);
}

// On rank 0 of `comm`, in rank order.
std::vector<std::string> gather_texts(MPI_Comm comm, const std::string& mine) {
  int rank = 0, size = 1, length = static_cast<int>(mine.size());
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  std::vector<int> lengths(size), places(size);
  MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, comm);
  for (int i = 1; i < size; ++i) places[i] = places[i - 1] + lengths[i - 1];
  std::string all(rank == 0 ? places.back() + lengths.back() : 0, ' ');
  MPI_Gatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(), places.data(), MPI_CHAR, 0, comm);
  std::vector<std::string> texts;
  for (int i = 0; rank == 0 && i < size; ++i) texts.push_back(all.substr(places[i], lengths[i]));
  return texts;
}

}  // namespace

std::vector<NodeRow> measure_nodes(dist::Runtime& runtime, const std::string& folder) {
  runtime.expect_progress_within(kPatience_s);
  const auto under_watch = [&](const char* what, const auto& body) {
    const kernels::AtPlace work(runtime.place().work, what);
    runtime.place().beat();
    body();
  };
  NodeRow row;
  row.host = runtime.host();
  row.ranks = runtime.local_size();
  MPI_Comm local = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, runtime.rank(), MPI_INFO_NULL, &local);
  under_watch("counting cores", [&] { row.cores = cores_of_host(local); });
  MPI_Comm_free(&local);
  row.free_memory_bytes = free_memory_bytes();  // before anything here takes some
  under_watch("trying GPUs", [&] { measure_gpus(runtime, row); });
  Leaders leaders;
  under_watch("finding each other", [&] { leaders = make_leaders(runtime); });
  std::vector<NodeRow> rows;
  if (leaders.comm != MPI_COMM_NULL) {
    under_watch("measuring links", [&] { measure_links(leaders, row); });
    under_watch("comparing clocks", [&] { measure_skew(leaders, row); });
    if (!folder.empty()) under_watch("looking at the folder", [&] { measure_folder(leaders, folder, row); });
    for (const std::string& each : gather_texts(leaders.comm, boost::json::serialize(row_json(row))))
      rows.push_back(row_from(boost::json::parse(each).as_object()));
    MPI_Comm_free(&leaders.comm);
  }
  // Ranks that had nothing to do wait here; they would spin in a barrier beside those that measure.
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  for (int done = 0; !done; MPI_Test(&request, &done, MPI_STATUS_IGNORE))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return rows;
}

}  // namespace lorashard::launch
