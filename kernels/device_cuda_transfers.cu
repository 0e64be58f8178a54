// Copies between the host and the cuda device. The device copies by itself, in the order of its stream, and only from
// and to pinned memory; so whatever the host holds passes through a ring of it. An upload therefore waits for nothing
// while the ring has room, and leaves the source free.
#include <algorithm>
#include <cstring>

#include "kernels/device_cuda.hpp"

namespace lorashard::kernels {
namespace {

// Rectangles are of bytes: `rows` of `row_bytes` bytes, each `stride_bytes` after the one before.
template <class Byte>
struct Rectangle {
  Byte* data;
  Index rows, row_bytes, stride_bytes;
};

template <class Byte>
Rectangle<Byte> bytes_of(const BasicMatrix<Byte>& m, bool flat) {
  if (flat) return {m.data, 1, m.bytes(), m.bytes()};
  return {m.data, m.rows, m.cols * size_bytes(m.dtype), m.stride * size_bytes(m.dtype)};
}

// What passes through the ring as one piece, its rows packed there.
struct Part {
  std::byte* staged;
  Index row, rows, first_byte, row_bytes;
};

Rectangle<const std::byte> constant(const Rectangle<std::byte>& r) {
  return {r.data, r.rows, r.row_bytes, r.stride_bytes};
}

Rectangle<std::byte> staged_part(const Part& part) { return {part.staged, part.rows, part.row_bytes, part.row_bytes}; }

template <class Byte>
Rectangle<Byte> part_of(const Rectangle<Byte>& r, const Part& part) {
  return {r.data + part.row * r.stride_bytes + part.first_byte, part.rows, part.row_bytes, r.stride_bytes};
}

void copy_rows(const Rectangle<std::byte>& to, const Rectangle<const std::byte>& from) {
  for (Index r = 0; r < to.rows; ++r) {
    std::memcpy(to.data + r * to.stride_bytes, from.data + r * from.stride_bytes, to.row_bytes);
  }
}

// Calls f(part) for parts of at most kPieceBytes that cover rows x row_bytes; part.staged is left to f.
template <class F>
void for_each_part(Index rows, Index row_bytes, F f) {
  const Index width = std::min(row_bytes, StagingRing::kPieceBytes);
  const Index height = std::min(rows, StagingRing::kPieceBytes / width);
  for (Index row = 0; row < rows; row += height) {
    for (Index byte = 0; byte < row_bytes; byte += width) {
      f(Part{nullptr, row, std::min(height, rows - row), byte, std::min(width, row_bytes - byte)});
    }
  }
}

// Both rectangles have the same rows and bytes in a row. A pitch may not exceed 2 GiB, which a flat copy can.
void copy(const Rectangle<std::byte>& to, const Rectangle<const std::byte>& from, cudaMemcpyKind kind,
          cudaStream_t stream) {
  if (to.rows == 1) {
    checked(cudaMemcpyAsync(to.data, from.data, to.row_bytes, kind, stream), "cudaMemcpyAsync");
    return;
  }
  checked(
      cudaMemcpy2DAsync(to.data, to.stride_bytes, from.data, from.stride_bytes, to.row_bytes, to.rows, kind, stream),
      "cudaMemcpy2DAsync");
}

class CudaReadback final : public Readback {
 public:
  CudaReadback(CudaDevice& device, Index bytes)
      : device_(device), bytes_(bytes), memory_(std::max<Index>(bytes, 1), device.stream()) {
    std::memset(memory_.data(), 0, bytes_);
  }

  void start(ConstMatrix from) override {
    if (!from.contiguous() || from.bytes() != bytes_) {
      fail(Failure::configuration, text("readback: from is ", extents(from), " of ", name(from.dtype), " with stride ",
                                        from.stride, ", expected ", bytes_, " bytes in one piece"));
    }
    checked(cudaMemcpyAsync(memory_.data(), from.data, bytes_, cudaMemcpyDeviceToHost, device_.stream()),
            "cudaMemcpyAsync");
    device_.clock().begin(Phase::other);
    done_.record(device_.stream());
    started_ = true;
  }

  std::span<const std::byte> wait() override {
    if (started_) device_.wait_for(done_.get());
    device_.clock().settle();
    return {memory_.data(), static_cast<std::size_t>(bytes_)};
  }

 private:
  CudaDevice& device_;
  Index bytes_;
  PinnedMemory memory_;
  CudaEvent done_;
  bool started_ = false;
};

}  // namespace

StagingRing::StagingRing(CudaDevice& device) : device_(device), memory_(kRingBytes, device.stream()) {}

bool StagingRing::overlaps(Index first, Index end) const {
  return std::any_of(pieces_.begin(), pieces_.end(), [=](const Piece& p) { return p.first < end && first < p.end; });
}

void StagingRing::retire() {
  device_.wait_for(pieces_.front().done.get());
  events_.push_back(std::move(pieces_.front().done));
  pieces_.pop_front();
}

std::byte* StagingRing::take(Index bytes) {
  const Index room = (bytes + 255) / 256 * 256;
  const Index first = head_ + room <= kRingBytes ? head_ : 0;
  while (pieces_.size() >= kMostPieces || overlaps(first, first + room)) retire();
  CudaEvent done = events_.empty() ? CudaEvent() : std::move(events_.back());
  if (!events_.empty()) events_.pop_back();
  pieces_.push_back({first, first + room, std::move(done)});
  head_ = first + room;
  return memory_.data() + first;
}

void StagingRing::finish() { pieces_.back().done.record(device_.stream()); }
void StagingRing::wait(int age) { device_.wait_for(pieces_[pieces_.size() - 1 - age].done.get()); }

void CudaDevice::move_in(ConstMatrix host, Matrix to) {
  const bool flat = host.contiguous() && to.contiguous();
  const auto source = bytes_of(host, flat);
  const auto target = bytes_of(to, flat);
  for_each_part(source.rows, source.row_bytes, [&](Part part) {
    part.staged = state_->staging->take(part.rows * part.row_bytes);
    copy_rows(staged_part(part), part_of(source, part));
    copy(part_of(target, part), constant(staged_part(part)), cudaMemcpyHostToDevice, stream());
    state_->staging->finish();
  });
}

// The copy of one part runs while the one before it is handed to the host's memory.
void CudaDevice::move_out(ConstMatrix from, Matrix host) {
  const bool flat = from.contiguous() && host.contiguous();
  const auto source = bytes_of(from, flat);
  const auto target = bytes_of(host, flat);
  Part before{};
  const auto hand_over = [&](int age) {
    if (before.staged == nullptr) return;
    state_->staging->wait(age);
    copy_rows(part_of(target, before), constant(staged_part(before)));
  };
  for_each_part(source.rows, source.row_bytes, [&](Part part) {
    part.staged = state_->staging->take(part.rows * part.row_bytes);
    copy(staged_part(part), part_of(source, part), cudaMemcpyDeviceToHost, stream());
    state_->staging->finish();
    hand_over(1);
    before = part;
  });
  hand_over(0);
}

void CudaDevice::move_within(ConstMatrix from, Matrix to) {
  const bool flat = from.contiguous() && to.contiguous();
  copy(bytes_of(to, flat), bytes_of(from, flat), cudaMemcpyDeviceToDevice, stream());
}

std::unique_ptr<Readback> CudaDevice::make_readback(Index bytes) {
  return std::make_unique<CudaReadback>(*this, bytes);
}

}  // namespace lorashard::kernels
