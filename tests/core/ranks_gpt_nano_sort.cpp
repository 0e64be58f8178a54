// ranks: 1
// A trained model against activations that its author recorded (gpt_nano_sort.hpp): the oracle operation by operation,
// the blocks of the host device layer by layer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base_file.hpp"
#include "core/inference.hpp"
#include "tests/core/gpt_nano_sort.hpp"
#include "tests/core/shared_directory.hpp"
#include "tests/golden/trial.hpp"
#include "tests/oracle/attention.hpp"
#include "tests/oracle/operations.hpp"

namespace lorashard::core {
namespace {

using oracle::Array;

using gpt_nano_sort::kShape;
constexpr Index kSequences = 3, kLength = 11, kRows = kSequences * kLength, kHeadSize = 16;

// Errors. As core/parity_bounds.hpp has it: roundings of u = 2^-24 are as good as independent, and stay within 4 times
// the root of the sum of their squares. What follows counts such squares, relative to a tensor's mean square: `before`
// is what its input came with, 0 where the input is exact.
double mean_square(const Array& x) { return norm(x) * norm(x) / static_cast<double>(x.values.size()); }

// Mean and variance, each a sum of C, and some four operations; a row's error counts against its own deviation.
double after_norm(double before, const Array& x) {
  double shares = 0;
  for (Index row = 0; row < x.rows; ++row) {
    double sum = 0, squares = 0;
    for (Index i = 0; i < x.cols; ++i) sum += x(row, i), squares += x(row, i) * x(row, i);
    const double mean = sum / static_cast<double>(x.cols);
    shares += mean_square(x) / (squares / static_cast<double>(x.cols) - mean * mean);
  }
  return before * shares / static_cast<double>(x.rows) + 2 * static_cast<double>(x.cols) + 4;
}

// y = x w^T: an error that knows nothing of w passes as a random x would, times w's norm; a sum of n terms adds n.
double after_product(double before, const Array& x, const Array& w, const Array& y) {
  const double gain = mean_square(x) * norm(w) * norm(w) / static_cast<double>(w.rows) / mean_square(y);
  return (before + static_cast<double>(w.cols)) * gain + 1;
}

double largest_score(const Array& qkv) {
  double largest = 0;
  for (Index row = 0; row < kRows; ++row)
    for (Index key = row - row % kLength; key <= row; ++key)
      for (Index head = 0; head < kShape.width; head += kHeadSize) {
        double dot = 0;
        for (Index d = head; d < head + kHeadSize; ++d) dot += qkv(row, d) * qkv(key, kShape.width + d);
        largest = std::max(largest, std::abs(dot) / std::sqrt(static_cast<double>(kHeadSize)));
      }
  return largest;
}
// Of scores, absolute: q and k both err, and so does a sum of D.
double after_scores(double before, const Array& qkv) {
  const double largest = largest_score(qkv);
  return largest * largest * (2 * before + kHeadSize);
}
// Probabilities err by themselves times the error of their scores, which mixes v; then two sums of T.
double after_attention(double before, const Array& qkv, const Array& y) {
  const double gain = mean_square(columns_of(qkv, 2 * kShape.width, kShape.width)) / mean_square(y);
  return (before + after_scores(before, qkv) + 2 * kLength) * gain;
}

// |gelu'| is at most 1.13; tanh and what is around it are some ten operations.
double after_gelu(double before, const Array& x, const Array& y) {
  return 1.13 * 1.13 * before * mean_square(x) / mean_square(y) + 10;
}

double after_sum(double of_a, const Array& a, double of_b, const Array& b, const Array& sum) {
  return (of_a * mean_square(a) + of_b * mean_square(b)) / mean_square(sum) + 1;
}

// Within what `squares` of one side, or of both, explain.
void expect_close(const Array& found, const Array& recorded, double squares, int sides, const std::string& what) {
  const double bound = 4 * std::sqrt(sides * squares) * std::ldexp(1.0, -24);
  EXPECT_LE(distance(found, recorded), bound * norm(recorded)) << what;
}

class GptNanoSort : public testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = shared_path("models/gpt-nano-sort");
    if (folder.empty()) GTEST_SKIP() << "models/gpt-nano-sort" << kNoShared;
    model_ = gpt_nano_sort::model_of(gpt_nano_sort::read_tensors(folder + "/gpt-nano-sort-model.json"));
    recorded_ = gpt_nano_sort::read_tensors(folder + "/gpt-nano-sort-t0-partials.json");
    for (const double id : recorded_.at("idx").values) ids_.push_back(static_cast<std::int32_t>(id));
  }
  const Array& recorded(const std::string& name) const { return recorded_.at(name); }

