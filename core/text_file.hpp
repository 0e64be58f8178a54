// Text files, whole or line by line, read with messages that name them. What cannot be read throws
// Failure::configuration with the file and the system's reason.
#pragma once

#include <fstream>
#include <string>

#include "kernels/view.hpp"

namespace lorashard::core {

std::string read_text_file(const std::string& path);

class LineReader {
 public:
  explicit LineReader(const std::string& path);
  // The next line without its end; false when there is none. A line that lacks its end is a line.
  bool next(std::string& line);
  std::string where() const { return kernels::text(path_, ":", number_); }  // "path:12", the line read last

 private:
  std::string path_;
  std::ifstream in_;
  kernels::Index number_ = 0;
};

// Writes a file whole or not at all. Throws Failure::storage naming it.
void write_whole(const std::string& path, const std::string& content);

}  // namespace lorashard::core
