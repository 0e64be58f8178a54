// The one table of keys (DESIGN section 11): reads a job file and command-line overrides into Config, prints the help,
// and writes the canonical job text that checkpoints carry.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/config.hpp"

namespace lorashard::core {

// INI: sections and `key = value`, '#' or ';' comments. Unknown keys, wrong types and values out of range throw
// Failure::configuration: "job.ini:12: train.batch: found 'x', expected a whole number of at least 1"; an unknown key
// names the nearest one. `overrides` are {"mesh.tensor", "2"} pairs and win over the file; `path` may be empty.
Config read_config(const std::string& path, const std::vector<std::pair<std::string, std::string>>& overrides);
// The same from text in memory; `path` is what messages call it.
Config parse_config(const std::string& text, const std::string& path,
                    const std::vector<std::pair<std::string, std::string>>& overrides);

// Every key with its type, default and meaning, grouped by section: generated from the table.
std::string option_help();
// True for a key of the table ("train.steps", "adapter.rank.qkv").
bool is_option(const std::string& key);
// "section.key = value" lines for every key that differs from its default, in table order: parse(canonical(c)) == c.
std::string canonical_text(const Config& config);

// Completes a job whose keys are read: the model's extents become those of its base file (`base`; extents that the job
// gives as well must agree) or, from nothing, get their defaults; `targets = all` and `length = 0` are spelled out.
void complete_config(Config& config, const ModelShape* base);

// Checks what one key alone cannot say, once the model's extents are known: targets the family has, layers that exist,
// batch divisible by data ranks, microbatch by share, length against context, mesh against heads. `ranks` 0: unknown.
void check_config(const Config& config, int ranks);

}  // namespace lorashard::core
