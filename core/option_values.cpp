#include "core/option_values.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace lorashard::core {

namespace {

template <class T>
std::optional<T> whole_text(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The parts between commas, trimmed.
std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  for (std::size_t from = 0;;) {
    const std::size_t comma = text.find(',', from);
    parts.push_back(trimmed(text.substr(from, comma == text.npos ? text.npos : comma - from)));
    if (comma == text.npos) return parts;
    from = comma + 1;
  }
}

std::optional<Target> to_target(std::string_view text) {
  for (int i = 0; i < kTargetCount; ++i)
    if (text == name(static_cast<Target>(i))) return static_cast<Target>(i);
  return std::nullopt;
}

int edit_distance(std::string_view a, std::string_view b) {
  // Rows of the table for prefixes of a that are two, one and none shorter than the current one.
  std::vector<int> older(b.size() + 1), old(b.size() + 1), current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) old[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      current[j] = std::min({old[j] + 1, current[j - 1] + 1, old[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        current[j] = std::min(current[j], older[j - 2] + 1);
    }
    std::swap(older, old);
    std::swap(old, current);
  }
  return old[b.size()];
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const char* blanks = " \t\r\n\f\v";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::string_view without_comment(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i)
    if ((line[i] == '#' || line[i] == ';') && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t'))
      return trimmed(line.substr(0, i));
  return trimmed(line);
}

std::optional<std::int64_t> to_whole(std::string_view text) { return whole_text<std::int64_t>(text); }
std::optional<std::uint64_t> to_seed(std::string_view text) { return whole_text<std::uint64_t>(text); }

std::optional<double> to_real(std::string_view text) {
  const auto value = whole_text<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::string text_of(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

std::optional<bool> to_flag(std::string_view text) {
  for (const char* yes : {"yes", "true", "on", "1"})
    if (text == yes) return true;
  for (const char* no : {"no", "false", "off", "0"})
    if (text == no) return false;
  return std::nullopt;
}

std::optional<std::vector<Target>> to_targets(std::string_view text) {
  std::vector<Target> targets;
  if (text == "all") return targets;
  for (const std::string_view part : parts_of(text)) {
    const auto target = to_target(part);
    if (!target || std::count(targets.begin(), targets.end(), *target)) return std::nullopt;
    targets.push_back(*target);
  }
  return targets;
}

std::string text_of(const std::vector<Target>& targets) {
  if (targets.empty()) return "all";
  std::string joined = name(targets[0]);
  for (std::size_t i = 1; i < targets.size(); ++i) joined += kernels::text(',', name(targets[i]));
  return joined;
}

std::optional<std::vector<Index>> to_layers(std::string_view text) {
  constexpr Index kMostLayers = 100'000;  // bounds what "0-999999999999" would allocate
  std::vector<Index> layers;
  if (text == "all") return layers;
  for (const std::string_view part : parts_of(text)) {
    const std::size_t dash = part.find('-');
    const auto first = to_whole(trimmed(part.substr(0, dash)));
    const auto last = dash == part.npos ? first : to_whole(trimmed(part.substr(dash + 1)));
    if (!first || !last || *first < 0 || *last < *first || *last >= kMostLayers) return std::nullopt;
    if (!layers.empty() && *first <= layers.back()) return std::nullopt;
    for (Index layer = *first; layer <= *last; ++layer) layers.push_back(layer);
  }
  return layers;
}

std::string text_of(const std::vector<Index>& layers) {
  if (layers.empty()) return "all";
  std::string joined;
  for (std::size_t i = 0; i < layers.size();) {
    std::size_t j = i;
    while (j + 1 < layers.size() && layers[j + 1] == layers[j] + 1) ++j;
    joined += (i ? "," : "") + std::to_string(layers[i]);
    if (j > i) joined += "-" + std::to_string(layers[j]);
    i = j + 1;
  }
  return joined;
}

std::string nearest(std::string_view key, const std::vector<std::string>& candidates) {
  std::string best;
  int best_distance = 1 << 20;
  key = key.substr(0, 200);  // the cost is the product of the lengths
  for (const std::string& candidate : candidates) {
    if (candidate.substr(candidate.find('.') + 1) == key) return candidate;
    const int distance = edit_distance(key, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace lorashard::core
