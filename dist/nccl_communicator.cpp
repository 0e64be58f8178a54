// Longer than most for the reasons on its first page.
//
// A verb is a NCCL call on a stream of its own, tied into the device's stream by two events: it begins behind what the
// device's stream held when the verb was called, and the device's stream goes on behind its end - at once for a verb in
// line, at wait() for one that was started. The host never waits here.
//
// Streams. A send is a rendezvous: its kernel runs until the peer receives. Were all messages of a rank on one stream,
// two stages of 1F1B would stop each other:
//
//   stage 0:  send F0 to 1,  send F1 to 1,     receive B0 from 1
//   stage 1:  receive F0,    send B0 to 0,     receive F1
//
// The send of F1 waits for its receive, which stands behind the send of B0, which waits for its receive, which stands
// behind the send of F1. So each directed pair of neighbours on the ring has a communicator and a stream of its own,
// for each parity of the tag (one for forwards, one for backwards): nothing that a rank sends stands before what it
// receives. Two communicators of one rank may then be at work at the same time, which NCCL allows when their kernels
// fit on the GPU together ("Using multiple NCCL communicators concurrently" in its manual): messages get few blocks
// (kPairBlocks). CUDA maps streams to 8 hardware queues unless CUDA_DEVICE_MAX_CONNECTIONS says more; two streams in
// one queue may wait for each other, and a rank has up to 10, so Runtime asks for 32.
//
// Sums. NCCL's rings and trees add in an order that follows from the group and the length alone. Reductions inside the
// NVLink switch (NVLS) keep no order from call to call (NCCL's maintainers, on "same data all reduce on H20, but
// results are different"), so they are off unless NCCL_NVLS_ENABLE is set. A maximum may drop a NaN (the hardware's
// fmax does).
//
// Memory. What NCCL allocates inside is not in the ledger.
#include "dist/nccl_communicator.hpp"

#include <cstdlib>

#include "dist/mpi_control.hpp"
#include "dist/nccl_link.hpp"

namespace lorashard::dist {

using kernels::checked;
using kernels::DType;
using kernels::Failure;
using kernels::text;

namespace {

// Most blocks of a message's kernel, of the 78 to 148 multiprocessors of a GPU; up to four wait at a time. On NVLink a
// block moves some 20 GB/s, and messages are hidden behind work.
constexpr int kPairBlocks = 4;
constexpr const char* kMaking = "making NCCL's communicators";

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f64:
      return ncclFloat64;
  }
  return ncclNumTypes;
}

std::size_t count_of(const ConstMatrix& data) { return static_cast<std::size_t>(data.count()); }

class NcclCommunicator final : public MpiControl {
 public:
  NcclCommunicator(kernels::Device& device, std::string axis, MPI_Comm comm, RankState* state,
                   bool point_to_point);
  ~NcclCommunicator() override;

 private:
  class Queued;

  void move_all_reduce(Matrix data, Reduction reduction) override { follow(queue_all_reduce(data, reduction)); }
  std::unique_ptr<Pending> move_start_all_reduce(Matrix data) override;
  void move_all_gather(ConstMatrix part, Matrix whole) override;
  void move_reduce_scatter(ConstMatrix whole, Matrix part) override { follow(queue_reduce_scatter(whole, part)); }
  std::unique_ptr<Pending> move_start_reduce_scatter(ConstMatrix whole, Matrix part) override;
  void move_broadcast(Matrix data, int root) override;
  std::unique_ptr<Pending> move_send(ConstMatrix data, int peer, int tag) override;
  std::unique_ptr<Pending> move_start_receive(Matrix data, int peer, int tag) override;

  NcclEvent queue_all_reduce(Matrix data, Reduction reduction);
  NcclEvent queue_reduce_scatter(ConstMatrix whole, Matrix part);
  // call(comm, stream) behind what the device's stream holds now; the event of its end. `peer`: of a message.
  template <class Call>
  NcclEvent queue(NcclLink& link, const char* verb, const Call& call, int peer = -1);
  void follow(const NcclEvent& end);

  // The receiver of what `sender` sends with tags of this parity.
  int successor(int sender, int parity) const { return (sender + (parity == 0 ? 1 : size() - 1)) % size(); }
  NcclLink& link_of(NcclLink* const (&links)[2], int tag, bool neighbours, int peer, const char* verb) const;

  void make_links(bool point_to_point);
  NcclLink* make_link(const ncclUniqueId& id, int link_rank, int link_size, int most_blocks);
  NcclLink* make_pair(int sender, int receiver, int parity);
  void connect(NcclLink& link, bool sends);
  void look_for_errors();
  void show_oldest();
  void require_nccl(ncclResult_t code, ncclComm_t comm, const char* verb) const;

  kernels::CudaDevice& cuda_;
  std::shared_ptr<NcclEvents> events_ = std::make_shared<NcclEvents>();
  std::vector<std::unique_ptr<NcclLink>> links_;  // in an order that all ranks share
  NcclLink* all_ = nullptr;                       // every rank of the axis
  NcclLink* sends_[2] = {};                       // by the parity of the tag
  NcclLink* receives_[2] = {};
};

