// kernels <- dist <- core <- launch: a room includes itself and what lies to its left, nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "kernels/error.hpp"

namespace lorashard::launch {
namespace {

constexpr std::array kRooms{"kernels", "dist", "core", "launch"};

int place(const std::string& room) {
  return static_cast<int>(std::find(kRooms.begin(), kRooms.end(), room) - kRooms.begin());
}

// "line 3: #include ..." for each include that points right, out of the rooms, or does not name its room.
std::string violations(const std::string& room, std::istream& source) {
  static const std::regex include(R"rx(^\s*#\s*include\s*"(([^"/]*)/)?[^"]*".*)rx");
  std::string found;
  std::string line;
  for (int number = 1; std::getline(source, line); ++number) {
    std::smatch match;
    if (std::regex_match(line, match, include) && place(match[2]) > place(room))
      found += kernels::text("line ", number, ": ", line, "\n");
  }
  return found;
}

std::string violations(const std::string& room, const std::string& text) {
  std::istringstream source(text);
  return violations(room, source);
}

TEST(Includes, PointLeft) {
  const std::set<std::string> sources{".hpp", ".cpp", ".cu", ".cuh", ".h", ".inc"};
  for (const std::string room : kRooms) {
    int files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(room)) {
      if (sources.count(entry.path().extension()) == 0) continue;
      ++files;
      std::ifstream source(entry.path());
      EXPECT_EQ(violations(room, source), "") << entry.path();
    }
    EXPECT_GT(files, 0) << "no sources under " << room << " in " << std::filesystem::current_path();
  }
}

TEST(Includes, TheScanSeesThem) {
  EXPECT_EQ(violations("dist", "#include <vector>\n#include \"kernels/view.hpp\"\n#include \"dist/mesh.hpp\"\n"), "");
  EXPECT_EQ(violations("dist", "\n#include \"core/config.hpp\"  // why\n"),
            "line 2: #include \"core/config.hpp\"  // why\n");
  EXPECT_EQ(violations("kernels", "# include \"dist/mesh.hpp\"\n"), "line 1: # include \"dist/mesh.hpp\"\n");
  EXPECT_NE(violations("launch", "#include \"tests/oracle.hpp\"\n"), "");
  EXPECT_NE(violations("launch", "#include \"../core/config.hpp\"\n"), "");
  EXPECT_NE(violations("core", "#include \"config.hpp\"\n"), "");
}

}  // namespace
}  // namespace lorashard::launch
