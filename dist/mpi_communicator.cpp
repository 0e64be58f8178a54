// Sums are made here, in rank order, and not by MPI: ((x_0 + x_1) + x_2) + ... for every element, wherever it lies and
// however the data is cut into calls. Each element is summed on one rank and its bits are then copied to the others, so
// all ranks agree by construction. MPI_Allreduce promises neither: its order depends on the algorithm that the library
// picks by size, so the same gradient in one buffer or in two would differ. The bytes moved are the same.
//
// No device memory is taken. Sums pass through 2 MiB of scratch; what MPI allocates inside is not in the ledger.
#include "dist/mpi_communicator.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <span>

#include "dist/counted_communicator.hpp"
#include "dist/shard.hpp"

namespace lorashard::dist {

using kernels::DType;
using kernels::Failure;
using kernels::Phase;
using kernels::text;

namespace {

MPI_Datatype mpi_type(DType dtype) { return dtype == DType::f32 ? MPI_FLOAT : MPI_UINT16_T; }

std::string message_of(int code) {
  char buffer[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, buffer, &length);
  return std::string(buffer, static_cast<std::size_t>(length));
}

// act(first, count) for consecutive pieces of [0, elements) of at most `limit` elements.
template <class Act>
void in_pieces(Index elements, Index limit, const Act& act) {
  for (Index first = 0; first < elements; first += limit)
    act(first, static_cast<int>(std::min(limit, elements - first)));
}

void combine(std::span<const float> with, std::span<float> into, Reduction reduction) {
  if (reduction == Reduction::sum) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] += with[i];
  } else {
    for (std::size_t i = 0; i < into.size(); ++i)  // NaN wins, as it does in a sum
      if (with[i] > into[i] || with[i] != with[i]) into[i] = with[i];
  }
}

template <class Byte>
Byte* element(const kernels::BasicMatrix<Byte>& data, Index i) {
  return data.data + i * size_bytes(data.dtype);
}

class MpiCommunicator final : public CountedCommunicator {
 public:
  MpiCommunicator(kernels::Device& device, std::string axis, MPI_Comm comm, int rank, int size, MpiOptions options)
      : CountedCommunicator(device, std::move(axis), rank, size), comm_(comm), options_(std::move(options)) {
    if (options_.piece_elements < 1 || options_.piece_elements > Index{1} << 30)
      kernels::fail(Failure::other, text("pieces of ", options_.piece_elements, " elements, expected 1 to 2^30"));
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  }
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&comm_);
  }
  MPI_Comm comm() const { return comm_; }

 private:
  class PendingSend;

  void move_all_reduce(Matrix data, Reduction reduction) override;
  void move_all_gather(ConstMatrix part, Matrix whole) override;
  void move_reduce_scatter(ConstMatrix whole, Matrix part) override;
  void move_broadcast(Matrix data, int root) override;
  std::unique_ptr<Pending> move_send(ConstMatrix data, int peer, int tag) override;
  void move_receive(Matrix data, int peer, int tag) override;
  std::vector<double> move_values(std::span<const double> values) override;
  void move_nothing() override;

  void reduce_own_share(std::span<const float> whole, float* own, Reduction reduction, const char* verb);
  void reduce_piece(std::span<float> values, Reduction reduction);
  void broadcast_pieces(Matrix data, int root, const char* verb);

  Watchdog::Scope waiting(const char* verb) const { return {options_.watchdog.get(), verb, axis()}; }
  void require(int code, const char* verb) const {
    if (code != MPI_SUCCESS) kernels::fail(Failure::communication, text(place(verb), ": ", message_of(code)));
  }

  MPI_Comm comm_;
  MpiOptions options_;
  std::vector<float> out_, in_;  // scratch of sums: one block for each rank
};

// Of each of the two scratch arrays. Every block is one more wait for the slowest rank, so not much smaller.
constexpr Index kScratchElements = Index{1} << 18;

// own = this rank's even share of the reduction of `whole`; it may be that very range of `whole`. Block by block, each
// rank gives every other the block of the other's share.
void MpiCommunicator::reduce_own_share(std::span<const float> whole, float* own, Reduction reduction,
                                       const char* verb) {
  const Index longest = even_share(std::ssize(whole), 0, size()).count;
  const Index block = std::min(longest, std::max<Index>(1, kScratchElements / size()));
  out_.resize(std::max(out_.size(), static_cast<std::size_t>(block * size())));
  in_.resize(out_.size());
  const auto block_of = [&](int rank, Index first) {  // empty past the end of a shorter share
    const Share share = even_share(std::ssize(whole), rank, size());
    const Index begin = std::min(first, share.count);
    return whole.subspan(static_cast<std::size_t>(share.first + begin),
                         static_cast<std::size_t>(std::min(block, share.count - begin)));
  };
  for (Index first = 0; first < longest; first += block) {
    const Index count = std::min(block, longest - first);
    for (int to = 0; to < size(); ++to) std::ranges::copy(block_of(to, first), out_.begin() + to * count);
    const int each = static_cast<int>(count);
    require(MPI_Alltoall(out_.data(), each, MPI_FLOAT, in_.data(), each, MPI_FLOAT, comm_), verb);
    const std::span<float> result(own + first, block_of(rank(), first).size());
    std::copy_n(in_.begin(), result.size(), result.begin());
    for (int from = 1; from < size(); ++from) combine({in_.data() + from * count, result.size()}, result, reduction);
  }
}

