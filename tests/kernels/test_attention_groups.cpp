// Grouped heads that are cut over ranks in the middle of a group, and windows.
#include "attention_case.hpp"

namespace lorashard::kernels {
namespace {

AttentionShape with_window(AttentionShape s, Index window) {
  s.window = window;
  return s;
}

TEST(AttentionGroups, CutGroupsMatchTheDefinition) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    expect_as_defined({1, 70, 2, 1, 8, 4, 1}, dtype);   // the middle of one group
    expect_as_defined({2, 66, 3, 2, 16, 4, 2}, dtype);  // the end of one, the start of the next
    expect_as_defined({1, 20, 5, 3, 4, 2, 1}, dtype);   // the end, two whole ones
    expect_as_defined({2, 30, 4, 2, 12, 3, 0}, dtype);  // a whole one, the start of the next
  }
}

// Windows below, at and above a tile, not a multiple of one, of a single token, and wider than the sequence.
TEST(AttentionGroups, WindowsMatchTheDefinition) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Index window : {1, 2, 5, 63, 64, 65, 100, 128, 129, 199, 200, 500}) {
      expect_as_defined(with_window({1, 200, 2, 1, 8}, window), dtype);
    }
    expect_as_defined(with_window({2, 130, 3, 2, 20, 4, 2}, 70), dtype);
  }
}

TEST(AttentionGroups, AWindowOfOneCopiesTheValues) {
  Case c(with_window({2, 90, 2, 2, 4}, 1), DType::f32);
  c.forward(*make_host_device(2));
  for (Index r = 0; r < 180; ++r) {
    for (Index col = 0; col < 8; ++col) ASSERT_EQ(c.out(r, col), c.fused(r, 16 + col)) << r;
  }
}

// Equal scores: a row of 2^n visible keys averages small whole numbers exactly, wherever its window begins.
TEST(AttentionGroups, EqualScoresAverageTheWindow) {
  for (const Index window : {2, 32, 64, 128}) {
    Case c(with_window({1, 256, 1, 1, 2}, window), DType::f32);
    for (Index t = 0; t < 256; ++t) {
      for (Index d = 0; d < 2; ++d) {
        set_element(c.fused, t, d, 0.0);
        set_element(c.fused, t, 4 + d, static_cast<double>(t));
      }
    }
    c.forward(*make_host_device(2));
    for (Index t = window - 1; t < 256; ++t) {
      ASSERT_EQ(c.out(t, 0), static_cast<double>(t) - 0.5 * static_cast<double>(window - 1)) << window << " " << t;
    }
  }
}

TEST(AttentionGroups, AWindowThatHoldsAllChangesNothing) {
  Case all({2, 150, 2, 1, 16}, DType::f32), window(with_window(all.s, 150), DType::f32);
  const auto device = make_host_device(2);
  for (Case* c : {&all, &window}) {
    c->forward(*device);
    c->backward(*device);
  }
  EXPECT_EQ(all.out.image(), window.out.image());
  EXPECT_EQ(all.dfused.image(), window.dfused.image());
}

// What lies outside of every row's window is never read: NaN there stays there.
TEST(AttentionGroups, NanReachesTheWindowAlone) {
  Case c(with_window({1, 300, 1, 1, 8}, 70), DType::f32);
  set_element(c.fused, 40, 8, std::nan(""));  // in k of token 40
  c.forward(*make_host_device(2));
  for (Index t = 0; t < 300; ++t) EXPECT_EQ(std::isnan(c.out(t, 0)), t >= 40 && t < 110) << t;
}

