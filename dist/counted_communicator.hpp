// What all communicators share: each verb checks its arguments, counts itself in the device's profile and handles a
// group of one; only the movement between ranks is left to MPI (or to nothing, on meta). A planned and a real run
// therefore count the same calls and bytes by construction, and neither takes device memory.
#pragma once

#include <list>
#include <map>

#include "dist/communicator.hpp"

namespace lorashard::dist {

class CountedCommunicator : public Communicator {
 public:
  void all_reduce(Matrix data, Reduction reduction) final;
  void all_gather(ConstMatrix part, Matrix whole) final;
  void reduce_scatter(ConstMatrix whole, Matrix part) final;
  void broadcast(Matrix data, int root) final;
  std::unique_ptr<Pending> send(ConstMatrix data, int peer, int tag) final;
  void receive(Matrix data, int peer, int tag) final;
  std::unique_ptr<Pending> start_receive(Matrix data, int peer, int tag) final;
  std::unique_ptr<Pending> start_all_reduce(Matrix data) final;
  std::unique_ptr<Pending> start_reduce_scatter(ConstMatrix whole, Matrix part) final;
  std::vector<double> gather_values(std::span<const double> values) final;
  void barrier() final;

 protected:
  CountedCommunicator(kernels::Device& device, std::string axis, int rank, int size);
  kernels::Device& device() const { return device_; }
  // "all_reduce over axis tensor, rank 1 of 2"
  std::string place(const char* verb) const;
  // A transfer that is complete as soon as it was begun.
  static std::unique_ptr<Pending> finished();

 private:
  // Called with checked arguments, at least two ranks (for send and receive: another rank) and at least one element.
  virtual void move_all_reduce(Matrix data, Reduction reduction) = 0;
  // Here the whole sum at once: on the host the CPU itself adds the terms, so nothing is left to run beside it.
  virtual std::unique_ptr<Pending> move_start_all_reduce(Matrix data);
  virtual std::unique_ptr<Pending> move_start_reduce_scatter(ConstMatrix whole, Matrix part);
  virtual void move_all_gather(ConstMatrix part, Matrix whole) = 0;
  virtual void move_reduce_scatter(ConstMatrix whole, Matrix part) = 0;
  virtual void move_broadcast(Matrix data, int root) = 0;
  virtual std::unique_ptr<Pending> move_send(ConstMatrix data, int peer, int tag) = 0;
  virtual std::unique_ptr<Pending> move_start_receive(Matrix data, int peer, int tag) = 0;
  virtual std::vector<double> move_values(std::span<const double> values) = 0;
  virtual void move_nothing() = 0;  // a barrier

  void check(bool holds, const char* verb, const std::string& message) const;
  void check_data(const ConstMatrix& data, const char* name, const char* verb) const;
  void check_f32(const ConstMatrix& data, const char* name, const char* verb) const;
  void check_whole(const ConstMatrix& whole, const ConstMatrix& part, const char* verb) const;
  void check_reduce_scatter(const ConstMatrix& whole, const ConstMatrix& part) const;
  void check_peer(int peer, int tag, const char* verb) const;
  void count(kernels::Phase phase, Index touched_bytes, Index sent_bytes);

  // Messages to oneself (one stage that holds several model parts). A letter borrows the sender's memory until the
  // sender waits for it; only then, if it has not been received, it takes a copy. A receive that is begun before its
  // letter was sent takes it when it is waited for. Copies are queued in line with the device's operations.
  struct Letter {
    ConstMatrix data;
    kernels::Buffer copy;
  };
  class SentLetter;
  class AwaitedLetter;
  std::unique_ptr<Pending> send_to_self(ConstMatrix data, int tag);
  std::unique_ptr<Pending> receive_from_self(Matrix data, int tag);
  void take_letter(Matrix data, int tag);

  kernels::Device& device_;
  kernels::Phase phase_;  // of its collectives
  std::map<int, std::list<std::shared_ptr<Letter>>> letters_;  // by tag, oldest first
};

}  // namespace lorashard::dist
