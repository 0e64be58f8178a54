#include "core/token_decoder.hpp"

#include <charconv>

#include "core/byte_level.hpp"
#include "core/described.hpp"
#include "core/utf8.hpp"

namespace lorashard::core {
namespace {

// "<0x0A>" is byte 10.
std::string byte_or_text(std::string&& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::move(token);
  int byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5 || token[3] == '-') return std::move(token);
  return {static_cast<char>(byte)};
}

std::string replaced(const std::string& text, const std::string& what, const std::string& by) {
  std::string result;
  std::size_t at = 0;
  for (std::size_t found; (found = text.find(what, at)) != text.npos; at = found + what.size())
    result.append(text, at, found - at).append(by);
  return result.append(text, at);
}

std::string stripped(std::string&& text, const std::string& what, std::int64_t front, std::int64_t back) {
  std::size_t begin = 0, end = text.size();
  for (; front > 0 && text.compare(begin, what.size(), what) == 0; --front) begin += what.size();
  for (; back > 0 && end >= begin + what.size() && text.compare(end - what.size(), what.size(), what) == 0; --back)
    end -= what.size();
  return text.substr(begin, end - begin);
}

}  // namespace

TokenDecoder::TokenDecoder(const boost::json::value* description, const std::string& where) {
  if (!description || description->is_null())
    kernels::fail(kernels::Failure::configuration,
                  kernels::text(where, ": found nothing, expected how tokens become text again"));
  add(*description, where);
}

void TokenDecoder::add_strip(const Described& step) {
  constexpr std::int64_t kMost = 1 << 20;
  const JsonFields& fields = step.fields();
  const std::string what = fields.text("content");
  const std::int64_t start = fields.integer("start", 0, kMost), stop = fields.integer("stop", 0, kMost);
  if (what.empty()) fields.refuse("content", "a character");
  if (!fused_) {
    steps_.push_back([=](std::string&& token, bool) { return stripped(std::move(token), what, start, stop); });
    return;
  }
  // The end of a text is not known while its tokens come one by one.
  if (stop != 0) fields.refuse("stop", "0 behind a Fuse");
  if (front_.count != 0) fields.refuse("type", "one Strip behind a Fuse");
  front_ = {what, start};
}

void TokenDecoder::add(const boost::json::value& description, const std::string& where) {
  const Described step(description, where);
  const std::string& type = step.type();
  if (fused_ && type != "Strip") step.refuse_type("Strip behind a Fuse");
  if (type == "Sequence") {
    step.each("decoders", [&](const auto& value, const std::string& at) { add(value, at); });
  } else if (type == "ByteLevel") {
    steps_.push_back([](std::string&& token, bool) {
      auto bytes = from_visible(token);  // nothing for an added token's own text
      return bytes ? std::move(*bytes) : std::move(token);
    });
  } else if (type == "ByteFallback") {
    steps_.push_back([](std::string&& token, bool) { return byte_or_text(std::move(token)); });
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    add_strip(step);
  } else if (type == "Replace") {
    step.pattern();  // says what is wrong with it
    const boost::json::value* text = step.fields().find("pattern")->get_object().if_contains("String");
    if (!text) step.fields().refuse("pattern", "a String");
    steps_.push_back([what = std::string(text->get_string()), by = step.fields().text("content")](
                         std::string&& token, bool) { return replaced(token, what, by); });
  } else if (type == "Metaspace") {
    const JsonFields& fields = step.fields();
    const bool prefixed = fields.find("prepend_scheme") ? fields.text("prepend_scheme") != "never"
                                                        : fields.flag("add_prefix_space", true);
    steps_.push_back([mark = fields.text("replacement"), prefixed](std::string&& token, bool first) {
      return mark.empty() ? std::move(token) : replaced(token, mark, first && prefixed ? "" : " ");
    });
  } else {
    step.refuse_type("ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace or Sequence");
  }
}

std::string TokenDecoder::operator()(std::string token, bool first) const {
  for (const auto& step : steps_) token = step(std::move(token), first);
  return token;
}

}  // namespace lorashard::core
