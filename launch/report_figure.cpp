#include "launch/report_figure.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launch/units.hpp"

namespace lorashard::launch {

using Json = boost::json::value;
using kernels::text;

namespace {

std::string significant(double number, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, number);
  return text;
}

// Three digits or more, without a scale: 12,345 208.2 1.25 0.00123.
std::string number_text(double number) {
  const double size = std::abs(number);
  if (number == 0) return "0";
  if (size >= 999.5) return count_text(std::llround(number));
  return size >= 10 ? fixed_text(number, 1) : size >= 0.9995 ? fixed_text(number, 2) : significant(number, 3);
}

// Below ten to a thousandth, so that a column of parts of a step reads as one.
std::string ms_text(double ms) {
  return ms != 0 && std::abs(ms) < 9.995 ? fixed_text(ms, std::abs(ms) < 0.9995 ? 3 : 2) : number_text(ms);
}

std::string seconds_text(double seconds) {
  if (seconds >= 59.95) return duration_text(seconds);
  if (seconds >= 1 || seconds == 0) return number_text(seconds) + " s";
  return seconds >= 1e-3 ? number_text(1e3 * seconds) + " ms" : number_text(1e6 * seconds) + " µs";
}

std::string short_text(double count) {
  const std::pair<double, const char*> scales[] = {{1e12, " T"}, {1e9, " B"}, {1e6, " M"}};
  for (const auto& [scale, letter] : scales)
    if (count >= scale) return fixed_text(count / scale, count >= 100 * scale ? 1 : 2) + letter;
  return count_text(std::llround(count));
}

std::vector<std::string> tokens_of(const std::string& pointer) {
  std::vector<std::string> tokens;
  for (std::size_t at = 0; at < pointer.size();) {
    const std::size_t end = std::min(pointer.find('/', at + 1), pointer.size());
    std::string token = pointer.substr(at + 1, end - at - 1), plain;
    for (std::size_t i = 0; i < token.size(); ++i) {
      if (token[i] == '~' && i + 1 < token.size())
        plain += token[++i] == '1' ? '/' : '~';
      else
        plain += token[i];
    }
    tokens.push_back(plain);
    at = end;
  }
  return tokens;
}

const Json* member(const Json& parent, const std::string& token) {
  if (const auto* object = parent.if_object()) return object->if_contains(token);
  const auto* array = parent.if_array();
  if (array == nullptr || token.empty() || token.find_first_not_of("0123456789") != std::string::npos) return nullptr;
  const std::size_t index = std::stoul(token);
  return index < array->size() ? &(*array)[index] : nullptr;
}

// All that the pointer, whose '*' stands for every member, leads to.
std::vector<const Json*> all_of(const boost::json::object& data, const std::string& pointer) {
  std::vector<const Json*> found;
  bool first = true;
  for (const std::string& token : tokens_of(pointer)) {
    std::vector<const Json*> next;
    if (first) {
      if (const Json* top = data.if_contains(token)) next.push_back(top);
    } else {
      for (const Json* parent : found) {
        if (token == "*" && parent->is_array()) {
          for (const Json& each : parent->get_array()) next.push_back(&each);
        } else if (token == "*" && parent->is_object()) {
          for (const auto& each : parent->get_object()) next.push_back(&each.value());
        } else if (const Json* one = member(*parent, token)) {
          next.push_back(one);
        }
      }
    }
    first = false;
    found = std::move(next);
  }
  return found;
}

std::optional<double> number_at(const boost::json::object& data, const std::string& pointer, const std::string& over) {
  const std::vector<const Json*> found = all_of(data, pointer);
  if (found.empty() || !std::all_of(found.begin(), found.end(), [](const Json* v) { return v->is_number(); }))
    return {};
  double sum = 0, most = found[0]->to_number<double>();
  for (const Json* each : found) {
    sum += each->to_number<double>();
    most = std::max(most, each->to_number<double>());
  }
  return over == "max" ? most : over == "mean" ? sum / static_cast<double>(found.size()) : sum;
}

}  // namespace

