#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

// The turns of one row, a pair each, with the magnitude in them.
class RowTurns {
 public:
  explicit RowTurns(const Rotary& args)
      : args_(args), pairs_(args.head_size / 2), cosine_(pairs_), sine_(pairs_), room_(2 * args.head_size) {}

  void take(Index row) {
    const double position = static_cast<double>(args_.positions.empty() ? row % args_.length : args_.positions[row]);
    const float* frequencies = args_.frequencies.row<float>(0);
    const float cosine_scale = args_.magnitude, sine_scale = args_.backward ? -args_.magnitude : args_.magnitude;
    float *cosine = cosine_.data(), *sine = sine_.data();
#pragma omp simd
    for (Index i = 0; i < pairs_; ++i) {
      const Turn turn = turn_by(position * static_cast<double>(frequencies[i]));
      cosine[i] = cosine_scale * turn.cosine;
      sine[i] = sine_scale * turn.sine;
    }
  }

  // The head that begins at column `first`. y may be x: a pair is read before it is written.
  void turn(Index row, Index first) {
    const Index size = args_.head_size;
    const float* x = read(args_.x, row, first, size, room_.data());
    float* y = target(args_.y, row, first, room_.data() + size);
    const float *cosine = cosine_.data(), *sine = sine_.data();
    const auto pair = [=](Index i, Index at_a, Index at_b) {
      const float a = x[at_a], b = x[at_b];
      y[at_a] = a * cosine[i] - b * sine[i];
      y[at_b] = b * cosine[i] + a * sine[i];
    };
    if (args_.pairs == RotaryPairs::halves) {
#pragma omp simd
      for (Index i = 0; i < pairs_; ++i) pair(i, i, i + pairs_);
    } else {
#pragma omp simd
      for (Index i = 0; i < pairs_; ++i) pair(i, 2 * i, 2 * i + 1);
    }
    write(args_.y, row, first, size, y);
  }

 private:
  const Rotary& args_;
  Index pairs_;
  std::vector<float> cosine_, sine_, room_;
};

}  // namespace

void rotary_host(const Rotary& args) {
  if (args.x.empty()) return;
#pragma omp parallel if (args.x.count() >= kWorthThreads)
  {
    RowTurns turns(args);
#pragma omp for schedule(static)
    for (Index r = 0; r < args.x.rows; ++r) {
      turns.take(r);
      for (Index first = 0; first < args.x.cols; first += args.head_size) turns.turn(r, first);
    }
  }
}

}  // namespace lorashard::kernels