void MpiCommunicator::reduce_piece(std::span<float> values, Reduction reduction) {
  std::vector<int> counts, firsts;
  for (int rank = 0; rank < size(); ++rank) {
    const Share share = even_share(std::ssize(values), rank, size());
    counts.push_back(static_cast<int>(share.count));
    firsts.push_back(static_cast<int>(share.first));
  }
  reduce_own_share(values, values.data() + firsts[rank()], reduction, "all_reduce");
  require(
      MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values.data(), counts.data(), firsts.data(), MPI_FLOAT, comm_),
      "all_reduce");
}

void MpiCommunicator::move_all_reduce(Matrix data, Reduction reduction) {
  const Watchdog::Scope scope = waiting("all_reduce");
  in_pieces(data.count(), options_.piece_elements, [&](Index first, int count) {
    reduce_piece({data.row<float>(0) + first, static_cast<std::size_t>(count)}, reduction);
  });
}

void MpiCommunicator::broadcast_pieces(Matrix data, int root, const char* verb) {
  in_pieces(data.count(), options_.piece_elements, [&](Index first, int count) {
    require(MPI_Bcast(element(data, first), count, mpi_type(data.dtype), root, comm_), verb);
  });
}

// Beyond the counts of one call, rank after rank broadcasts its rows.
void MpiCommunicator::move_all_gather(ConstMatrix part, Matrix whole) {
  const Watchdog::Scope scope = waiting("all_gather");
  const Matrix own = whole.row_range(rank() * part.rows, part.rows);
  if (own.data != part.data) std::memcpy(own.data, part.data, static_cast<std::size_t>(part.bytes()));
  if (whole.count() <= options_.piece_elements) {
    require(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, whole.data, static_cast<int>(part.count()),
                          mpi_type(part.dtype), comm_),
            "all_gather");
    return;
  }
  for (int root = 0; root < size(); ++root)
    broadcast_pieces(whole.row_range(root * part.rows, part.rows), root, "all_gather");
}

void MpiCommunicator::move_reduce_scatter(ConstMatrix whole, Matrix part) {
  const Watchdog::Scope scope = waiting("reduce_scatter");
  reduce_own_share({whole.row<float>(0), static_cast<std::size_t>(whole.count())}, part.row<float>(0), Reduction::sum,
                   "reduce_scatter");
}

void MpiCommunicator::move_broadcast(Matrix data, int root) {
  const Watchdog::Scope scope = waiting("broadcast");
  broadcast_pieces(data, root, "broadcast");
}

class MpiCommunicator::PendingSend final : public Pending {
 public:
  explicit PendingSend(MpiCommunicator& communicator) : communicator_(communicator) {}
  // An error of the send shows in the next verb; a destructor cannot report it.
  ~PendingSend() override {
    if (std::uncaught_exceptions() == exceptions_)
      wait_all();
    else
      wait_briefly();
  }
  void wait() override { communicator_.require(wait_all(), "send"); }

  std::vector<MPI_Request> requests;

 private:
  int wait_all() {
    if (requests.empty()) return MPI_SUCCESS;
    const kernels::PhaseScope phase(communicator_.device().profile(), Phase::pipeline);
    const Watchdog::Scope scope = communicator_.waiting("send");
    const int code = MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
    requests.clear();
    return code;
  }
  // An error is on its way out of this rank: the peer may never receive, and the job must still end soon.
  void wait_briefly() {
    const auto since = std::chrono::steady_clock::now();
    int done = requests.empty();
    while (!done && std::chrono::steady_clock::now() - since < std::chrono::seconds(1))
      if (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE)) return;
  }

  MpiCommunicator& communicator_;
  const int exceptions_ = std::uncaught_exceptions();
};

std::unique_ptr<Pending> MpiCommunicator::move_send(ConstMatrix data, int peer, int tag) {
  auto pending = std::make_unique<PendingSend>(*this);
  in_pieces(data.count(), options_.piece_elements, [&](Index first, int count) {
    MPI_Request request = MPI_REQUEST_NULL;
    require(MPI_Isend(element(data, first), count, mpi_type(data.dtype), peer, tag, comm_, &request), "send");
    pending->requests.push_back(request);
  });
  return pending;
}

// Pieces of one message have one tag: MPI keeps messages of one sender and tag in order.
void MpiCommunicator::move_receive(Matrix data, int peer, int tag) {
  const Watchdog::Scope scope = waiting("receive");
  in_pieces(data.count(), options_.piece_elements, [&](Index first, int count) {
    MPI_Status status;
    require(MPI_Recv(element(data, first), count, mpi_type(data.dtype), peer, tag, comm_, &status), "receive");
    int found = 0;
    MPI_Get_count(&status, mpi_type(data.dtype), &found);
    if (found != count)
      kernels::fail(Failure::communication, text(place("receive"), ": expected ", count, " values from rank ", peer,
                                                 " with tag ", tag, ", found ", found));
  });
}

std::vector<double> MpiCommunicator::move_values(std::span<const double> values) {
  const Watchdog::Scope scope = waiting("gather_values");
  std::vector<double> all(values.size() * static_cast<std::size_t>(size()));
  const int count = static_cast<int>(values.size());
  require(MPI_Allgather(values.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, comm_), "gather_values");
  return all;
}

void MpiCommunicator::move_nothing() {
  const Watchdog::Scope scope = waiting("barrier");
  require(MPI_Barrier(comm_), "barrier");
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                    MpiOptions options) {
  int rank = 0, size = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  return std::make_unique<MpiCommunicator>(device, std::move(axis), comm, rank, size, std::move(options));
}

MPI_Comm mpi_comm(const Communicator& communicator) {
  const auto* mpi = dynamic_cast<const MpiCommunicator*>(&communicator);
  return mpi ? mpi->comm() : MPI_COMM_NULL;
}

}  // namespace lorashard::dist
