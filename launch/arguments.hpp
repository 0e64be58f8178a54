// The command line of a subcommand: its own options, keys of the job file as options, and plain words (files).
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/config.hpp"

namespace lorashard::launch {

struct OwnOption {
  std::string name;   // "from"
  std::string value;  // what the help calls its value; empty: a switch
  std::string help;
};

// What a subcommand takes; its help is made from this.
struct Syntax {
  std::string usage;  // "lorashard tokenize --from <file> --to <file>"
  std::string about;
  std::vector<OwnOption> options;
  bool job_keys = false;  // --section.key value, and --config
  bool words = false;     // plain words are files
  std::string help() const;
};

class Arguments {
 public:
  // argv[0] is the subcommand. Throws Failure::configuration for what the syntax does not have, naming the nearest.
  Arguments(const Syntax& syntax, int argc, char** argv);

  bool has(const std::string& option) const { return values_.count(option) != 0; }
  std::string value(const std::string& option, const std::string& otherwise = "") const;
  std::string required(const std::string& option) const;  // throws when it is missing
  // The job file of --config (or none) under the keys given.
  core::Config config() const;
  bool has_key(const std::string& key) const;
  const std::vector<std::pair<std::string, std::string>>& keys() const { return keys_; }  // given, in their order
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::string command_;
  std::map<std::string, std::string> values_;
  std::vector<std::pair<std::string, std::string>> keys_;
  std::vector<std::string> words_;
};

}  // namespace lorashard::launch
