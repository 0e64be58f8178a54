#include <gtest/gtest.h>

#include "dist/parallel_state.hpp"
#include "dist/shard.hpp"

namespace lorashard::dist {
namespace {

using kernels::Error;

// The table of shard.hpp: segments {4, 2, 2} over 2 ranks.
TEST(AxisCut, TableOfTheHeader) {
  const AxisCut first({4, 2, 2}, 0, 2), second({4, 2, 2}, 1, 2);
  const Index global_of_first[] = {0, 1, 4, 6}, global_of_second[] = {2, 3, 5, 7};
  EXPECT_EQ(first.global_extent(), 8);
  EXPECT_EQ(first.local_extent(), 4);
  EXPECT_EQ(second.local_extent(), 4);
  for (Index i = 0; i < 4; ++i) {
    EXPECT_EQ(first.to_global({i}).value, global_of_first[i]);
    EXPECT_EQ(second.to_global({i}).value, global_of_second[i]);
    EXPECT_TRUE(first.owns({global_of_first[i]}));
    EXPECT_FALSE(second.owns({global_of_first[i]}));
  }
  EXPECT_EQ(second.segment(1).global.value, 5);
  EXPECT_EQ(second.segment(1).local.value, 2);
  EXPECT_EQ(second.segment(1).count, 1);
  EXPECT_THROW(first.to_local({2}), Error);
  EXPECT_THROW(first.to_global({4}), Error);
  EXPECT_THROW(first.segment(3), Error);
}

TEST(EvenShare, RemainderGoesToTheFirst) {
  const Index firsts[] = {0, 34, 68}, counts[] = {34, 34, 33};
  for (int part = 0; part < 3; ++part) {
    EXPECT_EQ(even_share(101, part, 3).first, firsts[part]);
    EXPECT_EQ(even_share(101, part, 3).count, counts[part]);
  }
  EXPECT_THROW(even_share(5, 3, 3), Error);
  EXPECT_THROW(even_share(5, -1, 3), Error);
  EXPECT_THROW(even_share(-5, 0, 3), Error);
}

TEST(EvenShare, CoversOnceInOrderAndEvenly) {
  for (Index extent = 0; extent <= 40; ++extent)
    for (int parts = 1; parts <= 9; ++parts) {
      Index next = 0;
      for (int part = 0; part < parts; ++part) {
        const Share share = even_share(extent, part, parts);
        EXPECT_EQ(share.first, next);
        EXPECT_TRUE(share.count == extent / parts || share.count == extent / parts + 1);
        next += share.count;
      }
      EXPECT_EQ(next, extent);
    }
}

// Every global index has exactly one owner, and the way there and back is the identity.
void expect_partition(const std::vector<Segment>& segments, int parts) {
  std::vector<AxisCut> cuts;
  for (int part = 0; part < parts; ++part) cuts.emplace_back(segments, part, parts);
  for (Index global = 0; global < cuts[0].global_extent(); ++global) {
    int owners = 0;
    for (const AxisCut& cut : cuts) {
      if (!cut.owns({global})) continue;
      ++owners;
      EXPECT_EQ(cut.to_global(cut.to_local({global})).value, global);
    }
    EXPECT_EQ(owners, 1) << global;
  }
  Index total = 0;
  for (const AxisCut& cut : cuts) {
    Index count = 0;
    for (const Run& run : cut.runs()) {
      EXPECT_GT(run.count, 0);
      EXPECT_EQ(run.local.value, count);  // runs lie one after the other in the part
      count += run.count;
    }
    EXPECT_EQ(count, cut.local_extent());
    for (Index local = 0; local < count; ++local) EXPECT_EQ(cut.to_local(cut.to_global({local})).value, local);
    EXPECT_FALSE(cut.owns({-1}));
    EXPECT_FALSE(cut.owns({cut.global_extent()}));
    total += count;
  }
  EXPECT_EQ(total, cuts[0].global_extent());
}

TEST(AxisCut, IsAPartitionForAllExtents) {
  for (int parts = 1; parts <= 7; ++parts)
    for (Index a = 0; a <= 9; ++a) {
      expect_partition({a}, parts);
      for (Index b = 0; b <= 9; ++b)
        for (Index c = 0; c <= 9; c += 3) expect_partition({a, b, c}, parts);
    }
}

// 6 query heads of 2 features over 2 key heads: ranks hold the key heads that their queries meet.
TEST(AxisCut, UnitsThatRanksShareAreHeldWholeAndOwnedOnce) {
  const std::vector<Segment> segments{12, {4, 2}};
  const Index first[] = {12, 12, 14}, count[] = {2, 4, 2}, owned[] = {2, 2, 0};
  for (int part = 0; part < 3; ++part) {
    const AxisCut cut(segments, part, 3);
    EXPECT_TRUE(cut.overlaps());
    EXPECT_EQ(cut.segment(1).global.value, first[part]);
    EXPECT_EQ(cut.segment(1).count, count[part]);
    EXPECT_EQ(cut.local_extent(), 4 + count[part]);
    EXPECT_EQ(cut.run_count(), cut.local_extent());
    EXPECT_EQ(cut.owned_part().run_count(), 4 + owned[part]);
    EXPECT_EQ(cut.owned_part().local_extent(), cut.local_extent());
  }
  const AxisCut middle = AxisCut(segments, 1, 3).owned_part();
  ASSERT_EQ(middle.runs().size(), 2u);
  EXPECT_EQ(middle.runs()[1].global.value, 14);
  EXPECT_EQ(middle.runs()[1].local.value, 6);
}

TEST(AxisCut, UnitsAreCoveredAndOwnedOnceForAllExtents) {
  for (int parts = 1; parts <= 8; ++parts)
    for (Index units = 1; units <= 8; ++units)
      for (Index size : {1, 3}) {
        std::vector<int> held(static_cast<std::size_t>(units)), owners(static_cast<std::size_t>(units * size));
        for (int part = 0; part < parts; ++part) {
          const AxisCut cut({Segment(units * size, units)}, part, parts);
          EXPECT_EQ(cut.overlaps(), units % parts != 0);
          const dist::Run run = cut.segment(0);
          EXPECT_EQ(run.global.value % size, 0);
          EXPECT_EQ(run.count % size, 0);
          // What an even share of the queries meets, whatever their number by unit.
          EXPECT_LE(run.global.value * parts, part * units * size);
          EXPECT_GE((run.global.value + run.count) * parts, (part + 1) * units * size);
          for (Index u = run.global.value / size; u < (run.global.value + run.count) / size; ++u) ++held[static_cast<std::size_t>(u)];
          for (const dist::Run& own : cut.owned_part().runs())
            for (Index i = 0; i < own.count; ++i) ++owners[static_cast<std::size_t>(own.global.value + i)];
        }
        for (const int count : held) EXPECT_GE(count, 1);
        for (const int count : owners) EXPECT_EQ(count, 1);
        if (units % parts == 0) expect_partition({Segment(units * size, units)}, parts);
      }
}

TEST(AxisCut, ARangeIsAPartByItself) {
  const AxisCut range = AxisCut::range({3}, 4, 10);
  EXPECT_EQ(range.global_extent(), 10);
  EXPECT_EQ(range.local_extent(), 4);
  EXPECT_EQ(range.to_local({5}).value, 2);
  EXPECT_FALSE(range.owns({7}));
  EXPECT_TRUE(AxisCut::range({10}, 0, 10).runs().empty());
  EXPECT_THROW(AxisCut::range({7}, 4, 10), kernels::Error);
}

TEST(AxisCut, WholeIsOneRun) {
  const AxisCut whole = AxisCut::whole(11);
  ASSERT_EQ(whole.runs().size(), 1u);
  EXPECT_EQ(whole.runs()[0].count, 11);
  EXPECT_EQ(whole.local_extent(), 11);
  EXPECT_EQ(AxisCut().global_extent(), 0);
  EXPECT_EQ(AxisCut().local_extent(), 0);
  EXPECT_TRUE(AxisCut::whole(0).runs().empty());
}

TEST(ParallelState, MixedStatesAreNamed) {
  expect_state(ParallelState::cut, ParallelState::cut, "x");
  try {
    expect_state(ParallelState::partial, ParallelState::whole, "layers.3.attention.out");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "layers.3.attention.out is a partial sum across its group, expected whole");
  }
}

}  // namespace
}  // namespace lorashard::dist
