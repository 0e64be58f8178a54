// Nothing moves: the base class has checked and counted, and that is all a plan needs.
#include "dist/counted_communicator.hpp"

namespace lorashard::dist {

namespace {

class MetaCommunicator final : public CountedCommunicator {
 public:
  MetaCommunicator(kernels::Device& device, std::string axis, int rank, int size)
      : CountedCommunicator(device, std::move(axis), rank, size) {}

 private:
  void move_all_reduce(Matrix, Reduction) override {}
  void move_all_gather(ConstMatrix, Matrix) override {}
  void move_reduce_scatter(ConstMatrix, Matrix) override {}
  void move_broadcast(Matrix, int) override {}
  std::unique_ptr<Pending> move_send(ConstMatrix, int, int) override { return finished(); }
  std::unique_ptr<Pending> move_start_receive(Matrix, int, int) override { return finished(); }
  void move_nothing() override {}

  std::vector<double> move_values(std::span<const double> values) override {
    std::vector<double> all;
    for (int rank = 0; rank < size(); ++rank) all.insert(all.end(), values.begin(), values.end());
    return all;
  }
};

}  // namespace

std::unique_ptr<Communicator> make_meta_communicator(kernels::Device& device, std::string axis, int rank, int size) {
  if (size > 1 && !device.meta())
    kernels::fail(kernels::Failure::other,
                  kernels::text("axis ", axis, ": a group of ", size, " ranks on the ", kernels::name(device.kind()),
                                " device needs MPI; only the meta device counts without moving"));
  return std::make_unique<MetaCommunicator>(device, std::move(axis), rank, size);
}

}  // namespace lorashard::dist
