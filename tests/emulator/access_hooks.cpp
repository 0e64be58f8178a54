// What g++ -fsanitize=thread calls before each access to memory. Nothing links that sanitizer's library: these are the
// emulator's own. They run in all code of the .cu files, on the host's threads too, and in templates of the standard
// library that were compiled there, so what is not a kernel's access is let through first.
//
// A memcpy whose length is not known when compiling is a plain call and is not seen.
#include <cstddef>

#include "tests/emulator/blocks.hpp"
#include "tests/emulator/memory.hpp"
#include "tests/emulator/order.hpp"
#include "tests/emulator/shadow.hpp"

extern "C" const char __executable_start, end;  // of the program's image, from the linker

namespace lorashard::emulator {
namespace {

bool within(const void* data, const void* start, std::size_t bytes) { return offset_in(start, data) < bytes; }

// Beside device and shared memory a thread has its own stack, its arguments, and constants.
void host_access(const void* data, std::size_t bytes) {
  const Block& block = running_block();
  if (within(data, &__executable_start, static_cast<std::size_t>(&end - &__executable_start))) return;
  if (within(data, block.thread->fiber->stack, kStackBytes)) return;
  if (within(data, block.body->data.get(), block.body->bytes)) return;
  report("host memory", "access of " + std::to_string(bytes) + " bytes by " + where_in(block));
}

inline void access(const void* data, std::size_t bytes, Kind kind) {
  if (!in_kernel()) {
    if (on_device(data) && running_operation() == nullptr) {
      fault("host", "access to device memory from the host's own code");
    }
    return;
  }
  if (!in_kernel_code) return;
  const OutsideKernelCode outside;
  bool sound = true;
  if (on_device(data)) {
    sound = device_access(data, bytes, kind);
  } else if (within(data, shared_base() - kSharedWindow / 2, kSharedWindow)) {
    sound = shared_access(data, bytes, kind);
  } else {
    host_access(data, bytes);
  }
  if (!sound) abandon_block();
}

}  // namespace
}  // namespace lorashard::emulator

using lorashard::emulator::access;
using lorashard::emulator::Kind;

extern "C" {

#define LORASHARD_ACCESS(bytes)                                                      \
  void __tsan_read##bytes(void* data) { access(data, bytes, Kind::read); }           \
  void __tsan_write##bytes(void* data) { access(data, bytes, Kind::write); }         \
  void __tsan_unaligned_read##bytes(void* data) { access(data, bytes, Kind::read); } \
  void __tsan_unaligned_write##bytes(void* data) { access(data, bytes, Kind::write); }
LORASHARD_ACCESS(1)
LORASHARD_ACCESS(2)
LORASHARD_ACCESS(4)
LORASHARD_ACCESS(8)
LORASHARD_ACCESS(16)
void __tsan_read_range(void* data, std::size_t bytes) { access(data, bytes, Kind::read); }
void __tsan_write_range(void* data, std::size_t bytes) { access(data, bytes, Kind::write); }

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void*, void*) {}

// Atomic operations are replaced by calls, which must do them. Host code of the .cu files has some (shared_ptr).
#define LORASHARD_ATOMIC_UPDATE(bits, type, name)                           \
  type __tsan_atomic##bits##_##name(volatile type* data, type value, int) { \
    access(const_cast<type*>(data), sizeof(type), Kind::atomic);            \
    return __atomic_##name(data, value, __ATOMIC_SEQ_CST);                  \
  }
#define LORASHARD_ATOMIC_COMPARE(bits, type, strength)                                                               \
  int __tsan_atomic##bits##_compare_exchange_##strength(volatile type* data, type* expected, type value, int, int) { \
    access(const_cast<type*>(data), sizeof(type), Kind::atomic);                                                     \
    return __atomic_compare_exchange_n(data, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);            \
  }
#define LORASHARD_ATOMIC(bits, type)                                          \
  type __tsan_atomic##bits##_load(const volatile type* data, int) {           \
    access(const_cast<type*>(data), sizeof(type), Kind::read);                \
    return __atomic_load_n(data, __ATOMIC_SEQ_CST);                           \
  }                                                                           \
  void __tsan_atomic##bits##_store(volatile type* data, type value, int) {    \
    access(const_cast<type*>(data), sizeof(type), Kind::write);               \
    __atomic_store_n(data, value, __ATOMIC_SEQ_CST);                          \
  }                                                                           \
  type __tsan_atomic##bits##_exchange(volatile type* data, type value, int) { \
    access(const_cast<type*>(data), sizeof(type), Kind::atomic);              \
    return __atomic_exchange_n(data, value, __ATOMIC_SEQ_CST);                \
  }                                                                           \
  LORASHARD_ATOMIC_UPDATE(bits, type, fetch_add)                              \
  LORASHARD_ATOMIC_UPDATE(bits, type, fetch_sub)                              \
  LORASHARD_ATOMIC_UPDATE(bits, type, fetch_and)                              \
  LORASHARD_ATOMIC_UPDATE(bits, type, fetch_or)                               \
  LORASHARD_ATOMIC_UPDATE(bits, type, fetch_xor)                              \
  LORASHARD_ATOMIC_COMPARE(bits, type, strong)                                \
  LORASHARD_ATOMIC_COMPARE(bits, type, weak)
LORASHARD_ATOMIC(8, unsigned char)
LORASHARD_ATOMIC(16, unsigned short)
LORASHARD_ATOMIC(32, unsigned)
LORASHARD_ATOMIC(64, unsigned long)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

}  // extern "C"
