// lorashard generate: completions of prompts by a base, with an adapter beside it or merged, on any mesh.
#include <unistd.h>

#include <cstdio>

#include "core/generator.hpp"
#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "core/tokenizer.hpp"
#include "launch/evaluate_model.hpp"
#include "launch/machine.hpp"
#include "launch/subcommands.hpp"
#include "launch/together.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

[[noreturn]] void refuse(const char* option, const std::string& found, const char* expected) {
  fail(Failure::configuration, text("command line: --", option, ": found ", core::in_quotes(found), ", expected ", expected));
}

Index whole(const Arguments& arguments, const char* option, Index otherwise, Index least) {
  if (!arguments.has(option)) return otherwise;
  const auto value = core::to_whole(arguments.value(option));
  if (!value || *value < least) refuse(option, arguments.value(option), text("a whole number of at least ", least).c_str());
  return *value;
}

double real(const Arguments& arguments, const char* option, double otherwise, double least, double most) {
  if (!arguments.has(option)) return otherwise;
  const auto value = core::to_real(arguments.value(option));
  if (!value || !(*value >= least && *value <= most))
    refuse(option, arguments.value(option), text("a number from ", least, " to ", most).c_str());
  return *value;
}

// What a shell can hardly say: \n, \t and \\.
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

core::SamplingOptions options_of(const Arguments& arguments) {
  constexpr double kLarge = 1e6;
  core::SamplingOptions options;
  options.most_tokens = whole(arguments, "tokens", 100, 1);
  options.temperature = real(arguments, "temperature", 0, 0, kLarge);
  options.top_k = whole(arguments, "top-k", 0, 0);
  options.top_p = real(arguments, "top-p", 1, 0, 1);
  options.repetition_penalty = real(arguments, "repetition-penalty", 1, 1e-6, kLarge);
  options.beams = whole(arguments, "beams", 1, 1);
  options.length_penalty = real(arguments, "length-penalty", 1, -kLarge, kLarge);
  options.seed = static_cast<std::uint64_t>(whole(arguments, "seed", 1, 0));
  if (arguments.has("stop")) options.stop.push_back(unescaped(arguments.value("stop")));
  if (options.temperature == 0 && (arguments.has("top-k") || arguments.has("top-p")))
    fail(Failure::configuration, "command line: --top-k and --top-p: found without --temperature, expected it above 0: nothing is drawn");
  if (options.beams > 1 && options.temperature > 0)
    fail(Failure::configuration, "command line: --temperature: found with --beams, expected one of them");
  return options;
}

std::vector<std::string> prompts_of(const Arguments& arguments) {
  if (arguments.has("prompt") == arguments.has("prompts"))
    fail(Failure::configuration, "command line: found --prompt and --prompts both or neither, expected one of them");
  if (arguments.has("prompt")) return {unescaped(arguments.value("prompt"))};
  std::vector<std::string> prompts;
  core::LineReader lines(arguments.value("prompts"));
  for (std::string line; lines.next(line);) {
    const std::size_t bars = line.find("||");  // a file of prompt||completion lines will do
    prompts.push_back(bars == line.npos ? line : line.substr(0, bars));
    while (bars != line.npos && prompts.back().ends_with(' ')) prompts.back().pop_back();
  }
  if (prompts.empty()) fail(Failure::configuration, text(arguments.value("prompts"), ": found no prompt, expected one a line"));
  return prompts;
}

// One after the other, where several lines ask for the same thing (prompt||completion files list it for each reference).
std::vector<std::string> without_repetitions(const std::vector<std::string>& prompts) {
  std::vector<std::string> once;
  for (const std::string& prompt : prompts)
    if (std::find(once.begin(), once.end(), prompt) == once.end()) once.push_back(prompt);
  return once;
}

// The end of a completion, found in its text.
class StopText {
 public:
  explicit StopText(const std::vector<std::string>& stops) : stops_(stops) {}
  // Where the completion ends; npos when it goes on.
  std::size_t find(const std::string& completion) const {
    std::size_t first = std::string::npos;
    for (const std::string& stop : stops_) first = std::min(first, completion.find(stop));
    return first;
  }

