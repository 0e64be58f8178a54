// Which memory is allocated, and what is wrong with an access to it.
#include "tests/emulator/shadow.hpp"

#include <cstdio>

#include "tests/emulator/memory.hpp"

namespace lorashard::emulator {
namespace {

struct Use {
  Place place;  // latest on its stream
  std::uint32_t operation = 0;
};

struct Allocation {
  std::size_t offset = 0;
  std::size_t bytes = 0;
  Place place;
  std::uint32_t operation = 0;
  std::uint32_t touched = 0;  // the last operation that did
  std::vector<Use> uses;
};

constexpr std::uint32_t kNever = 0, kFreed = 1;

struct Shadow {
  Cell* cells = static_cast<Cell*>(reserve(kArenaBytes / kCellBytes * sizeof(Cell), true));
  Cell* shared = static_cast<Cell*>(reserve(kSharedWindow / kCellBytes * sizeof(Cell), true));
  // Of the allocation that each granule belongs to.
  std::uint32_t* granules =
      static_cast<std::uint32_t*>(reserve(kArenaBytes / kGranuleBytes * sizeof(std::uint32_t), true));
  std::vector<Allocation> allocations{2};
  std::vector<std::uint32_t> spare;
};
[[gnu::noinline]] Shadow& make_shadow() { return *new Shadow; }
inline Shadow& shadow() {
  static Shadow& one = make_shadow();
  return one;
}

void mark(const Allocation& allocation, std::uint32_t as) {
  const std::size_t first = allocation.offset / kGranuleBytes,
                    end = first + (allocation.bytes + kGranuleBytes - 1) / kGranuleBytes;
  for (std::size_t g = first; g < end; ++g) shadow().granules[g] = as;
}

const char* name(bool write) { return write ? "write" : "read"; }

std::string range(const char* what, const void* data, std::size_t bytes) {
  char text[100];
  std::snprintf(text, sizeof text, "%s of %zu bytes at %p", what, bytes, data);
  return std::string(text) + (in_kernel() ? " by " + where_in(running_block()) : "");
}

void report_outside(const void* data, std::size_t bytes, bool write) {
  const std::string what = range(name(write), data, bytes);
  const std::size_t at = offset_in(arena(), data);
  std::size_t g = at / kGranuleBytes;
  if (at < kArenaBytes && shadow().granules[g] == kFreed) return report("freed memory", what);
  for (int tries = 0; g > 0 && tries < 100000 && at < kArenaBytes; --g, ++tries) {
    const std::uint32_t index = shadow().granules[g];
    if (index == kFreed) break;
    if (index == kNever) continue;
    const Allocation& near = shadow().allocations[index];
    return report("out of bounds", what + ", " + std::to_string(at - near.offset) + " bytes into an allocation of " +
                                       std::to_string(near.bytes));
  }
  report("out of bounds", what + ", which is not allocated");
}

// Notes that the current operation uses the memory.
void touch(Allocation& allocation) {
  const Operation& operation = *current_operation;
  allocation.touched = operation.number;
  if (!operation.clock.covers(allocation.place)) {
    report("missing order", "uses memory that is allocated on " + stream_name(allocation.place.stream) +
                                " (operation " + std::to_string(allocation.operation) + "), without waiting for it");
  }
  for (Use& use : allocation.uses) {
    if (use.place.stream == operation.place.stream) {
      use = {operation.place, operation.number};
      return;
    }
  }
  allocation.uses.push_back({operation.place, operation.number});
}

Allocation* find(const void* data, std::size_t bytes, bool write) {
  const std::size_t at = offset_in(arena(), data);
  const std::uint32_t index = at < kArenaBytes ? shadow().granules[at / kGranuleBytes] : kNever;
  if (index > kFreed) {
    Allocation& allocation = shadow().allocations[index];
    const std::size_t offset = at - allocation.offset;
    if (offset <= allocation.bytes && bytes <= allocation.bytes - offset) {
      if (allocation.touched != current_operation->number) touch(allocation);
      return &allocation;
    }
  }
  report_outside(data, bytes, write);
  return nullptr;
}

// Who made an access that clashes with one of the running thread.
std::string author(Stamp stamp) {
  const std::uint32_t who = stamp.who();
  if (who == Stamp::kBlocks || stamp.tick() < running_block().start_tick) return "another block";
  if (who == Stamp::kBlock) return "other threads of the block";
  if (who >= Stamp::kWarp) return "other threads of the warp";
  return "thread number " + std::to_string(who) + " of the block";
}

void report_finding(Finding finding, const Visit& visit, const std::string& what) {
  switch (finding) {
    case Finding::nothing:
      return;
    case Finding::never_written:
      return report("never written", what);
    case Finding::race:
      return report("race",
                    what + ": the same bytes are used by " + author(visit.other) + ", with no barrier between the two");
    case Finding::no_order:
      return report("missing order", what + ": nothing orders it behind " + unordered_name(visit.other.operation()));
  }
}

// Visits the cells of [at, at + bytes) from `cells` on.
void visit_cells(Cell* cells, std::size_t at, std::size_t bytes, Kind kind, Visit& visit, const void* data) {
  const Finding finding =
      note(cells + at / kCellBytes, cells + (at + bytes + kCellBytes - 1) / kCellBytes, kind, visit);
  if (finding != Finding::nothing) report_finding(finding, visit, range(name(kind != Kind::read), data, bytes));
}

Visit visit_of_thread(std::size_t bytes, Kind kind, std::uint32_t since) {
  const Block& block = running_block();
  return {&block,
          Stamp(current_operation->number, block.thread->number, block.tick),
          since,
          0,
          kind != Kind::atomic && bytes >= kCellBytes,
          {}};
}

}  // namespace

void shadow_allocate(const Operation& operation, const void* data, std::size_t bytes) {
  Shadow& all = shadow();
  std::uint32_t index = static_cast<std::uint32_t>(all.allocations.size());
  if (all.spare.empty()) {
    all.allocations.emplace_back();
  } else {
    index = all.spare.back();
    all.spare.pop_back();
  }
  all.allocations[index] = {offset_in(arena(), data), bytes, operation.place, operation.number, 0, {}};
  mark(all.allocations[index], index);
}

void shadow_free(const Operation& operation, const void* data) {
  const std::uint32_t index = shadow().granules[offset_in(arena(), data) / kGranuleBytes];
  if (index <= kFreed) return;  // the allocation itself was reported
  Allocation& allocation = shadow().allocations[index];
  for (const Use& use : allocation.uses) {
    if (operation.clock.covers(use.place)) continue;
    report("freed too early",
           range("memory", data, allocation.bytes) + " may still be in use by " + unordered_name(use.operation));
  }
  if (!operation.clock.covers(allocation.place)) report("freed too early", "nothing orders it behind the allocation");
  mark(allocation, kFreed);
  shadow().spare.push_back(index);
}

bool shadow_operation(const Operation& operation) {
  begin_operation(operation);
  bool sound = true;
  for (const Access& access : operation.accesses) {
    if (access.row_bytes == 0) continue;
    for (std::size_t row = 0; row < access.rows; ++row) {
      const char* data = static_cast<const char*>(access.data) + row * access.stride_bytes;
      const Allocation* allocation = find(data, access.row_bytes, access.write);
      if (allocation == nullptr) {
        sound = false;
        break;
      }
      Visit visit{nullptr, Stamp(operation.number, Stamp::kBlock, 0), allocation->operation, 0, true, {}};
      visit_cells(shadow().cells, offset_in(arena(), data), access.row_bytes, access.write ? Kind::write : Kind::read,
                  visit, data);
    }
  }
  return sound;
}

bool device_access(const void* data, std::size_t bytes, Kind kind) {
  const Allocation* allocation = find(data, bytes, kind != Kind::read);
  if (allocation == nullptr) return false;
  Visit visit = visit_of_thread(bytes, kind, allocation->operation);
  visit_cells(shadow().cells, offset_in(arena(), data), bytes, kind, visit, data);
  return true;
}

bool shared_access(const void* data, std::size_t bytes, Kind kind) {
  const std::size_t at = offset_in(shared_base(), data), limit = running_block().shared_bytes;
  if (at > limit || bytes > limit - at) {
    report("out of bounds", range(name(kind != Kind::read), data, bytes) + ", byte " +
                                std::to_string(static_cast<std::ptrdiff_t>(at)) + " of " + std::to_string(limit) +
                                " bytes of shared memory");
    return false;
  }
  Visit visit = visit_of_thread(bytes, kind, current_operation->number);
  visit.since_tick = running_block().start_tick;  // what an earlier block left counts as never written
  visit_cells(shadow().shared, at, bytes, kind, visit, data);
  return true;
}

}  // namespace lorashard::emulator
