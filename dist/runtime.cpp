#include "dist/runtime.hpp"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <optional>
#include <random>
#include <thread>

#include "dist/guardian.hpp"
#include "dist/launcher.hpp"
#include "dist/mpi_communicator.hpp"
#include "dist/nccl_communicator.hpp"
#include "dist/processes.hpp"

namespace lorashard::dist {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

// Long enough for what has never been measured: a first step, one tensor of a base, a file brought to a slow disk. Of
// one rank nobody waits for it.
constexpr double kPatient_s = 600;

// LORASHARD_WATCHDOG_S: seconds without any progress before the job is ended; 0 never ends it.
std::optional<double> wanted_limit_s() {
  const char* value = std::getenv("LORASHARD_WATCHDOG_S");
  if (!value) return std::nullopt;
  char* end = nullptr;
  const double limit_s = std::strtod(value, &end);
  if (end == value || *end != '\0' || !(limit_s >= 0))
    fail(Failure::configuration, text("LORASHARD_WATCHDOG_S: found '", value, "', expected seconds, 0 or more"));
  return limit_s;
}

std::string host_name() {
  char buffer[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  MPI_Get_processor_name(buffer, &length);
  return std::string(buffer, static_cast<std::size_t>(length));
}

}  // namespace

struct Runtime::State {
  std::optional<double> limit_s;  // as the user wants it
  GuardedMemory* guarded = nullptr;
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;
  std::string host;
  MPI_Comm endings = MPI_COMM_NULL;  // carries nothing but the word that a rank has said why the job ends

  // The group of all ranks that pass the same color, in the order of `place`.
  std::unique_ptr<Communicator> split(kernels::Device& device, const std::string& axis, int color, int place) const {
    MPI_Comm comm = MPI_COMM_NULL;
    {
      const WaitScope scope(&guarded->state, "making the groups", Group::all);
      if (MPI_Comm_split(MPI_COMM_WORLD, color, place, &comm) != MPI_SUCCESS)
        fail(Failure::communication, text("splitting the ranks over axis ", axis, ", rank ", rank, " of ", size));
    }
    if (comm == MPI_COMM_NULL) return nullptr;
    if (device.meta()) return make_rehearsal_communicator(device, axis, comm, {.state = &guarded->state});
    if (device.kind() != kernels::DeviceKind::cuda)
      return make_mpi_communicator(device, axis, comm, {.state = &guarded->state});
    return make_nccl_communicator(device, axis, comm, &guarded->state, axis == "pipeline");
  }
};

Runtime::Runtime(int& argc, char**& argv) : state_(std::make_unique<State>()) {
  state_->limit_s = wanted_limit_s();  // before MPI is started: may throw
  state_->guarded = &start_guardian(state_->limit_s.value_or(kPatient_s));
  // CUDA reads it when it starts. Streams share 8 hardware queues otherwise, and two streams in one queue wait for each
  // other; a rank has up to 10 (see nccl_communicator.cpp).
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  // All MPI calls come from the main thread; those of OpenMP and of a save make none.
  int provided = 0;
  {
    const QuickStart alone;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  }
  if (provided < MPI_THREAD_FUNNELED) fail(Failure::communication, "this MPI library does not support threads");
  MPI_Comm_rank(MPI_COMM_WORLD, &state_->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &state_->size);
  check_launcher(state_->size);
  MPI_Comm local = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, state_->rank, MPI_INFO_NULL, &local);
  MPI_Comm_rank(local, &state_->local_rank);
  MPI_Comm_size(local, &state_->local_size);
  MPI_Comm_free(&local);
  MPI_Comm_dup(MPI_COMM_WORLD, &state_->endings);
  state_->host = host_name();
  meet_peers();
  expect_progress_within(0);
}

