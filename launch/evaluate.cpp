// lorashard evaluate: how well a model predicts, and how good what it generated is.
#include <boost/json.hpp>
#include <cstdio>

#include "core/text_scores.hpp"
#include "launch/evaluate_model.hpp"
#include "launch/subcommands.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::Index;

namespace {

Index references_of(const std::vector<core::ScoredText>& texts) {
  Index count = 0;
  for (const core::ScoredText& text : texts) count += std::ssize(text.references);
  return count;
}

std::string scores_json(const core::TextScores& scores, Index texts, Index references) {
  const boost::json::object page{{"bleu", scores.bleu},   {"nist", scores.nist}, {"rouge_l", scores.rouge_l},
                                 {"cider", scores.cider}, {"texts", texts},      {"references", references}};
  return boost::json::serialize(page) + "\n";
}

std::string scores_text(const core::TextScores& scores, Index texts, Index references) {
  return table_text({{"BLEU", fixed_text(scores.bleu, 4)},
                     {"NIST", fixed_text(scores.nist, 4)},
                     {"ROUGE-L", fixed_text(scores.rouge_l, 4)},
                     {"CIDEr", fixed_text(scores.cider, 4)},
                     {"texts", count_text(texts)},
                     {"references", count_text(references)}});
}

int evaluate_texts(const Arguments& arguments) {
  const std::vector<core::ScoredText> texts =
      core::read_scored_texts(arguments.required("outputs"), arguments.required("references"));
  const core::TextScores scores = core::score(texts);
  const auto page = arguments.has("json") ? scores_json : scores_text;
  std::fputs(page(scores, std::ssize(texts), references_of(texts)).c_str(), stdout);
  return 0;
}

}  // namespace

const Syntax& evaluate_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard evaluate --config <file> [--adapter <path>] | --outputs <file> --references <file>",
      .about =
          "With a job: loss and perplexity of data.valid under its base and adapter. With outputs: scores generated texts\n"
          "against what people wrote, as the E2E challenge's own scripts do: BLEU, NIST, ROUGE-L and CIDEr.",
      .options = {{"adapter", "path", "a checkpoint, a PEFT directory or a loralib file; otherwise adapter.init"},
                  {"adapters", "file", "adapters that take turns, a path a line, - for the base alone"},
                  {"adapter-memory", "MiB", "in which adapters wait for their turn, on each rank (1024)"},
                  {"losses", "file", "gets one JSON object for each row: its loss, perplexity and scored tokens"},
                  {"outputs", "file", "one text a line, in the order in which the prompts first appear"},
                  {"references", "file", "prompt||completion lines; all lines of a prompt are its references"},
                  {"json", "", "print one JSON object"}},
      .job_keys = true};
  return syntax;
}

int evaluate(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(evaluate_syntax(), argc, argv);
  if (!arguments.has("outputs") && !arguments.has("references")) return evaluate_model(runtime, arguments);
  expect_one_rank(runtime, "evaluate");
  return evaluate_texts(arguments);
}

}  // namespace lorashard::launch
