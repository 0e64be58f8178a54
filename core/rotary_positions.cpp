#include "core/rotary_positions.hpp"

#include <cmath>
#include <numbers>

#include "core/host_copy.hpp"
#include "kernels/rotary.hpp"

namespace lorashard::core {
namespace {

// How much of a pair's frequency is left as it is, from 0 (all stretched) to 1.
using Kept = double (*)(const ModelShape& shape, Index pair, double frequency);

double kept_llama3(const ModelShape& shape, Index, double frequency) {
  const RopeShape& rope = shape.rope;
  const double turns = static_cast<double>(rope.original_context) * frequency / (2 * std::numbers::pi);
  return std::clamp((turns - rope.low) / (rope.high - rope.low), 0.0, 1.0);
}

// The pair, as a real number, that turns `turns` times within the original context.
double pair_of_turns(const ModelShape& shape, double turns) {
  const double context = static_cast<double>(shape.rope.original_context);
  return static_cast<double>(shape.head_size()) * std::log(context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(shape.rope.theta));
}

double kept_yarn(const ModelShape& shape, Index pair, double) {
  const double last = static_cast<double>(shape.head_size() - 1);
  const double first = std::max(std::floor(pair_of_turns(shape, shape.rope.high)), 0.0);
  double end = std::min(std::ceil(pair_of_turns(shape, shape.rope.low)), last);
  if (first == end) end += 0.001;
  return 1 - std::clamp((static_cast<double>(pair) - first) / (end - first), 0.0, 1.0);
}

double kept_nothing(const ModelShape&, Index, double) { return 0; }

}  // namespace

std::vector<double> rotary_frequencies(const ModelShape& shape) {
  const RopeShape& rope = shape.rope;
  const Kept kept = rope.scaling == RopeScaling::llama3 ? kept_llama3
                    : rope.scaling == RopeScaling::yarn ? kept_yarn
                                                        : kept_nothing;
  const double factor = rope.scaling == RopeScaling::none ? 1 : rope.factor;
  std::vector<double> frequencies;
  for (Index pair = 0; pair < shape.head_size() / 2; ++pair) {
    const double share = static_cast<double>(2 * pair) / static_cast<double>(shape.head_size());
    const double frequency = std::pow(rope.theta, -share), keep = kept(shape, pair, frequency);
    frequencies.push_back(keep * frequency + (1 - keep) * frequency / factor);
  }
  return frequencies;
}

double rotary_magnitude(const RopeShape& rope) {
  if (rope.scaling != RopeScaling::yarn) return 1;
  if (rope.attention_factor != 0) return rope.attention_factor;
  return rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
}

RotaryPositions::RotaryPositions(const Context& context)
    : context_(context),
      frequencies_(context.device, Category::base, DType::f32, 1, context.shape.head_size() / 2),
      magnitude_(static_cast<float>(rotary_magnitude(context.shape.rope))) {
  const std::vector<double> exact = rotary_frequencies(context.shape);
  fill_from_host(context.device, frequencies_, [&](Matrix host) { std::copy(exact.begin(), exact.end(), host.row<float>(0)); });
}

void RotaryPositions::turn(Matrix qk, const Microbatch& microbatch, bool backward) const {
  const ModelShape& shape = context_.shape;
  kernels::rotary(context_.device,
                  {.x = qk, .y = qk, .frequencies = frequencies_, .head_size = shape.head_size(), .length = microbatch.length,
                   .positions = microbatch.positions,
                   .pairs = shape.rope.neighbours ? kernels::RotaryPairs::neighbours : kernels::RotaryPairs::halves,
                   .magnitude = magnitude_, .backward = backward});
}

}  // namespace lorashard::core
