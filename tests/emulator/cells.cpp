#include "tests/emulator/cells.hpp"

namespace lorashard::emulator {
namespace {

// True when the running thread has met those of `stamp`, of the same launch, since.
bool met(const Visit& visit, Stamp stamp) {
  if (visit.block == nullptr || !visit.alone) return true;
  const Block& block = *visit.block;
  const std::uint32_t who = stamp.who(), tick = stamp.tick(), self = visit.self.who();
  if (who == Stamp::kBlocks || tick < block.start_tick) return false;
  if (who == self || block.barrier_tick > tick) return true;
  const std::uint32_t warp = self / kLanes;
  if (who == Stamp::kWarp + warp) return block.warp_tick[warp] > tick;
  if (who >= Stamp::kWarp || who / kLanes != warp) return false;
  if (block.warp_tick[warp] > tick) return true;
  return block.met_ticks[warp][who % kLanes][self % kLanes] > tick;
}

// The group of the running thread and the readers of `stamp`, of the same launch, whom it has not met.
std::uint32_t group(const Visit& visit, Stamp stamp) {
  const std::uint32_t who = stamp.who(), warp = visit.self.who() / kLanes;
  if (who == Stamp::kBlocks || stamp.tick() < visit.block->start_tick) return Stamp::kBlocks;
  const bool same_warp = who == Stamp::kWarp + warp || (who < Stamp::kWarp && who / kLanes == warp);
  return same_warp ? Stamp::kWarp + warp : Stamp::kBlock;
}

inline bool earlier_use(const Visit& visit, Stamp stamp) {
  if (stamp.none() || stamp.tick() < visit.since_tick) return true;
  return latest_of(stamp.operation()) < visit.since;
}

// The common case, fast: an access of this block alone, from before its last barrier.
inline bool settled(const Visit& visit, Stamp stamp) {
  return stamp.operation() == visit.self.operation() && visit.block != nullptr && stamp.who() != Stamp::kBlocks &&
         stamp.tick() < visit.block->barrier_tick && stamp.tick() >= visit.block->start_tick;
}

// Whether an access that must come after `stamp` does.
Finding check(Visit& visit, Stamp stamp) {
  if (stamp == visit.self || settled(visit, stamp)) return Finding::nothing;
  if (earlier_use(visit, stamp)) return Finding::nothing;
  const std::uint32_t operation = stamp.operation();
  visit.other = stamp;
  if (!ordered_before_current(operation)) return Finding::no_order;
  if (latest_of(operation) == visit.self.operation() && !met(visit, stamp)) return Finding::race;
  return Finding::nothing;
}

Finding note_read(Cell& cell, Visit& visit) {
  if (cell.reader == visit.self) return Finding::nothing;
  if (earlier_use(visit, cell.writer)) return Finding::never_written;
  const Finding finding = check(visit, cell.writer);
  const Stamp last = cell.reader, self = visit.self;
  if (settled(visit, last) && last.operation() < kReaderSets) {
    cell.reader = self;
  } else if (earlier_use(visit, last)) {
    cell.reader = self;
  } else if (latest_of(last.operation()) == self.operation()) {
    const std::uint32_t who = met(visit, last) ? self.who() : group(visit, last);
    cell.reader = Stamp(last.operation(), who, self.tick());
  } else if (ordered_before_current(last.operation())) {
    cell.reader = self;
  } else {
    cell.reader = Stamp(with_current(last.operation()), self.who(), self.tick());
  }
  return finding;
}

Finding note_write(Cell& cell, Visit& visit) {
  Finding finding = check(visit, cell.writer);
  if (finding == Finding::nothing) finding = check(visit, cell.reader);
  cell.writer = visit.self;
  cell.reader = Stamp();
  return finding;
}

}  // namespace

Finding note(Cell* first, Cell* end, Kind kind, Visit& visit) {
  Finding finding = Finding::nothing;
  Cell before, after;  // neighbours mostly have the same past
  for (Cell* cell = first; cell != end; ++cell) {
    if (cell != first && *cell == before) {
      *cell = after;
      continue;
    }
    before = *cell;
    if (finding == Finding::nothing && kind != Kind::write) finding = note_read(*cell, visit);
    if (finding == Finding::nothing && kind != Kind::read) finding = note_write(*cell, visit);
    if (finding != Finding::nothing) break;
    after = *cell;
  }
  if (kind != Kind::read && finding != Finding::nothing) {
    for (Cell* cell = first; cell != end; ++cell) *cell = {visit.self, Stamp()};
  }
  return finding;
}

}  // namespace lorashard::emulator