 private:
  const std::vector<std::string>& stops_;
};

// One line of a file of completions.
std::string in_one_line(std::string completion) {
  for (char& c : completion)
    if (c == '\n' || c == '\r') c = ' ';
  return completion;
}

class Completions {
 public:
  Completions(const core::Tokenizer& tokenizer, const core::SamplingOptions& options, bool stream)
      : tokenizer_(tokenizer), stop_(options.stop), stream_(stream) {}

  // A prompt as the model was trained to see it.
  std::vector<std::int32_t> ids_of(const std::string& prompt) const {
    std::vector<std::int32_t> ids = tokenizer_.frame().front;
    const std::vector<std::int32_t> text = tokenizer_.encode(prompt, {.specials = true});
    ids.insert(ids.end(), text.begin(), text.end());
    return ids;
  }

  bool watch(const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& made) {
    const std::string completion = text_of(prompt, made);
    const bool over = stop_.find(completion) != std::string::npos;
    if (stream_ && !over) print(completion, false);
    return !over;
  }

  // All of it, up to a stop. A stop may begin within the last token, so what stands before it there still counts.
  std::string finish(const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& made) {
    std::string completion = text_of(prompt, made);
    completion.resize(std::min(completion.size(), stop_.find(completion)));
    if (stream_) print(completion, true);
    return completion;
  }

 private:
  // What the tokens add to the prompt's text: decoding begins with the prompt, for the first token's blank.
  std::string text_of(const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& made) const {
    std::vector<std::int32_t> all = prompt;
    const std::size_t before = tokenizer_.decode(all).size();
    all.insert(all.end(), made.begin(), made.end());
    return tokenizer_.decode(all).substr(before);
  }

  // What is new, without a character that is not whole yet.
  void print(const std::string& completion, bool last) {
    std::size_t end = completion.size();
    if (!last)
      for (std::size_t back = 1; back <= 3 && back <= end; ++back) {
        const auto byte = static_cast<unsigned char>(completion[end - back]);
        if ((byte & 0xC0) == 0x80) continue;
        const std::size_t length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
        if (length > back) end -= back;
        break;
      }
    if (end > printed_) std::fwrite(completion.data() + printed_, 1, end - printed_, stdout);
    printed_ = last ? 0 : std::max(end, printed_);
    if (last) std::fputc('\n', stdout);
    std::fflush(stdout);
  }

  const core::Tokenizer& tokenizer_;
  StopText stop_;
  bool stream_;
  std::size_t printed_ = 0;
};

// The data ranks' completions in the prompts' order on rank 0: each sends what it has through its first rank.
std::vector<std::string> gathered(const dist::Mesh& mesh, const std::vector<std::string>& mine, Index all) {
  const int parts = mesh.extents().data;
  if (parts == 1) return mine;
  std::vector<std::string> completions(static_cast<std::size_t>(all));
  for (Index i = 0; i < all; ++i) {
    const bool own = i % parts == mesh.point().data;
    const bool speaks = own && mesh.point().tensor == 0 && mesh.point().pipeline == 0;
    const std::string& completion = own ? mine[static_cast<std::size_t>(i / parts)] : completions[static_cast<std::size_t>(i)];
    const std::vector<double> lengths = mesh.world().gather_values(std::vector<double>{speaks ? static_cast<double>(completion.size()) : 0});
    std::size_t length = 0;
    for (const double one : lengths) length += static_cast<std::size_t>(one);
    std::vector<double> bytes(length);
    for (std::size_t k = 0; speaks && k < length; ++k) bytes[k] = static_cast<unsigned char>(completion[k]);
    const std::vector<double> everyones = mesh.world().gather_values(bytes);
    std::string whole(length, '\0');
    for (std::size_t k = 0; k < everyones.size(); ++k) whole[k % length] = static_cast<char>(whole[k % length] + static_cast<char>(everyones[k]));
    completions[static_cast<std::size_t>(i)] = whole;
  }
  return completions;
}

}  // namespace