// 6 heads of 2 groups on three ranks: each rank's part, bit for bit, and key gradients that add up.
TEST(AttentionGroups, RanksMakeWhatOneRankMakes) {
  const Index length = 70, size = 8, width = 2 * size;
  Case whole(with_window({1, length, 6, 2, size}, 50), DType::f32);
  const auto device = make_host_device(2);
  whole.forward(*device);
  whole.backward(*device);
  Doubles dkv(length, 4 * size), terms(length, 4 * size);
  for (Index rank = 0; rank < 3; ++rank) {
    const Index first = rank * 2, first_kv = first / 3, kv_heads = (first + 1) / 3 - first_kv + 1;
    Case part({1, length, 2, kv_heads, size, 3, first % 3, 50}, DType::f32);
    for (Index t = 0; t < length; ++t) {
      for (Index col = 0; col < width; ++col) {
        set_element(part.fused, t, col, whole.fused(t, first * size + col));
        set_element(part.dout, t, col, whole.dout(t, first * size + col));
      }
      for (Index col = 0; col < kv_heads * size; ++col) {
        for (Index m = 0; m < 2; ++m) {  // k, v
          set_element(part.fused, t, width + m * kv_heads * size + col,
                      whole.fused(t, (6 + 2 * m + first_kv) * size + col));
        }
      }
    }
    part.forward(*device);
    part.backward(*device);
    for (Index t = 0; t < length; ++t) {
      for (Index col = 0; col < width; ++col) {
        ASSERT_EQ(part.out(t, col), whole.out(t, first * size + col)) << rank;
        ASSERT_EQ(part.dfused(t, col), whole.dfused(t, first * size + col)) << rank;
      }
      for (Index col = 0; col < kv_heads * size; ++col) {
        for (Index m = 0; m < 2; ++m) {
          const double gradient = part.dfused(t, width + m * kv_heads * size + col);
          dkv(t, (2 * m + first_kv) * size + col) += gradient;
          terms(t, (2 * m + first_kv) * size + col) += std::abs(gradient);
        }
      }
    }
  }
  // A rank's sum, of up to 3 heads, is rounded where the whole one goes on: as many roundings as there are terms.
  Expected expected(whole);
  expect_close(
      whole.dfused.view().col_range(6 * size, 4 * size), dkv,
      [&](Index r, Index c) {
        return 3 * length * kFloatEpsilon * (terms(r, c) + expected.gradient_terms(r, 6 * size + c));
      },
      "dk, dv");
}

TEST(AttentionGroups, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Case c({2, 150, 5, 3, 24, 2, 1, 90}, DType::bf16);
    c.forward(device);
    c.backward(device);
    auto bytes = c.out.image();
    bytes.insert(bytes.end(), c.dfused.image().begin(), c.dfused.image().end());
    return bytes;
  });
}

// Visible pairs counted one by one.
TEST(AttentionGroups, CostsVisiblePairs) {
  for (const Index window : {0, 1, 3, 9, 10, 11}) {
    const AttentionShape s = with_window({2, 10, 3, 2, 8, 2, 0}, window);
    double pairs = 0;
    for (Index t = 0; t < 10; ++t) {
      for (Index key = 0; key <= t; ++key) pairs += 2 * 3 * (window == 0 || key > t - window);
    }
    const auto plan = make_meta_device();
    const Matrix q{nullptr, DType::f32, 20, 24, 24}, k{nullptr, DType::f32, 20, 16, 16};
    const Matrix log_sum{nullptr, DType::f32, 3, 20, 20};
    attention(*plan, AttentionForward{s, q, k, k, q, log_sum});
    EXPECT_EQ(plan->profile().entry(Phase::attention).flops, 4.0 * 8 * pairs) << window;
    attention(*plan, AttentionBackward{s, q, k, k, q, log_sum, q, q, k, k});
    EXPECT_EQ(plan->profile().entry(Phase::attention).flops, 14.0 * 8 * pairs) << window;
  }
}

TEST(AttentionGroups, RefusesGroupsThatDoNotFit) {
  const auto plan = make_meta_device();
  const auto refusal = [&](AttentionShape s) -> std::string {
    const Matrix q{nullptr, DType::f32, s.rows(), s.heads * s.head_size, 0};
    const Matrix k{nullptr, DType::f32, s.rows(), s.kv_heads * s.head_size, 0};
    try {
      attention(*plan, AttentionForward{s, q, k, k, q, {}});
    } catch (const Error& error) {
      EXPECT_EQ(error.failure(), Failure::configuration);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal({1, 4, 5, 3, 4, 2, 1}), "");
  EXPECT_EQ(refusal({1, 4, 5, 2, 4, 2, 1}),
            "attention: heads 5, key/value heads 2, group 2, skew 1; expected 0 <= skew < group and key/value heads = "
            "ceil((skew + heads) / group)");
  EXPECT_NE(refusal({1, 4, 5, 4, 4, 2, 1}), "");
  EXPECT_NE(refusal({1, 4, 5, 3, 4, 2, 2}), "");
  EXPECT_NE(refusal({1, 4, 5, 3, 4, 2, -1}), "");
  EXPECT_NE(refusal({1, 4, 4, 2, 4, 0, 1}), "");
  EXPECT_NE(refusal({1, 4, 4, 2, 4, -2, 0}), "");
  EXPECT_NE(refusal({1, 4, 5, 2, 4}), "");
  EXPECT_NE(refusal({1, 4, 4, 2, 4, 2, 0, -1}), "");
  EXPECT_EQ(refusal({1, 4, 0, 0, 4, 2, 0, 3}), "");
}

}  // namespace
}  // namespace lorashard::kernels