  oracle::Model model_;
  gpt_nano_sort::Arrays recorded_;
  std::vector<std::int32_t> ids_;
};

// Each operation of the first block, and of the end, on the recorded inputs: what is left is PyTorch's own rounding.
TEST_F(GptNanoSort, TheOracleRepeatsEveryOperation) {
  using namespace oracle;
  const oracle::Block& b = model_.blocks[0];
  const auto &x = recorded("x"), &ln1 = recorded("ln1"), &qkv = recorded("qkv"), &y = recorded("y");
  const auto &middle = recorded("attnResid"), &ln2 = recorded("ln2"), &fc = recorded("fc"), &gelu = recorded("gelu");
  const Index c = kShape.width;
  const auto expect = [&](const char* name, const Array& found, double squares) {
    expect_close(found, recorded(name), squares, 1, name);
  };
  const auto expect_product = [&](const char* name, const Array& in, const Array& w, const Array& bias) {
    expect(name, linear(in, w, bias), after_product(0, in, w, recorded(name)));
  };
  expect("x", embedding(ids_, kLength, model_.token, model_.position), 1);
  expect("ln1", layer_norm(x, b.norm1_weight, b.norm1_bias, kShape.norm_eps), after_norm(0, x));
  expect_product("qkv", ln1, b.qkv_weight, b.qkv_bias);
  expect("y", attention(columns_of(qkv, 0, c), columns_of(qkv, c, c), columns_of(qkv, 2 * c, c), {kLength, kHeadSize}),
         after_attention(0, qkv, y));
  expect_product("yProj", y, b.o_weight, b.o_bias);
  expect("ln2", layer_norm(middle, b.norm2_weight, b.norm2_bias, kShape.norm_eps), after_norm(0, middle));
  expect_product("fc", ln2, b.up_weight, b.up_bias);
  expect("gelu", oracle::gelu(fc), after_gelu(0, fc, gelu));
  expect_product("mlp", gelu, b.down_weight, b.down_bias);
  expect("ln_f", layer_norm(recorded("block2"), model_.norm_weight, model_.norm_bias, kShape.norm_eps),
         after_norm(0, recorded("block2")));
  expect_product("lm_head", recorded("ln_f"), model_.head, {});
}

Array array_of(ConstMatrix m) {
  Array array(m.rows, m.cols);
  for (Index row = 0; row < m.rows; ++row) std::copy_n(m.row<float>(row), m.cols, array.row(row));
  return array;
}

// What a block computes on its way, as the host device keeps it for full training, and the squares of its errors.
struct Inside {
  Array x, normed1, qkv, log_sum, mixed, middle, normed2, up, activated, out;
};
struct Squares {
  double normed1, qkv, scores, mixed, middle, normed2, up, activated, out;
};
Squares squares_of(double before, const Inside& i, const oracle::Block& b) {
  const auto difference = [](Array a, const Array& of) {
    for (std::size_t n = 0; n < a.values.size(); ++n) a.values[n] -= of.values[n];
    return a;
  };
  const Array projected = difference(i.middle, i.x), down = difference(i.out, i.middle);
  Squares s{};
  s.normed1 = after_norm(before, i.x);
  s.qkv = after_product(s.normed1, i.normed1, b.qkv_weight, i.qkv);
  s.scores = after_scores(s.qkv, i.qkv);
  s.mixed = after_attention(s.qkv, i.qkv, i.mixed);
  s.middle = after_sum(before, i.x, after_product(s.mixed, i.mixed, b.o_weight, projected), projected, i.middle);
  s.normed2 = after_norm(s.middle, i.middle);
  s.up = after_product(s.normed2, i.normed2, b.up_weight, i.up);
  s.activated = after_gelu(s.up, i.up, i.activated);
  s.out = after_sum(s.middle, i.middle, after_product(s.activated, i.activated, b.down_weight, down), down, i.out);
  return s;
}

// The log of the sum of the exponentials of each recorded row of scores, (H, M) as attention keeps it.
Array log_sums(const Array& scores) {
  Array all(kShape.heads, kRows);
  for (Index row = 0; row < scores.rows; ++row) {
    double sum = 0;
    for (Index key = 0; key < scores.cols; ++key) sum += std::exp(scores(row, key));  // 0 of what is masked
    const Index sequence = row / (kShape.heads * kLength), head = row / kLength % kShape.heads;
    all(head, sequence * kLength + row % kLength) = std::log(sum);
  }
  return all;
}

