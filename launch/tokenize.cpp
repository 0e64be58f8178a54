// lorashard tokenize: text to a token file.
#include "core/tokenize.hpp"

#include <cstdio>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "launch/subcommands.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

core::TextFormat format_of(const std::string& word) {
  if (word == "automatic") return core::TextFormat::automatic;
  if (word == "text") return core::TextFormat::text;
  if (word == "pairs") return core::TextFormat::pairs;
  if (word == "json") return core::TextFormat::json;
  fail(Failure::configuration,
       text("command line: --format: found ", core::in_quotes(word), ", expected one of automatic, text, pairs, json"));
}

core::Index vocab_size_of(const std::string& word) {
  const auto size = core::to_whole(word);
  if (!size || *size < 1)
    fail(Failure::configuration,
         text("command line: --vocab-size: found ", core::in_quotes(word), ", expected a whole number of at least 1"));
  return *size;
}

}  // namespace

const Syntax& tokenize_syntax() {
  static const Syntax syntax{
      .usage = "lorashard tokenize --from <file> --to <file.h5> [--format text|pairs|json] [--vocab <path>]",
      .about = "Makes a token file. Without --vocab every byte is a token (vocabulary 257).",
      .options = {{"from", "file",
                   "plain text, prompt||completion lines, or JSON lines: input_ids, prompt and completion, messages"},
                  {"to", "file", "the token file"},
                  {"format", "word", "automatic (by name and first line), text, pairs or json"},
                  {"vocab", "path",
                   "directory with tokenizer.json or GPT-2's two files; a tokenizer.json; llama2.c's tokenizer.bin"},
                  {"chat", "format", "of messages: chatml, llama2, llama3 or plain; otherwise by the chat_template"},
                  {"vocab-size", "n", "of JSON lines: ids must be below it; otherwise the largest id + 1"}}};
  return syntax;
}

int tokenize(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(tokenize_syntax(), argc, argv);
  expect_one_rank(runtime, "tokenize");
  core::TokenizeJob job;
  job.from = arguments.required("from");
  job.to = arguments.required("to");
  job.format = format_of(arguments.value("format", "automatic"));
  job.vocab = arguments.value("vocab");
  job.chat = arguments.value("chat");
  if (arguments.has("vocab-size")) job.vocab_size = vocab_size_of(arguments.value("vocab-size"));
  const core::TokenizeReport report = core::tokenize_file(job);
  std::printf("%s: %s, tokenizer %s (vocabulary %s): %s documents, %s tokens, %s scored, longest %s\n", job.to.c_str(),
              report.kind.c_str(), report.tokenizer.c_str(), count_text(report.vocab).c_str(),
              count_text(report.documents).c_str(), count_text(report.tokens).c_str(),
              count_text(report.scored).c_str(), count_text(report.longest).c_str());
  return 0;
}

void expect_one_rank(const dist::Runtime& runtime, const char* command) {
  if (runtime.size() != 1)
    fail(Failure::configuration, text(command, " runs on one rank, found ", runtime.size(), " started by mpirun"));
}

}  // namespace lorashard::launch
