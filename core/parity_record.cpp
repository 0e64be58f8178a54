#include "core/parity_record.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "core/adapter.hpp"
#include "core/checkpoint.hpp"
#include "core/parity_bounds.hpp"
#include "kernels/random.hpp"

namespace lorashard::core {
namespace {

using kernels::text;
using Tensors = std::vector<Trainer::NamedValues>;

// Of alpha / R times B: that of the base's own matrices in the beginning, so that adapters neither vanish beside the
// base nor drown it.
constexpr float kDeviation = 0.02f;

bool is_zero(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return x == 0; });
}

// Names of the tensors that it gave values to: each B at zero.
std::vector<std::string> perturb(Tensors& tensors, const Config& config) {
  std::map<std::string, float> scales;
  for (const AdapterSpec& spec : make_plan(config).adapters) scales[spec.b_name()] = spec.scale();
  std::vector<std::string> names;
  for (Trainer::NamedValues& t : tensors) {
    const auto scale = scales.find(t.name);
    if (scale == scales.end() || !is_zero(t.values)) continue;
    const float deviation = kDeviation / scale->second;
    const kernels::RandomKey key{config.adapter.seed, stream_of(t.name + " of a certificate")};
    for (std::size_t i = 0; i < t.values.size(); ++i) t.values[i] = deviation * kernels::normal(key, i);
    names.push_back(t.name);
  }
  return names;
}

// A checkpoint of no steps is the one door through which values enter a trainer. Each rank writes its own: ranks need
// no folder in common.
void set_values(Trainer& trainer, const Config& config, const Tensors& tensors, const std::string& path) {
  const std::unique_ptr<kernels::Device> device = kernels::make_host_device(1);
  const std::unique_ptr<dist::Communicator> alone = dist::make_meta_communicator(*device, "alone", 0, 1);
  const auto whole = [](Index extent) { return dist::AxisCut::whole(extent); };
  const char* const parts[] = {"", "/first_moment", "/second_moment"};
  std::vector<CheckpointEntry> entries;
  for (const Trainer::NamedValues& t : tensors)
    for (const char* part : parts) entries.push_back({t.name + part, t.rows, t.cols});
  const TrainingPlan plan = make_plan(config);
  for (const AdapterSpec& spec : plan.adapters) entries.push_back({spec.alpha_name(), 1, 1});
  {
    const CheckpointInfo info{0, name(config.adapter.method), "", trainer.base_digest()};
    CheckpointWriter writer(path, info, entries, *alone);
    for (const Trainer::NamedValues& t : tensors) {
      const std::vector<float> zeros(t.values.size());
      for (const char* part : parts)
        writer.write(t.name + part, whole(t.rows), whole(t.cols),
                     kernels::view((*part ? zeros : t.values).data(), t.rows, t.cols));
    }
    for (const AdapterSpec& spec : plan.adapters) {
      const auto alpha = static_cast<float>(spec.alpha);
      writer.write(spec.alpha_name(), whole(1), whole(1), kernels::view(&alpha, 1, 1));
    }
    writer.finish();
  }
  trainer.load(path);
  std::error_code error;
  std::filesystem::remove(path, error);
}

// Of each tensor the copy that strays most. Collective; `shown` is one rank's copy.
std::vector<CopyDistance> copy_distances(const Trainer& trainer, dist::Mesh& mesh, const Tensors& shown) {
  std::map<std::string, const Trainer::NamedValues*> by_name;
  for (const Trainer::NamedValues& t : shown) by_name[t.name] = &t;
  std::map<std::string, double> own;
  for (const Trainer::NamedValues& copy : trainer.own_copies()) {
    const Trainer::NamedValues& other = *by_name.at(copy.name);
    double& most = own[copy.name];
    for (std::size_t i = 0; i < copy.values.size(); ++i)
      keep_larger(most, std::abs(static_cast<double>(copy.values[i]) - other.values[i]));
  }
  std::vector<double> mine;
  for (const Trainer::NamedValues& t : shown) mine.push_back(own.count(t.name) ? own[t.name] : 0);
  const std::vector<double> all = mesh.world().gather_values(mine);
  std::vector<CopyDistance> list;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    CopyDistance worst{shown[i].name, 0, 0};
    for (int rank = 0; rank < mesh.extents().ranks(); ++rank) {
      const double d = all[static_cast<std::size_t>(rank) * shown.size() + i];
      if (!(d <= worst.distance) && !std::isnan(worst.distance)) worst = {shown[i].name, d, rank};
    }
    list.push_back(worst);
  }
  return list;
}

ParityStep step_of(Trainer& trainer, const Dataset& data, dist::Mesh& mesh) {
  ParityStep step;
  const StepReport report = trainer.step(data);
  step.lr = report.lr;
  const double own[] = {report.loss, report.grad_norm};
  const std::vector<double> all = mesh.world().gather_values(own);
  for (std::size_t i = 0; i < all.size(); i += 2) {
    step.losses.push_back(all[i]);
    step.norms.push_back(all[i + 1]);
  }
  step.gradients = trainer.gradients();
  step.values = trainer.trained_values();
  return step;
}

}  // namespace

ParityRecord record_of(const ParityRequest& request, const Config& config, dist::Mesh& mesh) {
  ParityRecord record;
  Trainer trainer(config, request.device, mesh);
  record.trained_parameters = trainer.trained_parameters();
  record.start = trainer.trained_values();
  record.start_copies = copy_distances(trainer, mesh, record.start);
  record.begun = record.start;
  record.perturbed = perturb(record.begun, config);
  if (!record.perturbed.empty()) {
    const std::string path = text(request.scratch, "/lorashard-parity-", ::getpid(), ".h5");
    set_values(trainer, config, record.begun, path);
  }
  const bool keeps = mesh.rank() == 0;
  for (Index i = 0; i < request.steps; ++i) {
    ParityStep step = step_of(trainer, request.data, mesh);
    if (i + 1 == request.steps) record.end_copies = copy_distances(trainer, mesh, step.values);
    if (keeps) record.steps.push_back(std::move(step));
  }
  if (!keeps) record.start.clear(), record.begun.clear();
  return record;
}

Config on_one_rank(const Config& config, const dist::MeshExtents& extents) {
  Config one = config;
  one.train.microbatch = microbatch_of(config.train, extents.data);
  one.mesh = {};
  return one;
}

}  // namespace lorashard::core
