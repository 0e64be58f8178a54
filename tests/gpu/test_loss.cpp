// Cross-entropy on the cuda device against the host's meaning, over shards of the vocabulary.
#include "kernels/loss.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

struct Case {
  Index rows, vocab;
  float smoothing, scale = 0.25f;
  Twin logits;
  std::vector<std::int32_t> labels;
  Integers device_labels;
  Twin losses, maximum, sums;

  Case(Index rows, Index vocab, float smoothing, Index gap = 0, double size = 3.0)
      : rows(rows),
        vocab(vocab),
        smoothing(smoothing),
        logits(DType::f32, rows, vocab, gap),
        labels(some_labels(rows, vocab)),
        device_labels(cuda(), Category::workspace, labels),
        losses(DType::f32, rows, 1, 1),
        maximum(DType::f32, rows, 1),
        sums(DType::f32, rows, 3) {
    logits.normals(1, size);
  }
  static std::vector<std::int32_t> some_labels(Index rows, Index vocab) {
    std::vector<std::int32_t> labels(rows);
    for (Index r = 0; r < rows; ++r) {
      labels[r] = r % 4 == 3 ? kUnscored : static_cast<std::int32_t>(philox({1, 1}, r)[0] % vocab);
    }
    return labels;
  }

  // All three steps on one device; the reductions between them are done by the host, as the tensor axis would.
  void run(Device& device, const std::vector<Index>& starts, bool gradient = true) {
    const Labels at = device.kind() == DeviceKind::host ? Labels(labels) : device_labels.view();
    const auto shard = [&](std::size_t i) {
      const Index end = i + 1 < starts.size() ? starts[i + 1] : vocab;
      return logits.on(device).col_range(starts[i], end - starts[i]);
    };
    Twin part(DType::f32, rows, 1), parts(DType::f32, rows, 3);
    maximum.fill(-std::numeric_limits<double>::infinity());
    sums.fill(0.0);
    const auto result = [&](Twin& t) { return &device == &cuda() ? t.from_cuda() : ConstMatrix(t.host().view()); };
    for (std::size_t i = 0; i < starts.size(); ++i) {
      shard_maximum(device, shard(i), part.on(device));
      const ConstMatrix m = result(part);
      for (Index r = 0; r < rows; ++r) {
        set_element(maximum.host(), r, 0, std::max(maximum.host()(r, 0), element(m, r, 0)));
      }
    }
    maximum.send();
    for (std::size_t i = 0; i < starts.size(); ++i) {
      shard_sums(device, {shard(i), at, starts[i], maximum.on(device), parts.on(device)});
      const ConstMatrix s = result(parts);
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < 3; ++c) set_element(sums.host(), r, c, sums.host()(r, c) + element(s, r, c));
      }
    }
    sums.send();
    for (std::size_t i = 0; i < starts.size(); ++i) {
      loss_and_gradient(device, {shard(i), at, starts[i], vocab, smoothing, scale, maximum.on(device), sums.on(device),
                                 losses.on(device), gradient});
    }
  }
};

void check(Index rows, Index vocab, Index gap, float smoothing, const std::vector<Index>& starts) {
  SCOPED_TRACE(text(rows, "x", vocab, " gap ", gap, " smoothing ", smoothing, " shards ", starts.size()));
  Case c(rows, vocab, smoothing, gap), again(rows, vocab, smoothing, gap);
  const Doubles z = to_doubles(c.logits.host());
  c.run(host(), starts);
  const Doubles host_sums = to_doubles(c.sums.host()), host_maximum = to_doubles(c.maximum.host());
  c.run(cuda(), starts);
  again.run(cuda(), starts);
  EXPECT_EQ(again.logits.bytes(), c.logits.bytes());
  EXPECT_EQ(again.losses.bytes(), c.losses.bytes());
  for (Index r = 0; r < rows; ++r) {
    ASSERT_EQ(c.maximum.host()(r, 0), host_maximum(r, 0));
    ASSERT_EQ(c.sums.host()(r, 1), host_sums(r, 1)) << "the label's logit";
  }
  // Each device's sum of exponentials: at most 64 terms after one another in float, each within 2 roundings and the
  // argument's |z - max| <= 30; shards meet in float. The host's figure bounds this device's, which adds four.
  const double of_sum = 2 * (64 + 5 + 2 + 30 + static_cast<double>(starts.size()) + 1) * kFloatEpsilon;
  std::vector<double> log_sum(rows), size(rows);
  for (Index r = 0; r < rows; ++r) {
    double sum = 0;
    for (Index v = 0; v < vocab; ++v) {
      sum += std::exp(z(r, v) - host_maximum(r, 0));
      size[r] += std::abs(z(r, v));
    }
    log_sum[r] = host_maximum(r, 0) + std::log(sum);
  }
  const double e = smoothing;
  c.losses.expect_near(
      [&](Index r, Index) {
        const double label = std::abs(host_sums(r, 1)), loss = std::abs(c.losses.host()(r, 0));
        return of_sum + 2 * kFloatEpsilon * (loss + 2 * label) + of_sum * e / static_cast<double>(vocab) * size[r];
      },
      "losses");
  c.logits.expect_near(
      [&](Index r, Index v) {
        if (c.labels[r] == kUnscored) return 1e-300;
        const double p = std::exp(z(r, v) - log_sum[r]);
        const double target = (1 - e) * (v == c.labels[r]) + e / static_cast<double>(vocab);
        return c.scale * (2 * of_sum * p + 8 * kFloatEpsilon * target) + 1e-12;
      },
      "gradient");
}

