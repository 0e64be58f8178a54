// Kernels: every thread of a block is a fiber. A thread runs until it waits at a barrier or for its warp, or ends; then
// the next one that can go on does. When none can and some have not ended, the block is stuck: that is a fault, never a
// wait.
#include "tests/emulator/blocks.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>

#include "tests/emulator/cells.hpp"
#include "tests/emulator/memory.hpp"

namespace lorashard::emulator {
namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

struct Scheduler {
  Block& block = the_block;
  std::array<Thread, kLargestBlock> threads;
  std::vector<Fiber*> idle;
  std::deque<Thread*> ready;
  fcontext_t home = nullptr;  // of the thread that works off the kernel
  unsigned at_barrier = 0;
};
// In the program's image, where kernels may read (threadIdx is a reference); never destroyed.
Scheduler& scheduler() {
  alignas(Scheduler) static unsigned char memory[sizeof(Scheduler)];
  static Scheduler& one = *new (memory) Scheduler;
  return one;
}

void leave_fiber() { scheduler().home = jump_fcontext(scheduler().home, nullptr).fctx; }

void fiber_main(transfer_t from) {
  Scheduler& all = scheduler();
  all.home = from.fctx;
  while (true) {
    const Block& block = all.block;
    try {
      in_kernel_code = true;
      block.body->run(block.body->data.get());
      in_kernel_code = false;
    } catch (const std::exception& error) {
      in_kernel_code = false;
      fault(block.operation->name, where_in(block) + ": an exception left the kernel: " + error.what());
    }
    block.thread->wait = Wait::ended;
    leave_fiber();
  }
}

Fiber* take_fiber() {
  Scheduler& all = scheduler();
  if (!all.idle.empty()) {
    Fiber* fiber = all.idle.back();
    all.idle.pop_back();
    return fiber;
  }
  auto* fiber = new Fiber;
  fiber->stack = static_cast<unsigned char*>(reserve(kStackBytes, true));
  mprotect(fiber->stack, kGuardBytes, PROT_NONE);
  fiber->context = make_fcontext(fiber->stack + kStackBytes, kStackBytes - kGuardBytes, fiber_main);
  return fiber;
}

void resume(Thread& thread) {
  Scheduler& all = scheduler();
  all.block.thread = &thread;
  thread.wait = Wait::nothing;
  if (thread.fiber == nullptr) thread.fiber = take_fiber();
  thread.fiber->context = jump_fcontext(thread.fiber->context, nullptr).fctx;
  if (thread.wait == Wait::ended) all.idle.push_back(std::exchange(thread.fiber, nullptr));
}

std::string count_of(unsigned part, unsigned whole) {
  return std::to_string(part) + " of " + std::to_string(whole) + " threads";
}

void report_stuck() {
  const Scheduler& all = scheduler();
  const Block& block = all.block;
  unsigned ended = 0, exchanging = 0;
  const Thread* waiting = nullptr;
  for (unsigned i = 0; i < block.thread_count; ++i) {
    const Thread& thread = all.threads[i];
    if (thread.wait == Wait::ended) ++ended;
    if (thread.wait == Wait::exchange && ++exchanging == 1) waiting = &thread;
  }
  std::string what;
  if (all.at_barrier > 0) {
    what = "barrier not reached by all: " + count_of(all.at_barrier, block.thread_count);
  } else {
    char text[120];
    std::snprintf(text, sizeof text,
                  "warp operation not reached by all its lanes: lane %u of warp %u waits with mask 0x%08x",
                  waiting->lane(), waiting->warp(), waiting->mask);
    what = text;
  }
  what += " (" + std::to_string(all.at_barrier) + " at the barrier, " + std::to_string(exchanging) +
          " in a warp operation, " + std::to_string(ended) + " ended)";
  fault(block.operation->name, what + " in " + where_in(block));
}

// Fibers that have not ended start anew: nothing of them is destroyed.
void reset_fibers() {
  Scheduler& all = scheduler();
  for (unsigned i = 0; i < all.block.thread_count; ++i) {
    Fiber* fiber = std::exchange(all.threads[i].fiber, nullptr);
    if (fiber == nullptr) continue;
    fiber->context = make_fcontext(fiber->stack + kStackBytes, kStackBytes - kGuardBytes, fiber_main);
    all.idle.push_back(fiber);
  }
  all.ready.clear();
}

// False when the block was left before its end.
bool run_block() {
  Scheduler& all = scheduler();
  Block& block = all.block;
  if (block.tick > Stamp::kLastTick / 2)
    fault(block.operation->name, "more barriers and warp operations than a stamp can count");
  block.start_tick = block.barrier_tick = ++block.tick;
  block.warp_tick.fill(block.tick);
  all.at_barrier = 0;
  unsigned begun = 0, ended = 0;
  while (ended < block.thread_count && !block.abandoned) {
    Thread* next;
    if (!all.ready.empty()) {
      next = all.ready.front();
      all.ready.pop_front();
    } else if (begun < block.thread_count) {
      next = &all.threads[begun++];
    } else {
      report_stuck();
      block.abandoned = true;
      break;
    }
    resume(*next);
    if (next->wait == Wait::ended) ++ended;
  }
  if (block.abandoned) reset_fibers();
  return !block.abandoned;
}

void number_threads(const dim3& extent) {
  unsigned number = 0;
  for (unsigned z = 0; z < extent.z; ++z) {
    for (unsigned y = 0; y < extent.y; ++y) {
      for (unsigned x = 0; x < extent.x; ++x, ++number) {
        scheduler().threads[number].index = {x, y, z};
        scheduler().threads[number].number = number;
      }
    }
  }
}

// True when every lane of `mask` that the block has waits in this operation.
bool all_arrived(const Thread& last, unsigned lanes) {
  Thread* warp = &scheduler().threads[last.warp() * kLanes];
  for (unsigned i = 0; i < lanes; ++i) {
    if ((last.mask >> i & 1u) == 0 || &warp[i] == &last) continue;
    if (warp[i].wait != Wait::exchange || warp[i].mask != last.mask) return false;
  }
  return true;
}

void complete_exchange(Thread& last, unsigned lanes) {
  Scheduler& all = scheduler();
  Thread* warp = &all.threads[last.warp() * kLanes];
  alignas(16) std::byte values[kLanes * kLargestExchange];
  std::memset(values, 0, kLanes * last.bytes);
  for (unsigned i = 0; i < lanes; ++i) {
    if (last.mask >> i & 1u) std::memcpy(values + i * last.bytes, warp[i].mine.data(), last.bytes);
  }
  for (unsigned i = 0; i < lanes; ++i) {
    if ((last.mask >> i & 1u) == 0) continue;
    if (warp[i].bytes != last.bytes) {
      fault(all.block.operation->name, where_in(all.block) + ": lanes of one mask are in different warp operations (" +
                                           std::to_string(last.bytes) + " and " + std::to_string(warp[i].bytes) +
                                           " bytes)");
      abandon_block();
    }
    std::memcpy(warp[i].all.data(), values, kLanes * last.bytes);
    if (&warp[i] != &last) all.ready.push_back(&warp[i]);
    warp[i].wait = Wait::nothing;
  }
  if (last.bytes > 0) return;  // a barrier: orders memory
  Block& block = all.block;
  ++block.tick;
  const unsigned present = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1;
  if ((last.mask & present) == present) {
    block.warp_tick[last.warp()] = block.tick;
  } else {
    block.met_in_parts = true;
    for (unsigned i = 0; i < lanes; ++i) {
      for (unsigned k = 0; k < lanes; ++k) {
        if ((last.mask >> i & last.mask >> k & 1u) != 0) block.met_ticks[last.warp()][i][k] = block.tick;
      }
    }
  }
}

}  // namespace