class NcclCommunicator::Queued final : public Pending {
 public:
  Queued(NcclCommunicator& communicator, NcclEvent end) : stream_(communicator.cuda_.stream()), end_(std::move(end)) {}
  ~Queued() override {
    if (end_) cudaStreamWaitEvent(stream_, end_.get(), 0);
  }
  void wait() override {
    if (const NcclEvent end = std::exchange(end_, nullptr))
      checked(cudaStreamWaitEvent(stream_, end.get(), 0), "cudaStreamWaitEvent");
  }

 private:
  cudaStream_t stream_;
  NcclEvent end_;
};

NcclCommunicator::NcclCommunicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                   RankState* state, bool point_to_point)
    : MpiControl(device, std::move(axis), comm, state), cuda_(kernels::as_cuda(device)) {
  if (size() == 1) return;  // nothing moves
  make_links(point_to_point);
  cuda_.add_poller(this, [this] {
    look_for_errors();
    show_oldest();
  });
}

// In the order of the making, since destroying is collective too.
NcclCommunicator::~NcclCommunicator() {
  cuda_.remove_poller(this);
  for (auto& link : links_) {
    const WaitScope scope = waiting("ending NCCL's communicators");
    link->finish();
    link.reset();
  }
  if (state()) state()->device_waits_in(nullptr, group(), -1, 0);
}

void NcclCommunicator::require_nccl(ncclResult_t code, ncclComm_t comm, const char* verb) const {
  if (code == ncclSuccess) return;
  const std::string last = ncclGetLastError(comm);
  kernels::fail(Failure::communication,
                text(place(verb), ": NCCL: ", ncclGetErrorString(code), last.empty() ? "" : ": ", last));
}

void NcclCommunicator::make_links(bool point_to_point) {
  setenv("NCCL_NVLS_ENABLE", "0", 0);  // read when the process makes its first communicator
  checked(cudaSetDevice(cuda_.ordinal()), "cudaSetDevice");
  ncclUniqueId id{};
  {
    const WaitScope scope = waiting(kMaking);
    if (rank() == 0) require_nccl(ncclGetUniqueId(&id), nullptr, kMaking);
    require(MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, comm()), kMaking);
    all_ = make_link(id, rank(), size(), NCCL_CONFIG_UNDEF_INT);
  }
  if (!point_to_point) return;
  // Every rank goes through one list of pairs and stops at its own; the senders 0, 2, 4, ... come before 1, 3, 5, ...,
  // so that pairs without a common rank are made at the same time.
  for (const int parity : {0, 1})
    for (const int first : {0, 1})
      for (int sender = first; sender < size(); sender += 2) {
        const int receiver = successor(sender, parity);
        if (rank() == sender) sends_[parity] = make_pair(sender, receiver, parity);
        if (rank() == receiver) receives_[parity] = make_pair(sender, receiver, parity);
      }
}

NcclLink* NcclCommunicator::make_link(const ncclUniqueId& id, int link_rank, int link_size, int most_blocks) {
  auto link = std::make_unique<NcclLink>();
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  config.maxCTAs = most_blocks;
  require_nccl(ncclCommInitRankConfig(&link->comm, link_size, id, link_rank, &config), nullptr, kMaking);
  links_.push_back(std::move(link));
  return links_.back().get();
}

NcclLink* NcclCommunicator::make_pair(int sender, int receiver, int parity) {
  const WaitScope scope = waiting(kMaking);
  ncclUniqueId id{};
  if (rank() == sender) {
    require_nccl(ncclGetUniqueId(&id), nullptr, kMaking);
    require(MPI_Send(&id, sizeof(id), MPI_BYTE, receiver, parity, comm()), kMaking);
  } else {
    require(MPI_Recv(&id, sizeof(id), MPI_BYTE, sender, parity, comm(), MPI_STATUS_IGNORE), kMaking);
  }
  NcclLink* const link = make_link(id, rank() == sender ? 0 : 1, 2, kPairBlocks);
  connect(*link, rank() == sender);
  return link;
}

// NCCL opens the way between two ranks at their first message, and its call then keeps the host until the peer makes
// its own: a send would wait for its receiver. So a first message goes here, where both are.
void NcclCommunicator::connect(NcclLink& link, bool sends) {
  struct Word {  // four bytes while the link is made; not the run's, so not in its ledger
    ~Word() { cudaFree(data); }
    void* data = nullptr;
  } word;
  checked(cudaMalloc(&word.data, sizeof(float)), "cudaMalloc");
  checked(cudaMemsetAsync(word.data, 0, sizeof(float), link.stream), "cudaMemsetAsync");
  require_nccl(sends ? ncclSend(word.data, 1, ncclFloat32, 1, link.comm, link.stream)
                     : ncclRecv(word.data, 1, ncclFloat32, 0, link.comm, link.stream),
               link.comm, kMaking);
  checked(cudaStreamSynchronize(link.stream), "cudaStreamSynchronize");
}

