// Who is to blame, from made-up states of every rank.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "dist/guardian_wire.hpp"
#include "dist/hang_report.hpp"

namespace lorashard::dist {
namespace {

// Ranks of a mesh, all computing in layer 3.
std::vector<Seen> working(MeshExtents extents) {
  std::vector<Seen> all(static_cast<std::size_t>(extents.ranks()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    Seen& seen = all[i];
    seen.host = i < 2 ? "a" : "b";
    seen.heard = true;
    seen.state.mesh = 1;
    seen.state.tensor = extents.tensor;
    seen.state.pipeline = extents.pipeline;
    seen.state.data = extents.data;
    seen.state.step = 41;
    seen.state.layer = 3;
    std::strcpy(seen.state.work, "backward");
    seen.state.microbatch = 0;
    std::strcpy(seen.state.operation, "attention");
    seen.state.entered.fill(7);
  }
  return all;
}

void wait(Seen& seen, const char* verb, Group group, int peer = -1) {
  std::strcpy(seen.state.waits_in, verb);
  seen.state.group = static_cast<int>(group);
  seen.state.peer = peer;
  if (peer < 0) seen.state.number = ++seen.state.entered[static_cast<int>(group)];
}

using Lines = std::vector<std::string>;

TEST(HangReport, NamesTheOneThatNeverCame) {
  std::vector<Seen> all = working({2, 1, 2});
  for (const int rank : {0, 1, 3}) wait(all[rank], "all_reduce", Group::replica);
  EXPECT_EQ(hang_report(all), Lines{"rank 2 (host b) never entered all_reduce 8 over axis replica; last seen in step 41, "
                                    "backward of microbatch 0, layer 3, attention"});
}

// 0 waits for 1 over tensor; 2 and 3, the next stage, wait for 0 and 1: only 1 waits for nobody.
TEST(HangReport, FollowsTheChainToItsStart) {
  std::vector<Seen> all = working({2, 2, 1});
  wait(all[0], "all_reduce", Group::tensor);
  wait(all[2], "receive", Group::pipeline, 0);
  wait(all[3], "receive", Group::pipeline, 0);
  const Lines lines = hang_report(all);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].starts_with("rank 1 (host a) never entered all_reduce 8 over axis tensor")) << lines[0];
}

TEST(HangReport, AMessageThatIsNotAnswered) {
  std::vector<Seen> all = working({1, 2, 1});
  wait(all[1], "receive", Group::pipeline, 0);
  EXPECT_EQ(hang_report(all), Lines{"rank 0 (host a) does not answer rank 1 (host a), which waits in receive over axis "
                                    "pipeline; last seen in step 41, backward of microbatch 0, layer 3, attention"});
}

TEST(HangReport, ASilentHost) {
  std::vector<Seen> all = working({2, 1, 2});
  for (Seen& seen : all) wait(seen, "all_reduce", Group::world);
  all[2].silent_s = all[3].silent_s = 21;
  EXPECT_EQ(hang_report(all)[0], "rank 2 (host b) makes no progress; silent for 21 s; last seen in all_reduce 8 over axis "
                                 "world, step 41, backward of microbatch 0, layer 3, attention");
  EXPECT_EQ(hang_report(all).size(), 2u);
  all[3].heard = false;
  EXPECT_EQ(hang_report(all)[1], "rank 3 (host b) never entered all_reduce 8 over axis world; nothing was heard of it");
}

TEST(HangReport, AStoppedRankThatHadCome) {
  std::vector<Seen> all = working({1, 1, 2});
  for (Seen& seen : all) wait(seen, "barrier", Group::world);
  all[1].stopped = true;
  EXPECT_NE(hang_report(all)[0].find("rank 1 (host a) makes no progress; stopped by a signal"), std::string::npos);
}

TEST(HangReport, RanksThatWaitForEachOther) {
  std::vector<Seen> all = working({2, 1, 1});
  wait(all[0], "all_reduce", Group::tensor);
  wait(all[1], "barrier", Group::world);
  const Lines lines = hang_report(all);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(lines[0].starts_with("rank 0 (host a) never entered barrier 8 over axis world")) << lines[0];
  EXPECT_TRUE(lines[1].starts_with("rank 1 (host a) never entered all_reduce 8 over axis tensor")) << lines[1];
}

TEST(HangReport, AllCameAndItDoesNotEnd) {
  std::vector<Seen> all = working({2, 1, 1});
  for (Seen& seen : all) wait(seen, "all_reduce", Group::tensor);
  EXPECT_EQ(hang_report(all), Lines{"all ranks are in all_reduce 8 over axis tensor, and it does not end: look at the "
                                    "network between their hosts"});
}

// A rank of another mesh, or of another group, is not to blame for this one's collectives.
TEST(HangReport, GroupsAndMeshesAreKeptApart) {
  std::vector<Seen> all = working({2, 1, 2});
  wait(all[0], "all_reduce", Group::tensor);
  const Lines lines = hang_report(all);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].starts_with("rank 1 ")) << lines[0];
  all[1].state.mesh = 2;  // it is further on: its counts have begun anew
  all[1].state.entered.fill(0);
  EXPECT_TRUE(hang_report(all)[0].starts_with("rank 1 (host a) makes no progress")) << hang_report(all)[0];
  all[1].state.mesh = 0;
  EXPECT_TRUE(hang_report(all)[0].starts_with("rank 1 (host a) never entered")) << hang_report(all)[0];
}

