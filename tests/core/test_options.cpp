#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/option_table.hpp"
#include "core/option_values.hpp"
#include "core/options.hpp"

namespace lorashard::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const kernels::Error& error) {
    EXPECT_EQ(error.failure(), kernels::Failure::configuration);
    return error.what();
  }
  return "nothing was thrown";
}
std::string message_of(const std::string& job) {
  return message_of([&] { parse_config(job, "job.ini", {}); });
}

TEST(Options, ReadsSectionsCommentsUnitsAndOverrides) {
  const Config config = parse_config(
      "\xef\xbb\xbf# a job\r\n"
      "data.train = \"odd # name.h5\" ; where\n"
      "[train]\n  steps = 10 steps   # a comment\n batch=16\nprecision = bf16\nevaluate_every = 1 step\n"
      "[adapter]\ntargets = qkv , o\nlayers = 0-3,7\nrank = full\nrank.qkv = 4\nalpha.o = 1.5e1\n"
      "[mesh]\nsequence_parallel = yes\nschedule = interleaved\n",
      "job.ini", {{"train.batch", "32"}, {"adapter.seed", "18446744073709551615"}});
  EXPECT_EQ(config.data.train, "odd # name.h5");
  EXPECT_EQ(config.train.steps, 10);
  EXPECT_EQ(config.train.evaluate_every, 1);
  EXPECT_EQ(config.train.batch, 32);
  EXPECT_EQ(config.train.precision, kernels::DType::bf16);
  EXPECT_THAT(config.adapter.targets, ElementsAre(Target::qkv, Target::o));
  EXPECT_THAT(config.adapter.layers, ElementsAre(0, 1, 2, 3, 7));
  EXPECT_EQ(config.adapter.rank, kFullRank);
  EXPECT_EQ(config.adapter.rank_of.at(Target::qkv), 4);
  EXPECT_EQ(config.adapter.alpha_of.at(Target::o), 15.0);
  EXPECT_EQ(config.adapter.seed, 18446744073709551615u);
  EXPECT_TRUE(config.mesh.sequence_parallel);
  EXPECT_EQ(config.mesh.schedule, dist::ScheduleKind::interleaved);
}

TEST(Options, MessagesNamePlaceFoundAndExpected) {
  EXPECT_EQ(message_of("[train]\nbatch = x\n"),
            "job.ini:2: train.batch: found 'x', expected a whole number of at least 1 (sequences)");
  EXPECT_EQ(message_of("[train]\nbatch = 0\n"),
            "job.ini:2: train.batch: found '0', expected a whole number of at least 1 (sequences)");
  EXPECT_EQ(message_of("\n[train]\nstep = 3\n"), "job.ini:3: unknown key 'train.step'; the nearest is 'train.steps'");
  EXPECT_EQ(message_of("steps = 3"), "job.ini:1: unknown key 'steps'; the nearest is 'train.steps'");
  EXPECT_EQ(message_of("[tarin]"), "job.ini:1: unknown section '[tarin]'; the nearest is '[train]'");
  EXPECT_EQ(message_of("[train"), "job.ini:1: unknown section '[train'; the nearest is '[train]'");
  EXPECT_EQ(message_of("[train]\nsteps 3"), "job.ini:2: found 'steps 3', expected [section] or key = value");
  EXPECT_EQ(message_of("[train]\nsteps = 3\nsteps = 4"), "job.ini:3: 'train.steps' was given on line 2 before");
  EXPECT_EQ(message_of("train.precision = fp16"),
            "job.ini:1: train.precision: found 'fp16', expected one of fp32, bf16");
  EXPECT_EQ(message_of("[run]\ndir = \"a"), "job.ini:2: found '\"a', expected one value between quotation marks");
  EXPECT_THAT(message_of("[data]\ntrain = \"a\x01z\""), HasSubstr("found 'a?z'"));
  EXPECT_EQ(message_of([] {
              parse_config("", "", {{"mesh.tensor", "2x"}});
            }),
            "command line: mesh.tensor: found '2x', expected a whole number of at least 1 (ranks)");
  EXPECT_THAT(message_of([] { read_config("/nowhere/job.ini", {}); }), HasSubstr("/nowhere/job.ini: cannot be read"));
  EXPECT_THAT(message_of([] { read_config("/", {}); }), HasSubstr("/: cannot be read"));
}

