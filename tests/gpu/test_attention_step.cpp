// A step of generation on the cuda device against its definition in doubles.
#include "kernels/elementwise.hpp"
#include "tests/kernels/attention_step_case.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

using Case = StepCase<Twin>;

// Numbers of 32 bits in device memory, as the bits of fp32 values, which is what a tensor holds.
class DeviceLengths {
 public:
  explicit DeviceLengths(const std::vector<std::int32_t>& lengths)
      : count_(lengths.size()), there_(cuda(), Category::workspace, DType::f32, 1, static_cast<Index>(lengths.size())) {
    const Index n = static_cast<Index>(count_);
    upload(cuda(), {reinterpret_cast<const std::byte*>(lengths.data()), DType::f32, 1, n, n}, there_);
  }
  std::span<const std::int32_t> span() { return {reinterpret_cast<const std::int32_t*>(there_.view().data), count_}; }

 private:
  std::size_t count_;
  Tensor there_;
};

void run(Case& c) {
  DeviceLengths lengths(c.lengths);
  Device& d = cuda();
  attention(d, AttentionStep{c.s, c.q.on(d), c.keys.on(d), c.values.on(d), lengths.span(), c.out.on(d)});
}

void check(AttentionShape s, StepTypes types, const std::vector<std::int32_t>& lengths, Index gap) {
  SCOPED_TRACE(text("B ", s.batch, " capacity ", s.length, " H ", s.heads, " G ", s.kv_heads, " D ", s.head_size,
                    " group ", s.group, " skew ", s.skew, " window ", s.window, " gap ", gap, " ", name(types.q), " ",
                    name(types.keys), " ", name(types.out)));
  Case c(s, types, lengths, gap), again(s, types, lengths, gap);
  // What a sequence does not have yet, nobody reads.
  for (Index b = 0; b < s.batch; ++b) {
    for (Index i = lengths[b]; i < s.length; ++i) {
      for (Index col = 0; col < s.kv_heads * s.head_size; ++col) {
        for (Case* each : {&c, &again}) {
          set_element(each->keys.host(), b * s.length + i, col, std::nan(""));
          set_element(each->values.host(), b * s.length + i, col, std::nan(""));
        }
      }
    }
  }
  for (Case* each : {&c, &again}) {
    each->keys.send();
    each->values.send();
    run(*each);
  }
  EXPECT_EQ(c.out.bytes(), again.out.bytes());
  const StepExpected expected(s, lengths, c.q.host(), c.keys.host(), c.values.host());
  expect_close(
      c.out.from_cuda(), expected.out, [&](Index r, Index col) { return expected.bound(s, types.out, r, col); }, "out");
}

TEST(CudaAttentionStep, MatchesTheDefinitionOfAllTypes) {
  SKIP_WITHOUT_GPU();
  for (const DType q : kTypes) {
    for (const DType keys : kTypes) {
      for (const DType out : kTypes) {
        check({3, 20, 4, 2, 8}, {q, keys, out}, {1, 20, 7}, 4);
        check({2, 40, 3, 2, 6, 4, 2}, {q, keys, out}, {40, 11}, 3);
      }
    }
  }
}

// Capacities of one part, some, and some and a bit; lengths at their edges; windows within, over and of whole parts.
TEST(CudaAttentionStep, MatchesTheDefinitionInParts) {
  SKIP_WITHOUT_GPU();
  const StepTypes mixed{DType::f32, DType::bf16, DType::f32};
  check({1, 1, 1, 1, 1}, mixed, {1}, 0);
  check({3, 256, 2, 1, 16}, mixed, {255, 256, 1}, 0);
  check({5, 700, 2, 2, 12}, mixed, {700, 512, 513, 256, 257}, 4);
  for (const Index window : {1, 100, 256, 300, 700, 900}) {
    check({3, 700, 2, 1, 8, 0, 0, window}, mixed, {700, 300, 20}, 0);
  }
  check({1, 300, 5, 3, 4, 2, 1, 270}, mixed, {299}, 0);
}

// More columns than threads, and threads than columns.
TEST(CudaAttentionStep, MatchesTheDefinitionForEveryHeadSizeInUse) {
  SKIP_WITHOUT_GPU();
  for (const Index size : {2, 64, 80, 96, 128, 129, 192, 256}) {
    check({1, 35, 2, 1, size}, {DType::bf16, DType::bf16, DType::bf16}, {35}, 0);
  }
}

// Equal scores average small whole numbers exactly, over parts as well.
TEST(CudaAttentionStep, EqualScoresAverageTheValues) {
  SKIP_WITHOUT_GPU();
  Case c({1, 600, 2, 1, 8}, {DType::f32, DType::f32, DType::f32}, {512});
  c.q.fill(0);
  for (Index i = 0; i < 600; ++i) {
    for (Index d = 0; d < 8; ++d) set_element(c.values.host(), i, d, static_cast<double>((i + d) % 4));
  }
  c.values.send();
  run(c);
  const ConstMatrix out = c.out.from_cuda();
  for (Index col = 0; col < 16; ++col) EXPECT_EQ(element(out, 0, col), 1.5) << col;
}

// A plan for a GPU counts the scratch that a run takes: of 2 sequences, 4 heads and 2 parts, 8 sums and 2 numbers.
TEST(CudaAttentionStep, APlanKnowsTheScratch) {
  SKIP_WITHOUT_GPU();
  DeviceLengths lengths({300, 10});
  const auto workspace_of = [&](Device& device, std::span<const std::int32_t> of_device) {
    const auto tensor = [&](Index rows, Index cols) {
      Tensor t(device, Category::activation, DType::f32, rows, cols);
      fill(device, t, 1.0f);
      return t;
    };
    Tensor q = tensor(2, 32), keys = tensor(600, 16), out = tensor(2, 32);
    const Index before = device.ledger().peak_bytes(Category::workspace);
    attention(device, AttentionStep{{2, 300, 4, 2, 8}, q, keys, keys, of_device, out});
    return device.ledger().peak_bytes(Category::workspace) - before;
  };
  const auto plan = make_meta_device(DeviceKind::cuda);
  const auto run = make_cuda_device(0);
  cuda().synchronize();  // the lengths are there before another stream reads them
  EXPECT_EQ(workspace_of(*plan, {static_cast<const std::int32_t*>(nullptr), 2}), 2 * 4 * 2 * 10 * 4);
  EXPECT_EQ(workspace_of(*run, lengths.span()), 2 * 4 * 2 * 10 * 4);
  run->synchronize();
}

TEST(CudaAttentionStep, NothingIsDoneForNothing) {
  SKIP_WITHOUT_GPU();
  Case c({0, 10, 4, 2, 8}, {DType::f32, DType::f32, DType::f32}, {});
  run(c);
  cuda().synchronize();
}

}  // namespace
}  // namespace lorashard::kernels
