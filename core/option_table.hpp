// The table of keys itself: one row a key, and everything that is known about it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/config.hpp"

namespace lorashard::core {

struct Option {
  std::string key;       // "adapter.rank.qkv"
  std::string shown;     // as the help writes it, "adapter.rank.<target>"; empty: the row before stands for this one
  std::string expected;  // "a whole number of at least 1"
  std::string unit;      // may follow the number: "100 steps"; empty: none
  std::string help;
  std::function<bool(Config&, const std::string&)> set;  // false: not a value of this key
  std::function<std::string(const Config&)> get;         // text that `set` reads back; empty: not given
};

const std::vector<Option>& option_table();
const Option* find_option(const std::string& key);  // null when there is none

}  // namespace lorashard::core