std::string formatted(double value, const std::string& as) {
  if (as == "bytes") return bytes_text(value);
  if (as == "count") return count_text(std::llround(value));
  if (as == "short") return short_text(value);
  if (as == "ms") return ms_text(1e3 * value);
  if (as == "seconds") return seconds_text(value);
  if (as == "percent") return fixed_text(100 * value, 1) + " %";
  if (as == "times") return number_text(value);
  if (as == "tera") return number_text(value / 1e12);
  if (as.starts_with("fixed")) return fixed_text(value, as.back() - '0');
  return number_text(value);
}

std::string escaped(std::string_view text) {
  std::string html;
  for (const char c : text) switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        html += c;
    }
  return html;
}

std::string pointer_token(const std::string& name) {
  std::string token = "/";
  for (const char c : name) token += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return token;
}

std::string pointer_token(std::size_t index) { return "/" + std::to_string(index); }

std::string attributes(const Figure& figure) {
  std::string html = text(" data-at=\"", escaped(figure.at), "\" data-as=\"", figure.as, '"');
  const auto add = [&](const char* name, const std::string& pointer) {
    if (!pointer.empty()) html += text(" data-", name, "=\"", escaped(pointer), '"');
  };
  add("plus", figure.plus);
  add("less", figure.less);
  add("times", figure.times);
  add("of", figure.of);
  add("over", figure.over);
  return html;
}

const Json* Source::find(const std::string& pointer) const {
  const std::vector<const Json*> found = all_of(data_, pointer);
  return found.size() != 1 || found[0]->is_null() ? nullptr : found[0];
}

const boost::json::object* Source::object(const std::string& pointer) const {
  if (pointer.empty()) return &data_;
  const Json* found = find(pointer);
  return found == nullptr ? nullptr : found->if_object();
}

const boost::json::array* Source::array(const std::string& pointer) const {
  const Json* found = find(pointer);
  return found == nullptr ? nullptr : found->if_array();
}

std::string Source::string(const std::string& pointer) const {
  const Json* found = find(pointer);
  return found == nullptr || !found->is_string() ? "" : std::string(found->get_string());
}

std::vector<std::string> Source::keys(const std::string& pointer) const {
  std::vector<std::string> names;
  if (const auto* found = object(pointer))
    for (const auto& member : *found) names.emplace_back(member.key());
  return names;
}

std::size_t Source::size(const std::string& pointer) const {
  const auto* found = array(pointer);
  return found == nullptr ? 0 : found->size();
}

std::optional<double> Source::value(const Figure& figure) const {
  std::optional<double> result = number_at(data_, figure.at, figure.over);
  const auto apply = [&](const std::string& pointer, auto operation) {
    if (pointer.empty() || !result) return;
    const std::optional<double> other = number_at(data_, pointer, figure.over);
    if (other)
      operation(*result, *other);
    else
      result.reset();
  };
  apply(figure.plus, [](double& a, double b) { a += b; });
  apply(figure.less, [](double& a, double b) { a -= b; });
  apply(figure.times, [](double& a, double b) { a *= b; });
  apply(figure.of, [](double& a, double b) { a /= b; });
  if (result && !std::isfinite(*result)) result.reset();
  return result;
}

std::string Source::text(const Figure& figure) const {
  if (figure.as == "text") return string(figure.at);
  if (figure.as == "key") return tokens_of(figure.at).back();
  const std::optional<double> number = value(figure);
  return number ? formatted(*number, figure.as) : "";
}

std::string Source::html(const Figure& figure) const {
  const std::string shown = text(figure);
  if (shown.empty()) return "<span class=\"none\">\u2013</span>";
  return kernels::text("<span class=\"", figure.as == "text" || figure.as == "key" ? "name" : "figure", '"',
                       attributes(figure), '>', escaped(shown), "</span>");
}

}  // namespace lorashard::launch
