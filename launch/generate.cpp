// lorashard generate: completions of prompts by a base, with an adapter beside it or merged, on any mesh.
#include <unistd.h>

#include <cstdio>

#include "core/generator.hpp"
#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "core/tokenizer.hpp"
#include "core/utf8.hpp"
#include "launch/evaluate_model.hpp"
#include "launch/option_numbers.hpp"
#include "launch/prompts.hpp"
#include "launch/subcommands.hpp"
#include "launch/together.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

[[noreturn]] void refuse(const char* option, const std::string& found, const char* expected) {
  fail(Failure::configuration,
       text("command line: --", option, ": found ", core::in_quotes(found), ", expected ", expected));
}

double real(const Arguments& arguments, const char* option, double otherwise, double least, double most) {
  if (!arguments.has(option)) return otherwise;
  const auto value = core::to_real(arguments.value(option));
  if (!value || !(*value >= least && *value <= most))
    refuse(option, arguments.value(option), text("a number from ", least, " to ", most).c_str());
  return *value;
}

core::SamplingOptions options_of(const Arguments& arguments) {
  constexpr double kLarge = 1e6;
  core::SamplingOptions options;
  options.most_tokens = whole_option(arguments, "tokens", 100, 1);
  options.temperature = real(arguments, "temperature", 0, 0, kLarge);
  options.top_k = whole_option(arguments, "top-k", 0, 0);
  options.top_p = real(arguments, "top-p", 1, 0, 1);
  options.repetition_penalty = real(arguments, "repetition-penalty", 1, 1e-6, kLarge);
  options.beams = whole_option(arguments, "beams", 1, 1);
  options.length_penalty = real(arguments, "length-penalty", 1, -kLarge, kLarge);
  options.seed = static_cast<std::uint64_t>(whole_option(arguments, "seed", 1, 0));
  if (arguments.has("stop")) options.stop.push_back(unescaped(arguments.value("stop")));
  if (options.temperature == 0 && (arguments.has("top-k") || arguments.has("top-p")))
    fail(Failure::configuration,
         "command line: --top-k and --top-p: found without --temperature, expected it above 0: nothing is drawn");
  if (options.beams > 1 && options.temperature > 0)
    fail(Failure::configuration, "command line: --temperature: found with --beams, expected one of them");
  return options;
}

// Also a byte of zero, which ends a C string.
void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// One line of several.
std::string in_one_line(std::string completion) {
  for (char& c : completion)
    if (c == '\n' || c == '\r') c = ' ';
  return completion;
}

// A prompt as the model was trained to see it.
std::vector<std::int32_t> ids_of(const core::Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<std::int32_t> ids = tokenizer.frame().front;
  const std::vector<std::int32_t> text = tokenizer.encode(prompt, {.specials = true});
  ids.insert(ids.end(), text.begin(), text.end());
  return ids;
}

// The text that follows a prompt, as its tokens come, up to a stop; printed meanwhile where `stream`.
class Completion {
 public:
  Completion(const core::Tokenizer& tokenizer, const std::vector<std::int32_t>& prompt,
             const std::vector<std::string>& stops, bool stream)
      : decoder_(tokenizer), stops_(stops), stream_(stream) {
    for (const std::int32_t id : prompt) decoder_.next(id);  // the first token's blank depends on what is before it
  }

  // False at a stop. It may begin within the token, so what stands before it there still counts.
  bool add(std::int32_t token) {
    text_ += decoder_.next(token);
    return cut_and_print();
  }

  std::string finish() {
    text_ += decoder_.finish();
    cut_and_print();
    if (stream_) std::fputc('\n', stdout);
    return text_;
  }

 private:
  bool cut_and_print() {
    std::size_t end = text_.size();
    for (const std::string& stop : stops_) end = std::min(end, text_.find(stop));
    const bool goes_on = end == text_.size();
    text_.resize(end);
    if (stream_ && end > printed_) std::fwrite(text_.data() + printed_, 1, end - printed_, stdout);
    printed_ = std::max(end, printed_);
    if (stream_) std::fflush(stdout);
    return goes_on;
  }