TEST(Options, ValuesOutOfRangeAreRefused) {
  for (const char* line : {"adapter.dropout = 1",
                           "adapter.dropout = -0.1",
                           "adapter.alpha = 0",
                           "adapter.alpha = nan",
                           "optimizer.lr = inf",
                           "optimizer.lr = 1e999",
                           "adapter.targets = q,q",
                           "adapter.targets =",
                           "adapter.layers = 3-1",
                           "adapter.layers = 2,1",
                           "adapter.layers = 0-999999999999",
                           "adapter.rank = -1",
                           "adapter.rank = Full",
                           "mesh.tensor = 2147483648",
                           "run.keep = 0",
                           "train.steps = 99999999999999999999",
                           "train.steps = 1 sequence",
                           "train.steps = steps",
                           "adapter.seed = -1",
                           "mesh.sequence_parallel = maybe",
                           "train.steps = 1.0"})
    EXPECT_THAT(message_of(line), HasSubstr("expected")) << line;
}

// Every key set to something else than its default survives the canonical text.
TEST(Options, CanonicalTextReadsBack) {
  const std::string job =
      "model.base = b;ase.h5\nmodel.family = llama\nmodel.layers = 3\nmodel.width = 96\nmodel.heads = 6\n"
      "model.kv_heads = 2\nmodel.ffn = 120\nmodel.vocab = 97\nmodel.context = 64\nmodel.tied_head = no\n"
      "model.norm_eps = 1e-6\nmodel.head_size = 8\nmodel.qkv_bias = yes\nmodel.qk_norm = yes\nmodel.window = 5\n"
      "model.rope_theta = 500000\nmodel.rope_scaling = yarn\nmodel.rope_factor = 4\nmodel.rope_low = 2\n"
      "model.rope_high = 32\nmodel.rope_attention_factor = 1.5\nmodel.rope_original_context = 16\n"
      "model.rope_neighbours = yes\nadapter.method = full\nadapter.targets = all\nadapter.layers = 0,2-5\nadapter.rank = full\nadapter.rank.gate = "
      "3\n"
      "adapter.alpha = 0.1\nadapter.alpha.qkv = 1e-300\nadapter.dropout = 0.3\nadapter.init = \" blank\"\n"
      "adapter.seed = 7\ndata.train = t\ndata.valid = v\ndata.length = 12\ndata.order = sequential\ndata.seed = 9\n"
      "train.steps = 2\ntrain.batch = 4\ntrain.microbatch = 2\ntrain.precision = bf16\ntrain.recompute = selective\n"
      "train.label_smoothing = 0.1\ntrain.evaluate_every = 5\noptimizer.lr = 0.00123456789012345\noptimizer.beta1 = "
      "0.5\n"
      "optimizer.beta2 = 0.95\noptimizer.eps = 1e-6\noptimizer.weight_decay = 0\noptimizer.clip = 0\n"
      "optimizer.schedule = cosine\noptimizer.warmup = 1\nmesh.tensor = 2\nmesh.pipeline = 2\nmesh.sequence_parallel = "
      "on\n"
      "mesh.schedule = gpipe\nmesh.chunks = 2\ndevice.kind = meta\ndevice.threads = 3\ndevice.hardware = h\n"
      "device.oversubscribe = yes\ndevice.tf32 = yes\nrun.dir = r\n"
      "run.checkpoint_every = 1\nrun.keep = 1\nrun.resume = never\nrun.trace = 2\nrun.tensorboard = yes\nrun.norms_every = 5\n"
      "run.background_save = no\ntrain.on_nan = skip\n";
  const Config config = parse_config(job, "job", {});
  const std::string canonical = canonical_text(config);
  EXPECT_EQ(canonical_text(parse_config(canonical, "canonical", {})), canonical);
  for (const Option& option : option_table()) {
    const bool other_target = option.shown.empty() || option.shown.ends_with("<target>");
    EXPECT_TRUE(other_target || canonical.find(option.key + " = ") != canonical.npos) << option.key;
  }
  EXPECT_EQ(parse_config(canonical, "canonical", {}).optimizer.lr, 0.00123456789012345);
  EXPECT_EQ(canonical_text(Config{}), "");
}

TEST(Options, HelpAndLookUpCoverTheTable) {
  const std::string help = option_help();
  for (const Option& option : option_table()) {
    EXPECT_TRUE(is_option(option.key));
    EXPECT_THAT(help, HasSubstr(option.shown));
    EXPECT_FALSE(option.help.empty());
  }
  EXPECT_FALSE(is_option("train.step"));
  EXPECT_FALSE(is_option("adapter.rank.x"));
  EXPECT_THAT(help, HasSubstr("default 1e-08"));
}

