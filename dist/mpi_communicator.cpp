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
#include <utility>

#include "dist/mpi_control.hpp"
#include "dist/shard.hpp"

namespace lorashard::dist {

using kernels::DType;
using kernels::Failure;
using kernels::Phase;
using kernels::text;

namespace {

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::bf16:
      return MPI_UINT16_T;  // moved, never added
    case DType::f64:
      return MPI_DOUBLE;
  }
  return MPI_DATATYPE_NULL;
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

class MpiCommunicator final : public MpiControl {
 public:
  MpiCommunicator(kernels::Device& device, std::string axis, MPI_Comm comm, MpiOptions options)
      : MpiControl(device, std::move(axis), comm, options.state),
        piece_elements_(options.piece_elements) {
    if (piece_elements_ < 1 || piece_elements_ > Index{1} << 30)
      kernels::fail(Failure::other, text("pieces of ", piece_elements_, " elements, expected 1 to 2^30"));
  }

 private:
  class Transfer;

  void move_all_reduce(Matrix data, Reduction reduction) override;
  void move_all_gather(ConstMatrix part, Matrix whole) override;
  void move_reduce_scatter(ConstMatrix whole, Matrix part) override;
  void move_broadcast(Matrix data, int root) override;
  std::unique_ptr<Pending> move_send(ConstMatrix data, int peer, int tag) override;
  std::unique_ptr<Pending> move_start_receive(Matrix data, int peer, int tag) override;

  void reduce_own_share(std::span<const float> whole, float* own, Reduction reduction, const char* verb);
  void reduce_piece(std::span<float> values, Reduction reduction);
  void broadcast_pieces(Matrix data, int root, const char* verb);

  const Index piece_elements_;
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
    require(MPI_Alltoall(out_.data(), each, MPI_FLOAT, in_.data(), each, MPI_FLOAT, comm()), verb);
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
  require(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values.data(), counts.data(), firsts.data(), MPI_FLOAT,
                         comm()),
          "all_reduce");
}

void MpiCommunicator::move_all_reduce(Matrix data, Reduction reduction) {
  const WaitScope scope = waiting("all_reduce");
  in_pieces(data.count(), piece_elements_, [&](Index first, int count) {
    reduce_piece({data.row<float>(0) + first, static_cast<std::size_t>(count)}, reduction);
  });
}

void MpiCommunicator::broadcast_pieces(Matrix data, int root, const char* verb) {
  in_pieces(data.count(), piece_elements_, [&](Index first, int count) {
    require(MPI_Bcast(element(data, first), count, mpi_type(data.dtype), root, comm()), verb);
  });
}

// Beyond the counts of one call, rank after rank broadcasts its rows.
void MpiCommunicator::move_all_gather(ConstMatrix part, Matrix whole) {
  const WaitScope scope = waiting("all_gather");
  const Matrix own = whole.row_range(rank() * part.rows, part.rows);
  if (own.data != part.data) std::memcpy(own.data, part.data, static_cast<std::size_t>(part.bytes()));
  if (whole.count() <= piece_elements_) {
    require(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, whole.data, static_cast<int>(part.count()),
                          mpi_type(part.dtype), comm()),
            "all_gather");
    return;
  }
  for (int root = 0; root < size(); ++root)
    broadcast_pieces(whole.row_range(root * part.rows, part.rows), root, "all_gather");
}

void MpiCommunicator::move_reduce_scatter(ConstMatrix whole, Matrix part) {
  const WaitScope scope = waiting("reduce_scatter");
  reduce_own_share({whole.row<float>(0), static_cast<std::size_t>(whole.count())}, part.row<float>(0), Reduction::sum,
                   "reduce_scatter");
}

void MpiCommunicator::move_broadcast(Matrix data, int root) {
  const WaitScope scope = waiting("broadcast");
  broadcast_pieces(data, root, "broadcast");
}

