#include "core/options.hpp"
#include "tests/fuzz/targets.hpp"

namespace lorashard::fuzz {

void config(std::span<const char> input) {
  core::Config first;
  if (!accepts([&] { first = core::parse_config({input.data(), input.size()}, "job.ini", {}); })) return;
  // What was accepted has a canonical text, which says the same.
  const std::string text = core::canonical_text(first);
  core::Config again;
  insist(accepts([&] { again = core::parse_config(text, "canonical", {}); }), "a canonical text is accepted");
  insist(core::canonical_text(again) == text, "a canonical text is its own canonical text");
  accepts([&] { core::check_config(first, 4); });
}

}  // namespace lorashard::fuzz
