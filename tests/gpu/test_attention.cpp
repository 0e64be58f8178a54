// Attention on the cuda device against its definition in doubles, and against the host.
#include "tests/gpu/attention_case.hpp"

namespace lorashard::kernels {
namespace {

void check(AttentionShape s, DType dtype, Index gap = 0) {
  SCOPED_TRACE(text("B ", s.batch, " T ", s.length, " H ", s.heads, " G ", s.kv_heads, " D ", s.head_size, " group ",
                    s.group, " skew ", s.skew, " window ", s.window, " gap ", gap, " ", name(dtype)));
  Case c(s, dtype, gap);
  c.forward(cuda());
  c.backward(cuda());
  expect_as_defined(c, Expected(c));
}

// The rows of `a`, [first, first + rows of b), are those of b, bit for bit.
void expect_same_rows(const ConstMatrix& a, Index first, const ConstMatrix& b) {
  const ConstMatrix part = a.row_range(first, b.rows);
  EXPECT_EQ(std::memcmp(part.data, b.data, b.bytes()), 0);
}

// 8 gaps of bf16 and 4 of f32 keep rows at multiples of 16 bytes; 3 do not, and then every element is moved alone.
class AttentionCuda : public testing::TestWithParam<DType> {
 protected:
  Index wide_gap() const { return GetParam() == DType::bf16 ? 8 : 4; }
};

TEST_P(AttentionCuda, MatchesTheDefinition) {
  SKIP_WITHOUT_GPU();
  check({1, 1, 1, 1, 8}, GetParam());
  check({2, 7, 3, 3, 16}, GetParam(), wide_gap());
  check({1, 64, 2, 1, 32}, GetParam());
  check({2, 65, 2, 2, 64}, GetParam(), wide_gap());
  check({1, 130, 2, 2, 40}, GetParam());
  check({1, 130, 1, 1, 128}, GetParam());
}

TEST_P(AttentionCuda, MatchesTheDefinitionForGroupedHeads) {
  SKIP_WITHOUT_GPU();
  check({2, 70, 4, 2, 16}, GetParam());
  check({1, 130, 6, 1, 8}, GetParam(), wide_gap());
}

TEST_P(AttentionCuda, MatchesTheDefinitionForCutGroups) {
  SKIP_WITHOUT_GPU();
  check({1, 70, 2, 1, 8, 4, 1}, GetParam());               // the middle of one group
  check({2, 40, 3, 2, 16, 4, 2}, GetParam(), wide_gap());  // the end of one, the start of the next
  check({1, 20, 5, 3, 8, 2, 1}, GetParam());               // the end, two whole ones
}

// Below, at and above the tiles that the kernels have, which are of 16 to 128 rows; a single token; more than all.
TEST_P(AttentionCuda, MatchesTheDefinitionForWindows) {
  SKIP_WITHOUT_GPU();
  for (const Index window : {1, 2, 16, 31, 33, 64, 100, 149, 150, 400}) {
    check({1, 150, 2, 1, 16, 0, 0, window}, GetParam());
  }
  check({2, 140, 3, 2, 64, 4, 2, 50}, GetParam(), wide_gap());
  check({1, 90, 1, 1, 256, 0, 0, 20}, GetParam());
}

// What lies outside of a window is not read, or not multiplied: a NaN there stays there.
TEST_P(AttentionCuda, NanReachesTheWindowAlone) {
  SKIP_WITHOUT_GPU();
  Case c({1, 300, 1, 1, 8, 0, 0, 70}, GetParam());
  set_element(c.fused.host(), 40, 8, std::nan(""));  // in k of token 40
  c.fused.send();
  c.forward(cuda());
  const ConstMatrix out = c.out.from_cuda();
  for (Index t = 0; t < 300; ++t) EXPECT_EQ(std::isnan(element(out, t, 0)), t >= 40 && t < 110) << t;
}

TEST_P(AttentionCuda, AWindowThatHoldsAllChangesNothing) {
  SKIP_WITHOUT_GPU();
  Case all({1, 100, 2, 1, 16}, GetParam()), window({1, 100, 2, 1, 16, 0, 0, 100}, GetParam());
  for (Case* c : {&all, &window}) {
    c->forward(cuda());
    c->backward(cuda());
  }
  expect_same_rows(all.out.from_cuda(), 0, window.out.from_cuda());
  expect_same_rows(all.dfused.from_cuda(), 0, window.dfused.from_cuda());
}

TEST_P(AttentionCuda, MatchesTheDefinitionForEveryHeadSizeInUse) {
  SKIP_WITHOUT_GPU();
  for (const Index size : {8, 16, 32, 64, 80, 96, 128, 192, 256}) check({1, 35, 2, 1, size}, GetParam());
}

// Head sizes and strides that no vector load fits.
TEST_P(AttentionCuda, MatchesTheDefinitionForAnyLayout) {
  SKIP_WITHOUT_GPU();
  check({1, 33, 2, 1, 1}, GetParam());
  check({2, 20, 2, 2, 5}, GetParam(), 3);
  check({1, 66, 1, 1, 64}, GetParam(), 3);
  check({1, 20, 1, 1, 129}, GetParam(), 1);
}

// Within the bounds that the two have against the definition.
TEST_P(AttentionCuda, FollowsTheHost) {
  SKIP_WITHOUT_GPU();
  Case c({1, 66, 2, 1, 64}, GetParam());
  for (Device* device : {&host(), &cuda()}) {
    c.forward(*device);
    c.backward(*device);
  }
  const Expected expected(c);
  const double stored = unit_roundoff(GetParam()), relative = relative_bound(c.s, expected.score_terms);
  expect_close(
      c.out.from_cuda(), to_doubles(c.out.host().view()),
      [&](Index r, Index col) {
        return (2 * relative + stored) * expected.out_terms(r, col) + 2 * stored * std::abs(expected.out(r, col)) +
               1e-30;
      },
      "out");
  expect_close(
      c.dfused.from_cuda(), to_doubles(c.dfused.host().view()),
      [&](Index r, Index col) {
        return (2 * relative + 5 * stored) * expected.gradient_terms(r, col) +
               2 * stored * std::abs(expected.gradient(r, col)) + 1e-30;
      },
      "dq, dk, dv");
}

TEST_P(AttentionCuda, NeedsNoLogSum) {
  SKIP_WITHOUT_GPU();
  Case with({1, 40, 2, 2, 16}, GetParam()), without(with.s, GetParam());
  with.forward(cuda());
  without.forward(cuda(), false);
  const ConstMatrix a = with.out.from_cuda(), b = without.out.from_cuda();
  EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0);
}

// Queries of zero: every key has the same weight, and rows of 1, 2, 4, ... keys average small whole numbers exactly.
TEST_P(AttentionCuda, EqualScoresAverageTheValues) {
  SKIP_WITHOUT_GPU();
  Case c({1, 128, 2, 1, 16}, GetParam());
  const Matrix m = c.fused.host();
  for (Index t = 0; t < 128; ++t) {
    for (Index col = 0; col < 32; ++col) set_element(m, t, col, 0.0);
    for (Index d = 0; d < 16; ++d) set_element(m, t, c.first_value() + d, static_cast<double>((t + d) % 2));
  }
  c.fused.send();
  c.forward(cuda());
  const ConstMatrix out = c.out.from_cuda(), log_sum = c.log_sum.from_cuda();
  for (Index keys = 1; keys <= 128; keys *= 2) {
    for (Index col = 0; col < 32; ++col) {
      const double expected = keys == 1 ? static_cast<double>(col % 2) : 0.5;
      EXPECT_EQ(element(out, keys - 1, col), expected) << keys << " keys, column " << col;
    }
    EXPECT_NEAR(element(log_sum, 0, keys - 1), std::log(static_cast<double>(keys)), 4 * kFloatEpsilon * 8) << keys;
  }
}

TEST_P(AttentionCuda, FirstTokenCopiesItsValue) {
  SKIP_WITHOUT_GPU();
  Case c({2, 3, 2, 2, 8}, GetParam());
  c.forward(cuda());
  const ConstMatrix out = c.out.from_cuda();
  for (const Index r : {0, 3}) {
    for (Index col = 0; col < 16; ++col) EXPECT_EQ(element(out, r, col), c.fused.host()(r, c.first_value() + col));
  }
}

// Scores around +-1000: only differences to the row's maximum may be exponentiated.
TEST_P(AttentionCuda, LargeScoresStayFinite) {
  SKIP_WITHOUT_GPU();
  Case c({1, 100, 1, 1, 16}, GetParam(), 0, 16.0);
  c.forward(cuda());
  c.backward(cuda());
  const ConstMatrix out = c.out.from_cuda(), gradient = c.dfused.from_cuda();
  for (Index r = 0; r < 100; ++r) {
    for (Index col = 0; col < 16; ++col) EXPECT_TRUE(std::isfinite(element(out, r, col)));
    for (Index col = 0; col < 48; ++col) EXPECT_TRUE(std::isfinite(element(gradient, r, col)));
  }
}

TEST_P(AttentionCuda, NanReachesTheRowsThatSeeIt) {
  SKIP_WITHOUT_GPU();
  Case c({1, 80, 1, 1, 8}, GetParam());
  set_element(c.fused.host(), 40, 8, std::nan(""));  // in k of token 40
  c.fused.send();
  c.forward(cuda());
  const ConstMatrix out = c.out.from_cuda();
  for (Index t = 0; t < 80; ++t) EXPECT_EQ(std::isnan(element(out, t, 0)), t >= 40) << t;
}

TEST_P(AttentionCuda, GivesTheSameBitsEveryTime) {
  SKIP_WITHOUT_GPU();
  Case first({1, 140, 4, 2, 16}, GetParam()), second(first.s, GetParam());
  for (Case* c : {&first, &second}) {
    c->forward(cuda());
    c->backward(cuda());
  }
  expect_same_rows(first.out.from_cuda(), 0, second.out.from_cuda());
  expect_same_rows(first.dfused.from_cuda(), 0, second.dfused.from_cuda());
}

TEST_P(AttentionCuda, ASequenceDependsNeitherOnItsBatchNorOnItsLayout) {
  SKIP_WITHOUT_GPU();
  Case both({2, 70, 2, 2, 16}, GetParam()), alone({1, 70, 2, 2, 16}, GetParam(), 3);
  for (Index r = 0; r < 70; ++r) {
    for (Index col = 0; col < alone.width(); ++col)
      set_element(alone.fused.host(), r, col, both.fused.host()(70 + r, col));
    for (Index col = 0; col < 32; ++col) set_element(alone.dout.host(), r, col, both.dout.host()(70 + r, col));
  }
  alone.fused.send();
  alone.dout.send();
  for (Case* c : {&both, &alone}) {
    c->forward(cuda());
    c->backward(cuda());
  }
  expect_same_rows(both.out.from_cuda(), 70, alone.out.from_cuda());
  expect_same_rows(both.dfused.from_cuda(), 70, alone.dfused.from_cuda());
}

TEST_P(AttentionCuda, NothingIsDoneForNothing) {
  SKIP_WITHOUT_GPU();
  for (const AttentionShape& s :
       {AttentionShape{0, 5, 2, 2, 8}, AttentionShape{2, 0, 2, 2, 8}, AttentionShape{2, 5, 0, 0, 8}}) {
    Case c(s, GetParam());
    c.forward(cuda());
    c.backward(cuda());
  }
  cuda().synchronize();
}

// What no kernel is made for is refused before anything is launched, and by a plan for a GPU alike; not by the host.
TEST_P(AttentionCuda, RefusesWhatNoKernelIsMadeFor) {
  SKIP_WITHOUT_GPU();
  const std::unique_ptr<Device> plan = make_meta_device(DeviceKind::cuda), host_plan = make_meta_device();
  Case wide({1, 2, 1, 1, kLargestCudaHead + 1}, GetParam());
  for (Device* device : {&cuda(), plan.get()}) {
    EXPECT_THROW(wide.forward(*device), Error);
    EXPECT_THROW(wide.backward(*device), Error);
  }
  wide.forward(*host_plan);
  wide.backward(*host_plan);
  Case widest({1, 2, 1, 1, kLargestCudaHead}, GetParam());
  widest.forward(*plan);
  widest.backward(*plan);
}

TEST_P(AttentionCuda, APlanRefusesMoreRowsThanAreCounted) {
  const std::unique_ptr<Device> plan = make_meta_device(DeviceKind::cuda);
  const auto forward = [&](Index batch) {  // of operands that are never read
    const AttentionShape s{batch, Index{1} << 20, 2, 2, 1};
    const Matrix m{nullptr, GetParam(), s.rows(), 2, 2};
    attention(*plan, AttentionForward{s, m, m, m, m, Matrix()});
  };
  forward(512);
  EXPECT_THROW(forward(513), Error);
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionCuda, testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace lorashard::kernels