TEST(Options, NearestCountsExchangedNeighboursOnce) {
  EXPECT_EQ(nearest("ba", {"cc", "ab"}), "ab");
  EXPECT_EQ(nearest("tensor", {"mesh.tensors", "mesh.tensor"}), "mesh.tensor");
  EXPECT_EQ(nearest("optimiser.lr", {"optimizer.lr", "optimizer.eps"}), "optimizer.lr");
}

Config small_job() {
  return parse_config("[model]\nlayers=4\nwidth=48\nheads=6\nvocab=101\ncontext=32\n[train]\nbatch=12\nsteps=8\n",
                      "job.ini", {});
}

TEST(Options, CompletingFillsDefaultsOrTakesTheBase) {
  Config config = small_job();
  config.adapter.targets.clear();
  complete_config(config, nullptr);
  EXPECT_EQ(config.model.shape.ffn, 192);
  EXPECT_EQ(config.model.shape.kv_heads, 6);
  EXPECT_EQ(config.data.length, 32);
  EXPECT_THAT(config.adapter.targets, ElementsAre(Target::qkv, Target::o, Target::up, Target::down));

  ModelShape base = config.model.shape;
  base.vocab = 300;
  Config with_base = small_job();
  with_base.model.base = "base.h5";
  EXPECT_EQ(message_of([&] { complete_config(with_base, &base); }),
            "model.vocab: found 101, expected 300 as in base.h5");
  with_base = Config{};
  complete_config(with_base, &base);
  EXPECT_EQ(with_base.model.shape, base);
}

TEST(Options, ChecksKeysAgainstEachOther) {
  const auto verdict = [](const std::function<void(Config&)>& change, int ranks = 12) {
    Config config = small_job();
    complete_config(config, nullptr);
    change(config);
    return message_of([&] { check_config(config, ranks); });
  };
  EXPECT_EQ(verdict([](Config&) {}), "nothing was thrown");
  EXPECT_THAT(verdict([](Config& c) { c.mesh.tensor = 4; }), HasSubstr("expected one of 1, 2, 3, 6"));
  EXPECT_THAT(verdict([](Config& c) {
                c.mesh.tensor = 3;
                c.mesh.pipeline = 3;
              }),
              HasSubstr("12"));
  EXPECT_THAT(verdict([](Config& c) { c.mesh.pipeline = 6; }), HasSubstr("at most 4 parts"));
  EXPECT_THAT(verdict([](Config& c) { c.mesh.chunks = 2; }), HasSubstr("interleaved"));
  EXPECT_THAT(verdict([](Config& c) { c.train.batch = 13; }), HasSubstr("a multiple of the data extent 12"));
  EXPECT_EQ(verdict([](Config& c) { c.train.microbatch = 5; }, 1),
            "train.microbatch: found 5, expected a divisor of the 12 sequences of a data rank: 1, 2, 3, 4, 6, 12");
  EXPECT_THAT(verdict([](Config& c) { c.data.length = 33; }), HasSubstr("at most the model's context 32"));
  EXPECT_THAT(verdict([](Config& c) { c.optimizer.warmup = 9; }), HasSubstr("at most train.steps = 8"));
  EXPECT_THAT(verdict([](Config& c) { c.adapter.layers = {1, 4}; }), HasSubstr("layers from 0 to 3"));
  EXPECT_THAT(verdict([](Config& c) { c.adapter.targets = {Target::gate}; }), HasSubstr("found gate"));
  EXPECT_THAT(verdict([](Config& c) { c.adapter.targets = {Target::qkv, Target::v}; }), HasSubstr("found qkv and v"));
  EXPECT_THAT(verdict([](Config& c) { c.adapter.rank_of[Target::o] = 2; }), HasSubstr("adapter.rank.o"));
  EXPECT_THAT(verdict([](Config& c) { c.model.shape.heads = 7; }), HasSubstr("a divisor of the width 48"));
  EXPECT_THAT(verdict([](Config& c) { c.model.shape.layers = 0; }), HasSubstr("model.layers"));
  EXPECT_THAT(verdict([](Config& c) { c.model.shape.family = "bert"; }), HasSubstr("found 'bert'"));
}

}  // namespace
}  // namespace lorashard::core