  core::StreamDecoder decoder_;
  const std::vector<std::string>& stops_;
  bool stream_;
  std::string text_;
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
    const std::string& completion =
        own ? mine[static_cast<std::size_t>(i / parts)] : completions[static_cast<std::size_t>(i)];
    const std::vector<double> lengths =
        mesh.world().gather_values(std::vector<double>{speaks ? static_cast<double>(completion.size()) : 0});
    std::size_t length = 0;
    for (const double one : lengths) length += static_cast<std::size_t>(one);
    std::vector<double> bytes(length);
    for (std::size_t k = 0; speaks && k < length; ++k) bytes[k] = static_cast<unsigned char>(completion[k]);
    const std::vector<double> everyones = mesh.world().gather_values(bytes);
    std::string whole(length, '\0');
    for (std::size_t k = 0; k < everyones.size(); ++k)
      whole[k % length] = static_cast<char>(whole[k % length] + static_cast<char>(everyones[k]));
    completions[static_cast<std::size_t>(i)] = whole;
  }
  return completions;
}

}  // namespace

const Syntax& generate_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard generate --config <file> --vocab <path> --prompt <text> | --prompts <file>",
      .about = "Completes prompts with the job's base, and an adapter beside it if one is named.",
      .options = {{"vocab", "path",
                   "the tokenizer: a directory, tokenizer.json or llama2.c's file; without it bytes are tokens"},
                  {"prompt", "text", "one prompt; \\n and \\t are understood"},
                  {"prompts", "file", "one prompt a line, or the prompts of prompt||completion lines, each once"},
                  {"adapter", "path", "a checkpoint, a PEFT directory or a loralib file; otherwise adapter.init"},
                  {"adapters", "file", "the adapter of each prompt, a path a line, - for the base alone"},
                  {"adapter-memory", "MiB", "in which adapters wait for their turn, on each rank (1024)"},
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
  const Index together = whole_option(arguments, "together", 8, 1);
  const std::vector<Prompt> prompts = prompts_of(arguments);
  const Index held_bytes = adapter_memory(arguments);
  const auto tokenizer =
      arguments.has("vocab") ? core::make_tokenizer(arguments.value("vocab")) : core::make_byte_tokenizer();
  core::Config config = forward_only(arguments.config(), arguments.value("adapter"), runtime.size());
  config.data.length = 0;  // no rows are read
  const Job job = make_job(std::move(config), runtime.size());
  if (tokenizer->vocab() > job.config.model.shape.vocab)
    fail(Failure::configuration, text(arguments.value("vocab"), ": found ", tokenizer->vocab(),
                                      " tokens, expected at most the model's ", job.config.model.shape.vocab));
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  verify_base(job.config, mesh.world(), runtime.place());
  core::Inference model(job.config, *device, mesh, held_bytes);

  const bool first = mesh.rank() == 0, printed = !arguments.has("to");
  const bool stream = first && printed && prompts.size() == 1 && options.beams == 1;
  const int parts = job.extents.data;
  std::vector<core::Generator::Prompt> own;
  std::vector<Completion> completions;
  for (std::size_t i = static_cast<std::size_t>(mesh.point().data); i < prompts.size();
       i += static_cast<std::size_t>(parts)) {
    own.push_back({ids_of(*tokenizer, prompts[i].text), static_cast<Index>(i)});
    completions.emplace_back(*tokenizer, own.back().tokens, options.stop, stream);
  }
  core::Generator generator(model, options, tokenizer->ends_of_text());
  const auto adapter_of = [&](std::size_t i) -> const std::string& {
    return prompts[static_cast<std::size_t>(own[i].number)].adapter;
  };
  // In the order given: neighbours with the same adapter share passes.
  for (std::size_t first = 0, end; first < own.size(); first = end) {
    for (end = first + 1; end < own.size() && adapter_of(end) == adapter_of(first);) ++end;
    if (arguments.has("adapters")) model.use_adapter(adapter_of(first));
    const std::vector<core::Generator::Prompt> alike(own.begin() + static_cast<std::ptrdiff_t>(first),
                                                     own.begin() + static_cast<std::ptrdiff_t>(end));
    generator.complete(alike, together, [&](Index i, const std::vector<std::int32_t>& tokens) {
      return completions[first + static_cast<std::size_t>(i)].add(tokens.back());
    });
  }
  std::vector<std::string> mine;
  for (Completion& completion : completions) mine.push_back(completion.finish());
  const std::vector<std::string> all = gathered(mesh, mine, static_cast<Index>(prompts.size()));
  on_first_rank(mesh.world(), [&] {
    std::string lines;
    for (const std::string& completion : all) lines += in_one_line(completion) + "\n";
    if (!printed)
      // Others read it as UTF-8; byte tokens can make, and the last of them can cut, what is none.
      core::write_whole(arguments.value("to"), core::with_valid_utf8(lines));
    else if (!stream)
      print(all.size() == 1 ? all.front() + "\n" : lines);
    if (arguments.has("adapters")) std::fputs(switching_text(model).c_str(), stderr);
    return 0.0;
  });
  return 0;
}

}  // namespace lorashard::launch
