// The arena: addresses that only running operations may touch. Whoever else does ends the process with a line that says
// where.
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "tests/emulator/blocks.hpp"
#include "tests/emulator/memory.hpp"

namespace lorashard::emulator {
namespace {

constexpr std::size_t kLargePageBytes = 2 << 20;

struct Opening {
  std::mutex mutex;
  int users = 0;
  std::size_t bytes = 0;  // that are accessible while there are users
};
Opening& opening() {
  static Opening& one = *new Opening;
  return one;
}

struct sigaction before_us;

// In a signal handler: what it prints must not allocate.
void on_segmentation_fault(int, siginfo_t* info, void*) {
  char text[400];
  int length;
  const Operation* operation = running_operation();
  const std::size_t at = offset_in(arena(), info->si_addr);
  if (in_kernel() && offset_in(running_block().thread->fiber->stack, info->si_addr) < kGuardBytes) {
    length = std::snprintf(text, sizeof text, "emulator: %s: a thread needs more than %zu bytes of stack\n",
                           operation->name.c_str(), kStackBytes);
  } else if (operation != nullptr) {
    length = std::snprintf(text, sizeof text, "emulator: %s: access to %p, which is no memory of the device\n",
                           operation->name.c_str(), info->si_addr);
  } else if (at < kArenaBytes) {
    const Range found = allocation_at(at);
    length = found.bytes == 0
                 ? std::snprintf(text, sizeof text, "emulator: host access to device memory at %p (not allocated)\n",
                                 info->si_addr)
                 : std::snprintf(text, sizeof text,
                                 "emulator: host access to device memory at %p (%zu bytes into an allocation of %zu)\n",
                                 info->si_addr, at - found.offset, found.bytes);
  } else {
    sigaction(SIGSEGV, &before_us, nullptr);  // the program's own: runs into it again
    return;
  }
  if (write(STDERR_FILENO, text, static_cast<std::size_t>(length)) >= 0) std::_Exit(99);
  std::_Exit(99);
}

unsigned char* reserve_arena() {
  struct sigaction action = {};
  action.sa_sigaction = on_segmentation_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &before_us);
  auto* start = static_cast<unsigned char*>(reserve(kArenaBytes, false));
  arena_start = reinterpret_cast<std::uintptr_t>(start);
  return start;
}

}  // namespace

void* reserve(std::size_t bytes, bool accessible) {
  const bool large = bytes > 16 * kLargePageBytes;
  const std::size_t spare = large ? kLargePageBytes : 0;  // to begin with a page
  void* memory = mmap(nullptr, bytes + spare, accessible ? PROT_READ | PROT_WRITE : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulator: mmap");
    std::_Exit(99);
  }
  if (!large) return memory;
  const std::uintptr_t page = (reinterpret_cast<std::uintptr_t>(memory) + spare - 1) / kLargePageBytes;
  memory = reinterpret_cast<void*>(page * kLargePageBytes);
  madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

unsigned char* arena() {
  static unsigned char* const start = reserve_arena();
  return start;
}

OpenMemory::OpenMemory() {
  const std::lock_guard<std::mutex> lock(opening().mutex);
  if (opening().users++ > 0 && opening().bytes >= arena_top) return;
  opening().bytes = (arena_top / kLargePageBytes + 1) * kLargePageBytes;
  mprotect(arena(), opening().bytes, PROT_READ | PROT_WRITE);
}
OpenMemory::~OpenMemory() {
  const std::lock_guard<std::mutex> lock(opening().mutex);
  if (--opening().users == 0) mprotect(arena(), opening().bytes, PROT_NONE);
}

}  // namespace lorashard::emulator
