// How a job ends: this program starts itself under mpirun as a job whose ranks fail in one way or another, then reads
// what was printed and with which code mpirun ended. A run takes about half a second.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dist/runtime.hpp"

namespace lorashard::dist {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

// The job: `how` on rank `where` (-1: on all); the others wait for it in a verb.
int job(Runtime& runtime, int argc, char** argv) {
  if (argc != 3) fail(Failure::other, "expected: how, where");
  const std::string how = argv[1];
  const int where = std::atoi(argv[2]);
  const auto device = kernels::make_host_device(1);
  if (where < 0 || where == runtime.rank()) {
    if (how == "configuration") fail(Failure::configuration, "mesh.tensor = 5 divides nothing");
    if (how == "numerics") fail(Failure::numerics, "loss is nan");
    if (how == "memory") throw std::bad_alloc();
    if (how == "unknown") throw std::runtime_error("something else");
    if (how == "absent") std::this_thread::sleep_for(std::chrono::minutes(5));
    if (how == "code") return 7;
  }
  Mesh mesh = runtime.make_mesh(*device, {runtime.size(), 1, 1});
  if (how == "leave" && where == runtime.rank()) std::this_thread::sleep_for(std::chrono::minutes(5));
  if (where < 0 || where == runtime.rank()) {
    runtime.place().step = 3;
    const kernels::WorkScope work(device->profile(), "backward", 2);
    const kernels::AtPlace layer(runtime.place().layer, 7);
    device->profile().record(kernels::Phase::attention, {});
    if (how == "work")  // for many times the limit of those that wait
      for (int i = 0; i < 40; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        runtime.place().beat();
      }
    if (how == "kill") ::kill(::getpid(), SIGKILL);
    if (how == "crash") ::raise(SIGSEGV);
    if (how == "leave_at_once") ::_exit(9);
    if (how == "stop") ::kill(::getpid(), SIGSTOP);
    if (how == "fail") fail(Failure::storage, "no such file");
    if (how == "kill_guardian") {
      std::fprintf(stderr, "process %d\n", static_cast<int>(::getpid()));
      ::kill(::getppid(), SIGKILL);
      std::this_thread::sleep_for(std::chrono::minutes(5));
    }
  }
  std::vector<float> data(8, 1), large(1 << 20);
  if (how == "sending" && where == runtime.rank()) {
    const auto pending = mesh.tensor().send(kernels::view(large.data(), 1, std::ssize(large)), 0, 1);
    fail(Failure::numerics, "norm is inf");
  }
  mesh.tensor().all_reduce(kernels::view(data.data(), 1, 8));
  return data[0] == static_cast<float>(runtime.size()) ? 0 : 1;
}

struct Ended {
  int code = 0;
  std::string output;
};

// `ranks` 0: without mpirun.
Ended run(int ranks, const std::string& arguments, const std::string& environment = "") {
  char self[4096] = "";
  if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) return {-1, "no /proc/self/exe"};
  const std::string launcher =
      ranks == 0 ? "" : text("mpirun --allow-run-as-root --oversubscribe --bind-to none -np ", ranks, " ");
  FILE* pipe = popen((environment + " " + launcher + self + " job " + arguments + " 2>&1").c_str(), "r");
  if (!pipe) return {-1, "popen failed"};
  Ended ended;
  for (char part[256]; std::fgets(part, sizeof(part), pipe);) ended.output += part;
  const int status = pclose(pipe);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

// How many lines match.
int lines(const std::string& output, const std::string& pattern) {
  const std::regex line(pattern);
  std::istringstream in(output);
  int count = 0;
  for (std::string text; std::getline(in, text);) count += std::regex_match(text, line);
  return count;
}

TEST(Guard, HealthyJobEndsWithZero) {
  const Ended ended = run(3, "none -1");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_EQ(ended.output, "");
}

TEST(Guard, WorksWithoutMpirun) {
  EXPECT_EQ(run(0, "none -1").code, 0);
  const Ended ended = run(0, "configuration -1");
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.output, "lorashard: mesh.tensor = 5 divides nothing\n");
}

TEST(Guard, TheBodysCodePasses) {
  EXPECT_EQ(run(0, "code -1").code, 7);
  EXPECT_EQ(run(2, "code -1").code, 7);
}

TEST(Guard, BadInputOnAllRanksIsOneLine) {
  const Ended ended = run(4, "configuration -1");
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_EQ(lines(ended.output, "lorashard: mesh.tensor = 5 divides nothing"), 1) << ended.output;
}

TEST(Guard, BadInputOnOneRankEndsAll) {
  const Ended ended = run(3, "configuration 2");
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_EQ(lines(ended.output, "lorashard: mesh.tensor = 5 divides nothing"), 1) << ended.output;
}

TEST(Guard, ErrorsNameRankHostAndPlace) {
  const Ended one = run(3, "numerics 1");
  EXPECT_EQ(one.code, 4) << one.output;
  EXPECT_EQ(lines(one.output, R"(lorashard: rank 1 \(host [^ ]+\): loss is nan \[test_guard\.cpp:\d+\])"), 1)
      << one.output;
  const Ended all = run(3, "numerics -1");
  EXPECT_EQ(all.code, 4) << all.output;
  EXPECT_EQ(lines(all.output, R"(lorashard: rank 0 .*loss is nan.*)"), 1) << all.output;
  EXPECT_EQ(lines(all.output, R"(lorashard: .*loss is nan.*)"), 1) << all.output;
}

// Unwinding destroys a send that its receiver never comes to.
TEST(Guard, ErrorDuringASendEndsTheJob) {
  const Ended ended = run(2, "sending 1", "LORASHARD_WATCHDOG_S=30");
  EXPECT_EQ(ended.code, 4) << ended.output;
  EXPECT_EQ(lines(ended.output, R"(lorashard: rank 1 .*norm is inf.*)"), 1) << ended.output;
}