const Syntax& generate_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard generate --config <file> --vocab <path> --prompt <text> | --prompts <file>",
      .about = "Completes prompts with the job's base, and an adapter beside it if one is named.",
      .options = {{"vocab", "path", "the tokenizer: a directory, tokenizer.json or llama2.c's file; without it bytes are tokens"},
                  {"prompt", "text", "one prompt; \\n and \\t are understood"},
                  {"prompts", "file", "one prompt a line, or the prompts of prompt||completion lines, each once"},
                  {"adapter", "path", "a checkpoint, a PEFT directory or a loralib file; otherwise adapter.init"},
                  {"to", "file", "one completion a line, blanks for ends of lines; otherwise they are printed"},
                  {"tokens", "n", "most tokens of a completion (100)"},
                  {"together", "n", "prompts completed at a time (8)"},
                  {"temperature", "t", "0 takes the likeliest token (0)"},
                  {"top-k", "k", "draw from the likeliest k tokens"},
                  {"top-p", "p", "draw from the likeliest tokens that have this probability together"},
                  {"repetition-penalty", "p", "makes tokens that were there less likely (1: off)"},
                  {"beams", "n", "beam search with n hypotheses"},
                  {"length-penalty", "x", "of beam search: scores are over length^x (1)"},
                  {"seed", "n", "of what is drawn (1)"},
                  {"stop", "text", "ends a completion, which does not contain it"}},
      .job_keys = true};
  return syntax;
}

int generate(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(generate_syntax(), argc, argv);
  const core::SamplingOptions options = options_of(arguments);
  const Index together = whole(arguments, "together", 8, 1);
  const std::vector<std::string> prompts = without_repetitions(prompts_of(arguments));
  const auto tokenizer = arguments.has("vocab") ? core::make_tokenizer(arguments.value("vocab")) : core::make_byte_tokenizer();
  core::Config config = forward_only(arguments.config(), arguments.value("adapter"), runtime.size());
  config.data.length = 0;  // no rows are read
  const Job job = make_job(std::move(config), runtime.size());
  if (tokenizer->vocab() > job.config.model.shape.vocab)
    fail(Failure::configuration, text(arguments.value("vocab"), ": found ", tokenizer->vocab(),
                                      " tokens, expected at most the model's ", job.config.model.shape.vocab));
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  core::Inference model(job.config, *device, mesh);

  const bool first = mesh.rank() == 0, printed = !arguments.has("to");
  const bool stream = first && printed && prompts.size() == 1 && options.beams == 1;
  Completions completions(*tokenizer, options, stream);
  const int parts = job.extents.data;
  std::vector<std::string> mine;
  std::vector<core::Generator::Prompt> ids;
  for (std::size_t i = static_cast<std::size_t>(mesh.point().data); i < prompts.size(); i += static_cast<std::size_t>(parts))
    ids.push_back({completions.ids_of(prompts[i]), static_cast<Index>(i)});
  core::Generator generator(model, options, tokenizer->end_of_text());
  std::vector<std::vector<std::int32_t>> watched(ids.size());
  const auto made = generator.complete(ids, together, [&](Index i, const std::vector<std::int32_t>& tokens) {
    watched[static_cast<std::size_t>(i)] = tokens;
    return completions.watch(ids[static_cast<std::size_t>(i)].tokens, tokens);
  });
  for (std::size_t i = 0; i < made.size(); ++i) mine.push_back(completions.finish(ids[i].tokens, watched[i].size() > made[i].size() ? watched[i] : made[i]));
  const std::vector<std::string> all = gathered(mesh, mine, static_cast<Index>(prompts.size()));
  on_first_rank(mesh.world(), [&] {
    std::string lines;
    for (const std::string& completion : all) lines += in_one_line(completion) + "\n";
    if (!printed)
      core::write_whole(arguments.value("to"), lines);
    else if (!stream && all.size() == 1)
      std::puts(all.front().c_str());
    else if (!stream)
      std::fputs(lines.c_str(), stdout);
    return 0.0;
  });
  return 0;
}

}  // namespace lorashard::launch
