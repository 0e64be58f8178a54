// Stands in until attention_step.cpp is there.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/host_loops.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {

void attention(Device& device, const AttentionStep& args) {
  const AttentionShape& s = args.shape;
  const Index seen_most = s.window > 0 ? std::min(s.window, s.length) : s.length;
  const Operation run(device, Phase::attention,
                      {4.0 * static_cast<double>(s.head_size * s.batch * s.heads * seen_most), moved_bytes(args.q, args.keys, args.values, args.out)});
  if (!run.host()) return;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h) {
      const Index d = s.head_size, kv = s.kv_head(h) * d, end = args.lengths[static_cast<std::size_t>(b)];
      const Index first = s.window > 0 ? std::max<Index>(0, end - s.window) : 0;
      std::vector<float> room(static_cast<std::size_t>(d)), q(static_cast<std::size_t>(d)), out(static_cast<std::size_t>(d));
      const float* from = read(args.q, b, h * d, d, q.data());
      std::copy_n(from, d, q.data());
      std::vector<float> p;
      float largest = -HUGE_VALF, sum = 0;
      for (Index t = first; t < end; ++t) {
        const float* k = read(args.keys, b * s.length + t, kv, d, room.data());
        float dot = 0;
        for (Index i = 0; i < d; ++i) dot += q[static_cast<std::size_t>(i)] * k[i];
        p.push_back(dot / std::sqrt(static_cast<float>(d)));
        largest = std::max(largest, p.back());
      }
      for (float& x : p) sum += x = std::exp(x - largest);
      for (Index t = first; t < end; ++t) {
        const float* v = read(args.values, b * s.length + t, kv, d, room.data());
        for (Index i = 0; i < d; ++i) out[static_cast<std::size_t>(i)] += p[static_cast<std::size_t>(t - first)] / sum * v[i];
      }
      write(args.out, b, h * d, d, out.data());
      if (args.out.dtype == DType::f32) std::copy_n(out.data(), d, args.out.row<float>(b) + h * d);
    }
}

}  // namespace lorashard::kernels
