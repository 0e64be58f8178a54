#include "dist/counted_communicator.hpp"

#include <exception>

namespace lorashard::dist {

using kernels::DType;
using kernels::extents;
using kernels::Failure;
using kernels::Phase;
using kernels::PhaseScope;
using kernels::text;

namespace {

bool overlap(const ConstMatrix& a, const ConstMatrix& b) {
  return a.data && b.data && a.data < b.data + b.bytes() && b.data < a.data + a.bytes();
}

Phase phase_of(const std::string& axis) {
  return axis == "tensor" ? Phase::tensor : axis == "pipeline" ? Phase::pipeline : Phase::data;
}

class Finished final : public Pending {
 public:
  void wait() override {}
};

}  // namespace

CountedCommunicator::CountedCommunicator(kernels::Device& device, std::string axis, int rank, int size)
    : Communicator(std::move(axis), rank, size), device_(device), phase_(phase_of(this->axis())) {
  if (size < 1 || rank < 0 || rank >= size)
    kernels::fail(Failure::other, text("axis ", this->axis(), ": rank ", rank, " of ", size));
}

std::string CountedCommunicator::place(const char* verb) const {
  return text(verb, " over axis ", axis(), ", rank ", rank(), " of ", size());
}

void CountedCommunicator::check(bool holds, const char* verb, const std::string& message) const {
  if (!holds) kernels::fail(Failure::communication, text(place(verb), ": ", message));
}

void CountedCommunicator::check_data(const ConstMatrix& data, const char* name, const char* verb) const {
  if (!data.contiguous())
    check(false, verb, text(name, " is ", extents(data), " with stride ", data.stride, ", expected contiguous rows"));
  if (!data.data && !data.empty() && !device_.meta()) check(false, verb, text(name, " has no memory"));
}

void CountedCommunicator::check_f32(const ConstMatrix& data, const char* name, const char* verb) const {
  check_data(data, name, verb);
  if (data.dtype != DType::f32)
    check(false, verb, text(name, " is ", kernels::name(data.dtype), ", expected fp32 (reduced values are fp32)"));
}

void CountedCommunicator::check_whole(const ConstMatrix& whole, const ConstMatrix& part, const char* verb) const {
  if (whole.rows != part.rows * size() || whole.cols != part.cols || whole.dtype != part.dtype)
    check(false, verb,
          text("part is ", extents(part), " ", kernels::name(part.dtype), ", whole is ", extents(whole), " ",
               kernels::name(whole.dtype), ", expected ", part.rows * size(), "x", part.cols, " ",
               kernels::name(part.dtype)));
}

void CountedCommunicator::check_peer(int peer, int tag, const char* verb) const {
  if (peer < 0 || peer >= size()) check(false, verb, text("peer ", peer, " lies outside the group of ", size()));
  if (tag < 0) check(false, verb, text("tag ", tag, ", expected at least 0"));
}

void CountedCommunicator::count(Phase phase, Index touched_bytes, Index sent_bytes) {
  device_.profile().record(phase, {0, static_cast<double>(touched_bytes)});
  if (sent_bytes > 0) device_.profile().record_sent(phase, static_cast<double>(sent_bytes));
}

void CountedCommunicator::all_reduce(Matrix data, Reduction reduction) {
  check_f32(data, "data", "all_reduce");
  if (size() == 1 || data.empty()) return;
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, 2 * data.bytes(), data.bytes());
  move_all_reduce(data, reduction);
}

std::unique_ptr<Pending> CountedCommunicator::start_all_reduce(Matrix data) {
  check_f32(data, "data", "all_reduce");
  if (size() == 1 || data.empty()) return finished();
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, 2 * data.bytes(), data.bytes());
  return move_start_all_reduce(data);
}

std::unique_ptr<Pending> CountedCommunicator::move_start_all_reduce(Matrix data) {
  move_all_reduce(data, Reduction::sum);
  return finished();
}

std::unique_ptr<Pending> CountedCommunicator::finished() { return std::make_unique<Finished>(); }

void CountedCommunicator::all_gather(ConstMatrix part, Matrix whole) {
  check_data(part, "part", "all_gather");
  check_data(whole, "whole", "all_gather");
  check_whole(whole, part, "all_gather");
  if (overlap(part, whole) && part.data != whole.row_range(rank() * part.rows, part.rows).data)
    check(false, "all_gather", "part lies inside whole, but not at this rank's rows");
  if (part.empty()) return;
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, part.bytes() + whole.bytes(), size() == 1 ? 0 : part.bytes());
  if (size() == 1)
    duplicate(device_, part, whole);
  else
    move_all_gather(part, whole);
}

void CountedCommunicator::check_reduce_scatter(const ConstMatrix& whole, const ConstMatrix& part) const {
  check_f32(whole, "whole", "reduce_scatter");
  check_f32(part, "part", "reduce_scatter");
  check_whole(whole, part, "reduce_scatter");
  check(!overlap(part, whole), "reduce_scatter", "part lies inside whole");
}

void CountedCommunicator::reduce_scatter(ConstMatrix whole, Matrix part) {
  check_reduce_scatter(whole, part);
  if (part.empty()) return;
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, part.bytes() + whole.bytes(), size() == 1 ? 0 : whole.bytes());
  if (size() == 1)
    duplicate(device_, whole, part);
  else
    move_reduce_scatter(whole, part);
}

std::unique_ptr<Pending> CountedCommunicator::start_reduce_scatter(ConstMatrix whole, Matrix part) {
  if (size() == 1 || part.empty()) {
    reduce_scatter(whole, part);
    return finished();
  }
  check_reduce_scatter(whole, part);
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, part.bytes() + whole.bytes(), whole.bytes());
  return move_start_reduce_scatter(whole, part);
}

