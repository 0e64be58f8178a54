#include "launch/arguments.hpp"

#include <algorithm>

#include "core/option_table.hpp"
#include "core/option_values.hpp"
#include "core/options.hpp"
#include "core/quote.hpp"

namespace lorashard::launch {

using core::in_quotes;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

const OwnOption kConfig{"config", "file", "the job file"};

const OwnOption* find_own(const Syntax& syntax, const std::string& name) {
  if (syntax.job_keys && name == kConfig.name) return &kConfig;
  for (const OwnOption& option : syntax.options)
    if (option.name == name) return &option;
  return nullptr;
}

[[noreturn]] void fail_unknown(const Syntax& syntax, const std::string& name) {
  std::vector<std::string> names{"help"};
  for (const OwnOption& option : syntax.options) names.push_back(option.name);
  if (syntax.job_keys) {
    names.push_back(kConfig.name);
    for (const core::Option& option : core::option_table()) names.push_back(option.key);
  }
  fail(Failure::configuration, text("command line: unknown option ", in_quotes("--" + name), "; the nearest is '--",
                                    core::nearest(name, names), "'"));
}

}  // namespace

std::string Syntax::help() const {
  std::string lines = text("usage: ", usage, "\n\n", about, "\n");
  std::vector<OwnOption> own = options;
  if (job_keys) own.insert(own.begin(), kConfig);
  if (!own.empty()) lines += "\n";
  for (const OwnOption& option : own) {
    std::string left = text("  --", option.name, option.value.empty() ? "" : " <" + option.value + ">");
    left.resize(std::max<std::size_t>(left.size() + 1, 30), ' ');
    lines += left + option.help + "\n";
  }
  if (job_keys) lines += "\nKeys of the job file, [section] and key; each is an option too:\n\n" + core::option_help();
  return lines;
}

Arguments::Arguments(const Syntax& syntax, int argc, char** argv) : command_(argv[0]) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      if (!syntax.words)
        fail(Failure::configuration,
             text("command line: found ", in_quotes(word), ", expected an option such as --help"));
      words_.push_back(word);
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == word.npos ? word.npos : equals - 2);
    const OwnOption* own = find_own(syntax, name);
    if (!own && !(syntax.job_keys && core::is_option(name))) fail_unknown(syntax, name);
    const bool wants_value = !own || !own->value.empty();
    std::string value;
    if (equals != word.npos && !wants_value)
      fail(Failure::configuration,
           text("command line: found ", in_quotes(word), ", expected --", name, " without a value"));
    if (equals != word.npos)
      value = word.substr(equals + 1);
    else if (wants_value && ++i == argc)
      fail(Failure::configuration, text("command line: --", name, ": found nothing, expected a value"));
    else if (wants_value)
      value = argv[i];
    if (own)
      values_[name] = value;
    else
      keys_.emplace_back(name, value);
  }
}

std::string Arguments::value(const std::string& option, const std::string& otherwise) const {
  const auto found = values_.find(option);
  return found == values_.end() ? otherwise : found->second;
}

std::string Arguments::required(const std::string& option) const {
  if (value(option).empty())
    fail(Failure::configuration, text("command line: --", option, " is missing; see lorashard ", command_, " --help"));
  return value(option);
}

core::Config Arguments::config() const { return core::read_config(value(kConfig.name), keys_); }

bool Arguments::has_key(const std::string& key) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& given) { return given.first == key; });
}

}  // namespace lorashard::launch
