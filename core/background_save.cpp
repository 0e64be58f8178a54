#include "core/background_save.hpp"

#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <new>

#include "kernels/device.hpp"

namespace lorashard::core {

using kernels::ConstMatrix;
using kernels::Matrix;

namespace {

// Writing takes a share of a processor and of the memory's speed, which training may need all of. Where every
// processor computes, a step waits for the one that also writes: a twenty-fifth of it is a twenty-fifth of the step.
constexpr double kRestForWork = 24;

double thread_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

// Its rows follow each other in `to`.
void copy_rows(ConstMatrix from, Matrix to) {
  const auto row_bytes = static_cast<std::size_t>(from.cols * kernels::size_bytes(from.dtype));
#pragma omp parallel for schedule(static)
  for (Index piece = 0; piece < from.rows; ++piece)
    std::memcpy(to.row_range(piece, 1).data, from.row_range(piece, 1).data, row_bytes);
}

}  // namespace

void BackgroundSave::end_thread() {
  {
    const std::lock_guard lock(mutex_);
    hurry_ = true;
  }
  hurry_now_.notify_one();
  if (thread_.joinable()) thread_.join();
}

BackgroundSave::~BackgroundSave() {
  end_thread();
  for (const Slice& slice : slices_) memory_.give_back(slice.memory, slice.view.bytes());
}

void BackgroundSave::add(kernels::Device& device, const std::string& name, const dist::AxisCut& rows,
                         const dist::AxisCut& cols, ConstMatrix from) {
  std::byte* const memory = memory_.acquire(from.bytes());
  if (!memory && from.bytes() > 0) throw std::bad_alloc();
  const Matrix copy(memory, from.dtype, from.rows, from.cols, from.cols);
  slices_.push_back({name, rows, cols, memory, copy});
  if (device.kind() == kernels::DeviceKind::cuda)
    download(device, from, copy);
  else
    copy_rows(from, copy);
}

void BackgroundSave::start() {
  // Signals are for the main thread, which waits for its peers and may be told to stop.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { write(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// Waiting for the disk is no work. Who waits for the checkpoint lets it go on at once.
void BackgroundSave::rest() {
  const double now = thread_seconds(), rest_s = kRestForWork * (now - worked_s_);
  worked_s_ = now;
  std::unique_lock lock(mutex_);
  const auto until = std::chrono::system_clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(1e6 * rest_s));
  hurry_now_.wait_until(lock, until, [this] { return hurry_; });
}

void BackgroundSave::write() {
  ::omp_set_num_threads(1);  // of this thread
  writer_->rest_with([this] { rest(); });
  try {
    for (const Slice& slice : slices_) writer_->write(slice.name, slice.rows, slice.cols, slice.view);
    writer_->prove();
  } catch (...) {
    error_ = std::current_exception();
  }
  ended_ = true;
}

Index BackgroundSave::finish() {
  end_thread();
  if (error_) std::rethrow_exception(error_);
  return writer_->finish();
}

}  // namespace lorashard::core
