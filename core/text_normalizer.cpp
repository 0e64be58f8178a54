#include "core/text_normalizer.hpp"

#include "core/described.hpp"
#include "core/text_pattern.hpp"
#include "core/unicode_class.hpp"
#include "core/unicode_forms.hpp"
#include "core/utf8.hpp"

namespace lorashard::core {
namespace {

std::string stripped(std::string_view text, bool left, bool right) {
  std::size_t begin = 0, end = 0;  // end: behind the last character that is no white space
  bool leading = true;
  for (std::size_t at = 0; at < text.size();) {
    const bool space = unicode_class(next_code_point(text, at)) == UnicodeClass::space;
    if (space && leading) begin = at;
    leading = leading && space;
    if (!space) end = at;
  }
  if (!left) begin = 0;
  if (!right) end = text.size();
  return std::string(end > begin ? text.substr(begin, end - begin) : "");
}

std::string replaced(std::string_view text, const TextPattern& pattern, const std::string& content) {
  std::string result;
  std::size_t at = 0;
  for (const TextSpan& match : pattern.matches(text)) {
    result.append(text.substr(at, match.begin - at)).append(content);
    at = match.end;
  }
  return result.append(text.substr(at));
}

}  // namespace

TextNormalizer::TextNormalizer(const boost::json::value* description, const std::string& where) {
  if (description && !description->is_null()) add(*description, where);
}

void TextNormalizer::add(const boost::json::value& description, const std::string& where) {
  const Described step(description, where);
  const std::string& type = step.type();
  const auto change = [&](std::function<void(std::string&)> how) { steps_.push_back({std::move(how)}); };
  if (type == "Sequence") {
    step.each("normalizers", [&](const auto& value, const std::string& at) { add(value, at); });
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    const NormalForm form = type == "NFC"    ? NormalForm::nfc
                            : type == "NFD"  ? NormalForm::nfd
                            : type == "NFKC" ? NormalForm::nfkc
                                             : NormalForm::nfkd;
    change([form](std::string& text) { text = normal_form(text, form); });
  } else if (type == "Lowercase") {
    change([](std::string& text) { text = lower_case(text); });
  } else if (type == "Prepend") {
    steps_.push_back({[front = step.fields().text("prepend")](std::string& text) {
                        if (!text.empty()) text.insert(0, front);
                      },
                      true});
  } else if (type == "Replace") {
    change([pattern = step.pattern(), content = step.fields().text("content")](std::string& text) {
      text = replaced(text, pattern, content);
    });
  } else if (type == "Strip") {
    const bool left = step.fields().flag("strip_left", true), right = step.fields().flag("strip_right", true);
    change([left, right](std::string& text) { text = stripped(text, left, right); });
  } else {
    step.refuse_type("NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip or Sequence");
  }
}

std::string TextNormalizer::operator()(std::string text, bool continues) const {
  for (const Step& step : steps_)
    if (!(continues && step.front_only)) step.change(text);
  return text;
}

}  // namespace lorashard::core
