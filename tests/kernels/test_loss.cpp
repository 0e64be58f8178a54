#include "kernels/loss.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

struct Case {
  Index rows, vocab;
  float smoothing, scale = 0.25f;
  Sample logits;
  std::vector<std::int32_t> labels;
  Sample losses;

  Case(Index rows, Index vocab, float smoothing, double size = 3.0)
      : rows(rows),
        vocab(vocab),
        smoothing(smoothing),
        logits(DType::f32, rows, vocab, 2),
        losses(DType::f32, rows, 1) {
    logits.normals(1, size);
    for (Index r = 0; r < rows; ++r) {
      labels.push_back(r % 4 == 3 ? kUnscored : static_cast<std::int32_t>(philox({1, 1}, r)[0] % vocab));
    }
  }

  // All three steps over shards that start at the given columns, with the reductions between them done here as the
  // tensor axis would.
  void run(Device& device, const std::vector<Index>& starts, bool gradient = true) {
    Sample maximum(DType::f32, rows, 1), sums(DType::f32, rows, 3), part(DType::f32, rows, 1),
        parts(DType::f32, rows, 3);
    maximum.fill(-std::numeric_limits<double>::infinity());
    sums.fill(0.0);
    const auto shard = [&](std::size_t i) {
      const Index end = i + 1 < starts.size() ? starts[i + 1] : vocab;
      return logits.view().col_range(starts[i], end - starts[i]);
    };
    for (std::size_t i = 0; i < starts.size(); ++i) {
      shard_maximum(device, shard(i), part);
      for (Index r = 0; r < rows; ++r) set_element(maximum, r, 0, std::max(maximum(r, 0), part(r, 0)));
    }
    for (std::size_t i = 0; i < starts.size(); ++i) {
      shard_sums(device, {shard(i), labels, starts[i], maximum, parts});
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < 3; ++c) set_element(sums, r, c, sums(r, c) + parts(r, c));
      }
    }
    for (std::size_t i = 0; i < starts.size(); ++i) {
      loss_and_gradient(device,
                        {shard(i), labels, starts[i], vocab, smoothing, scale, maximum, sums, losses, gradient});
    }
  }
};

void check(Index rows, Index vocab, float smoothing, const std::vector<Index>& starts) {
  SCOPED_TRACE(text(rows, "x", vocab, " smoothing ", smoothing, " shards ", starts.size()));
  Case c(rows, vocab, smoothing);
  const Doubles z = to_doubles(c.logits);
  c.run(*make_host_device(2), starts);
  const double e = smoothing;
  // A sum of exponentials: 64 per running sum of a block and 5 more, each within 2 roundings and the argument's
  // |z - max| <= 30; blocks meet in double, shards in float.
  const double of_sum = (64 + 5 + 2 + 30 + static_cast<double>(starts.size()) + 1) * kFloatEpsilon;
  for (Index r = 0; r < rows; ++r) {
    double highest = z(r, 0), sum = 0, total = 0, size = 0;
    for (Index v = 0; v < vocab; ++v) highest = std::max(highest, z(r, v));
    for (Index v = 0; v < vocab; ++v) {
      sum += std::exp(z(r, v) - highest);
      total += z(r, v);
      size += std::abs(z(r, v));
    }
    if (c.labels[r] == kUnscored) {
      EXPECT_EQ(c.losses(r, 0), 0.0);
      for (Index v = 0; v < vocab; ++v) ASSERT_EQ(c.logits(r, v), 0.0);
      continue;
    }
    const double log_sum = highest + std::log(sum), loss = log_sum - (1 - e) * z(r, c.labels[r]) - e / vocab * total;
    EXPECT_NEAR(
        c.losses(r, 0), loss,
        of_sum + kFloatEpsilon * (std::abs(loss) + 2 * std::abs(z(r, c.labels[r]))) + of_sum * e / vocab * size);
    for (Index v = 0; v < vocab; ++v) {
      const double p = std::exp(z(r, v) - log_sum), target = (1 - e) * (v == c.labels[r]) + e / vocab;
      ASSERT_NEAR(c.logits(r, v), c.scale * (p - target),
                  c.scale * (2 * of_sum * p + 4 * kFloatEpsilon * target) + 1e-12)
          << r << " " << v;
    }
  }
}

TEST(Loss, MatchesTheDefinition) {
  for (const float smoothing : {0.0f, 0.1f}) {
    check(9, 1, smoothing, {0});
    check(9, 37, smoothing, {0});
    check(5, 3000, smoothing, {0});
    check(5, 3000, smoothing, {0, 1000, 1001});
    check(8, 50, smoothing, {0, 25, 50});  // the last shard owns no column
  }
}

TEST(Loss, AFullVocabularyKeepsItsDigits) { check(3, 50257, 0.0f, {0}); }

TEST(Loss, EqualLogitsAreExact) {
  Case c(4, 64, 0.0f);
  c.logits.fill(5.0);
  c.run(*make_host_device(1), {0});
  EXPECT_EQ(c.losses(0, 0), static_cast<float>(std::log(64.0)));
  for (Index v = 0; v < 64; ++v) EXPECT_EQ(c.logits(0, v), 0.25 * (1.0 / 64 - (v == c.labels[0])));
}

