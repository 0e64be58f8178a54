#include "core/hardware.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

struct Unit {
  const char* name;
  double factor;
};

// What a number counts: the units that it may carry, and the values that make sense.
struct Quantity {
  std::vector<Unit> units;  // empty: none; else every number but 0 has one
  double low;
  bool above;  // low itself is refused
  double high;
  bool whole;
  const char* expected;

  bool holds(double x) const { return (above ? x > low : x >= low) && x <= high && (!whole || x == std::floor(x)); }
};

constexpr double kNoLimit = 1e30;
const std::vector<Unit> kByteUnits = {{"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
                                      {"kB", 1e3},     {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
const Quantity kBytes{kByteUnits, 0, true, kNoLimit, false, "a number of bytes above 0, such as 80GiB"};
const Quantity kBytesOrNone{kByteUnits, 0, false, kNoLimit, false, "a number of bytes of at least 0, such as 2GiB"};
const Quantity kByteRate{{{"MB/s", 1e6}, {"GB/s", 1e9}, {"TB/s", 1e12}}, 0, true, kNoLimit, false,
                         "bytes a second above 0, such as 2.0TB/s"};
const std::vector<Unit> kFlopUnits = {{"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}};
const Quantity kFlopRate{kFlopUnits, 0, true, kNoLimit, false, "FLOPs a second above 0, such as 312TFLOP/s"};
const Quantity kFlopRateOrNone{kFlopUnits, 0,     false,
                               kNoLimit,   false, "FLOPs a second of at least 0, such as 312TFLOP/s"};
const Quantity kSeconds{{{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}}, 0, false, 1, false,
                        "a time of at least 0, such as 5us"};
const Quantity kShare{{}, 0, true, 1, false, "a share above 0 and at most 1"};
const Quantity kNumber{{}, 0, false, kNoLimit, false, "a number of at least 0"};
const Quantity kCount{{}, 1, false, 1e6, true, "a whole number of at least 1"};

// The value in bytes, seconds, FLOPs; none where `value` is not of this quantity.
std::optional<double> number_of(const Quantity& quantity, std::string_view value) {
  std::optional<double> number = to_real(value);
  if (number && *number != 0 && !quantity.units.empty()) return std::nullopt;
  for (const Unit& unit : quantity.units) {
    if (number || !value.ends_with(unit.name)) continue;
    const auto digits = to_real(trimmed(value.substr(0, value.size() - std::string_view(unit.name).size())));
    if (digits) number = *digits * unit.factor;
  }
  return number && quantity.holds(*number) ? number : std::nullopt;
}

struct Key {
  std::string name;  // "card.memory"
  std::string expected;
  std::function<bool(Hardware&, std::string_view)> set;  // false: not a value of this key
};

// `at` gives the field, a double or an int.
template <class At>
Key key(std::string name, const Quantity& quantity, At at) {
  return {std::move(name), quantity.expected, [&quantity, at](Hardware& hardware, std::string_view value) {
            const auto number = number_of(quantity, value);
            if (number) at(hardware) = static_cast<std::remove_reference_t<decltype(at(hardware))>>(*number);
            return number.has_value();
          }};
}

void add_card(std::vector<Key>& table) {
  table.push_back({"card.name", "a name", [](Hardware& h, std::string_view value) {
                     h.name = value;
                     return !value.empty();
                   }});
  table.push_back({"card.device", "one of host, cuda", [](Hardware& h, std::string_view value) {
                     h.device = value == "host" ? kernels::DeviceKind::host : kernels::DeviceKind::cuda;
                     return value == "host" || value == "cuda";
                   }});
  table.push_back(key(
      "card.memory", kBytes, [](auto& h) -> auto& { return h.memory_bytes; }));
  table.push_back(key(
      "card.libraries", kBytesOrNone, [](auto& h) -> auto& { return h.libraries_bytes; }));
  table.push_back(key(
      "card.f32", kFlopRate, [](auto& h) -> auto& { return h.f32_flops; }));
  table.push_back(key(
      "card.tf32", kFlopRateOrNone, [](auto& h) -> auto& { return h.tf32_flops; }));
  table.push_back(key(
      "card.bf16", kFlopRateOrNone, [](auto& h) -> auto& { return h.bf16_flops; }));
  table.push_back(key(
      "card.bandwidth", kByteRate, [](auto& h) -> auto& { return h.bytes_per_s; }));
  table.push_back(key(
      "card.multiprocessors", kCount, [](auto& h) -> auto& { return h.multiprocessors; }));
}

template <class At>
void add_product_rates(std::vector<Key>& table, const std::string& type, At at) {
  const std::string start = "products." + type + ".";
  table.push_back(key(
      start + "latency", kSeconds, [at](auto& h) -> auto& { return at(h).latency_s; }));
  table.push_back(key(
      start + "share", kShare, [at](auto& h) -> auto& { return at(h).share; }));
  table.push_back(key(
      start + "fill", kNumber, [at](auto& h) -> auto& { return at(h).fill; }));
  table.push_back(key(
      start + "sustained", kShare, [at](auto& h) -> auto& { return at(h).sustained; }));
}

void add_products_and_kernels(std::vector<Key>& table) {
  add_product_rates(
      table, "bf16", [](auto& h) -> auto& { return h.bf16_products; });
  add_product_rates(
      table, "f32", [](auto& h) -> auto& { return h.f32_products; });
  table.push_back(key(
      "products.write_exposed", kNumber, [](auto& h) -> auto& { return h.product_write_exposed; }));
  table.push_back(key(
      "products.bytes_share", kShare, [](auto& h) -> auto& { return h.product_bytes_share; }));

  table.push_back(key(
      "kernels.attention_share", kShare, [](auto& h) -> auto& { return h.attention_share; }));
  table.push_back(key(
      "kernels.attention_edge", kNumber, [](auto& h) -> auto& { return h.attention_edge; }));
  table.push_back(key(
      "kernels.attention_own_share", kShare, [](auto& h) -> auto& { return h.attention_own_share; }));
  table.push_back(key(
      "kernels.bytes_share", kShare, [](auto& h) -> auto& { return h.kernel_bytes_share; }));
  table.push_back(key(
      "kernels.latency", kSeconds, [](auto& h) -> auto& { return h.kernel_latency_s; }));
}

void add_node(std::vector<Key>& table) {
  table.push_back(key(
      "node.cards", kCount, [](auto& h) -> auto& { return h.cards_per_node; }));
  table.push_back(key(
      "node.inside.bandwidth", kByteRate, [](auto& h) -> auto& { return h.inside.bytes_per_s; }));
  table.push_back(key(
      "node.inside.latency", kSeconds, [](auto& h) -> auto& { return h.inside.latency_s; }));
  table.push_back(key(
      "node.inside.share", kShare, [](auto& h) -> auto& { return h.inside_share; }));
  table.push_back(key(
      "node.inside.half_ranks", kNumber, [](auto& h) -> auto& { return h.inside_half_ranks; }));
  table.push_back(key(
      "node.between.bandwidth", kByteRate, [](auto& h) -> auto& { return h.between.bytes_per_s; }));
  table.push_back(key(
      "node.between.latency", kSeconds, [](auto& h) -> auto& { return h.between.latency_s; }));
  table.push_back(key(
      "node.between.share", kShare, [](auto& h) -> auto& { return h.between_share; }));
  table.push_back(key(
      "node.quick_share", kShare, [](auto& h) -> auto& { return h.quick_share; }));
  table.push_back(key(
      "node.bulk_start", kSeconds, [](auto& h) -> auto& { return h.bulk_start_s; }));
  table.push_back(key(
      "node.message_share", kShare, [](auto& h) -> auto& { return h.message_share; }));
  table.push_back(key(
      "node.message_bulk_start", kSeconds, [](auto& h) -> auto& { return h.message_bulk_start_s; }));
  table.push_back(key(
      "node.collective_latency", kSeconds, [](auto& h) -> auto& { return h.collective_latency_s; }));
  table.push_back(key(
      "node.host_memory", kBytes, [](auto& h) -> auto& { return h.host_memory_bytes; }));
  table.push_back(key(
      "node.storage", kByteRate, [](auto& h) -> auto& { return h.storage_bytes_per_s; }));
}

const std::vector<Key>& key_table() {
  static const std::vector<Key> table = [] {
    std::vector<Key> rows;
    add_card(rows);
    add_products_and_kernels(rows);
    add_node(rows);
    return rows;
  }();
  return table;
}

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const Key& row : key_table()) names.push_back(row.name);
  return names;
}

std::string section_of(std::string_view line, const std::string& place) {
  const std::vector<std::string> sections = {"card", "products", "kernels", "node"};
  const std::string section(trimmed(line.substr(1, line.find(']') - 1)));
  if (line.ends_with(']') && std::count(sections.begin(), sections.end(), section)) return section;
  fail(Failure::configuration,
       text(place, ": unknown section ", in_quotes(line), "; the nearest is '[", nearest(section, sections), "]'"));
}

void set_key(Hardware& hardware, const std::string& place, const std::string& name, std::string_view value) {
  for (const Key& row : key_table()) {
    if (row.name != name) continue;
    if (!row.set(hardware, value))
      fail(Failure::configuration, text(place, ": ", name, ": found ", in_quotes(value), ", expected ", row.expected));
    return;
  }
  fail(Failure::configuration,
       text(place, ": unknown key ", in_quotes(name), "; the nearest is '", nearest(name, key_names()), "'"));
}

}  // namespace

Hardware read_hardware(const std::string& path) {
  Hardware hardware;
  hardware.path = path;
  LineReader lines(path);
  std::map<std::string, std::string> place_of;
  std::string raw, section;
  while (lines.next(raw)) {
    const std::string_view line = without_comment(raw);
    if (line.empty()) continue;
    if (line[0] == '[') {
      section = section_of(line, lines.where());
      continue;
    }
    const std::size_t equals = line.find('=');
    if (equals == line.npos)
      fail(Failure::configuration,
           text(lines.where(), ": found ", in_quotes(line), ", expected [section] or key = value"));
    const std::string name = text(section, section.empty() ? "" : ".", trimmed(line.substr(0, equals)));
    const auto [first, fresh] = place_of.emplace(name, lines.where());
    if (!fresh)
      fail(Failure::configuration, text(lines.where(), ": ", in_quotes(name), " was given before, at ", first->second));
    set_key(hardware, lines.where(), name, trimmed(line.substr(equals + 1)));
  }
  std::string missing;
  for (const std::string& name : key_names())
    if (!place_of.count(name)) missing += (missing.empty() ? "" : ", ") + name;
  if (!missing.empty()) fail(Failure::configuration, text(path, ": expected every key, missing: ", missing));
  return hardware;
}

}  // namespace lorashard::core