void run_grid(const Operation& operation, const Closure& body, dim3 grid, dim3 extent, std::size_t shared_bytes) {
  Block& block = the_block;
  block.operation = &operation;
  block.body = &body;
  block.grid = grid;
  block.extent = extent;
  block.thread_count = extent.x * extent.y * extent.z;
  block.shared_bytes = shared_bytes;
  block.abandoned = false;
  block.tick = 0;
  if (std::exchange(block.met_in_parts, false)) std::memset(block.met_ticks, 0, sizeof block.met_ticks);
  number_threads(extent);
  working_off_kernel = true;
  bool whole = true;
  for (unsigned z = 0; z < grid.z && whole; ++z) {
    for (unsigned y = 0; y < grid.y && whole; ++y) {
      for (unsigned x = 0; x < grid.x && whole; ++x) {
        block.index = {x, y, z};
        whole = run_block();
      }
    }
  }
  working_off_kernel = false;
  block.thread = nullptr;
}

void abandon_block() {
  scheduler().block.abandoned = true;
  leave_fiber();
}

std::string where_in(const Block& block) {
  const auto triple = [](const uint3& v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
  };
  const Thread* thread = block.thread;
  return "block " + triple(block.index) + (thread == nullptr ? std::string() : " thread " + triple(thread->index));
}

const uint3& thread_index() { return the_block.thread->index; }
const uint3& block_index() { return the_block.index; }
const dim3& block_extent() { return the_block.extent; }
const dim3& grid_extent() { return the_block.grid; }
unsigned char* shared_memory() { return shared_base(); }

void block_barrier() {
  const OutsideKernelCode outside;
  Scheduler& all = scheduler();
  Thread& self = *all.block.thread;
  if (++all.at_barrier < all.block.thread_count) {
    self.wait = Wait::barrier;
    leave_fiber();
    return;
  }
  all.at_barrier = 0;
  all.block.barrier_tick = ++all.block.tick;
  for (unsigned i = 0; i < all.block.thread_count; ++i) {
    if (&all.threads[i] != &self) all.ready.push_back(&all.threads[i]);
  }
}

const std::byte* warp_exchange(unsigned mask, const void* mine, std::size_t bytes) {
  const OutsideKernelCode outside;
  Scheduler& all = scheduler();
  Thread& self = *all.block.thread;
  if ((mask >> self.lane() & 1u) == 0) {
    fault(all.block.operation->name, where_in(all.block) + ": a lane calls a warp operation whose mask leaves it out");
    abandon_block();
  }
  self.mask = mask;
  self.bytes = bytes;
  if (bytes > 0) std::memcpy(self.mine.data(), mine, bytes);
  // Lanes that the block does not have are not waited for.
  const unsigned lanes = std::min(kLanes, all.block.thread_count - self.warp() * kLanes);
  if (all_arrived(self, lanes)) {
    complete_exchange(self, lanes);
  } else {
    self.wait = Wait::exchange;
    leave_fiber();
  }
  return self.all.data();
}

}  // namespace lorashard::emulator
