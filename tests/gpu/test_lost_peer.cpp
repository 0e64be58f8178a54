// How a job on GPUs ends when a rank does not come: this program starts itself under mpirun, as
// tests/dist/test_guard.cpp does, and reads what was printed and with which code mpirun ended.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "dist/runtime.hpp"

namespace lorashard::dist {
namespace {

using kernels::Failure;
using kernels::text;

// Rank 0 queues `how` and waits for its GPU; rank 1 stays away, or leaves with an error.
int job(Runtime& runtime, int argc, char** argv) {
  const std::string how = argc == 3 ? argv[1] : "", other = argc == 3 ? argv[2] : "";
  const auto device = kernels::make_cuda_device(runtime.gpu(kernels::cuda_device_count(), false));
  const Mesh mesh = runtime.make_mesh(*device, how == "send" || how == "receive" ? MeshExtents{1, runtime.size(), 1}
                                                                                 : MeshExtents{runtime.size(), 1, 1});
  const std::vector<float> values(1000, 1);
  kernels::Tensor data(*device, kernels::Category::activation, kernels::DType::f32, 1, 1000);
  upload(*device, kernels::view(values.data(), 1, 1000), data);
  if (runtime.rank() == 1) {
    if (other == "leaves") kernels::fail(Failure::numerics, "loss is nan");
    if (other == "stays away") std::this_thread::sleep_for(std::chrono::minutes(2));
  }
  std::unique_ptr<Pending> pending;
  if (how == "all_reduce") mesh.tensor().all_reduce(data);
  if (how == "start_all_reduce") pending = mesh.tensor().start_all_reduce(data);
  if (runtime.rank() == 0 && how == "send") pending = mesh.pipeline().send(data, 1, 0);
  if (runtime.rank() == 0 && how == "receive") mesh.pipeline().receive(data, 1, 1);
  if (runtime.rank() == 1 && how == "send") mesh.pipeline().receive(data, 0, 0);
  if (runtime.rank() == 1 && how == "receive") pending = mesh.pipeline().send(data, 0, 1);
  if (pending) pending->wait();
  device->synchronize();
  return 0;
}

struct Ended {
  int code = 0;
  std::string output;
};

Ended run(const std::string& arguments) {
  char self[4096] = "";
  if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) return {-1, "no /proc/self/exe"};
  const std::string command =
      text("LORASHARD_WATCHDOG_S=1 mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2 ", self, " job ",
           arguments);
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return {-1, "popen failed"};
  Ended ended;
  for (char part[256]; std::fgets(part, sizeof(part), pipe);) ended.output += part;
  const int status = pclose(pipe);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

class LostPeer : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  void SetUp() override {
    if (kernels::cuda_device_count() < 2)
      GTEST_SKIP() << "2 GPUs are needed, here are " << kernels::cuda_device_count() << "; " << kernels::cuda_build();
  }
  std::string verb() const { return GetParam().first; }
};

INSTANTIATE_TEST_SUITE_P(Verbs, LostPeer,
                         testing::Values(std::pair("all_reduce", "all_reduce 2 over axis tensor"),
                                         std::pair("start_all_reduce", "all_reduce 2 over axis tensor"),
                                         std::pair("send", "send over axis pipeline"),
                                         std::pair("receive", "receive over axis pipeline")),
                         [](const auto& info) { return std::string(info.param.first); });

TEST_P(LostPeer, BothComeAndTheJobEndsWithZero) {
  const Ended ended = run(verb() + " comes");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_EQ(ended.output, "");
}

TEST_P(LostPeer, TheGuardianNamesWhatIsInFlight) {
  const Ended ended = run(verb() + " 'stays away'");
  EXPECT_EQ(ended.code, 5) << ended.output;
  const std::regex line(
      text(R"(lorashard: rank 0 \(host [^ ]+\): (no progress for \d+ s|the job hangs): waits in )", GetParam().second,
           " for rank 1"));
  EXPECT_TRUE(std::regex_search(ended.output, line)) << ended.output;
}

TEST_P(LostPeer, AnErrorOfTheOtherRankEndsTheJob) {
  const Ended ended = run(verb() + " leaves");
  EXPECT_EQ(ended.code, 4) << ended.output;
  EXPECT_TRUE(std::regex_search(ended.output, std::regex(R"(lorashard: rank 1 .*loss is nan)"))) << ended.output;
}

}  // namespace

int run_job(int argc, char** argv) {
  Runtime runtime(argc, argv);
  return run_guarded(runtime, "lorashard", job, argc - 1, argv + 1);
}

}  // namespace lorashard::dist

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "job") return lorashard::dist::run_job(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
