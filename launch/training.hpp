// The steps of a run, with what happens between them: evaluations, checkpoints, requests to stop.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/hardware.hpp"
#include "core/trainer.hpp"
#include "launch/job.hpp"
#include "launch/progress.hpp"
#include "launch/run_directory.hpp"
#include "launch/saver.hpp"
#include "launch/summary.hpp"
#include "launch/time_limit.hpp"

namespace lorashard::launch {

// A run under way: what its steps share.
struct Session {
  const Job& job;
  const JobData& data;
  kernels::Device& device;
  dist::Runtime& runtime;
  dist::Mesh& mesh;
  core::Trainer& trainer;
  RunDirectory& directory;
  Progress& progress;
  Saver& saver;
  const TimeLimit& limit;
  RunFigures figures{};
  PhaseSeconds outside{};  // of evaluations and checkpoints
  std::chrono::steady_clock::time_point step_start{};  // when the step before ended, moved on by what is outside
  double patience_s = 0;   // a step that takes longer hangs; 0: not known yet
};

// Keeps the time of `body`, which is no part of a step, apart from that of steps.
template <class Body>
void outside_steps(Session& session, const Body& body) {
  using Clock = std::chrono::steady_clock;
  const PhaseSeconds before = seconds_of(session.device);
  const Clock::time_point start = Clock::now();
  session.runtime.expect_progress_within(0);  // a disk may be slow
  body();
  session.runtime.expect_progress_within(session.patience_s);
  const PhaseSeconds after = seconds_of(session.device);
  session.step_start += Clock::now() - start;
  for (int p = 0; p < kernels::kPhaseCount; ++p) session.outside[p] += after[p] - before[p];
}

// Why run_steps came back.
enum class RunEnd { complete, asked_to_stop, out_of_time };

// All steps that are left, or as many as there is time for; the state is saved either way. Collective.
RunEnd run_steps(Session& session);

}  // namespace lorashard::launch