std::unique_ptr<Pending> CountedCommunicator::move_start_reduce_scatter(ConstMatrix whole, Matrix part) {
  move_reduce_scatter(whole, part);
  return finished();
}

void CountedCommunicator::broadcast(Matrix data, int root) {
  check_data(data, "data", "broadcast");
  check_peer(root, 0, "broadcast");
  if (size() == 1 || data.empty()) return;
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, data.bytes(), root == rank() ? data.bytes() : 0);
  move_broadcast(data, root);
}

std::unique_ptr<Pending> CountedCommunicator::send(ConstMatrix data, int peer, int tag) {
  check_data(data, "data", "send");
  check_peer(peer, tag, "send");
  if (data.empty()) return finished();
  const PhaseScope scope(device_.profile(), Phase::pipeline);
  count(Phase::pipeline, data.bytes(), peer == rank() ? 0 : data.bytes());
  return peer == rank() ? send_to_self(data, tag) : move_send(data, peer, tag);
}

void CountedCommunicator::receive(Matrix data, int peer, int tag) { start_receive(data, peer, tag)->wait(); }

std::unique_ptr<Pending> CountedCommunicator::start_receive(Matrix data, int peer, int tag) {
  check_data(data, "data", "receive");
  check_peer(peer, tag, "receive");
  if (data.empty()) return finished();
  const PhaseScope scope(device_.profile(), Phase::pipeline);
  count(Phase::pipeline, data.bytes(), 0);
  return peer == rank() ? receive_from_self(data, tag) : move_start_receive(data, peer, tag);
}

std::vector<double> CountedCommunicator::gather_values(std::span<const double> values) {
  if (size() == 1 || values.empty()) return {values.begin(), values.end()};
  const PhaseScope scope(device_.profile(), phase_);
  const Index own_bytes = static_cast<Index>(values.size_bytes());
  count(phase_, own_bytes * (size() + 1), own_bytes);
  return move_values(values);
}

void CountedCommunicator::barrier() {
  if (size() == 1) return;
  const PhaseScope scope(device_.profile(), phase_);
  count(phase_, 0, 0);
  move_nothing();
}

class CountedCommunicator::SentLetter final : public Pending {
 public:
  SentLetter(kernels::Device& device, std::weak_ptr<Letter> letter) : device_(device), letter_(std::move(letter)) {}
  ~SentLetter() override {
    try {
      wait();
    } catch (...) {  // out of memory: the letter stays empty, and receive says so
    }
  }
  void wait() override {
    const std::shared_ptr<Letter> letter = std::exchange(letter_, {}).lock();
    if (!letter) return;  // received
    const ConstMatrix borrowed = std::exchange(letter->data, ConstMatrix());
    letter->copy = kernels::Buffer(device_, kernels::Category::communication, borrowed.bytes());
    const Matrix own(letter->copy.data(), borrowed.dtype, borrowed.rows, borrowed.cols, borrowed.cols);
    duplicate(device_, {borrowed.data, borrowed.dtype, borrowed.rows, borrowed.cols, borrowed.cols}, own);
    letter->data = own;
  }

 private:
  kernels::Device& device_;
  std::weak_ptr<Letter> letter_;
};

class CountedCommunicator::AwaitedLetter final : public Pending {
 public:
  AwaitedLetter(CountedCommunicator& communicator, Matrix data, int tag)
      : communicator_(&communicator), data_(data), tag_(tag) {}
  ~AwaitedLetter() override {
    if (std::uncaught_exceptions() > exceptions_) return;  // what was to be received is being thrown away
    try {
      wait();
    } catch (...) {  // never sent: wait() would have said so
    }
  }
  void wait() override {
    if (CountedCommunicator* communicator = std::exchange(communicator_, nullptr))
      communicator->take_letter(data_, tag_);
  }

 private:
  CountedCommunicator* communicator_;
  Matrix data_;
  int tag_;
  const int exceptions_ = std::uncaught_exceptions();
};

std::unique_ptr<Pending> CountedCommunicator::send_to_self(ConstMatrix data, int tag) {
  const auto letter = std::make_shared<Letter>();
  letter->data = data;
  letters_[tag].push_back(letter);
  return std::make_unique<SentLetter>(device_, letter);
}

std::unique_ptr<Pending> CountedCommunicator::receive_from_self(Matrix data, int tag) {
  if (!letters_.contains(tag)) return std::make_unique<AwaitedLetter>(*this, data, tag);
  take_letter(data, tag);
  return finished();
}

void CountedCommunicator::take_letter(Matrix data, int tag) {
  const PhaseScope scope(device_.profile(), Phase::pipeline);
  const auto box = letters_.find(tag);
  check(box != letters_.end(), "receive", text("nothing was sent to this rank by itself with tag ", tag));
  const ConstMatrix& sent = box->second.front()->data;
  if (sent.bytes() != data.bytes() || sent.dtype != data.dtype)
    check(false, "receive",
          text("expected ", extents(data), " ", kernels::name(data.dtype), " from itself, found ", extents(sent), " ",
               kernels::name(sent.dtype)));
  duplicate(device_, {sent.data, sent.dtype, data.rows, data.cols, data.cols},
            {data.data, data.dtype, data.rows, data.cols, data.cols});
  box->second.pop_front();
  if (box->second.empty()) letters_.erase(box);
}

double sum_of(Communicator& communicator, double value) {
  double sum = 0;
  for (const double term : communicator.gather_values({&value, 1})) sum += term;
  return sum;
}

}  // namespace lorashard::dist
