// A checkpoint of a job's adapters, with values that tell every element of every tensor apart.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/adapter.hpp"
#include "core/checkpoint.hpp"
#include "core/options.hpp"

namespace lorashard::core {

// Two layers of width 8, and `lines` of the job file.
inline Config made_job(const std::string& lines) {
  Config config =
      parse_config("[model]\nlayers = 2\nwidth = 8\nheads = 4\nffn = 6\nvocab = 5\ncontext = 4\n" + lines, "job", {});
  complete_config(config, nullptr);
  return config;
}

// Written to `path`; the values by name.
inline std::map<std::string, std::vector<float>> make_checkpoint(const std::string& path, const Config& config,
                                                                 const std::string& base_digest = "") {
  const std::unique_ptr<kernels::Device> device = kernels::make_meta_device();
  const auto alone = dist::make_meta_communicator(*device, "world", 0, 1);
  const TrainingPlan plan = make_plan(config);
  std::vector<CheckpointEntry> entries;
  for (const AdapterSpec& spec : plan.adapters)
    for (const char* suffix : {"", "/first_moment", "/second_moment"}) {
      entries.push_back({spec.a_name() + suffix, spec.rank, spec.in});
      entries.push_back({spec.b_name() + suffix, spec.out, spec.rank});
    }
  for (const AdapterSpec& spec : plan.adapters) entries.push_back({spec.alpha_name(), 1, 1});
  CheckpointWriter writer(path, {1, "lora", canonical_text(config), base_digest}, entries, *alone);
  std::map<std::string, std::vector<float>> all;
  for (const CheckpointEntry& entry : entries) {
    std::vector<float> values(static_cast<std::size_t>(entry.rows * entry.cols));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(all.size() * 100 + i);
    for (const AdapterSpec& spec : plan.adapters)
      if (entry.name == spec.alpha_name()) values[0] = static_cast<float>(spec.alpha);
    writer.write(entry.name, dist::AxisCut::whole(entry.rows), dist::AxisCut::whole(entry.cols),
                 kernels::view(values.data(), entry.rows, entry.cols));
    all[entry.name] = values;
  }
  writer.finish();
  return all;
}

}  // namespace lorashard::core
