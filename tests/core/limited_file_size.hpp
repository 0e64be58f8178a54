// While it lives, this process cannot write a file beyond `bytes`: what a full disk looks like, without one.
#pragma once

#include <signal.h>
#include <sys/resource.h>

namespace lorashard::core {

class LimitedFileSize {
 public:
  explicit LimitedFileSize(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~LimitedFileSize() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  LimitedFileSize(const LimitedFileSize&) = delete;
  LimitedFileSize& operator=(const LimitedFileSize&) = delete;

 private:
  struct rlimit before_ {};
  void (*handler_)(int);
};

}  // namespace lorashard::core
