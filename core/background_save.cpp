#include "core/background_save.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/device.hpp"

namespace lorashard::core {

using kernels::ConstMatrix;
using kernels::Matrix;

namespace {

// Writing takes what training leaves of the processors: Linux has a niceness for each thread.
constexpr int kNiceness = 10;

// Its rows follow each other in `to`.
void copy_rows(ConstMatrix from, Matrix to) {
  const auto row_bytes = static_cast<std::size_t>(from.cols * kernels::size_bytes(from.dtype));
#pragma omp parallel for schedule(static)
  for (Index piece = 0; piece < from.rows; ++piece)
    std::memcpy(to.row_range(piece, 1).data, from.row_range(piece, 1).data, row_bytes);
}

}  // namespace

BackgroundSave::~BackgroundSave() {
  if (thread_.joinable()) thread_.join();
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

void BackgroundSave::write() {
  ::setpriority(PRIO_PROCESS, 0, kNiceness);  // of this thread; where it fails all goes on as it was
  try {
    for (const Slice& slice : slices_) writer_->write(slice.name, slice.rows, slice.cols, slice.view);
    writer_->prove();
  } catch (...) {
    error_ = std::current_exception();
  }
  ended_ = true;
}

Index BackgroundSave::finish() {
  if (thread_.joinable()) thread_.join();
  if (error_) std::rethrow_exception(error_);
  return writer_->finish();
}

}  // namespace lorashard::core
