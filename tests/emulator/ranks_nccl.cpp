// ranks: 2
// The emulated NCCL's verbs on exact values. Right on any number of ranks.
#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/emulator/nccl_case.hpp"

namespace lorashard::emulator {
namespace {

template <class T>
class NcclTypes : public testing::Test {};
using Types = testing::Types<float, double, int, __nv_bfloat16>;
TYPED_TEST_SUITE(NcclTypes, Types);

std::vector<double> over_ranks(std::size_t count, double start, double (*combine)(double, double)) {
  std::vector<double> values(count, start);
  for (int from = 0; from < ranks(); ++from)
    for (std::size_t i = 0; i < count; ++i) values[i] = combine(values[i], integer_of(from, i));
  return values;
}
double sum(double a, double b) { return a + b; }
double largest(double a, double b) { return std::max(a, b); }
double smallest(double a, double b) { return std::min(a, b); }

TYPED_TEST(NcclTypes, AllReduce) {
  const Communicator c;
  for (const std::size_t count : {1u, 2u, 7u, 1001u}) {
    const Array<TypeParam> from(integers_of(rank(), count)), to(count);
    const auto reduced = [&](ncclRedOp_t reduction) {
      EXPECT_EQ(ncclAllReduce(from.at(), to.at(), count, TypeOf<TypeParam>::value, reduction, c.comm, c.stream),
                ncclSuccess);
      return to.read(c.stream);
    };
    EXPECT_EQ(reduced(ncclSum), over_ranks(count, 0.0, sum));
    EXPECT_EQ(reduced(ncclMax), over_ranks(count, -100.0, largest));
    EXPECT_EQ(reduced(ncclMin), over_ranks(count, 100.0, smallest));
    EXPECT_EQ(ncclAllReduce(from.at(), from.at(), count, TypeOf<TypeParam>::value, ncclSum, c.comm, c.stream),
              ncclSuccess);
    EXPECT_EQ(from.read(c.stream), over_ranks(count, 0.0, sum));
  }
}

TYPED_TEST(NcclTypes, AllGatherAndReduceScatter) {
  const Communicator c;
  const std::size_t part = 5, whole = part * static_cast<std::size_t>(ranks()),
                    mine = part * static_cast<std::size_t>(rank());
  const Array<TypeParam> gathered(std::vector<double>(whole, 0.0));
  for (const bool in_place : {false, true}) {
    const Array<TypeParam> own(integers_of(rank(), part, mine));
    if (in_place) cudaMemcpy(gathered.at(mine), own.at(), part * sizeof(TypeParam), cudaMemcpyDeviceToDevice);
    ASSERT_EQ(ncclAllGather(in_place ? gathered.at(mine) : own.at(), gathered.at(), part, TypeOf<TypeParam>::value,
                            c.comm, c.stream),
              ncclSuccess);
    std::vector<double> expected;
    for (int from = 0; from < ranks(); ++from)
      for (std::size_t i = 0; i < part; ++i)
        expected.push_back(integer_of(from, part * static_cast<std::size_t>(from) + i));
    EXPECT_EQ(gathered.read(c.stream), expected);

    const Array<TypeParam> all(integers_of(rank(), whole)), share(part);
    ASSERT_EQ(ncclReduceScatter(all.at(), in_place ? all.at(mine) : share.at(), part, TypeOf<TypeParam>::value, ncclSum,
                                c.comm, c.stream),
              ncclSuccess);
    const std::vector<double> sums = over_ranks(whole, 0.0, sum), after = all.read(c.stream);
    const std::vector<double> got = in_place ? std::vector(after.begin() + static_cast<std::ptrdiff_t>(mine),
                                                           after.begin() + static_cast<std::ptrdiff_t>(mine + part))
                                             : share.read(c.stream);
    EXPECT_TRUE(std::equal(got.begin(), got.end(), sums.begin() + static_cast<std::ptrdiff_t>(mine)));
  }
}

TYPED_TEST(NcclTypes, BroadcastAndReduceOfEveryRoot) {
  const Communicator c;
  const std::size_t count = 9;
  for (int root = 0; root < ranks(); ++root) {
    const Array<TypeParam> from(integers_of(rank(), count)), to(std::vector<double>(count, 1.0));
    ASSERT_EQ(ncclBroadcast(from.at(), to.at(), count, TypeOf<TypeParam>::value, root, c.comm, c.stream), ncclSuccess);
    EXPECT_EQ(to.read(c.stream), integers_of(root, count));
    ASSERT_EQ(ncclReduce(from.at(), to.at(), count, TypeOf<TypeParam>::value, ncclSum, root, c.comm, c.stream),
              ncclSuccess);
    EXPECT_EQ(to.read(c.stream), rank() == root ? over_ranks(count, 0.0, sum) : integers_of(root, count));
    ASSERT_EQ(ncclBcast(from.at(), count, TypeOf<TypeParam>::value, root, c.comm, c.stream), ncclSuccess);
    EXPECT_EQ(from.read(c.stream), integers_of(root, count));
  }
}

TEST(Nccl, AverageOfValuesThatDivide) {
  const Communicator c;
  const Array<float> values(std::vector<double>(3, 8.0 * (rank() + 1)));
  ASSERT_EQ(ncclAllReduce(values.at(), values.at(), 3, ncclFloat32, ncclAvg, c.comm, c.stream), ncclSuccess);
  double expected = 0.0;
  for (int from = 0; from < ranks(); ++from)
    expected += static_cast<double>(8.0f * static_cast<float>(from + 1) * (1.0f / static_cast<float>(ranks())));
  const std::vector<double> got = values.read(c.stream);
  for (const double value : got) EXPECT_NEAR(value, expected, ranks() * 1e-7 * expected);
}

// Values whose sum depends on the order: it is made in rank order, so that all ranks have the same bits.
TEST(Nccl, SumsInRankOrder) {
  const Communicator c;
  const std::size_t count = 333;
  const auto value = [](int from, std::size_t i) {
    return 1.0f / static_cast<float>(3 + from * 17 + static_cast<int>(i));
  };
  std::vector<double> mine(count), expected(count);
  for (std::size_t i = 0; i < count; ++i) {
    mine[i] = value(rank(), i);
    float total = value(0, i);
    for (int from = 1; from < ranks(); ++from) total += value(from, i);
    expected[i] = total;
  }
  const Array<float> values(mine);
  ASSERT_EQ(ncclAllReduce(values.at(), values.at(), count, ncclFloat32, ncclSum, c.comm, c.stream), ncclSuccess);
  EXPECT_EQ(values.read(c.stream), expected);
}

TEST(Nccl, LargeAndEmpty) {
  const Communicator c;
  const std::size_t count = (1u << 20) + 3;
  const Array<float> values(integers_of(rank(), count));
  EXPECT_EQ(ncclAllReduce(nullptr, nullptr, 0, ncclFloat32, ncclSum, c.comm, c.stream), ncclSuccess);
  ASSERT_EQ(ncclAllReduce(values.at(), values.at(), count, ncclFloat32, ncclSum, c.comm, c.stream), ncclSuccess);
  EXPECT_TRUE(values.read(c.stream) == over_ranks(count, 0.0, sum));
}

// Every rank sends to every one, itself too, in one group, and the messages of a pair keep their order.
TEST(Nccl, SendsAndReceivesInAGroup) {
  const Communicator c;
  const std::size_t count = 4, all = count * static_cast<std::size_t>(ranks()) * 2;
  const Array<float> out(integers_of(rank(), all)), in(all);
  ncclGroupStart();
  for (int message = 0; message < 2; ++message)
    for (int peer = 0; peer < ranks(); ++peer) {
      const std::size_t at = count * static_cast<std::size_t>(2 * peer + message);
      EXPECT_EQ(ncclSend(out.at(at), count, ncclFloat32, peer, c.comm, c.stream), ncclSuccess);
      EXPECT_EQ(ncclRecv(in.at(at), count, ncclFloat32, peer, c.comm, c.stream), ncclSuccess);
    }
  ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
  const std::vector<double> got = in.read(c.stream);
  for (int peer = 0; peer < ranks(); ++peer)
    for (std::size_t i = 0; i < 2 * count; ++i)
      EXPECT_EQ(got[2 * count * static_cast<std::size_t>(peer) + i],
                integer_of(peer, 2 * count * static_cast<std::size_t>(rank()) + i));
}

// A send ends when its receive has come, and not before.
TEST(Nccl, SendIsARendezvous) {
  if (ranks() < 2) GTEST_SKIP() << "needs 2 ranks";
  const Communicator c;
  const Array<float> data(integers_of(0, 3));
  if (rank() == 0) {
    EXPECT_EQ(ncclSend(data.at(), 3, ncclFloat32, 1, c.comm, c.stream), ncclSuccess);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(cudaStreamQuery(c.stream), cudaErrorNotReady);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank() == 1) {
    EXPECT_EQ(ncclRecv(data.at(), 3, ncclFloat32, 0, c.comm, c.stream), ncclSuccess);
  }
  EXPECT_EQ(data.read(c.stream), integers_of(0, 3));
}

// Communicators are independent: ranks may issue on them in different orders, on streams of their own.
TEST(Nccl, SeveralCommunicatorsOnSeveralStreams) {
  const Communicator a, b;
  const std::size_t count = 100;
  const Array<float> x(integers_of(rank(), count)), y(integers_of(rank(), count));
  for (int round = 0; round < 5; ++round) {
    const auto on_a = [&] {
      EXPECT_EQ(ncclAllReduce(x.at(), x.at(), count, ncclFloat32, ncclMax, a.comm, a.stream), ncclSuccess);
    };
    const auto on_b = [&] {
      EXPECT_EQ(ncclAllReduce(y.at(), y.at(), count, ncclFloat32, ncclMin, b.comm, b.stream), ncclSuccess);
    };
    if (rank() % 2 == 0) on_a();
    on_b();
    if (rank() % 2 == 1) on_a();
  }
  EXPECT_EQ(x.read(a.stream), over_ranks(count, -100.0, largest));
  EXPECT_EQ(y.read(b.stream), over_ranks(count, 100.0, smallest));
}

// On two streams the operations of one communicator still run as issued; a group over two streams is one step.
TEST(Nccl, OneCommunicatorOnTwoStreams) {
  const Communicator c;
  const Array<float> x(integers_of(rank(), 8)), y(integers_of(rank(), 8)), z(integers_of(rank(), 8));
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(ncclAllReduce(x.at(), x.at(), 8, ncclFloat32, ncclMax, c.comm, c.stream), ncclSuccess);
    EXPECT_EQ(ncclBcast(y.at(), 8, ncclFloat32, 0, c.comm, c.other_stream), ncclSuccess);
  }
  cudaStreamSynchronize(c.stream);
  cudaStreamSynchronize(c.other_stream);
  ncclGroupStart();
  ncclGroupStart();
  EXPECT_EQ(ncclAllReduce(x.at(), x.at(), 8, ncclFloat32, ncclMax, c.comm, c.other_stream), ncclSuccess);
  EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_EQ(ncclAllReduce(z.at(), z.at(), 8, ncclFloat32, ncclSum, c.comm, c.stream), ncclSuccess);
  EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_EQ(z.read(c.stream), over_ranks(8, 0.0, sum));
  EXPECT_EQ(x.read(c.other_stream), over_ranks(8, -100.0, largest));
  EXPECT_EQ(y.read(c.other_stream), integers_of(0, 8));
}

TEST(Nccl, TellsItsExtents) {
  Communicator c;
  int count = 0, own = -1, device = -1, version = 0;
  EXPECT_EQ(ncclCommCount(c.comm, &count), ncclSuccess);
  EXPECT_EQ(ncclCommUserRank(c.comm, &own), ncclSuccess);
  EXPECT_EQ(ncclCommCuDevice(c.comm, &device), ncclSuccess);
  EXPECT_EQ(ncclGetVersion(&version), ncclSuccess);
  EXPECT_EQ(count, ranks());
  EXPECT_EQ(own, rank());
  EXPECT_EQ(device, rank());
  EXPECT_EQ(version, NCCL_VERSION_CODE);
  EXPECT_EQ(ncclCommFinalize(c.comm), ncclSuccess);
}

}  // namespace
}  // namespace lorashard::emulator