// Called while the host waits for the device.
void NcclCommunicator::look_for_errors() {
  for (const auto& link : links_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(link->comm, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) continue;
    for (const auto& other : links_) other->broken = true;
    const NcclInFlight::Operation* const oldest = link->in_flight.oldest();
    require_nccl(asked == ncclSuccess ? state : asked, link->comm, oldest ? oldest->verb : "communication");
  }
}

// What the device may be waiting for: a sum before a message that is to come, and that before one that is to go.
void NcclCommunicator::show_oldest() {
  if (!state()) return;
  for (NcclLink* const link : {all_, receives_[0], receives_[1], sends_[0], sends_[1]})
    if (const NcclInFlight::Operation* const oldest = link ? link->in_flight.oldest() : nullptr)
      return state()->device_waits_in(oldest->verb, group(), oldest->peer, oldest->number);
  state()->device_waits_in(nullptr, group(), -1, 0);
}

template <class Call>
NcclEvent NcclCommunicator::queue(NcclLink& link, const char* verb, const Call& call, int peer) {
  checked(cudaEventRecord(link.begin, cuda_.stream()), "cudaEventRecord");
  checked(cudaStreamWaitEvent(link.stream, link.begin, 0), "cudaStreamWaitEvent");
  require_nccl(call(link.comm, link.stream), link.comm, verb);
  NcclEvent end = events_->take();
  checked(cudaEventRecord(end.get(), link.stream), "cudaEventRecord");
  link.in_flight.add({verb, peer, peer < 0 && state() ? state()->count(group()) : 0, end});
  return end;
}

void NcclCommunicator::follow(const NcclEvent& end) {
  checked(cudaStreamWaitEvent(cuda_.stream(), end.get(), 0), "cudaStreamWaitEvent");
}

NcclEvent NcclCommunicator::queue_all_reduce(Matrix data, Reduction reduction) {
  return queue(*all_, "all_reduce", [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclAllReduce(data.data, data.data, count_of(data), nccl_type(data.dtype),
                         reduction == Reduction::sum ? ncclSum : ncclMax, comm, stream);
  });
}

std::unique_ptr<Pending> NcclCommunicator::move_start_all_reduce(Matrix data) {
  return std::make_unique<Queued>(*this, queue_all_reduce(data, Reduction::sum));
}

void NcclCommunicator::move_all_gather(ConstMatrix part, Matrix whole) {
  follow(queue(*all_, "all_gather", [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclAllGather(part.data, whole.data, count_of(part), nccl_type(part.dtype), comm, stream);
  }));
}

NcclEvent NcclCommunicator::queue_reduce_scatter(ConstMatrix whole, Matrix part) {
  return queue(*all_, "reduce_scatter", [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclReduceScatter(whole.data, part.data, count_of(part), nccl_type(part.dtype), ncclSum, comm, stream);
  });
}

std::unique_ptr<Pending> NcclCommunicator::move_start_reduce_scatter(ConstMatrix whole, Matrix part) {
  return std::make_unique<Queued>(*this, queue_reduce_scatter(whole, part));
}

void NcclCommunicator::move_broadcast(Matrix data, int root) {
  follow(queue(*all_, "broadcast", [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclBroadcast(data.data, data.data, count_of(data), nccl_type(data.dtype), root, comm, stream);
  }));
}

NcclLink& NcclCommunicator::link_of(NcclLink* const (&links)[2], int tag, bool neighbours, int peer,
                                    const char* verb) const {
  const auto refuse = [](const std::string& message) { kernels::fail(Failure::communication, message); };
  if (!links[tag % 2]) refuse(text(place(verb), ": this axis was made without point to point messages"));
  if (!neighbours)
    refuse(text(place(verb), ": peer ", peer, ", tag ", tag,
                ": even tags go to the next rank, odd ones to the one before"));
  return *links[tag % 2];
}

std::unique_ptr<Pending> NcclCommunicator::move_send(ConstMatrix data, int peer, int tag) {
  NcclLink& link = link_of(sends_, tag, peer == successor(rank(), tag % 2), peer, "send");
  const auto call = [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclSend(data.data, count_of(data), nccl_type(data.dtype), 1, comm, stream);
  };
  return std::make_unique<Queued>(*this, queue(link, "send", call, peer));
}

std::unique_ptr<Pending> NcclCommunicator::move_start_receive(Matrix data, int peer, int tag) {
  NcclLink& link = link_of(receives_, tag, rank() == successor(peer, tag % 2), peer, "receive");
  const auto call = [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclRecv(data.data, count_of(data), nccl_type(data.dtype), 0, comm, stream);
  };
  return std::make_unique<Queued>(*this, queue(link, "receive", call, peer));
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                     RankState* state, bool point_to_point) {
  return std::make_unique<NcclCommunicator>(device, std::move(axis), comm, state, point_to_point);
}

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "";
  return text("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace lorashard::dist
