// Numbers for people.
#pragma once

#include <string>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::launch {

std::string count_text(kernels::Index count);        // 1,234,567
std::string bytes_text(double bytes);                // 1.21 GiB
std::string duration_text(double seconds);           // 4 min 12 s
std::string fixed_text(double value, int decimals);  // 3.142

// Columns as wide as their widest cell: the first to the left, the others to the right.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

}  // namespace lorashard::launch
