// Nothing moves: the base class has checked and counted; an observer is told what would have moved.
#include "dist/counted_communicator.hpp"

namespace lorashard::dist {

namespace {

class MetaCommunicator final : public CountedCommunicator {
 public:
  MetaCommunicator(kernels::Device& device, std::string axis, int rank, int size, TrafficObserver* observer)
      : CountedCommunicator(device, std::move(axis), rank, size), observer_(observer) {}

 private:
  void say(Verb verb, Index bytes, bool started = false) {
    if (observer_ != nullptr) observer_->moved({verb, &axis(), size(), bytes, started});
  }

  void move_all_reduce(Matrix data, Reduction) override { say(Verb::all_reduce, data.bytes()); }
  std::unique_ptr<Pending> move_start_all_reduce(Matrix data) override {
    say(Verb::all_reduce, data.bytes(), true);
    return finished();
  }
  void move_all_gather(ConstMatrix, Matrix whole) override { say(Verb::all_gather, whole.bytes()); }
  void move_reduce_scatter(ConstMatrix whole, Matrix) override { say(Verb::reduce_scatter, whole.bytes()); }
  std::unique_ptr<Pending> move_start_reduce_scatter(ConstMatrix whole, Matrix) override {
    say(Verb::reduce_scatter, whole.bytes(), true);
    return finished();
  }
  void move_broadcast(Matrix data, int) override { say(Verb::broadcast, data.bytes()); }
  std::unique_ptr<Pending> move_send(ConstMatrix data, int, int) override {
    say(Verb::send, data.bytes(), true);
    return finished();
  }
  std::unique_ptr<Pending> move_start_receive(Matrix data, int, int) override {
    say(Verb::receive, data.bytes(), true);
    return finished();
  }
  void move_nothing() override { say(Verb::barrier, 0); }

  std::vector<double> move_values(std::span<const double> values) override {
    say(Verb::values, static_cast<Index>(values.size_bytes()) * size());
    std::vector<double> all;
    for (int rank = 0; rank < size(); ++rank) all.insert(all.end(), values.begin(), values.end());
    return all;
  }

  TrafficObserver* observer_;
};

}  // namespace

const char* name(Verb verb) {
  switch (verb) {
    case Verb::all_reduce: return "all-reduce";
    case Verb::all_gather: return "all-gather";
    case Verb::reduce_scatter: return "reduce-scatter";
    case Verb::broadcast: return "broadcast";
    case Verb::send: return "send";
    case Verb::receive: return "receive";
    case Verb::values: return "values";
    case Verb::barrier: return "barrier";
  }
  return "?";
}

std::unique_ptr<Communicator> make_meta_communicator(kernels::Device& device, std::string axis, int rank, int size,
                                                     TrafficObserver* observer) {
  if (size > 1 && !device.meta())
    kernels::fail(kernels::Failure::other,
                  kernels::text("axis ", axis, ": a group of ", size, " ranks on the ", kernels::name(device.kind()),
                                " device needs MPI; only the meta device counts without moving"));
  return std::make_unique<MetaCommunicator>(device, std::move(axis), rank, size, observer);
}

}  // namespace lorashard::dist