TEST(CudaLoss, MatchesTheHost) {
  SKIP_WITHOUT_GPU();
  for (const float smoothing : {0.0f, 0.1f}) {
    check(9, 1, 0, smoothing, {0});
    check(9, 3, 1, smoothing, {0});
    check(9, 37, 0, smoothing, {0});  // rows begin at every place in 16 bytes
    check(5, 257, 2, smoothing, {0});
    check(6, 1028, 4, smoothing, {0});
    check(5, 3001, 0, smoothing, {0});
    check(5, 3000, 0, smoothing, {0, 1000, 1001});
    check(8, 50, 0, smoothing, {0, 25, 50});  // the last shard owns no column
  }
}

TEST(CudaLoss, AFullVocabularyKeepsItsDigits) {
  SKIP_WITHOUT_GPU();
  check(3, 50257, 0, 0.0f, {0});
}

TEST(CudaLoss, EqualLogitsAreExact) {
  SKIP_WITHOUT_GPU();
  Case c(4, 64, 0.0f);
  c.logits.fill(5.0);
  c.run(cuda(), {0});
  const ConstMatrix gradient = c.logits.from_cuda();
  EXPECT_EQ(element(c.losses.from_cuda(), 0, 0), static_cast<float>(std::log(64.0)));
  for (Index v = 0; v < 64; ++v) EXPECT_EQ(element(gradient, 0, v), 0.25 * (1.0 / 64 - (v == c.labels[0])));
}

TEST(CudaLoss, HugeLogitsStayFinite) {
  SKIP_WITHOUT_GPU();
  Case c(4, 101, 0.1f, 0, 1e4);
  c.run(cuda(), {0, 40});
  const ConstMatrix gradient = c.logits.from_cuda();
  for (Index v = 0; v < 101; ++v) EXPECT_TRUE(std::isfinite(element(gradient, 0, v)));
  EXPECT_TRUE(std::isfinite(element(c.losses.from_cuda(), 0, 0)));
}

TEST(CudaLoss, NanReachesItsRowOnly) {
  SKIP_WITHOUT_GPU();
  Case c(3, 101, 0.0f);
  set_element(c.logits.host(), 1, 99, std::nan(""));
  c.logits.send();
  c.run(cuda(), {0});
  const ConstMatrix losses = c.losses.from_cuda();
  EXPECT_TRUE(std::isfinite(element(losses, 0, 0)));
  EXPECT_TRUE(std::isnan(element(losses, 1, 0)));
  EXPECT_TRUE(std::isfinite(element(losses, 2, 0)));
}

TEST(CudaLoss, WithoutGradientTheLogitsStay) {
  SKIP_WITHOUT_GPU();
  Case with(7, 90, 0.1f), without(7, 90, 0.1f);
  with.run(cuda(), {0});
  without.run(cuda(), {0}, false);
  EXPECT_EQ(with.losses.bytes(), without.losses.bytes());
  without.logits.expect_same("logits");
}

TEST(CudaLoss, NoRowsIsNothingAndNoColumnsHaveNoMaximum) {
  SKIP_WITHOUT_GPU();
  Case none(0, 9, 0.0f);
  none.run(cuda(), {0});
  Twin logits(DType::f32, 3, 0), maximum(DType::f32, 3, 1);
  shard_maximum(cuda(), logits.on(cuda()), maximum.on(cuda()));
  for (Index r = 0; r < 3; ++r) EXPECT_EQ(element(maximum.from_cuda(), r, 0), -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace lorashard::kernels
