// The GPUs of a node: what they are, and whether every two of them reach each other.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/option_values.hpp"
#include "dist/nccl_communicator.hpp"
#include "kernels/elementwise.hpp"
#include "launch/check_measure.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using kernels::DType;
using kernels::Index;
using kernels::Tensor;
using kernels::text;

namespace {

// What the driver says of itself: there without any library, and for GPUs too that no library can use.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);  // NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar ...
  std::istringstream words(line);
  for (std::string word; words >> word;)
    if (word.find('.') != word.npos && word.find_first_not_of("0123456789.") == word.npos) return word;
  return "";
}

std::string card_names() {
  std::set<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& gpu : fs::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    std::ifstream file(gpu.path() / "information");
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("Model:")) names.emplace(core::trimmed(std::string_view(line).substr(6)));
  }
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

// Bytes a second of an all-reduce of 16 MiB by the two ranks of `comm`, which this takes over. Throws when it fails,
// and when a sum is wrong.
double pair_bytes_per_s(kernels::Device& device, MPI_Comm comm) {
  constexpr Index kCount = Index{4} << 20;
  const auto pair = dist::make_nccl_communicator(device, "pair", comm, nullptr, false);
  Tensor data(device, kernels::Category::communication, DType::f32, 1, kCount);
  kernels::fill(device, data, static_cast<float>(pair->rank() + 1));
  pair->all_reduce(data);
  std::vector<float> sums(kCount);
  kernels::download(device, data,
                    kernels::Matrix{reinterpret_cast<std::byte*>(sums.data()), DType::f32, 1, kCount, kCount});
  const auto wrong = std::find_if(sums.begin(), sums.end(), [](float sum) { return sum != 3.0f; });
  if (wrong != sums.end())
    kernels::fail(kernels::Failure::communication,
                  text("an all-reduce of 1 and 2 gave ", *wrong, " at element ", wrong - sums.begin(), ", expected 3"));
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pair->all_reduce(data);
    device.synchronize();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return sizeof(float) * kCount / median(std::move(seconds));
}

// The fault of the lowest rank of `local` that has one; "" when none has. Collective over it.
std::string first_fault(MPI_Comm local, int rank, int size, const std::string& mine) {
  int first = mine.empty() ? size : rank;
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, local);
  if (first == size) return "";
  char line[300] = "";
  mine.copy(line, sizeof line - 1);
  MPI_Bcast(line, sizeof line, MPI_CHAR, first, local);
  return line;
}

// Every pair of the host's ranks, disjoint pairs at the same time. Ends at the first fault, of which all ranks learn.
void try_pairs(const dist::Runtime& runtime, MPI_Comm local, NodeRow& row) {
  const int rank = runtime.local_rank(), size = runtime.local_size();
  std::unique_ptr<kernels::Device> device;
  std::string mine;
  try {
    device = kernels::make_cuda_device(runtime.gpu(row.gpus, false));
  } catch (const std::exception& error) {
    mine = error.what();
  }
  row.gpu_fault = first_fault(local, rank, size, mine);
  double slowest = 1e30;
  for (int round = 0; round < size - 1 + size % 2 && row.gpu_fault.empty(); ++round) {
    const int other = pair_partner(rank, round, size);
    MPI_Comm pair = MPI_COMM_NULL;
    MPI_Comm_split(local, other < size ? std::min(rank, other) : MPI_UNDEFINED, rank, &pair);
    if (pair != MPI_COMM_NULL) try {
        slowest = std::min(slowest, pair_bytes_per_s(*device, pair));
      } catch (const std::exception& error) {
        mine = text("GPU ", std::min(rank, other), " with GPU ", std::max(rank, other), ": ", error.what());
      }
    row.gpu_fault = first_fault(local, rank, size, mine);
  }
  MPI_Allreduce(MPI_IN_PLACE, &slowest, 1, MPI_DOUBLE, MPI_MIN, local);
  if (row.gpu_fault.empty()) row.pair_bytes_per_s = slowest;
}

}  // namespace

// The circle method: the last stands still, the others walk around it.
int pair_partner(int player, int round, int n) {
  const int even = n + n % 2, circle = even - 1;
  if (player == even - 1) return round * (even / 2) % circle;  // whoever would meet itself: 2 j = round
  const int other = (round - player + circle) % circle;
  return other == player ? even - 1 : other;
}

std::string no_pairs_reason(int local_ranks, int gpus) {
  if (kernels::cuda_build().find("without") == 0) return "this program is built without CUDA";
  if (gpus == 0) return "no GPU";
  if (gpus == 1) return "one GPU a node";
  if (local_ranks < 2) return text("one rank a node: start one for each of the ", gpus, " GPUs");
  if (local_ranks > gpus) return text(local_ranks, " ranks a node share ", gpus, " GPUs");
  return "";
}

void measure_gpus(const dist::Runtime& runtime, NodeRow& row) {
  MPI_Comm local = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, runtime.rank(), MPI_INFO_NULL, &local);
  row.gpus = kernels::cuda_device_count();
  MPI_Allreduce(MPI_IN_PLACE, &row.gpus, 1, MPI_INT, MPI_MAX, local);
  row.card = card_names();
  row.driver = driver_version();
  if (no_pairs_reason(runtime.local_size(), row.gpus).empty()) try_pairs(runtime, local, row);
  MPI_Comm_free(&local);
}

}  // namespace lorashard::launch
