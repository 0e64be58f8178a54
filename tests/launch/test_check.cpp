// Which nodes are bad, from made-up rows: each rule just inside and just outside of its bound.
#include <gtest/gtest.h>

#include <set>

#include "launch/check_measure.hpp"
#include "launch/check_rows.hpp"

namespace lorashard::launch {
namespace {

// Nodes that are all alike.
std::vector<NodeRow> nodes(int count) {
  std::vector<NodeRow> rows;
  for (int i = 0; i < count; ++i) {
    NodeRow row;
    row.host = "n" + std::to_string(i + 1);
    row.ranks = row.gpus = 8;
    row.cores = 64;
    row.card = "H100";
    row.driver = "550.54";
    row.pair_bytes_per_s = 200e9;
    row.latency_s = 2e-6;
    row.link_bytes_per_s = 20e9;
    row.free_memory_bytes = 0x1p40;
    row.folder = "yes";
    rows.push_back(row);
  }
  return rows;
}

// Everything wrong with any node: "n2: GPUs: ...".
std::vector<std::string> faults(const std::vector<NodeRow>& rows) {
  std::vector<std::string> lines;
  const auto found = judge(rows);
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (const std::string& fault : found[i]) lines.push_back(rows[i].host + ": " + fault);
  return lines;
}

using Lines = std::vector<std::string>;

TEST(NodeCheck, AlikeNodesAreGood) {
  for (const int count : {0, 1, 2, 3, 8}) EXPECT_EQ(faults(nodes(count)), Lines{}) << count;
}

TEST(NodeCheck, Gpus) {
  auto rows = nodes(3);
  rows[1].gpus = 7;
  EXPECT_EQ(faults(rows), Lines{"n2: GPUs: found 7, expected 8 as on most nodes"});
  rows[1].gpus = 9;
  EXPECT_EQ(faults(rows), Lines{}) << "more than most is no fault";
  rows = nodes(2);
  rows[0].gpus = 4;
  EXPECT_EQ(faults(rows), Lines{"n1: GPUs: found 4, expected 8 as on most nodes"}) << "of two the larger";
}

TEST(NodeCheck, MissingGpusDriverAndCard) {
  auto rows = nodes(3);
  rows[2].gpus = 0;
  rows[2].card = rows[2].driver = "";
  EXPECT_EQ(faults(rows), (Lines{"n3: GPUs: found 0, expected 8 as on most nodes",
                                 "n3: card: found none, expected H100 as on most nodes",
                                 "n3: driver: found none, expected 550.54 as on most nodes"}));
  for (NodeRow& row : rows) row.gpus = 0, row.card = row.driver = "";
  EXPECT_EQ(faults(rows), Lines{}) << "hosts without GPUs";
}

TEST(NodeCheck, AnotherDriver) {
  auto rows = nodes(3);
  rows[0].driver = "535.10";
  EXPECT_EQ(faults(rows), Lines{"n1: driver: found 535.10, expected 550.54 as on most nodes"});
  rows.pop_back();
  EXPECT_EQ(faults(rows), Lines{"n2: driver: found 550.54, expected 535.10 as on most nodes"}) << "a tie: the first";
}

TEST(NodeCheck, AGpuThatCannotBeUsed) {
  auto rows = nodes(2);
  rows[1].gpu_fault = "GPU 3: uncorrectable ECC error";
  EXPECT_EQ(faults(rows), Lines{"n2: GPUs: GPU 3: uncorrectable ECC error"});
}

TEST(NodeCheck, GpuPairs) {
  auto rows = nodes(3);
  rows[1].pair_bytes_per_s = 100e9;
  EXPECT_EQ(faults(rows), Lines{}) << "half is enough";
  rows[1].pair_bytes_per_s = 99e9;
  EXPECT_EQ(faults(rows), Lines{"n2: GPU pairs: found 99.0 GB/s, expected at least 100.0 GB/s, half of the median"});
  rows[1].pair_bytes_per_s = 0;
  EXPECT_EQ(faults(rows), Lines{}) << "not measured";
}

TEST(NodeCheck, ASlowNodeAndNotItsNeighbours) {
  for (const int count : {3, 4, 9}) {
    auto rows = nodes(count);
    rows[1].link_bytes_per_s = rows[2].link_bytes_per_s = 10e9;  // n2 to n3, and n3 on: half is enough
    EXPECT_EQ(faults(rows), Lines{}) << count;
    rows[1].link_bytes_per_s = rows[2].link_bytes_per_s = 9.9e9;
    const std::string after = count == 3 ? "n1" : "n4";
    EXPECT_EQ(faults(rows), Lines{"n3: link: found 9.900 GB/s to " + after +
                                  " and 9.900 GB/s from n2, expected at least 10.0 GB/s, half of the median"});
  }
}

TEST(NodeCheck, ASlowLinkBetweenGoodNodes) {
  auto rows = nodes(4);
  rows[3].link_bytes_per_s = 10e9;
  EXPECT_EQ(faults(rows), Lines{});
  rows[3].link_bytes_per_s = 9.9e9;
  EXPECT_EQ(faults(rows), Lines{"n4: link: found 9.900 GB/s to n1, expected at least 10.0 GB/s, half of the median: "
                                "this node, that one, or what is between them"});
  rows = nodes(2);
  rows[0].link_bytes_per_s = 1e9;
  EXPECT_EQ(faults(rows), Lines{}) << "two nodes have one link, measured twice";
}

TEST(NodeCheck, Clock) {
  auto rows = nodes(3);
  rows[1].skew_ms = 100;
  rows[2].skew_ms = -100;
  EXPECT_EQ(faults(rows), Lines{});
  rows[1].skew_ms = 101;
  rows[2].skew_ms = 0;
  EXPECT_EQ(faults(rows), Lines{"n2: clock: found 101 ms ahead of n1, expected at most 100"});
  rows[1].skew_ms = -101;
  EXPECT_EQ(faults(rows), Lines{"n2: clock: found 101 ms behind n1, expected at most 100"});
}

TEST(NodeCheck, TheFirstClockIsTheWrongOne) {
  auto rows = nodes(3);
  rows[1].skew_ms = rows[2].skew_ms = -5000;
  EXPECT_EQ(faults(rows), Lines{"n1: clock: found 5000 ms ahead of the median, expected at most 100"});
}

TEST(NodeCheck, Memory) {
  auto rows = nodes(3);
  rows[2].free_memory_bytes = 0x1p39;
  EXPECT_EQ(faults(rows), Lines{});
  rows[2].free_memory_bytes = 0x1p38;
  EXPECT_EQ(faults(rows), Lines{"n3: memory: found 256 GiB free, expected at least 512 GiB, half of the median"});
}

TEST(NodeCheck, Folder) {
  auto rows = nodes(2);
  rows[1].folder = "the first node's file is not there";
  EXPECT_EQ(faults(rows), Lines{"n2: folder: the first node's file is not there"});
  for (NodeRow& row : rows) row.folder = "";
  EXPECT_EQ(faults(rows), Lines{}) << "not tried";
}

TEST(NodeCheck, RowsAsJson) {
  NodeRow row = nodes(1)[0];
  row.gpu_fault = "a \"fault\"";
  row.skew_ms = -0.25;
  const auto json = boost::json::parse(boost::json::serialize(row_json(row))).as_object();
  EXPECT_EQ(row_json(row_from(json)), row_json(row));
}

TEST(NodeCheck, EveryPairOfGpusMeetsOnce) {
  for (int n = 2; n <= 16; ++n) {
    std::set<std::pair<int, int>> met;
    for (int round = 0; round < n - 1 + n % 2; ++round)
      for (int player = 0; player < n; ++player) {
        const int other = pair_partner(player, round, n);
        if (other == n) continue;  // nobody
        ASSERT_NE(other, player);
        ASSERT_EQ(pair_partner(other, round, n), player) << n << " players, round " << round;
        if (player > other) continue;
        EXPECT_TRUE(met.emplace(player, other).second) << "twice";
      }
    EXPECT_EQ(met.size(), static_cast<std::size_t>(n * (n - 1) / 2));
  }
}

}  // namespace
}  // namespace lorashard::launch
