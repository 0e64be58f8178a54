#include "tests/emulator/order.hpp"

#include <map>
#include <set>
#include <vector>

namespace lorashard::emulator {
namespace {

struct Known {
  Place place;
  const std::string* name = nullptr;
};

struct Order {
  std::vector<Known> operations;  // by number; those that have begun
  std::set<std::string> names;
  std::vector<std::vector<std::uint32_t>> sets;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> joined;
  std::set<std::string> reported;
};
Order& order() {
  static Order& one = *new Order;
  return one;
}

bool covered(std::uint32_t number) {
  return number == current_operation->number || current_operation->clock.covers(order().operations[number].place);
}

}  // namespace

void begin_operation(const Operation& operation) {
  Order& all = order();
  if (operation.number >= kReaderSets) fault(operation.name, "more operations than the emulator can tell apart");
  current_operation = &operation;
  last_ordered = operation.number;
  all.reported.clear();
  if (all.operations.size() <= operation.number) all.operations.resize(operation.number + 1000);
  all.operations[operation.number] = {operation.place, &*all.names.insert(operation.name).first};
}

bool search_order_before_current(std::uint32_t number) {
  if (number < kReaderSets) {
    if (!covered(number)) return false;
  } else {
    for (std::uint32_t member : order().sets[number - kReaderSets]) {
      if (!covered(member)) return false;
    }
  }
  last_ordered = number;
  return true;
}

std::uint32_t latest_of_set(std::uint32_t number) { return order().sets[number - kReaderSets].back(); }

std::uint32_t with_current(std::uint32_t readers) {
  Order& all = order();
  std::uint32_t& found = all.joined[{readers, current_operation->number}];
  if (found != 0) return found;
  std::vector<std::uint32_t> members;
  const std::vector<std::uint32_t> before =
      readers < kReaderSets ? std::vector<std::uint32_t>{readers} : all.sets[readers - kReaderSets];
  for (std::uint32_t member : before) {
    if (!covered(member)) members.push_back(member);
  }
  members.push_back(current_operation->number);
  all.sets.push_back(std::move(members));
  return found = kReaderSets + static_cast<std::uint32_t>(all.sets.size()) - 1;
}

std::string unordered_name(std::uint32_t number) {
  const Order& all = order();
  if (number >= kReaderSets) {
    for (std::uint32_t member : all.sets[number - kReaderSets]) {
      if (!covered(member)) return unordered_name(member);
    }
  }
  const Known& known = all.operations[number];
  return "'" + *known.name + "' (operation " + std::to_string(number) + ", " + stream_name(known.place.stream) + ")";
}

void report(const char* kind, const std::string& what) {
  Order& all = order();
  if (!all.reported.insert(kind).second) return;
  fault(current_operation->name, std::string(kind) + ": " + what + " [operation " +
                                     std::to_string(current_operation->number) + ", " +
                                     stream_name(current_operation->place.stream) + "]");
}

}  // namespace lorashard::emulator
