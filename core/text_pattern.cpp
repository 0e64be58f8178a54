#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/text_pattern.hpp"

#include <pcre2.h>

#include <new>

#include "core/quote.hpp"
#include "core/text_pattern_rewrite.hpp"
#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

// Steps of one match; what public patterns need is a few for each byte. Time is bounded for hostile ones.
constexpr std::uint32_t kMostSteps = 1u << 26;
constexpr std::size_t kJitStack_bytes = 1 << 20;

std::string message_of(int error) {
  PCRE2_UCHAR buffer[128];
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// What matching needs beside a pattern; one a thread, so that many threads may match the same pattern.
struct Scratch {
  Scratch()
      : context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32 << 10, kJitStack_bytes, nullptr)),
        match(pcre2_match_data_create(1, nullptr)) {
    if (!context || !match) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMostSteps);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() {
    pcre2_match_data_free(match);
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  pcre2_match_context* context;
  pcre2_jit_stack* stack;
  pcre2_match_data* match;
};

}  // namespace

struct CompiledPattern {
  // Where PCRE2 has no compiler for the processor, patterns are interpreted.
  explicit CompiledPattern(pcre2_code* made) : code(made) { pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); }
  ~CompiledPattern() { pcre2_code_free(code); }
  CompiledPattern(const CompiledPattern&) = delete;
  CompiledPattern& operator=(const CompiledPattern&) = delete;
  pcre2_code* code;
};

TextPattern TextPattern::regex(const std::string& pattern, const std::string& where) {
  const std::string bytes = pattern_of_classes(pattern, where);
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(bytes.data()), bytes.size(), PCRE2_NEVER_UTF, &error, &at, nullptr);
  if (!code)
    fail(Failure::configuration,
         text(where, ": found ", in_quotes(pattern), ", which is no regular expression (", message_of(error), ")"));
  TextPattern result;
  result.compiled_ = std::make_shared<CompiledPattern>(code);
  std::uint32_t empty = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &empty);
  if (empty)
    fail(Failure::configuration,
         text(where, ": found ", in_quotes(pattern), ", which matches nothing at all too, expected one that does not"));
  return result;
}

TextPattern TextPattern::literal(const std::string& text, const std::string& where) {
  if (text.empty()) fail(Failure::configuration, kernels::text(where, ": found an empty text, expected characters"));
  TextPattern result;
  result.literal_ = text;
  return result;
}

std::vector<TextSpan> TextPattern::matches(std::string_view text) const {
  std::vector<TextSpan> found;
  if (!compiled_) {
    for (std::size_t at = text.find(literal_); at != text.npos; at = text.find(literal_, found.back().end))
      found.push_back({at, at + literal_.size()});
    return found;
  }
  std::string classes;
  classes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) classes += class_byte(next_code_point(text, at));

  thread_local const Scratch scratch;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(classes.data());
  std::size_t bytes = 0;  // of the first `counted` characters
  std::size_t counted = 0;
  const auto bytes_before = [&](std::size_t characters) {
    if (classes.size() == text.size()) return characters;
    for (; counted < characters; ++counted) next_code_point(text, bytes);
    return bytes;
  };
  for (std::size_t at = 0; at < classes.size();) {
    const int count =
        pcre2_match(compiled_->code, subject, classes.size(), at, PCRE2_NOTEMPTY, scratch.match, scratch.context);
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) fail(Failure::configuration, kernels::text("cannot cut a text into words: ", message_of(count)));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.match);
    const std::size_t begin = bytes_before(ends[0]);
    found.push_back({begin, bytes_before(ends[1])});
    at = ends[1];
  }
  return found;
}

}  // namespace lorashard::core
