// The planner against the long way: every rank walked, every layout planned whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/layout_bounds.hpp"
#include "core/options.hpp"
#include "core/plan.hpp"
#include "core/walk.hpp"
#include "launch/synthetic_tokens.hpp"

namespace lorashard::core {
namespace {

using dist::MeshExtents;

constexpr Index kVocab = 101, kLength = 32;

Config small_job(Method method) {
  Config config;
  config.model.shape.layers = 4;
  config.model.shape.width = 48;
  config.model.shape.heads = 4;
  config.model.shape.vocab = kVocab;  // no mesh divides it
  config.model.shape.context = kLength;
  config.adapter.method = method;
  config.train.batch = 8;
  config.train.precision = kernels::DType::bf16;
  complete_config(config, nullptr);
  return config;
}

class Planner : public testing::Test {
 protected:
  PlanRequest request(const Config& config, const MeshExtents& extents) const {
    return {config, extents, kernels::DeviceKind::cuda, data_, {}};
  }
  // Memory of a card that has `share` of what the job takes on one rank, beside what the device keeps for itself.
  double part_of_whole(const Config& config, double share) const {
    const auto device = kernels::make_meta_device(kernels::DeviceKind::cuda);
    const double own = static_cast<double>(device->ledger().current_bytes());
    const double whole = peak_bytes({config, data_, hardware_}, {config, {1, 1, 1}, ""});
    return own + share * (whole - own);
  }
  launch::SyntheticTokens tokens_{kVocab, kLength, 8};
  Dataset data_{tokens_.path(), kLength, Order::sequential, 1};
  Hardware hardware_ = read_hardware("configs/hardware/a100-80gb.ini");
};

Config on_mesh(Config config, const MeshExtents& extents) {
  config.mesh.tensor = extents.tensor;
  config.mesh.pipeline = extents.pipeline;
  return config;
}

TEST_F(Planner, KindsStandForAllTheirRanks) {
  for (const Method method : {Method::lora, Method::full})
    for (const MeshExtents& extents :
         {MeshExtents{1, 1, 1}, MeshExtents{2, 2, 1}, MeshExtents{4, 1, 2}, MeshExtents{2, 4, 2}})
      for (const bool split : {false, true}) {
        Config config = on_mesh(small_job(method), extents);
        config.mesh.sequence_parallel = split;
        config.train.microbatch = 1;
        const PlanRequest asked = request(config, extents);
        int ranks = 0;
        for (const PlannedRanks& kind : plan_memory(asked))
          for (const int rank : kind.ranks) {
            const Walk own(asked, dist::point_of(extents, rank), nullptr);
            EXPECT_EQ(own.held(), kind.held_bytes) << to_string(extents) << " rank " << rank;
            EXPECT_EQ(own.peak(), kind.peak_bytes) << to_string(extents) << " rank " << rank;
            EXPECT_EQ(own.activations(), kind.activation_bytes) << to_string(extents) << " rank " << rank;
            EXPECT_EQ(std::accumulate(kind.activation_bytes.begin(), kind.activation_bytes.end(), Index{0}),
                      kind.peak_bytes[static_cast<int>(kernels::Category::activation)]);
            EXPECT_EQ(own.peak_total(), kind.peak_total_bytes) << to_string(extents) << " rank " << rank;
            ++ranks;
          }
        EXPECT_EQ(ranks, extents.ranks());
      }
}

TEST_F(Planner, PartsAddUpToTheStep) {
  for (const Method method : {Method::lora, Method::full})
    for (const MeshExtents& extents : {MeshExtents{1, 1, 1}, MeshExtents{2, 2, 2}, MeshExtents{1, 4, 1}}) {
      Config config = on_mesh(small_job(method), extents);
      config.train.microbatch = 1;
      config.train.recompute = Recompute::full;
      const Plan plan = plan_job(request(config, extents), hardware_);
      EXPECT_NEAR(sum_of(plan.time.parts) + plan.time.message_s + plan.time.bubble_s, plan.time.step_s,
                  1e-9 * plan.time.step_s);
      EXPECT_GT(plan.time.again_s, 0);
      EXPECT_GT(plan.hardware_flops, plan.model_flops);
      EXPECT_EQ(plan.time.bubble_s > 1e-9 * plan.time.step_s, extents.pipeline > 1);  // but for rounding
    }
}

// Full fine-tuning does 6 FLOPs a matrix parameter and token, LoRA 4 and its adapters'; recomputation adds a forward
// pass.
TEST_F(Planner, WorkIsWhatTheModelAsksFor) {
  Config config = small_job(Method::full);
  const ModelShape& s = config.model.shape;
  const double matrices = static_cast<double>(12 * s.layers * s.width * s.width + s.vocab * s.width);
  const double attention =
      static_cast<double>(s.layers * s.width) * (kLength + 1) * 7;  // 2 + 5 products of T/2 positions
  const double tokens = static_cast<double>(config.train.batch * kLength);
  const double gelu = 50.0 * static_cast<double>(s.layers * s.ffn);  // counted with the products that they follow
  const Plan full = plan_job(request(config, {1, 1, 1}), hardware_);
  EXPECT_NEAR(full.model_flops / tokens, 6 * matrices + attention + gelu, 0.001 * full.model_flops / tokens);
  config.train.recompute = Recompute::full;
  const Plan again = plan_job(request(config, {1, 1, 1}), hardware_);
  EXPECT_NEAR(again.model_flops, full.model_flops, 0.001 * full.model_flops);
  // The down product of a block is not made again: nobody needs its result.
  const double down = 8.0 * static_cast<double>(s.layers * s.width * s.width);
  const double forward =
      2.0 * 12 * static_cast<double>(s.layers * s.width * s.width) - down + attention * 2 / 7 + gelu * 20 / 50;
  EXPECT_NEAR((again.hardware_flops - again.model_flops) / tokens, forward, 0.001 * forward);
}

TEST_F(Planner, AFewMicrobatchesStandForAll) {
  for (const auto& [kind, chunks] : {std::pair{dist::ScheduleKind::gpipe, 1},
                                     {dist::ScheduleKind::one_f_one_b, 1},
                                     {dist::ScheduleKind::interleaved, 2}})
    for (const bool some_layers : {false, true}) {
      const MeshExtents extents{1, 2, 1};
      Config config = on_mesh(small_job(Method::lora), extents);
      config.train.batch = 24;
      config.train.microbatch = 1;
      config.mesh.schedule = kind;
      config.mesh.chunks = chunks;
      if (some_layers) config.adapter.layers = {2, 3};
      const Plan plan = plan_job(request(config, extents), hardware_);
      const LayoutRequest asked{config, data_, hardware_};
      const Layout layout{config, extents, ""};
      EXPECT_EQ(peak_bytes(asked, layout), plan.peak_bytes_per_rank) << dist::name(kind) << some_layers;
      EXPECT_NEAR(planned_step_s(asked, layout), plan.time.step_s, 1e-9 * plan.time.step_s)
          << dist::name(kind) << some_layers;
    }
}

// The search leaves nothing out that could win, on a card too small for many of the layouts.
TEST_F(Planner, SearchFindsWhatBruteForceFinds) {
  hardware_.libraries_bytes = 0;
  hardware_.cards_per_node = 4;
  hardware_.between.bytes_per_s /= 20;
  for (const Method method : {Method::lora, Method::full}) {
    const Config config = small_job(method);
    std::set<int> numbers;  // of ranks that were the fewest
    for (const double share : {1.0, 0.4, 0.2, 0.01}) {
      hardware_.memory_bytes = part_of_whole(config, share);
      const LayoutRequest asked{config, data_, hardware_};
      Search search(asked);
      std::vector<std::pair<int, double>> front;
      int least = 0;
      for (int ranks = 1; ranks <= 8; ++ranks) {
        double best_s = 0;
        for (const Layout& layout : all_layouts(config, ranks)) {
          const Plan plan = plan_job(request(layout.config, layout.extents), hardware_);
          if (plan.fits() && (best_s == 0 || plan.time.step_s < best_s)) best_s = plan.time.step_s;
        }
        const std::optional<Found> found = search.fastest(ranks);
        ASSERT_EQ(found.has_value(), best_s > 0) << ranks << " ranks, share " << share;
        if (!found) continue;
        EXPECT_NEAR(found->step_s, best_s, 1e-9 * best_s) << ranks << " ranks, share " << share;
        EXPECT_EQ(found->peak_bytes,
                  plan_job(request(found->layout.config, found->layout.extents), hardware_).peak_bytes_per_rank);
        if (least == 0) least = ranks;
        if (front.empty() || best_s < front.back().second * (1 - 1e-9)) front.emplace_back(ranks, best_s);
      }
      const std::optional<Found> smallest_found = search.smallest(8);
      EXPECT_EQ(smallest_found ? smallest_found->layout.extents.ranks() : 0, least) << "share " << share;
      const std::vector<Found> found_front = search.front(8);
      ASSERT_EQ(found_front.size(), front.size()) << "share " << share;
      for (std::size_t i = 0; i < front.size(); ++i) {
        EXPECT_EQ(found_front[i].layout.extents.ranks(), front[i].first);
        EXPECT_NEAR(found_front[i].step_s, front[i].second, 1e-9 * front[i].second);
      }
      numbers.insert(least);
    }
    EXPECT_TRUE(numbers.contains(1));
    EXPECT_TRUE(numbers.contains(0)) << "of a card that holds nothing";
    EXPECT_GE(numbers.size(), 3u);
  }
}

// What the search leaves out by.
void expect_bounds_hold(const LayoutRequest& asked) {
  LayoutBounds bounds(asked);
  double tightest = 0, tightest_bytes = 0;
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (const Layout& layout : all_layouts(asked.config, ranks)) {
      const TrainConfig& train = layout.config.train;
      const MeshConfig& mesh = layout.config.mesh;
      const Candidate candidate{layout.extents,         train.microbatch, mesh.chunks,
                                mesh.sequence_parallel, train.recompute,  train.precision};
      const double seconds = planned_step_s(asked, layout), least_s = bounds.least_s(candidate);
      EXPECT_LE(least_s, seconds) << to_string(layout.extents) << " microbatch " << train.microbatch;
      const double bytes = peak_bytes(asked, layout), least_bytes = bounds.least_bytes(candidate);
      EXPECT_LE(least_bytes, bytes) << to_string(layout.extents) << " microbatch " << train.microbatch;
      EXPECT_LE(bounds.least_s(ranks, train.precision), seconds);
      tightest = std::max(tightest, least_s / seconds);
      tightest_bytes = std::max(tightest_bytes, least_bytes / bytes);
    }
  EXPECT_GT(tightest, 0.8) << "a bound that leaves nothing out";
  EXPECT_GT(tightest_bytes, asked.config.adapter.method == Method::full ? 0.5 : 0.3);
}

TEST_F(Planner, NoLayoutTakesLessThanItsBound) {
  Hardware slow = hardware_;  // on nodes that cut tensor groups in two, with slow links
  slow.cards_per_node = 3;
  slow.inside.bytes_per_s /= 200;
  slow.between.bytes_per_s /= 200;
  const Hardware host = hardware_of_rank(read_hardware("configs/hardware/host.ini"), 1);
  for (const Method method : {Method::lora, Method::full}) {
    const Config config = small_job(method);
    for (const Hardware& hardware : {hardware_, slow, host})
      expect_bounds_hold({config, data_, hardware, hardware.device});
  }
}

TEST_F(Planner, NearestChangesFit) {
  const Config config = small_job(Method::full);
  hardware_.libraries_bytes = 0;
  const LayoutRequest asked{config, data_, hardware_};
  hardware_.memory_bytes = part_of_whole(config, 0.5);
  const std::vector<Layout> found = nearest_that_fit(asked, {1, 1, 1});
  ASSERT_FALSE(found.empty());
  for (const Layout& layout : found) {
    EXPECT_FALSE(layout.change.empty());
    EXPECT_LE(peak_bytes(asked, layout), hardware_.memory_bytes) << layout.change;
  }
}

}  // namespace
}  // namespace lorashard::core
