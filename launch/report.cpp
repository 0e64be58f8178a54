#include "launch/report.hpp"

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

std::string body_of(const Source& source) {
  const std::string kind = source.string("/report");
  if (kind == "plan") return plan_body(source);
  if (kind == "search") return search_body(source);
  if (kind == "compare") return compare_body(source);
  if (kind == "run") return run_body(source);
  kernels::fail(kernels::Failure::configuration,
                text("a report of '", kind, "', expected one of plan, search, compare or run"));
}

// Nothing in it can end the script element.
std::string embedded(const boost::json::object& data) {
  std::string safe;
  for (const char c : boost::json::serialize(data)) safe += c == '<' ? "\\u003c" : std::string(1, c);
  return safe;
}

}  // namespace

std::string report_page(const boost::json::object& data) {
  const Source source(data);
  const std::string body = body_of(source);
  return text(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<link rel=\"icon\" href=\"data:,\"><title>lorashard ",
      escaped(source.string("/report")), "</title>\n<style>", style_sheet(), "</style></head>\n<body>\n", body,
      "<footer>Every figure on this page stands in the data that it carries as JSON, at the place that its element "
      "names.</footer>\n<script type=\"application/json\" id=\"data\">",
      embedded(data), "</script>\n</body></html>\n");
}

}  // namespace lorashard::launch