// The passes of a trainer's model, a block at a time.
class HostPass {
 public:
  HostPass(const std::string& base, kernels::Device& device, dist::Mesh& mesh)
      : file_(base),
        context_{device, mesh, file_.shape()},
        parameters_(context_, plan(), tensors_of_part(file_.shape(), 0, 1), &file_, 1) {}

  const Context& context() const { return context_; }
  Parameters& parameters() { return parameters_; }
  Inside block(Index layer, Activation& x, const Microbatch& microbatch) {
    const Block block(context_, parameters_, layer, true, nullptr);
    BlockSaved s;
    x = block.forward(std::move(x), microbatch, &s);
    return {array_of(s.x.data),        array_of(s.h.data),  array_of(s.qkv.data), array_of(s.log_sum),
            array_of(s.attended.data), array_of(s.x2.data), array_of(s.h2.data),  array_of(s.up.data),
            array_of(s.active.data),   array_of(x.data)};
  }

 private:
  TrainingPlan plan() const {
    Config config;
    config.model.shape = file_.shape();
    config.adapter.method = Method::full;
    return make_plan(config);
  }
  BaseFile file_;
  Context context_;
  Parameters parameters_;
};

TEST_F(GptNanoSort, TheHostRepeatsEveryLayer) {
  const std::string base = golden::scratch() + "/gpt_nano_sort.h5";
  golden::write_base(base, model_);
  golden::on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    HostPass pass(base, device, mesh);
    const kernels::Integers ids(device, ActivationKind::tokens, ids_);
    Microbatch microbatch;
    microbatch.sequences = kSequences;
    microbatch.length = kLength;
    microbatch.ids = ids.view();
    Activation x = Embedding(pass.context(), pass.parameters()).forward(microbatch);
    EXPECT_EQ(array_of(x.data).values, recorded("x").values);  // one sum of two

    double squares = 0;  // of both sides' x, which were the same so far
    for (Index layer = 0; layer < kShape.layers; ++layer) {
      const Inside found = pass.block(layer, x, microbatch);
      const Squares s = squares_of(squares, found, model_.blocks[layer]);
      if (layer == 0) {
        expect_close(found.normed1, recorded("ln1"), s.normed1, 2, "ln1");
        expect_close(found.qkv, recorded("qkv"), s.qkv, 2, "qkv");
        const Array expected = log_sums(recorded("att"));
        EXPECT_LE(distance(found.log_sum, expected),
                  4 * std::sqrt(2 * (s.scores + 2 * kLength) * kShape.heads * kRows) * std::ldexp(1.0, -24));
        expect_close(found.mixed, recorded("y"), s.mixed, 2, "y");
        expect_close(found.middle, recorded("attnResid"), s.middle, 2, "attnResid");
        expect_close(found.normed2, recorded("ln2"), s.normed2, 2, "ln2");
        expect_close(found.up, recorded("fc"), s.up, 2, "fc");
        expect_close(found.activated, recorded("gelu"), s.activated, 2, "gelu");
        expect_close(found.out, recorded("mlpResid"), s.out, 2, "mlpResid");
      }
      const std::string name = "block" + std::to_string(layer);
      expect_close(found.out, recorded(name), s.out, 2, name);
      squares = s.out;
    }
    const Array last = array_of(x.data);
    const Array normed =
        array_of(Norm(pass.context(), pass.parameters(), "final_norm").forward(x, microbatch, nullptr).data);
    const double of_normed = after_norm(squares, last);
    expect_close(normed, recorded("ln_f"), of_normed, 2, "ln_f");
    const Array logits = array_of(Head(pass.context(), pass.parameters(), true).logits(x, microbatch));
    expect_close(logits, recorded("lm_head"), after_product(of_normed, normed, model_.head, logits), 2, "lm_head");
  });
}

// What it was trained for: the digits come out in order, each from those before it.
TEST_F(GptNanoSort, Sorts) {
  const std::string base = golden::scratch() + "/gpt_nano_sort.h5";
  golden::write_base(base, model_);
  golden::on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    Config config;
    config.model.base = base;
    config.model.shape = BaseFile(base).shape();
    Inference model(config, device, mesh);
    model.reserve(1, kLength);
    const std::vector<std::int32_t> digits{0, 0, 2, 1, 0, 1};
    std::vector<float> logits = model.prompt(0, digits);
    std::vector<std::int32_t> found;
    while (true) {
      found.push_back(static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin()));
      if (found.size() == digits.size()) break;
      logits = model.step(std::span(found).last(1));
    }
    EXPECT_EQ(found, (std::vector<std::int32_t>{0, 0, 0, 1, 1, 2}));
  });
}

}  // namespace
}  // namespace lorashard::core