// A message in pieces, each an MPI request: of one sender and tag they arrive in the order in which they were sent.
class MpiCommunicator::Transfer final : public Pending {
 public:
  Transfer(MpiCommunicator& communicator, const char* verb, int peer)
      : communicator_(communicator), verb_(verb), peer_(peer) {}
  // An error shows in the next verb; a destructor cannot report it.
  ~Transfer() override {
    if (std::uncaught_exceptions() > exceptions_) {
      wait_briefly();
      return;
    }
    try {
      wait();
    } catch (...) {
    }
  }

  void wait() override {
    if (pieces_.empty()) return;
    const kernels::PhaseScope phase(communicator_.device().profile(), Phase::pipeline);
    const WaitScope scope = communicator_.waiting(verb_, peer_);
    int failed = MPI_SUCCESS;  // reported when no piece is under way any more
    std::string wrong;
    for (Piece& piece : std::exchange(pieces_, {})) {
      MPI_Status status;
      const int code = MPI_Wait(&piece.request, &status);
      if (code != MPI_SUCCESS) failed = code;
      if (code != MPI_SUCCESS || !piece.from_peer) continue;
      int found = 0;
      MPI_Get_count(&status, piece.type, &found);
      if (found != piece.count && wrong.empty())
        wrong = text("expected ", piece.count, " values from rank ", status.MPI_SOURCE, " with tag ", status.MPI_TAG,
                     ", found ", found);
    }
    communicator_.require(failed, verb_);
    if (!wrong.empty()) kernels::fail(Failure::communication, text(communicator_.place(verb_), ": ", wrong));
  }

  void send(const std::byte* from, int count, MPI_Datatype type, int tag) {
    MPI_Request request = MPI_REQUEST_NULL;
    communicator_.require(MPI_Isend(from, count, type, peer_, tag, communicator_.comm(), &request), verb_);
    pieces_.push_back({request, count, type, false});
  }
  void receive(std::byte* to, int count, MPI_Datatype type, int tag) {
    MPI_Request request = MPI_REQUEST_NULL;
    communicator_.require(MPI_Irecv(to, count, type, peer_, tag, communicator_.comm(), &request), verb_);
    pieces_.push_back({request, count, type, true});
  }

 private:
  struct Piece {
    MPI_Request request;
    int count;
    MPI_Datatype type;
    bool from_peer;
  };

  // An error is on its way out of this rank: the peer may never answer, and the job must still end soon. A receive is
  // called back, since what it would write to is about to go.
  void wait_briefly() {
    const auto since = std::chrono::steady_clock::now();
    for (Piece& piece : pieces_) {
      if (piece.from_peer) MPI_Cancel(&piece.request);
      int done = 0;
      while (!done && std::chrono::steady_clock::now() - since < std::chrono::seconds(1))
        if (MPI_Test(&piece.request, &done, MPI_STATUS_IGNORE)) return;
    }
  }

  MpiCommunicator& communicator_;
  const char* verb_;
  const int peer_;
  std::vector<Piece> pieces_;
  const int exceptions_ = std::uncaught_exceptions();
};

std::unique_ptr<Pending> MpiCommunicator::move_send(ConstMatrix data, int peer, int tag) {
  auto transfer = std::make_unique<Transfer>(*this, "send", peer);
  in_pieces(data.count(), piece_elements_, [&](Index first, int count) {
    transfer->send(element(data, first), count, mpi_type(data.dtype), tag);
  });
  return transfer;
}

std::unique_ptr<Pending> MpiCommunicator::move_start_receive(Matrix data, int peer, int tag) {
  auto transfer = std::make_unique<Transfer>(*this, "receive", peer);
  in_pieces(data.count(), piece_elements_, [&](Index first, int count) {
    transfer->receive(element(data, first), count, mpi_type(data.dtype), tag);
  });
  return transfer;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                    MpiOptions options) {
  return std::make_unique<MpiCommunicator>(device, std::move(axis), comm, std::move(options));
}

}  // namespace lorashard::dist
