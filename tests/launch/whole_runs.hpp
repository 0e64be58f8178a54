// What is asked of whole runs of the program on any device: they can be stopped, they report every step once, and their
// plan is right to the byte.
#pragma once

#include <gmock/gmock.h>
#include <signal.h>

#include <boost/json.hpp>
#include <string>
#include <thread>

#include "tests/launch/program.hpp"

namespace lorashard::launch {

class WholeRuns : public Program {
 protected:
  // Starts `command` in a process group of its own and sends it `signal` once `steps` lines of metrics are there.
  int start_and_signal(const std::string& command, int signal, long steps) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setpgid(0, 0);
      const std::string line = "cd '" + folder_.string() + "' && exec " + command + " >.out 2>.err";
      ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      ::_exit(127);
    }
    ::setpgid(child, child);
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
      const std::string metrics = content_of(at("run/metrics.jsonl"));
      if (std::count(metrics.begin(), metrics.end(), '\n') >= steps) {
        ::kill(-child, signal);
        ::waitpid(child, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return status;
  }

  // The adapter of a run that is left alone. It leaves none behind: the run that is compared has the same run.dir,
  // which checkpoints name.
  std::string undisturbed(const std::string& job, const std::string& before = "") {
    const Outcome outcome = call(job, before);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const std::string adapter = content_of(at("run/adapter.h5"));
    EXPECT_GT(adapter.size(), 0u);
    std::filesystem::remove_all(at("run"));
    return adapter;
  }

  // Calls it again while a run that was killed still holds the lock: ranks outlive mpirun for a moment.
  Outcome call_when_free(const std::string& job, const std::string& before = "") {
    Outcome last;
    for (int attempt = 0; attempt < 100; ++attempt) {
      last = call(job, before);
      if (last.err.find("in use by another run") == std::string::npos) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return last;
  }

  std::vector<boost::json::object> metrics() const {
    std::istringstream lines(content_of(at("run/metrics.jsonl")));
    std::vector<boost::json::object> all;
    for (std::string line; std::getline(lines, line);) all.push_back(boost::json::parse(line).as_object());
    return all;
  }

  void expect_each_step_once(int steps) const {
    const std::vector<boost::json::object> lines = metrics();
    EXPECT_EQ(lines.size(), static_cast<std::size_t>(steps));
    for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i].at("step"), i);
  }

  // Every rank's peaks, by category and together, to the byte. `plan` and `run` say on which device.
  void expect_plan_agrees(const std::string& job, const std::string& plan, const std::string& run, int ranks) {
    SCOPED_TRACE(job + run);
    const Outcome planned = call(job + plan + " --device.kind meta --json --ranks " + std::to_string(ranks));
    const Outcome ran = call(job + run, ranks > 1 ? mpirun(ranks) : "");
    ASSERT_EQ(planned.code, 0) << planned.err;
    ASSERT_EQ(ran.code, 0) << ran.err;
    const std::string summary_of_run = content_of(at("run/summary.json"));
    const auto ranks_of = [](const std::string& summary) {
      return boost::json::parse(summary).at("per_rank").as_array();
    };
    const boost::json::array expected = ranks_of(planned.out), found = ranks_of(summary_of_run);
    ASSERT_EQ(expected.size(), static_cast<std::size_t>(ranks));
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t rank = 0; rank < expected.size(); ++rank)
      for (const char* key : {"memory", "activation_parts", "peak_bytes"})
        EXPECT_EQ(expected[rank].at(key), found[rank].at(key)) << "rank " << rank;
    // The run itself says the same of its fullest ranks.
    const boost::json::value figures = boost::json::parse(summary_of_run).at("against_plan");
    double most = 0;
    for (const boost::json::value& rank : found) most = std::max(most, rank.at("peak_bytes").to_number<double>());
    EXPECT_EQ(figures.at("peak_bytes").at("planned").to_number<double>(), most);
    for (const boost::json::value& row : figures.at("memory").as_array())
      EXPECT_EQ(row.at("planned"), row.at("observed")) << row.at("name");
    std::filesystem::remove_all(at("run"));
  }
};

}  // namespace lorashard::launch
