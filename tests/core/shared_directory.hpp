// The folder beside the project that holds what is too large for it: $LORASHARD_SHARED or ../shared.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace lorashard::core {

// A path inside of it; empty where that is not, and then a test skips with kNoShared.
inline std::string shared_path(const std::string& name) {
  const char* shared = std::getenv("LORASHARD_SHARED");
  const std::string path = std::string(shared ? shared : "../shared") + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}
inline constexpr const char* kNoShared = " is not in ../shared (LORASHARD_SHARED names another place)";

}  // namespace lorashard::core
