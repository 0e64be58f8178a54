// The kinds of rows of the table of keys: each makes an Option from a key and the field it stands for.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "core/option_table.hpp"
#include "core/option_values.hpp"

namespace lorashard::core {

// `at` gives the field of a Config, constant or not: one lambda reads and writes.
template <class At>
using FieldOf = std::remove_reference_t<decltype(std::declval<At>()(std::declval<Config&>()))>;

template <class At>
Option whole(std::string key, At at, Index low, std::string help, std::string unit = "") {
  using Field = FieldOf<At>;
  return {key,
          key,
          kernels::text("a whole number of at least ", low),
          std::move(unit),
          std::move(help),
          [=](Config& config, const std::string& value) {
            const auto number = to_whole(value);
            if (!number || *number < low || *number > std::numeric_limits<Field>::max()) return false;
            at(config) = static_cast<Field>(*number);
            return true;
          },
          [=](const Config& config) { return std::to_string(at(config)); }};
}

template <class At>
Option seed(std::string key, At at, std::string help) {
  return {key,
          key,
          "a whole number of at least 0",
          "",
          std::move(help),
          [=](Config& config, const std::string& value) {
            const auto number = to_seed(value);
            if (number) at(config) = *number;
            return number.has_value();
          },
          [=](const Config& config) { return std::to_string(at(config)); }};
}

// Numbers in [low, high), or above low when `above` is set.
struct Interval {
  double low = 0;
  double high = std::numeric_limits<double>::infinity();
  bool above = false;
  bool holds(double x) const { return (above ? x > low : x >= low) && x < high; }
  std::string print() const {
    const std::string from = kernels::text("a number ", above ? "above " : "of at least ", low);
    return high < std::numeric_limits<double>::infinity() ? kernels::text(from, " and below ", high) : from;
  }
};

template <class At>
Option real(std::string key, At at, Interval interval, std::string help) {
  return {key,
          key,
          interval.print(),
          "",
          std::move(help),
          [=](Config& config, const std::string& value) {
            const auto number = to_real(value);
            if (!number || !interval.holds(*number)) return false;
            at(config) = *number;
            return true;
          },
          [=](const Config& config) { return text_of(at(config)); }};
}

template <class At>
Option flag(std::string key, At at, std::string help) {
  return {key,
          key,
          "yes or no",
          "",
          std::move(help),
          [=](Config& config, const std::string& value) {
            const auto yes = to_flag(value);
            if (yes) at(config) = *yes;
            return yes.has_value();
          },
          [=](const Config& config) { return std::string(at(config) ? "yes" : "no"); }};
}

template <class At>
Option words(std::string key, At at, std::vector<std::pair<std::string, FieldOf<At>>> choices, std::string help) {
  std::string expected = "one of";
  for (const auto& [word, value] : choices) expected += (&word == &choices[0].first ? " " : ", ") + word;
  return {key,
          key,
          expected,
          "",
          std::move(help),
          [=](Config& config, const std::string& value) {
            for (const auto& [word, choice] : choices)
              if (value == word) return at(config) = choice, true;
            return false;
          },
          [=](const Config& config) {
            for (const auto& [word, choice] : choices)
              if (at(config) == choice) return word;
            return std::string();
          }};
}

// Text that fits on a line of a job file.
template <class At>
Option line(std::string key, At at, std::string expected, std::string help) {
  return {key,
          key,
          std::move(expected),
          "",
          std::move(help),
          [=](Config& config, const std::string& value) {
            for (const char c : value)
              if (static_cast<unsigned char>(c) < 0x20) return false;
            at(config) = value;
            return true;
          },
          [=](const Config& config) { return at(config); }};
}

}  // namespace lorashard::core