TEST(HangReport, NamesFourAtMost) {
  std::vector<Seen> all = working({1, 1, 10});
  wait(all[0], "all_reduce", Group::replica);
  const Lines lines = hang_report(all);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(lines[3].ends_with("; and 5 more ranks")) << lines[3];
}

TEST(HangReport, WaitedFor) {
  std::vector<Seen> all = working({2, 2, 2});
  EXPECT_EQ(waited_for(5, 8, all[5].state), std::vector<int>{});
  const auto group = [&](Group g, int peer = -1) {
    Seen seen = all[5];  // data 1, pipeline 0, tensor 1
    wait(seen, "verb", g, peer);
    return waited_for(5, 8, seen.state);
  };
  EXPECT_EQ(group(Group::tensor), std::vector<int>{4});
  EXPECT_EQ(group(Group::pipeline), std::vector<int>{7});
  EXPECT_EQ(group(Group::data), std::vector<int>{1});
  EXPECT_EQ(group(Group::replica), (std::vector<int>{0, 1, 4}));
  EXPECT_EQ(group(Group::world), (std::vector<int>{0, 1, 2, 3, 4, 6, 7}));
  EXPECT_EQ(group(Group::pipeline, 1), std::vector<int>{7});
  EXPECT_EQ(group(Group::pipeline, 9), std::vector<int>{});
}

TEST(HangReport, Ranges) {
  EXPECT_EQ(ranges_text({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
  EXPECT_EQ(ranges_text({}), "");
}

// Words of the guardian's own host come by loopback, whatever its interfaces are.
TEST(GuardianWire, CarriesAWordOfItsJobAlone) {
  const GuardianWire from, to;
  char host[66] = "";
  ::gethostname(host, sizeof host - 1);
  const GuardianAddress address = to.address(host);
  GuardianWord word;
  word.job = 4711;
  word.kind = GuardianWord::Kind::ending;
  word.rank = 3;
  word.code = 6;
  word.state.step = 12;
  std::strcpy(word.state.waits_in, "receive");
  from.send(address, word);
  word.job = 4712;
  from.send(address, word);
  const auto received = to.receive(4711);
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->rank, 3);
  EXPECT_EQ(received->code, 6);
  EXPECT_EQ(received->kind, GuardianWord::Kind::ending);
  EXPECT_EQ(received->state.step, 12);
  EXPECT_STREQ(received->state.waits_in, "receive");
  EXPECT_FALSE(to.receive(4711).has_value()) << "a word of another job";
}

}  // namespace
}  // namespace lorashard::dist