TEST(Guard, ForeignExceptionsHaveTheirCodes) {
  const Ended memory = run(2, "memory 0");
  EXPECT_EQ(memory.code, 3) << memory.output;
  EXPECT_EQ(lines(memory.output, R"(lorashard: rank 0 \(host [^ ]+\): out of host memory)"), 1) << memory.output;
  const Ended other = run(2, "unknown 0");
  EXPECT_EQ(other.code, 1) << other.output;
  EXPECT_EQ(lines(other.output, R"(lorashard: rank 0 \(host [^ ]+\): something else)"), 1) << other.output;
}

// Each rank says where it is, and one of them who is to blame.
TEST(Guard, AHangNamesWhoNeverCameToWhat) {
  for (const auto& [how, operation] : {std::pair("absent", "making the groups 1"), std::pair("leave", "all_reduce 1 over axis tensor")}) {
    const Ended ended = run(3, text(how, " 1"), "LORASHARD_WATCHDOG_S=0.5");
    EXPECT_EQ(ended.code, 5) << ended.output;
    const std::string self = R"(lorashard: rank [02] \(host [^ ]+\): (no progress for [0-9.]+ s|the job hangs): waits in )";
    EXPECT_EQ(lines(ended.output, self + operation + " for ranks (0-1|1-2).*"), 2) << ended.output;
    EXPECT_EQ(lines(ended.output, text(R"(lorashard: rank 1 \(host [^ ]+\) never entered )", operation, ".*")), 1)
        << ended.output;
  }
}

// Whoever waits for a rank that works is in order, be the wait as long as it may.
TEST(Guard, AWaitForWorkIsNoHang) {
  for (const int where : {0, 5}) {  // of six ranks on one host the first four decide, and 5 has to ask
    const Ended ended = run(6, text("work ", where), "LORASHARD_WATCHDOG_S=0.8");
    EXPECT_EQ(ended.code, 0) << ended.output;
    EXPECT_EQ(ended.output, "");
  }
}

TEST(Guard, ARankThatASignalEndsIsNamed) {
  const Ended killed = run(3, "kill 1");
  EXPECT_EQ(killed.code, 128 + SIGKILL) << killed.output;
  EXPECT_EQ(lines(killed.output, R"(lorashard: rank 1 \(host [^ ]+\): ended by signal 9 \(Killed\) in step 3, backward of microbatch 2, layer 7, attention)"), 1)
      << killed.output;
  EXPECT_EQ(lines(killed.output, "lorashard: .*"), 1) << killed.output;
  const Ended crashed = run(0, "crash -1");
  EXPECT_EQ(crashed.code, 128 + SIGSEGV);
  EXPECT_EQ(lines(crashed.output, R"(lorashard: rank 0 .*ended by signal 11 .*layer 7, attention)"), 1) << crashed.output;
}

TEST(Guard, ARankThatALibraryEndsIsNamed) {
  const Ended ended = run(2, "leave_at_once 1");
  EXPECT_EQ(ended.code, 9) << ended.output;
  EXPECT_EQ(lines(ended.output, R"(lorashard: rank 1 \(host [^ ]+\): a library ended it with code 9 in step 3, backward of microbatch 2, layer 7, attention)"), 1)
      << ended.output;
}

TEST(Guard, AStoppedRankIsSaidToBe) {
  const Ended ended = run(2, "stop 1", "LORASHARD_WATCHDOG_S=0.5");
  EXPECT_EQ(ended.code, 5) << ended.output;
  EXPECT_EQ(lines(ended.output, R"(lorashard: rank 1 \(host [^ ]+\) never entered all_reduce 1 over axis tensor; stopped by a signal; last seen in step 3, backward of microbatch 2, layer 7, attention)"), 1)
      << ended.output;
}

TEST(Guard, ErrorsSayWhereInTheWork) {
  const Ended ended = run(2, "fail 1");
  EXPECT_EQ(ended.code, 6) << ended.output;
  EXPECT_EQ(lines(ended.output, R"(lorashard: rank 1 \(host [^ ]+\): no such file; in step 3, backward of microbatch 2, layer 7, attention \[test_guard.cpp:\d+\])"), 1)
      << ended.output;
}

// Nobody is left behind, whatever was killed: the rank goes with its guardian.
TEST(Guard, AKilledGuardianTakesItsRankAlong) {
  const Ended ended = run(2, "kill_guardian 1");
  EXPECT_NE(ended.code, 0) << ended.output;
  const std::size_t at = ended.output.find("process ");
  ASSERT_NE(at, std::string::npos) << ended.output;
  const pid_t rank = std::atoi(ended.output.c_str() + at + 8);
  for (int i = 0; i < 100 && kill(rank, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_NE(kill(rank, 0), 0) << rank;
}

TEST(Guard, WorksWithoutAGuardian) {
  EXPECT_EQ(run(2, "none -1", "LORASHARD_GUARDIAN=0").code, 0);
  EXPECT_EQ(run(2, "numerics 1", "LORASHARD_GUARDIAN=0").code, 4);
}

TEST(Guard, WatchdogLimitMustBeSeconds) {
  const Ended ended = run(0, "none -1", "LORASHARD_WATCHDOG_S=soon");
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.output, "LORASHARD_WATCHDOG_S: found 'soon', expected seconds, 0 or more\n");
}

}  // namespace

int run_job(int argc, char** argv) {
  try {
    Runtime runtime(argc, argv);
    return run_guarded(runtime, "lorashard", job, argc - 1, argv + 1);
  } catch (const kernels::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.failure());
  }
}

}  // namespace lorashard::dist

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "job") return lorashard::dist::run_job(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
