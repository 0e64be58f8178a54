// ranks: 2
// Mistakes in the use of NCCL, planted and reported, each beside the mended use. Needs 2 ranks.
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "tests/emulator/nccl_case.hpp"

namespace lorashard::emulator {
namespace {

// Before anything asks for it: what waits in vain is to be found soon, and a slow machine is not to be taken for it.
const int short_patience = setenv("LORASHARD_EMULATOR_NCCL_S", "3", 1);

std::string faults() {
  cudaDeviceSynchronize();
  std::string lines;
  for (const std::string& line : take_faults()) lines += line + "\n";
  MPI_Barrier(MPI_COMM_WORLD);
  return lines;
}
testing::AssertionResult has(const std::string& lines, const std::string& part) {
  if (lines.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << part << "' is not in '" << lines << "'";
}

class NcclFaults : public testing::Test {
 protected:
  NcclFaults() { collect_faults(); }
  Communicator c;
  const Array<float> x{integers_of(rank(), 8)}, y{integers_of(rank(), 8)};
  const int peer = 1 - rank();
};

void all_reduce(const Communicator& c, float* data, std::size_t count = 8, ncclRedOp_t reduction = ncclSum) {
  EXPECT_EQ(ncclAllReduce(data, data, count, ncclFloat32, reduction, c.comm, c.stream), ncclSuccess);
}

TEST_F(NcclFaults, DifferentCollectives) {
  if (rank() == 0)
    all_reduce(c, x.at());
  else
    EXPECT_EQ(ncclBcast(x.at(), 8, ncclFloat32, 0, c.comm, c.stream), ncclSuccess);
  const std::string lines = faults();
  EXPECT_TRUE(has(lines, "rank 0 ncclAllReduce(count 8, float32, sum)"));
  EXPECT_TRUE(has(lines, "rank 1 ncclBroadcast(count 8, float32, root 0)"));
  ncclResult_t error = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(c.comm, &error), ncclSuccess);
  EXPECT_NE(error, ncclSuccess);
  all_reduce(c, x.at());
  EXPECT_EQ(faults(), "");
}

TEST_F(NcclFaults, CountReductionTypeOrRootThatDiffer) {
  all_reduce(c, x.at(), rank() == 0 ? 8 : 7);
  EXPECT_TRUE(has(faults(), "rank 1 ncclAllReduce(count 7, float32, sum)"));
  all_reduce(c, x.at(), 8, rank() == 0 ? ncclMax : ncclSum);
  EXPECT_TRUE(has(faults(), "rank 0 ncclAllReduce(count 8, float32, max)"));
  EXPECT_EQ(ncclBcast(x.at(), 4, rank() == 0 ? ncclFloat32 : ncclInt32, 0, c.comm, c.stream), ncclSuccess);
  EXPECT_TRUE(has(faults(), "rank 1 ncclBroadcast(count 4, int32, root 0)"));
  EXPECT_EQ(ncclBcast(x.at(), 8, ncclFloat32, rank(), c.comm, c.stream), ncclSuccess);
  EXPECT_TRUE(has(faults(), "rank 1 ncclBroadcast(count 8, float32, root 1)"));
}

TEST_F(NcclFaults, SendAndReceiveOfDifferentSizes) {
  for (const bool mended : {false, true}) {
    if (rank() == 0)
      EXPECT_EQ(ncclSend(x.at(), 8, ncclFloat32, 1, c.comm, c.stream), ncclSuccess);
    else
      EXPECT_EQ(ncclRecv(x.at(), mended ? 8 : 6, ncclFloat32, 0, c.comm, c.stream), ncclSuccess);
    const std::string lines = faults();
    EXPECT_EQ(lines.empty(), mended || rank() == 0) << lines;
    if (rank() == 1 && !mended) {
      EXPECT_TRUE(has(lines, "rank 0 sends 32 bytes, rank 1 receives 24"));
    }
  }
}

TEST_F(NcclFaults, UseAfterDestroy) {
  const ncclComm_t old = c.comm;
  EXPECT_EQ(ncclCommDestroy(c.comm), ncclSuccess);
  c.comm = nullptr;
  EXPECT_EQ(faults(), "");
  EXPECT_EQ(ncclAllReduce(x.at(), x.at(), 8, ncclFloat32, ncclSum, old, c.stream), ncclInvalidArgument);
  EXPECT_TRUE(has(faults(), "ncclAllReduce: communicator"));
  EXPECT_EQ(ncclCommDestroy(old), ncclInvalidArgument);
  EXPECT_TRUE(has(faults(), "was destroyed before"));
}

TEST_F(NcclFaults, CollectiveThatAPeerNeverEnters) {
  if (rank() == 0) all_reduce(c, x.at());
  const std::string lines = faults();
  EXPECT_EQ(lines.empty(), rank() == 1) << lines;
  if (rank() == 0) {
    EXPECT_TRUE(has(lines, "ncclAllReduce(count 8, float32, sum), rank 0 of 2"));
    EXPECT_TRUE(has(lines, "waited 3 s for rank 1"));
  }
}

// Both ranks send first: on one stream each waits for a receive that stands behind the other's send. In a group, or
// with the receive on a communicator and stream of its own, they are under way together.
TEST_F(NcclFaults, SendsThatWaitForEachOther) {
  for (const bool mended : {false, true}) {
    const Communicator fresh;
    if (mended) ncclGroupStart();
    EXPECT_EQ(ncclSend(x.at(), 8, ncclFloat32, peer, fresh.comm, fresh.stream), ncclSuccess);
    EXPECT_EQ(ncclRecv(y.at(), 8, ncclFloat32, peer, fresh.comm, fresh.stream), ncclSuccess);
    if (mended) {
      EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
    }
    const std::string lines = faults();
    if (!lines.empty()) {
      EXPECT_TRUE(has(lines, "ncclSend(count 8, float32) to rank " + std::to_string(peer)));
    }
    // The rank whose patience ends first goes on to its receive, which frees the other one.
    int found = lines.empty() ? 0 : 1;
    MPI_Allreduce(MPI_IN_PLACE, &found, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    EXPECT_EQ(found, mended ? 0 : 1);
  }
}

TEST_F(NcclFaults, GroupThatIsNotClosed) {
  ncclGroupStart();
  all_reduce(c, x.at());
  usleep(3300 * 1000);
  EXPECT_TRUE(has(faults(), "a group has been open for 3 s"));
  EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_EQ(faults(), "");
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
}

TEST_F(NcclFaults, ThreadThatEndsInsideAGroup) {
  std::thread([&] {
    ncclGroupStart();
    all_reduce(c, x.at());
  }).join();
  EXPECT_TRUE(has(faults(), "the group was never closed; its 1 operations were not started"));
}

TEST_F(NcclFaults, DestroyedInsideAGroup) {
  ncclGroupStart();
  EXPECT_EQ(ncclCommDestroy(c.comm), ncclSuccess);
  c.comm = nullptr;
  EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_TRUE(has(faults(), "ncclCommDestroy: called inside a group"));
}

// One rank aborts while its collective waits: that one and what is queued behind it end without effect, and the others
// learn of it.
TEST_F(NcclFaults, Abort) {
  if (rank() == 0) {
    all_reduce(c, x.at());
    all_reduce(c, x.at());
    usleep(50 * 1000);
    EXPECT_EQ(cudaStreamQuery(c.stream), cudaErrorNotReady);
    EXPECT_EQ(ncclCommAbort(c.comm), ncclSuccess);
    EXPECT_EQ(x.read(c.stream), integers_of(0, 8));
    EXPECT_EQ(ncclAllReduce(x.at(), x.at(), 8, ncclFloat32, ncclSum, c.comm, c.stream), ncclInvalidArgument);
    c.comm = nullptr;
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank() == 1) {
    ncclResult_t error = ncclSuccess;
    for (int i = 0; i < 100 && error == ncclSuccess; ++i) {
      EXPECT_EQ(ncclCommGetAsyncError(c.comm, &error), ncclSuccess);
      usleep(5000);
    }
    EXPECT_EQ(error, ncclRemoteError);
  }
  EXPECT_EQ(has(faults(), "was aborted before"), rank() == 0);
}

TEST_F(NcclFaults, BuffersThatOverlap) {
  EXPECT_EQ(ncclAllReduce(x.at(), x.at(1), 7, ncclFloat32, ncclSum, c.comm, c.stream), ncclSuccess);
  EXPECT_TRUE(has(faults(), "the buffers overlap, but not in place"));
  ncclGroupStart();
  all_reduce(c, x.at());
  EXPECT_EQ(ncclBcast(x.at(7), 1, ncclFloat32, 0, c.comm, c.stream), ncclSuccess);
  EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_TRUE(has(faults(), "its buffer overlaps that of ncclAllReduce"));
}

// What a collective reads is checked as a kernel's reads are: written before, and ordered after the writer's stream.
TEST_F(NcclFaults, MissingEvent) {
  for (const bool mended : {false, true}) {
    cudaEvent_t written;
    cudaEventCreateWithFlags(&written, cudaEventDisableTiming);
    cudaMemsetAsync(x.at(), 0, 8 * sizeof(float), c.other_stream);
    cudaEventRecord(written, c.other_stream);
    if (mended) cudaStreamWaitEvent(c.stream, written, 0);
    all_reduce(c, x.at());
    const std::string lines = faults();
    EXPECT_EQ(lines.empty(), mended) << lines;
    if (!mended) {
      EXPECT_TRUE(has(lines, "ncclAllReduce(count 8, float32, sum)"));
    }
    cudaEventDestroy(written);
  }
}

ncclResult_t make_on_one_gpu(ncclComm_t* comm) {
  cudaSetDevice(0);
  ncclUniqueId id;
  if (rank() == 0) ncclGetUniqueId(&id);
  MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, MPI_COMM_WORLD);
  return ncclCommInitRank(comm, ranks(), id, rank());
}

TEST(NcclDevices, TwoRanksOnOneGpu) {
  collect_faults();
  ncclComm_t comm = nullptr;
  EXPECT_EQ(make_on_one_gpu(&comm), ncclInvalidUsage);
  EXPECT_TRUE(has(ncclGetLastError(nullptr), "Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 0"));
  setenv("NCCL_HOSTID", std::to_string(rank()).c_str(), 1);
  EXPECT_EQ(make_on_one_gpu(&comm), ncclSuccess);
  EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
  unsetenv("NCCL_HOSTID");
}

TEST(NcclDevices, RankThatNeverJoins) {
  collect_faults();
  ncclUniqueId id;
  ncclComm_t comm = nullptr;
  if (rank() == 0) {
    ncclGetUniqueId(&id);
    EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 0), ncclRemoteError);
  }
  EXPECT_EQ(has(faults(), "rank 0 of 2 waited 3 s for the other ranks: rank 1 never came"), rank() == 0);
}

}  // namespace
}  // namespace lorashard::emulator