// What guardians need to speak to each other.
void Runtime::meet_peers() {
  GuardedMemory& guarded = *state_->guarded;
  std::uint64_t job = 0;
  if (state_->rank == 0) job = std::uint64_t{std::random_device{}()} << 32 | std::random_device{}();
  MPI_Bcast(&job, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
  guarded.job = job;
  guarded.rank = state_->rank;
  if (state_->size > GuardedMemory::kMostRanks) return;
  constexpr int bytes = sizeof(GuardianAddress);
  MPI_Allgather(&guarded.own, bytes, MPI_BYTE, guarded.peers(), bytes, MPI_BYTE, MPI_COMM_WORLD);
  guarded.size = state_->size;
}

Runtime::~Runtime() {
  state_->guarded->returned = true;
  const WaitScope scope(&state_->guarded->state, "the end of MPI", Group::all);
  MPI_Comm_free(&state_->endings);
  MPI_Finalize();
}

int Runtime::rank() const { return state_->rank; }
int Runtime::size() const { return state_->size; }
int Runtime::local_rank() const { return state_->local_rank; }
int Runtime::local_size() const { return state_->local_size; }
const std::string& Runtime::host() const { return state_->host; }
kernels::Place& Runtime::place() { return state_->guarded->state.place; }

void Runtime::expect_progress_within(double limit_s) {
  state_->guarded->state.limit_s = state_->limit_s.value_or(limit_s > 0 ? limit_s : size() > 1 ? kPatient_s : 0);
}

int Runtime::gpu(int gpu_count, bool oversubscribe) const {
  return gpu_of(local_rank(), local_size(), gpu_count, oversubscribe, host());
}

int gpu_of(int local_rank, int local_size, int gpu_count, bool oversubscribe, const std::string& host) {
  if (gpu_count < 1) return 0;
  if (local_size > gpu_count && !oversubscribe)
    fail(Failure::configuration, text("ranks on host ", host, ": found ", local_size, ", expected at most ", gpu_count,
                                      ", its GPUs; device.oversubscribe = true shares them"));
  return local_rank % gpu_count;
}

Mesh Runtime::make_mesh(kernels::Device& device, MeshExtents extents) {
  if (extents.ranks() != size())
    fail(Failure::configuration, text("the mesh ", to_string(extents), " has ", extents.ranks(), " ranks, found ",
                                      size(), " started by mpirun"));
  return std::move(*make_sub_mesh(device, extents));
}

std::unique_ptr<Mesh> Runtime::make_sub_mesh(kernels::Device& device, MeshExtents extents) {
  if (extents.ranks() < 1 || extents.ranks() > size())
    fail(Failure::configuration, text("the mesh ", to_string(extents), " does not fit on ", size(), " ranks"));
  const bool inside = rank() < extents.ranks();
  state_->guarded->state.begin_mesh(extents);
  device.profile().show_place(state_->guarded->state.place);
  const MeshPoint at = inside ? point_of(extents, rank()) : MeshPoint{};
  const auto split = [&](const char* axis, int color, int place) {
    return state_->split(device, axis, inside ? color : MPI_UNDEFINED, place);
  };
  Mesh::Communicators groups;
  groups.world = split("world", 0, rank());
  groups.tensor = split("tensor", at.data * extents.pipeline + at.pipeline, at.tensor);
  groups.pipeline = split("pipeline", at.data * extents.tensor + at.tensor, at.pipeline);
  groups.data = split("data", at.pipeline * extents.tensor + at.tensor, at.data);
  groups.replica = split("replica", at.pipeline, at.data * extents.tensor + at.tensor);
  return inside ? std::make_unique<Mesh>(extents, rank(), std::move(groups)) : nullptr;
}

// Rank 0 speaks at once. The others listen first, since most errors are seen by all ranks alike; where only some see
// it, the first whose patience ends speaks. A failed communication is mostly the echo of another rank's error (NCCL
// tells of a peer that has given up), and that rank is to speak: every rank is more patient then than any other error
// makes it.
bool Runtime::claim_ending(Failure failure) const {
  using namespace std::chrono_literals;
  const auto turn = 100ms * std::min(rank(), 20);
  const auto patience = failure == Failure::communication ? 3500ms + turn : rank() == 0 ? 0ms : 1000ms + turn;
  const auto since = std::chrono::steady_clock::now();
  do {
    int told = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, 0, state_->endings, &told, MPI_STATUS_IGNORE);
    if (told) return false;
    std::this_thread::sleep_for(patience == 0ms ? 0ms : 5ms);
  } while (std::chrono::steady_clock::now() - since < patience);
  for (int peer = 0; peer < size(); ++peer) {
    MPI_Request request = MPI_REQUEST_NULL;  // nothing to wait for: the job ends
    if (peer != rank()) MPI_Isend(nullptr, 0, MPI_BYTE, peer, 0, state_->endings, &request);
  }
  return true;
}

namespace {

struct Ending {
  Failure failure = Failure::other;
  std::string line;
};

// One line: who, what and where in its work.
std::string line_of(const Runtime& runtime, const char* program, const std::string& what, const std::string& at) {
  return text(program, ": rank ", runtime.rank(), " (host ", runtime.host(), "): ", what, at.empty() ? "" : "; in ",
              at);
}

Ending ending_of(const Runtime& runtime, const char* program, const kernels::Error& error, const std::string& at) {
  if (error.failure() == Failure::configuration) return {error.failure(), text(program, ": ", error.what())};
  const std::string file = std::filesystem::path(error.where().file_name()).filename();
  return {error.failure(),
          text(line_of(runtime, program, error.what(), at), " [", file, ":", error.where().line(), "]")};
}

}  // namespace

int run_guarded(Runtime& runtime, const char* program, int (*body)(Runtime&, int, char**), int argc, char** argv) {
  Ending ending;
  const auto at = [&] { return place_text(runtime.state_->guarded->state.snapshot()); };
  try {
    const int code = body(runtime, argc, argv);
    runtime.state_->guarded->returned = true;
    return code;
  } catch (const kernels::Error& error) {
    ending = ending_of(runtime, program, error, at());
  } catch (const std::bad_alloc&) {
    ending = {Failure::memory, line_of(runtime, program, "out of host memory", at())};
  } catch (const std::exception& error) {
    ending = {Failure::other, line_of(runtime, program, error.what(), at())};
  }
  const int code = static_cast<int>(ending.failure);
  runtime.state_->guarded->failure = code;
  if (runtime.claim_ending(ending.failure))
    print_line(ending.line);
  else
    std::this_thread::sleep_for(std::chrono::seconds(10));  // the rank that spoke ends the job meanwhile
  if (runtime.size() > 1) MPI_Abort(MPI_COMM_WORLD, code);
  return code;
}

}  // namespace lorashard::dist
