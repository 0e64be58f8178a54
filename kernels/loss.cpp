#include "kernels/loss.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

// An exponential counts as ten.
constexpr double kSumsFlops = 13, kGradientFlops = 13;

void expect_labels(const char* operation, const Labels& labels, const ConstMatrix& logits) {
  if (static_cast<Index>(labels.size()) != logits.rows) {
    fail(Failure::configuration, text(operation, ": ", labels.size(), " labels for logits of ", extents(logits)));
  }
}

}  // namespace

void shard_maximum(Device& device, ConstMatrix logits, Matrix maximum) {
  expect_dtype("shard_maximum", "logits", logits, DType::f32);
  expect_f32("shard_maximum", "maximum", maximum, logits.rows, 1);
  const Operation run(device, Phase::loss, {1.0 * logits.count(), moved_bytes(logits, maximum)});
  if (run.host()) shard_maximum_host(logits, maximum);
  if (run.cuda()) shard_maximum_cuda(device, logits, maximum);
}

void shard_sums(Device& device, const ShardSums& args) {
  expect_dtype("shard_sums", "logits", args.logits, DType::f32);
  expect_labels("shard_sums", args.labels, args.logits);
  expect_f32("shard_sums", "maximum", args.maximum, args.logits.rows, 1);
  expect_f32("shard_sums", "sums", args.sums, args.logits.rows, 3);
  const Operation run(device, Phase::loss,
                      {kSumsFlops * args.logits.count(), moved_bytes(args.logits, args.maximum, args.sums)});
  if (run.host()) shard_sums_host(args);
  if (run.cuda()) shard_sums_cuda(device, args);
}

void loss_and_gradient(Device& device, const LossAndGradient& args) {
  const Matrix& logits = args.logits;
  expect_dtype("loss_and_gradient", "logits", logits, DType::f32);
  expect_labels("loss_and_gradient", args.labels, logits);
  expect_f32("loss_and_gradient", "maximum", args.maximum, logits.rows, 1);
  expect_f32("loss_and_gradient", "sums", args.sums, logits.rows, 3);
  expect_f32("loss_and_gradient", "losses", args.losses, logits.rows, 1);
  if (args.vocab < args.first + logits.cols || args.vocab < 1) {
    fail(Failure::configuration, text("loss_and_gradient: a shard of ", logits.cols, " columns from ", args.first,
                                      " in a vocabulary of ", args.vocab));
  }
  Cost cost{5.0 * logits.rows, moved_bytes(args.maximum, args.sums, args.losses)};
  if (args.gradient) {
    cost.flops += kGradientFlops * logits.count();
    cost.bytes += moved_bytes(logits, logits);
  }
  const Operation run(device, Phase::loss, cost);
  if (run.host()) loss_and_gradient_host(args);
  if (run.cuda()) loss_and_gradient_cuda(device, args);
}

void add_sum(Device& device, ConstMatrix m, Matrix total) {
  expect_dtype("add_sum", "m", m, DType::f32);
  expect_f64("add_sum", "total", total, 1, 1);
  const Operation run(device, Phase::loss, {1.0 * m.count(), moved_bytes(m, total, total)});
  const Buffer scratch = cuda_scratch(device, sum_cuda_scratch(m));
  if (run.host()) add_sum_host(m, total);
  if (run.cuda()) add_sum_cuda(device, m, total, scratch.data());
}

}  // namespace lorashard::kernels
