// The built program, called as a user calls it, and a folder to call it in.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

namespace lorashard::launch {

inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

inline void write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// Where it was built, or, where tests are carried to another machine, the one on the path.
inline std::string program() { return std::filesystem::exists(LORASHARD_PROGRAM) ? LORASHARD_PROGRAM : "lorashard"; }

struct Outcome {
  int code = 0;
  std::string out, err;
  long error_lines() const { return std::count(err.begin(), err.end(), '\n'); }
};

// Its own empty folder, which is the working directory of every call.
class Program : public testing::Test {
 protected:
  Program() {
    std::string name = std::filesystem::temp_directory_path() / "lorashard-test-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~Program() override {
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }

  std::filesystem::path at(const std::string& name) const { return folder_ / name; }

  // `before` is put before the program: "ulimit -f 10;" or mpirun(2).
  Outcome call(const std::string& arguments, const std::string& before = "") const {
    const std::string command = "cd '" + folder_.string() + "' && { " + before + " " + program() + " " +
                                arguments + " ; } >.out 2>.err";
    const int status = std::system(command.c_str());
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return {code, content_of(at(".out")), content_of(at(".err"))};
  }

  // Ranks yield the processor while they wait: two cores are shared by all tests.
  static std::string mpirun(int ranks) {
    return "mpirun --allow-run-as-root --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -np " +
           std::to_string(ranks);
  }

  // Every file below the folder with its content: what a refused call must leave as it was, but for the name in a lock.
  std::map<std::string, std::string> everything() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
      const std::string name = std::filesystem::relative(entry.path(), folder_);
      if (name != ".out" && name != ".err")
        files[name] = entry.is_regular_file() && entry.path().filename() != "lock" ? content_of(entry.path()) : "";
    }
    return files;
  }

  std::filesystem::path folder_;
};

// A model that trains in milliseconds, on bytes.
inline const char* const kTinyJob =
    "[model]\nlayers = 2\nwidth = 16\nheads = 2\nvocab = 257\ncontext = 16\n"
    "[data]\ntrain = train.h5\nlength = 16\n[train]\nsteps = 3\nbatch = 2\n[device]\nthreads = 1\n[run]\ndir = run\n";

// Text that repeats itself, so that there is something to learn.
inline std::string some_text(std::size_t bytes) {
  std::string text;
  for (unsigned i = 0; text.size() < bytes; ++i) text += "the " + std::to_string(i % 97) + "th line of a plain text\n";
  return text.substr(0, bytes);
}

}  // namespace lorashard::launch
