#include "launch/run_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/checkpoint.hpp"
#include "launch/together.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using kernels::fail;
using kernels::Failure;
using kernels::Index;
using kernels::text;

namespace {

void make_directories(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path, error)) {
    if (!error) error = std::make_error_code(std::errc::not_a_directory);
    fail(Failure::storage, text(path, ": cannot be made: ", error.message()));
  }
}

// "pid 4711 on host-3", written by the holder.
std::string holder_of(int lock) {
  char words[200] = "";
  const ssize_t length = ::pread(lock, words, sizeof words - 1, 0);
  std::string holder(words, static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  holder.erase(std::min(holder.find('\n'), holder.size()));
  return holder.empty() ? "unknown process" : holder;
}

}  // namespace

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) ::close(lock_);  // releases it
}

void RunDirectory::take_lock(bool make) {
  if (lock_ >= 0) return;
  const std::string path = file("lock");
  const int lock = ::open(path.c_str(), O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0666);
  if (lock < 0 && errno == ENOENT && !make) return;
  if (lock < 0 && errno == ENOTDIR && !make)
    fail(Failure::configuration, text("run.dir: ", path_, " is not a directory"));
  if (lock < 0) fail(Failure::storage, text(path, ": cannot be opened: ", std::strerror(errno)));
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    const std::string holder = holder_of(lock);
    ::close(lock);
    if (reason == EWOULDBLOCK)
      fail(Failure::configuration, text("run.dir: ", path_, " is in use by another run (", holder, ")"));
    fail(Failure::storage, text(path, ": cannot be locked: ", std::strerror(reason)));
  }
  lock_ = lock;
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string holder = text("pid ", ::getpid(), " on ", host, "\n");
  if (::ftruncate(lock_, 0) != 0 ||
      ::pwrite(lock_, holder.data(), holder.size(), 0) != static_cast<ssize_t>(holder.size()))
    fail(Failure::storage, text(path, ": cannot be written: ", std::strerror(errno)));
}

void RunDirectory::lock_existing() {
  on_first_rank(world_, [&] { return take_lock(false), 0.0; });
}

void RunDirectory::lock_or_make() {
  on_first_rank(world_, [&] {
    const bool had_lock = lock_ >= 0;
    make_directories(file("checkpoints"));
    take_lock(true);
    if (!had_lock && !checkpoints().empty())  // appeared after this run had looked for them
      fail(Failure::configuration, text("run.dir: ", path_, " was used by another run at the same time"));
    for (const std::string& folder : {path_, file("checkpoints")})
      for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.path().extension() == ".partial") fs::remove(entry.path());
    return 0.0;
  });
}

std::string RunDirectory::checkpoint(Index step) const {
  char name[64];
  std::snprintf(name, sizeof name, "checkpoints/step-%08lld.h5", static_cast<long long>(step));
  return file(name);
}

std::vector<Index> RunDirectory::checkpoints() const {
  std::vector<Index> steps;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(file("checkpoints"), error)) {
    long long step = -1;
    const std::string path = entry.path();
    if (std::sscanf(entry.path().filename().c_str(), "step-%lld.h5", &step) == 1 && checkpoint(step) == path)
      steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<Index> RunDirectory::newest_checkpoint() const {
  const kernels::AtPlace work(place_.work, "verifying checkpoints");
  const double newest = on_first_rank(world_, [&]() -> double {
    std::vector<Index> steps = checkpoints();
    for (; !steps.empty(); steps.pop_back()) try {
        core::CheckpointReader(checkpoint(steps.back())).verify([this] { place_.beat(); });
        return static_cast<double>(steps.back());
      } catch (const kernels::Error& error) {
        std::fprintf(stderr, "lorashard: %s; taking the checkpoint before it\n", error.what());
      }
    return -1;
  });
  return newest < 0 ? std::nullopt : std::optional<Index>(static_cast<Index>(newest));
}

void RunDirectory::prune(Index keep) const {
  on_first_rank(world_, [&] {
    const std::vector<Index> steps = checkpoints();
    std::error_code error;  // a file that cannot be removed costs room, not the run
    for (Index i = 0; i + keep < static_cast<Index>(steps.size()); ++i) fs::remove(checkpoint(steps[i]), error);
    return 0.0;
  });
}

}  // namespace lorashard::launch