TEST(Loss, HugeLogitsStayFinite) {
  Case c(4, 100, 0.1f, 1e4);
  c.run(*make_host_device(1), {0, 40});
  for (Index v = 0; v < 100; ++v) EXPECT_TRUE(std::isfinite(c.logits(0, v)));
  EXPECT_TRUE(std::isfinite(c.losses(0, 0)));
}

TEST(Loss, NanReachesItsRowOnly) {
  Case c(3, 100, 0.0f);
  set_element(c.logits, 1, 99, std::nan(""));
  c.run(*make_host_device(1), {0});
  EXPECT_TRUE(std::isfinite(c.losses(0, 0)));
  EXPECT_TRUE(std::isnan(c.losses(1, 0)));
  EXPECT_TRUE(std::isfinite(c.losses(2, 0)));
}

TEST(Loss, WithoutGradientTheLogitsStay) {
  Case with(7, 90, 0.1f), without(7, 90, 0.1f), before(7, 90, 0.1f);
  const auto device = make_host_device(1);
  with.run(*device, {0});
  without.run(*device, {0}, false);
  EXPECT_EQ(with.losses.image(), without.losses.image());
  EXPECT_EQ(without.logits.image(), before.logits.image());
}

TEST(Loss, AShardWithoutColumnsHasNoMaximum) {
  Sample logits(DType::f32, 3, 0), maximum(DType::f32, 3, 1);
  shard_maximum(*make_host_device(1), logits, maximum);
  for (Index r = 0; r < 3; ++r) EXPECT_EQ(maximum(r, 0), -std::numeric_limits<double>::infinity());
}

TEST(Sum, IsExactForIntegersAndAddsToTheTotal) {
  const auto device = make_host_device(2);
  Sample m(DType::f32, 70, 1000, 3);
  double expected = 5, total = 5;
  for (Index r = 0; r < 70; ++r) {
    for (Index c = 0; c < 1000; ++c) {
      const double value = (r + c) % 3 == 0 ? 1.0 : 16777216.0;  // 2^24: a float sum would lose the ones
      set_element(m, r, c, value);
      expected += value;
    }
  }
  add_sum(*device, m, view(&total, 1, 1));
  EXPECT_EQ(total, expected);
  add_sum(*device, ConstMatrix(m).row_range(0, 0), view(&total, 1, 1));
  EXPECT_EQ(total, expected);
}

TEST(Loss, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Case c(33, 1500, 0.1f);
    c.run(device, {0, 700});
    auto bytes = c.logits.image();
    bytes.insert(bytes.end(), c.losses.image().begin(), c.losses.image().end());
    double total = 0;
    add_sum(device, c.logits, view(&total, 1, 1));
    const auto* first = reinterpret_cast<const std::byte*>(&total);
    bytes.insert(bytes.end(), first, first + sizeof total);
    return bytes;
  });
}

TEST(Loss, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::loss, [](Device& device) {
    Tensor logits(device, Category::activation, DType::f32, 4, 10),
        sums(device, Category::activation, DType::f32, 4, 3);
    Tensor maximum(device, Category::activation, DType::f32, 4, 1),
        losses(device, Category::activation, DType::f32, 4, 1);
    if (!device.meta()) std::memset(logits.view().data, 0, logits.view().bytes());
    const std::vector<std::int32_t> labels(4, 2);
    const auto bytes = [&] { return device.profile().entry(Phase::loss).bytes; };
    shard_maximum(device, logits, maximum);
    EXPECT_EQ(bytes(), 160 + 16);
    shard_sums(device, {logits, labels, 0, maximum, sums});
    EXPECT_EQ(bytes(), 176 + 160 + 16 + 48);
    loss_and_gradient(device, {logits, labels, 0, 10, 0.0f, 1.0f, maximum, sums, losses});
    EXPECT_EQ(bytes(), 400 + 320 + 16 + 48 + 16);
    double total = 0;
    add_sum(device, losses, view(&total, 1, 1));
    EXPECT_EQ(bytes(), 800 + 16 + 16);
    EXPECT_TRUE(!device.meta() || total == 0.0);
  });
}

TEST(Loss, RefusesWhatDoesNotFit) {
  const auto device = make_host_device(1);
  Sample logits(DType::f32, 4, 10), low(DType::bf16, 4, 10), maximum(DType::f32, 4, 1), sums(DType::f32, 4, 3);
  Sample losses(DType::f32, 4, 1);
  const std::vector<std::int32_t> labels(4, 2), few(3, 2);
  EXPECT_THROW(shard_maximum(*device, low, maximum), Error);
  EXPECT_THROW(shard_sums(*device, {logits, few, 0, maximum, sums}), Error);
  EXPECT_THROW(loss_and_gradient(*device, {logits, labels, 5, 10, 0.0f, 1.0f, maximum, sums, losses}), Error);
  EXPECT_THROW(add_sum(*device, losses, maximum.view().row_range(0, 1)), Error);  // a total is fp64
}

}  // namespace
}  // namespace lorashard::kernels
