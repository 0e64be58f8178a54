#include "launch/prompts.hpp"

#include <algorithm>
#include <filesystem>

#include "core/text_file.hpp"
#include "launch/option_numbers.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

std::string unescaped(const std::string& written) {
  std::string plain;
  for (std::size_t i = 0; i < written.size(); ++i) {
    const char next = written[i] == '\\' && i + 1 < written.size() ? written[i + 1] : '\0';
    if (next != 'n' && next != 't' && next != '\\') {
      plain += written[i];
      continue;
    }
    plain += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
    ++i;
  }
  return plain;
}

std::vector<std::string> adapters_of(const Arguments& arguments) {
  std::vector<std::string> adapters;
  if (!arguments.has("adapters")) return adapters;
  if (arguments.has("adapter"))
    fail(Failure::configuration, "command line: found --adapter and --adapters, expected one of them");
  const std::string path = arguments.value("adapters");
  core::LineReader lines(path);
  for (std::string line; lines.next(line);) {
    const std::string_view name = core::trimmed(line);
    std::error_code ignored;
    if (name != "-" && !std::filesystem::exists(name, ignored))
      fail(Failure::configuration, text(lines.where(), ": found ", core::in_quotes(name),
                                        ", expected the path of an adapter, or - for the base alone"));
    adapters.emplace_back(name == "-" ? "" : name);
  }
  if (adapters.empty()) fail(Failure::configuration, text(path, ": found no line, expected the path of an adapter"));
  return adapters;
}

Index adapter_memory(const Arguments& arguments) {
  constexpr Index kMiB = Index{1} << 20;
  if (arguments.has("adapter-memory") && !arguments.has("adapters"))
    fail(Failure::configuration, "command line: --adapter-memory: found without --adapters, expected both");
  return whole_option(arguments, "adapter-memory", 1024, 1) * kMiB;
}

std::vector<Prompt> prompts_of(const Arguments& arguments) {
  if (arguments.has("prompt") == arguments.has("prompts"))
    fail(Failure::configuration, "command line: found --prompt and --prompts both or neither, expected one of them");
  std::vector<Prompt> prompts;
  if (arguments.has("prompt")) {
    prompts.push_back({unescaped(arguments.value("prompt")), ""});
  } else {
    core::LineReader lines(arguments.value("prompts"));
    for (std::string line; lines.next(line);) {
      const std::size_t bars = line.find("||");  // a file of prompt||completion lines will do
      prompts.push_back({bars == line.npos ? line : line.substr(0, bars), ""});
      while (bars != line.npos && prompts.back().text.ends_with(' ')) prompts.back().text.pop_back();
    }
  }
  if (prompts.empty())
    fail(Failure::configuration, text(arguments.value("prompts"), ": found no prompt, expected one a line"));
  if (const std::vector<std::string> adapters = adapters_of(arguments); !adapters.empty()) {
    if (adapters.size() != prompts.size())
      fail(Failure::configuration, text(arguments.value("adapters"), ": found ", adapters.size(), " lines, expected ",
                                        prompts.size(), ", one for each prompt"));
    for (std::size_t i = 0; i < prompts.size(); ++i) prompts[i].adapter = adapters[i];
  }
  // Files of prompt||completion lines list a prompt once for each reference.
  std::vector<Prompt> once;
  for (const Prompt& prompt : prompts)
    if (std::find(once.begin(), once.end(), prompt) == once.end()) once.push_back(prompt);
  return once;
}

std::string switching_text(const core::Inference& model) {
  const core::SwitchCost& cost = model.switch_cost();
  const auto mean_ms = [](double seconds, Index count) {
    return fixed_text(count > 0 ? 1e3 * seconds / static_cast<double>(count) : 0, 3);
  };
  const core::AdapterCache& held = model.held();
  return text("adapters: ", count_text(cost.switches), " switches of ", mean_ms(cost.switch_s, cost.switches),
              " ms beside ", count_text(cost.passes), " forward passes of ", mean_ms(cost.pass_s, cost.passes), " ms; ",
              count_text(cost.read), " read from files in ", mean_ms(cost.read_s, cost.read), " ms each; ",
              count_text(held.count()), " held in ", bytes_text(static_cast<double>(held.bytes())), " of ",
              bytes_text(static_cast<double>(held.most_bytes())), ", ", count_text(held.let_go()),
              " let go (means of rank 0)\n");
}

}  // namespace lorashard::launch
