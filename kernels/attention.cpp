#include "kernels/attention.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

void expect_cuda_shape(const char* operation, const AttentionShape& s) {
  if (s.head_size > kLargestCudaHead) {
    fail(Failure::configuration,
         text(operation, ": head size ", s.head_size, " on cuda; expected at most ", kLargestCudaHead));
  }
  if (s.rows() * s.heads > kMostCudaRows) {
    fail(Failure::configuration, text(operation, ": batch ", s.batch, ", length ", s.length, ", heads ", s.heads,
                                      " on cuda; expected a product of at most ", kMostCudaRows));
  }
}

// G == ceil((skew + H) / group), where the group is H / G if it is not given.
bool groups_fit(const AttentionShape& s) {
  if (s.kv_heads < 1) return false;
  if (s.group == 0) return s.skew == 0 && s.heads % s.kv_heads == 0;
  return s.group > 0 && s.skew >= 0 && s.skew < s.group && s.kv_head(s.heads - 1) == s.kv_heads - 1;
}

void expect_shape(const char* operation, const Device& device, const AttentionShape& s) {
  const bool empty = s.batch == 0 || s.length == 0 || s.heads == 0;
  if (s.batch < 0 || s.length < 0 || s.heads < 0 || s.head_size < 1 || s.window < 0) {
    fail(Failure::configuration,
         text(operation, ": batch ", s.batch, ", length ", s.length, ", heads ", s.heads, ", head size ", s.head_size,
              ", window ", s.window, "; expected a head size of 1 or more and none below 0"));
  }
  if (!empty && !groups_fit(s)) {
    const std::string group = s.group == 0 ? "heads / key/value heads" : text(s.group);
    fail(Failure::configuration,
         text(operation, ": heads ", s.heads, ", key/value heads ", s.kv_heads, ", group ", group, ", skew ", s.skew,
              "; expected 0 <= skew < group and key/value heads = ceil((skew + heads) / group)"));
  }
  if (device.target() == DeviceKind::cuda) expect_cuda_shape(operation, s);
}

void expect_queries(const char* operation, const char* operand, const AttentionShape& s, const ConstMatrix& m,
                    DType dtype) {
  expect_extents(operation, operand, m, s.rows(), s.heads * s.head_size);
  expect_dtype(operation, operand, m, dtype);
}

void expect_keys(const char* operation, const char* operand, const AttentionShape& s, const ConstMatrix& m,
                 DType dtype) {
  expect_extents(operation, operand, m, s.rows(), s.kv_heads * s.head_size);
  expect_dtype(operation, operand, m, dtype);
}

// A row's queries see 1, 2, ... keys until they see a whole window.
double visible_pairs(const AttentionShape& s) {
  const auto heads = static_cast<double>(s.batch * s.heads), span = static_cast<double>(s.span());
  return heads * (0.5 * span * (span + 1) + span * static_cast<double>(s.length - s.span()));
}

}  // namespace

void attention(Device& device, const AttentionForward& args) {
  const AttentionShape& s = args.shape;
  expect_shape("attention", device, s);
  expect_queries("attention", "q", s, args.q, args.q.dtype);
  expect_keys("attention", "k", s, args.k, args.q.dtype);
  expect_keys("attention", "v", s, args.v, args.q.dtype);
  expect_queries("attention", "out", s, args.out, args.q.dtype);
  if (!args.log_sum.empty()) expect_f32("attention", "log_sum", args.log_sum, s.heads, s.rows());
  const Operation run(
      device, Phase::attention,
      {4.0 * s.head_size * visible_pairs(s), moved_bytes(args.q, args.k, args.v, args.out, args.log_sum)});
  if (run.host()) attention_host(args);
  if (run.cuda()) attention_cuda(device, args);
}

void attention(Device& device, const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  const DType dtype = args.q.dtype;
  expect_shape("attention backward", device, s);
  expect_queries("attention backward", "q", s, args.q, dtype);
  expect_keys("attention backward", "k", s, args.k, dtype);
  expect_keys("attention backward", "v", s, args.v, dtype);
  expect_queries("attention backward", "out", s, args.out, dtype);
  expect_f32("attention backward", "log_sum", args.log_sum, s.heads, s.rows());
  expect_queries("attention backward", "dout", s, args.dout, dtype);
  expect_queries("attention backward", "dq", s, args.dq, dtype);
  expect_keys("attention backward", "dk", s, args.dk, dtype);
  expect_keys("attention backward", "dv", s, args.dv, dtype);
  const Operation run(
      device, Phase::attention,
      {10.0 * s.head_size * visible_pairs(s),
       moved_bytes(args.q, args.k, args.v, args.out, args.log_sum, args.dout, args.dq, args.dk, args.dv)});
  const Buffer scratch = cuda_scratch(device, attention_cuda_scratch(args));
  if (run.host()) attention_host(args);
  if (run.cuda()) attention_cuda(device, args, scratch.data());
}

void attention(Device& device, const AttentionStep& args) {
  const AttentionShape& s = args.shape;
  const char* operation = "attention step";
  expect_shape(operation, device, s);
  expect_extents(operation, "q", args.q, s.batch, s.heads * s.head_size);
  expect_extents(operation, "out", args.out, s.batch, s.heads * s.head_size);
  expect_keys(operation, "keys", s, args.keys, args.keys.dtype);
  expect_keys(operation, "values", s, args.values, args.values.dtype);
  if (static_cast<Index>(args.lengths.size()) != s.batch) {
    fail(Failure::configuration,
         text(operation, ": ", args.lengths.size(), " lengths, expected one for each of ", s.batch, " sequences"));
  }
  const ConstMatrix seen_keys = args.keys.row_range(0, s.batch * s.span()),
                    seen_values = args.values.row_range(0, s.batch * s.span());
  const double pairs = static_cast<double>(s.batch * s.heads) * static_cast<double>(s.span());
  const Operation run(device, Phase::attention,
                      {4.0 * s.head_size * pairs, static_cast<double>(args.lengths.size_bytes()) +
                                                      moved_bytes(args.q, seen_keys, seen_values, args.out)});
  const Buffer scratch = cuda_scratch(device, attention_cuda_scratch(args));
  if (run.host()) attention_host(args);
  if (run.cuda()) attention_cuda(device, args, scratch.data());
}

}  // namespace lorashard::kernels
