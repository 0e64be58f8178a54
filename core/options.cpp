#include "core/options.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "core/option_table.hpp"
#include "core/option_values.hpp"
#include "core/quote.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  for (const Option& option : option_table()) keys.push_back(option.key);
  return keys;
}

// `place` is where the value stands: "job.ini:12" or "command line".
void set_option(Config& config, const std::string& place, const std::string& key, std::string value) {
  const Option* option = find_option(key);
  if (!option)
    fail(Failure::configuration,
         text(place, ": unknown key ", in_quotes(key), "; the nearest is '", nearest(key, all_keys()), "'"));
  const auto ends_in_unit = [&](const std::string& unit) {
    return !unit.empty() && value.size() > unit.size() && value.ends_with(unit);
  };
  const std::string singular = option->unit.substr(0, option->unit.size() - !option->unit.empty());
  std::string number = value;
  for (const std::string& unit : {option->unit, singular})
    if (ends_in_unit(unit)) number = trimmed(std::string_view(value).substr(0, value.size() - unit.size()));
  if (!option->set(config, number))
    fail(Failure::configuration, text(place, ": ", key, ": found ", in_quotes(value), ", expected ", option->expected,
                                      option->unit.empty() ? "" : " (" + option->unit + ")"));
}

// The value of `key = value`: without a comment that begins after a blank, or what stands between quotation marks.
std::string value_of(std::string_view raw, const std::string& place) {
  raw = trimmed(raw);
  if (raw.starts_with('"')) {
    const std::size_t last = raw.rfind('"');
    const std::string_view rest = trimmed(raw.substr(last + 1));
    if (last == 0 || !(rest.empty() || rest[0] == '#' || rest[0] == ';'))
      fail(Failure::configuration,
           text(place, ": found ", in_quotes(raw), ", expected one value between quotation marks"));
    return std::string(raw.substr(1, last - 1));
  }
  return std::string(without_comment(raw));
}

// What value_of reads back as `value`.
std::string protected_text(const std::string& value) {
  const bool plain = value == trimmed(value) && value.find_first_of("#;\"") == value.npos;
  return plain ? value : '"' + value + '"';
}

std::string section_of(std::string_view line, const std::string& place) {
  const std::size_t close = line.find(']');
  const std::string section(trimmed(line.substr(1, close == line.npos ? line.npos : close - 1)));
  for (const Option& option : option_table())
    if (close != line.npos && option.key.starts_with(section + '.')) return section;
  std::vector<std::string> sections;
  for (const Option& option : option_table()) sections.push_back(option.key.substr(0, option.key.find('.')));
  fail(Failure::configuration,
       text(place, ": unknown section ", in_quotes(line), "; the nearest is '[", nearest(section, sections), "]'"));
}

std::string read_job_file(const std::string& path) {
  constexpr std::size_t kMostBytes = 1 << 20;  // a job file is a page; more is the wrong file
  std::ifstream file(path, std::ios::binary);
  std::string content;
  if (file) {
    content.resize(kMostBytes + 1);
    file.read(content.data(), static_cast<std::streamsize>(content.size()));
    content.resize(static_cast<std::size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad())
    fail(Failure::configuration, text(path, ": cannot be read: ", std::strerror(errno)));
  if (content.size() > kMostBytes)
    fail(Failure::configuration, text(path, ": found more than 1 MiB, expected a job file"));
  return content;
}

}  // namespace

Config parse_config(const std::string& job, const std::string& path,
                    const std::vector<std::pair<std::string, std::string>>& overrides) {
  Config config;
  std::map<std::string, int> line_of;
  std::istringstream lines(job.starts_with("\xef\xbb\xbf") ? job.substr(3) : job);
  std::string raw, section;
  for (int number = 1; std::getline(lines, raw); ++number) {
    const std::string_view line = trimmed(raw);
    const std::string place = text(path, ":", number);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      section = section_of(line, place);
      continue;
    }
    const std::size_t equals = line.find('=');
    if (equals == line.npos)
      fail(Failure::configuration, text(place, ": found ", in_quotes(line), ", expected [section] or key = value"));
    const std::string name(trimmed(line.substr(0, equals)));
    const std::string key = section.empty() ? name : section + '.' + name;
    const auto [first, fresh] = line_of.emplace(key, number);
    if (!fresh)
      fail(Failure::configuration, text(place, ": ", in_quotes(key), " was given on line ", first->second, " before"));
    set_option(config, place, key, value_of(line.substr(equals + 1), place));
  }
  for (const auto& [key, value] : overrides) set_option(config, "command line", key, std::string(trimmed(value)));
  return config;
}

Config read_config(const std::string& path, const std::vector<std::pair<std::string, std::string>>& overrides) {
  return parse_config(path.empty() ? "" : read_job_file(path), path, overrides);
}

bool is_option(const std::string& key) { return find_option(key) != nullptr; }

std::string option_help() {
  const Config defaults;
  std::string help, section;
  for (const Option& option : option_table()) {
    if (option.shown.empty()) continue;
    const std::string here = option.key.substr(0, option.key.find('.'));
    if (here != section) help += text(section.empty() ? "" : "\n", "[", here, "]\n");
    section = here;
    std::string left = text("  --", option.shown);
    left.resize(std::max<std::size_t>(left.size() + 1, 30), ' ');
    const std::string value = option.get(defaults);
    help += text(left, option.help, option.unit.empty() ? "" : " (" + option.unit + ")", "\n", std::string(30, ' '),
                 option.expected, value.empty() ? "" : "; default " + value, "\n");
  }
  return help;
}

std::string canonical_text(const Config& config) {
  const Config defaults;
  std::string lines;
  for (const Option& option : option_table()) {
    const std::string value = option.get(config);
    if (value != option.get(defaults)) lines += text(option.key, " = ", protected_text(value), "\n");
  }
  return lines;
}

}  // namespace lorashard::core
