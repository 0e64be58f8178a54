// The meta device over real MPI: where a run would move data, a rehearsal moves a note of what is asked, and each rank
// compares it with its own. So a job of many ranks shows on any machine that all of them enter the same verbs in the
// same order with the same lengths, without their memory.
#include <array>
#include <utility>
#include <vector>

#include "dist/mpi_communicator.hpp"
#include "dist/mpi_control.hpp"

namespace lorashard::dist {

using kernels::Failure;
using kernels::text;

namespace {

using Note = std::array<long long, 2>;  // verb, bytes

std::string say(const Note& note) { return text(name(static_cast<Verb>(note[0])), " of ", note[1], " bytes"); }

class Rehearsal final : public MpiControl {
 public:
  Rehearsal(kernels::Device& device, std::string axis, MPI_Comm comm, RankState* state)
      : MpiControl(device, std::move(axis), comm, state), notes_(static_cast<std::size_t>(size())) {}

 private:
  class Message;

  void agree(Verb verb, Index bytes) {
    const WaitScope scope = waiting(name(verb));
    const Note own{static_cast<long long>(verb), bytes};
    require(MPI_Allgather(own.data(), 2, MPI_LONG_LONG, notes_.data(), 2, MPI_LONG_LONG, comm()), name(verb));
    for (int other = 0; other < size(); ++other)
      if (notes_[other] != own)
        kernels::fail(Failure::communication, text(place(name(verb)), ": rank ", other, " of the axis entered ",
                                                   say(notes_[other]), ", expected ", say(own), " as here"));
  }

  void move_all_reduce(Matrix data, Reduction) override { agree(Verb::all_reduce, data.bytes()); }
  void move_all_gather(ConstMatrix, Matrix whole) override { agree(Verb::all_gather, whole.bytes()); }
  void move_reduce_scatter(ConstMatrix whole, Matrix) override { agree(Verb::reduce_scatter, whole.bytes()); }
  void move_broadcast(Matrix data, int) override { agree(Verb::broadcast, data.bytes()); }
  std::unique_ptr<Pending> move_send(ConstMatrix data, int peer, int tag) override;
  std::unique_ptr<Pending> move_start_receive(Matrix data, int peer, int tag) override;

  std::vector<Note> notes_;
};

class Rehearsal::Message final : public Pending {
 public:
  Message(Rehearsal& communicator, Verb verb, Index bytes, int peer, int tag)
      : communicator_(communicator), verb_(verb), peer_(peer), own_{static_cast<long long>(Verb::send), bytes}, note_(own_) {
    const int code = verb == Verb::send
                         ? MPI_Isend(note_.data(), 2, MPI_LONG_LONG, peer, tag, communicator.comm(), &request_)
                         : MPI_Irecv(note_.data(), 2, MPI_LONG_LONG, peer, tag, communicator.comm(), &request_);
    communicator.require(code, name(verb));
  }
  ~Message() override {
    if (request_ == MPI_REQUEST_NULL) return;
    if (verb_ == Verb::receive) MPI_Cancel(&request_);  // an error unwinds: its note is about to go
    try {
      wait();
    } catch (...) {
    }
  }
  void wait() override {
    const WaitScope scope = communicator_.waiting(name(verb_), peer_);
    communicator_.require(MPI_Wait(&request_, MPI_STATUS_IGNORE), name(verb_));
    if (note_ != own_)
      kernels::fail(Failure::communication,
                    text(communicator_.place(name(verb_)), ": found ", say(note_), ", expected ", own_[1], " bytes"));
  }

 private:
  Rehearsal& communicator_;
  const Verb verb_;
  const int peer_;
  const Note own_;
  Note note_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

std::unique_ptr<Pending> Rehearsal::move_send(ConstMatrix data, int peer, int tag) {
  return std::make_unique<Message>(*this, Verb::send, data.bytes(), peer, tag);
}

std::unique_ptr<Pending> Rehearsal::move_start_receive(Matrix data, int peer, int tag) {
  return std::make_unique<Message>(*this, Verb::receive, data.bytes(), peer, tag);
}

}  // namespace

std::unique_ptr<Communicator> make_rehearsal_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                          MpiOptions options) {
  return std::make_unique<Rehearsal>(device, std::move(axis), comm, options.state);
}

}  // namespace lorashard::dist
