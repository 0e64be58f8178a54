// The main function of tests that run on several ranks. After each test the ranks agree on the verdict: failures of all
// ranks are gathered, printed by rank 0, and fail the test on every rank, so that all return the same exit code. A test
// that hangs (a rank left before a collective) is ended with its name and what this rank had found wrong so far.
#include "tests/rank_main.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace dist = lorashard::dist;
using lorashard::kernels::text;

namespace {

dist::Runtime* the_runtime = nullptr;

class RankListener final : public testing::EmptyTestEventListener {
 public:
  explicit RankListener(double limit_s) : limit_(limit_s), thread_([this] { watch(); }) {}
  ~RankListener() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

 private:
  void OnTestStart(const testing::TestInfo& info) override {
    const std::lock_guard lock(mutex_);
    found_.clear();
    name_ = text(info.test_suite_name(), ".", info.name());
    since_ = Clock::now();
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const std::lock_guard lock(mutex_);
    found_ += text("rank ", runtime().rank(), ": ", result.file_name() ? result.file_name() : "", ":",
                   result.line_number(), ": ", result.message(), "\n");
  }

  // The default printer comes after this listener at the end of a test, so it sees the failure added here.
  void OnTestEnd(const testing::TestInfo&) override {
    const std::string all = gather(found());
    {
      const std::lock_guard lock(mutex_);
      name_.clear();
    }
    if (!all.empty() && runtime().size() > 1) ADD_FAILURE() << "failures of all ranks:\n" << all;
  }

  std::string found() {
    const std::lock_guard lock(mutex_);
    return found_;
  }

  // The texts of all ranks in rank order, on every rank.
  static std::string gather(const std::string& own) {
    const int size = runtime().size();
    const int length = static_cast<int>(own.size());
    std::vector<int> lengths(size), firsts(size);
    MPI_Allgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD);
    std::exclusive_scan(lengths.begin(), lengths.end(), firsts.begin(), 0);
    std::string all(static_cast<std::size_t>(firsts.back() + lengths.back()), ' ');
    MPI_Allgatherv(own.data(), length, MPI_CHAR, all.data(), lengths.data(), firsts.data(), MPI_CHAR, MPI_COMM_WORLD);
    return all;
  }

  void watch() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_until(lock, Clock::now() + std::chrono::seconds(1), [this] { return stop_; })) {
      if (name_.empty() || Clock::now() - since_ < limit_) continue;
      std::fprintf(stderr, "rank %d: %s has not ended after %.0f s\n%s", runtime().rank(), name_.c_str(), limit_.count(),
                   found_.c_str());
      std::this_thread::sleep_for(std::chrono::seconds(1));  // for the other ranks to say the same
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }

  using Clock = std::chrono::system_clock;  // waits on the steady clock escape GCC 12's thread sanitizer
  const std::chrono::duration<double> limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::string found_;
  std::string name_;  // of the test that runs; empty between tests
  Clock::time_point since_;
  std::thread thread_;  // last: it uses the rest
};

// Seconds a test may take, on any rank.
double limit_s() {
  const char* value = std::getenv("LORASHARD_TEST_LIMIT_S");
  return value ? std::atof(value) : 240;
}

}  // namespace

dist::Runtime& runtime() { return *the_runtime; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  dist::Runtime own(argc, argv);
  the_runtime = &own;
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (own.rank() != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new RankListener(limit_s()));
  return RUN_ALL_TESTS();
}
