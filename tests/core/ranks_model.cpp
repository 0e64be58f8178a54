// The real trainer on random small models of GPT-2's kind against the oracle (tests/golden/oracle_run.hpp), on every
// mesh of as many ranks as the test runs on.
#include <gtest/gtest.h>

#include "tests/golden/oracle_run.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

struct Job {
  const char* name;
  void (*change)(Config&);
  bool tied_head = true;
};

const Job kJobs[] = {
    {"every_kind",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::k, Target::v, Target::o, Target::up, Target::down};
       c.adapter.rank_of = {{Target::q, 1}, {Target::up, 5}, {Target::down, 2}};
       c.adapter.alpha_of = {{Target::k, 3}, {Target::o, 16}};
     }},
    {"joint_on_some_layers",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::down};
       c.adapter.layers = {2, 3, 5};
     }},
    {"one_matrix_in_full",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::v, Target::o, Target::up};
       c.adapter.layers = {1, 4};
       c.adapter.rank_of = {{Target::o, kFullRank}};
     }},
    {"untied_head_smoothing",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::up};
       c.train.label_smoothing = 0.1;
     },
     false},
    {"dropout",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::v, Target::o, Target::up, Target::down};
       c.adapter.dropout = 0.3;
     }},
    {"full", [](Config& c) { c.adapter.method = Method::full; }},
    {"bf16",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::o, Target::up, Target::down};
       c.train.precision = kernels::DType::bf16;
     }},
    {"bf16_full", [](Config& c) { c.adapter.method = Method::full, c.train.precision = kernels::DType::bf16; }},
    {"full_untied_head", [](Config& c) { c.adapter.method = Method::full, c.train.label_smoothing = 0.2; }, false},
};

struct Base {
  oracle::Model model;
  std::string file;
};
Base base_of(bool tied_head) {
  oracle::Shape shape = golden::oracle_shape();
  shape.tied_head = tied_head;
  Base base{oracle::random_model(shape, tied_head ? 1 : 2),
            golden::scratch() + (tied_head ? "/tied.h5" : "/untied.h5")};
  golden::on_rank_0([&] { golden::write_base(base.file, base.model); });
  return base;
}

class Model : public testing::TestWithParam<std::size_t> {};

// Every mode on up to two ranks; on more, each mesh takes turns, so that it meets every mode in some job.
TEST_P(Model, HasTheOraclesLossAndGradientsOnEveryMesh) {
  static const Base tied = base_of(true), untied = base_of(false);
  const std::size_t job = GetParam();
  const Base& base = kJobs[job].tied_head ? tied : untied;
  golden::expect_oracles_steps({base.model, base.file, kJobs[job].change, [job](std::size_t mesh, std::size_t mode) {
                                  return runtime().size() <= 2 || (job + mesh + mode) % golden::kOracleModes == 0;
                                }});
}
INSTANTIATE_TEST_SUITE_P(Gpt2, Model, testing::Range<std::size_t>(0, std::size(kJobs)),
                         [](const auto& info) { return kJobs[info.param].name; });

}  // namespace
}  // namespace lorashard::core
