// Text to the values of job keys and back. Nothing is rounded or guessed: what is not wholly a value is none.
// none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.hpp"

namespace lorashard::core {

std::string_view trimmed(std::string_view text);
// Without a comment, which begins with # or ; at the start or after a blank; trimmed.
std::string_view without_comment(std::string_view line);

// The whole of `text`, in decimal. Numbers written by text_of read back as the same bits.
std::optional<std::int64_t> to_whole(std::string_view text);
std::optional<std::uint64_t> to_seed(std::string_view text);
std::optional<double> to_real(std::string_view text);  // finite
std::string text_of(double value);

// yes, no, true, false, on, off, 1, 0.
std::optional<bool> to_flag(std::string_view text);

// "q,v" in any spacing; no target twice. "all" is the empty list: what it means depends on the family.
std::optional<std::vector<Target>> to_targets(std::string_view text);
std::string text_of(const std::vector<Target>& targets);

// "0-3,7" is 0 1 2 3 7: rising, none twice. "all" is the empty list.
std::optional<std::vector<Index>> to_layers(std::string_view text);
std::string text_of(const std::vector<Index>& layers);

// The candidate that the fewest insertions, deletions, replacements and exchanges of neighbours lead to
// (Damerau 1964; Levenshtein 1966); the first of equals. A candidate whose part after the section is exactly `key`
// wins.
std::string nearest(std::string_view key, const std::vector<std::string>& candidates);

}  // namespace lorashard::core
