// What a run cost, measured on every rank: printed at the end, and kept as summary.json for `lorashard info --table`.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "core/metrics.hpp"
#include "dist/communicator.hpp"
#include "launch/job.hpp"

namespace lorashard::launch {

// The ledger and the profile of one rank.
struct RankFigures {
  struct PhaseFigures {
    double seconds = 0, step_seconds = 0;  // the second without evaluations and checkpoints
    double flops = 0, bytes = 0, sent_bytes = 0;
  };
  std::array<PhaseFigures, kernels::kPhaseCount> phases;
  std::array<double, kernels::kCategoryCount> peak_bytes;              // by category
  std::array<double, kernels::kActivationKindCount> activation_bytes;  // at the activations' peak
  double peak_total_bytes = 0;                                         // of the sum at any one time
  double peak_resident_bytes = 0;                                      // of the process, libraries and all
  double reduced_bytes = 0;                                            // handed to the gradient reduction each step
};

// Seconds by phase up to now. Waits for what is queued.
using PhaseSeconds = std::array<double, kernels::kPhaseCount>;
PhaseSeconds seconds_of(kernels::Device& device);
// Of this rank; `outside`: what of its time no step took.
RankFigures figures_of(kernels::Device& device, kernels::Index reduced_bytes, const PhaseSeconds& outside = {});
// Collective: of every rank, in rank order.
std::vector<RankFigures> gather_figures(dist::Communicator& world, const RankFigures& mine);

struct RunFigures {
  core::Index trained_parameters = 0;
  core::Index first_step = 0, steps = 0;  // of this session: steps [first_step, steps)
  core::Index tokens = 0;                 // of this session
  double step_s = 0;                      // spent in its optimizer steps
  double loss = 0;                        // of the last step
  core::Index checkpoint_bytes = 0;
  core::Index saved_beside = 0;  // checkpoints written beside steps
  double longest_pause_s = 0;    // that one of these kept steps waiting, for the copy of the state
  double longest_save_s = 0;     // until one of them was on the disk
  double ceiling_share = 0;          // of the products' speed in the library's own (rank 0); 0: not measured
  std::string library;               // whose
  std::string result;                // the file made
  boost::json::object against_plan;  // see against_plan.hpp; empty: not planned
  std::vector<core::NamedLoss> before, after;
  std::vector<RankFigures> ranks;
};

// One row for each rank; neighbours with the same cells share one.
std::string rank_table(std::vector<std::string> head, const std::vector<std::vector<std::string>>& cells_of_rank);
std::string memory_table(const std::vector<RankFigures>& ranks);
// Time by phase, memory by rank, tokens/s.
std::string speed_text(const RunFigures& run);
// The same with what was learnt and where it lies.
std::string summary_text(const RunFigures& run);
std::string summary_json(const Job& job, const RunFigures& run);

// The summary.json of a finished run. Throws Failure::configuration where there is none, or something else.
boost::json::object read_summary(const std::string& run_directory);
// What the summary.json of a finished run says against its plan; "" for runs of older versions.
std::string against_plan_text_of(const std::string& run_directory);
// The figures of finished runs side by side, read from their summary.json; `planned`: with the memory planned for them.
std::string comparison_table(const std::vector<std::string>& run_directories, bool planned = false);

}  // namespace lorashard::launch
