// A job from its keys to the data it reads: everything that can be wrong with it is found here, before anything is
// made.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/dataset.hpp"
#include "dist/runtime.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

struct Job {
  core::Config config;  // complete: the model's extents and the rows' length are known
  dist::MeshExtents extents;
  int threads = 1;  // of this rank
  std::optional<double> time_left_s = {};  // that it may run
  kernels::DeviceKind target = kernels::DeviceKind::host;  // with device.kind = meta: what is planned for
  bool random_tokens = false;                              // stand in for data.train, which is not there
};

// Completes and checks the keys against the base file and `ranks`. Collective over all ranks of the runtime.
Job make_job(core::Config config, int ranks);

// The token files of data.valid, which may list several: "new.h5,old.h5".
std::vector<std::string> valid_paths(const core::Config& config);

// Reads the base file whole, its tensors shared out among the ranks, and compares its digests: a bit that turned in a
// frozen weight would show nowhere else. Collective. Costs about as much as loading.
void verify_base(const core::Config& config, dist::Communicator& world, kernels::Place& place);

// A token file as data.length and data.order say, its ids within the model's vocabulary.
core::Dataset open_tokens(const std::string& path, const core::Config& config);

struct JobData {
  core::Dataset train;
  std::vector<core::Dataset> valid;
};
JobData open_data(const core::Config& config);

// The job's device for this rank: on cuda the GPU of its number among the ranks of its host. Collective.
std::unique_ptr<kernels::Device> make_device(const Job& job, dist::Runtime& runtime);

// "host", "cuda (CUDA 13.0.48 for sm_90)" or, for a plan, "meta for cuda".
std::string device_text(const Job& job);

// A few lines on what is about to run.
std::string describe(const Job& job, core::Index trained_parameters, const JobData& data);

}  // namespace lorashard::launch
