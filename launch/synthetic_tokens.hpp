// A token file of random ids for work whose cost, not result, is asked for. Removed with its owner.
#pragma once

#include <string>

#include "kernels/view.hpp"

namespace lorashard::launch {

class SyntheticTokens {
 public:
  // `rows` documents of length + 1 ids below `vocab`, under the system's directory for temporary files.
  SyntheticTokens(kernels::Index vocab, kernels::Index length, kernels::Index rows);
  ~SyntheticTokens();
  SyntheticTokens(const SyntheticTokens&) = delete;
  SyntheticTokens& operator=(const SyntheticTokens&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace lorashard::launch
