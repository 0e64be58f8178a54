// A job on one rank: the model's parts of this rank, the schedule's list of actions, the optimizer. The launch room makes
// the device, the mesh and the data, then asks for steps.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/background_save.hpp"
#include "core/config.hpp"
#include "core/dataset.hpp"
#include "core/digest.hpp"
#include "core/first_not_finite.hpp"
#include "dist/mesh.hpp"

namespace lorashard::core {

// Frobenius norms: of the A and of the B of all pairs of a layer together, after the step's update, and of the gradient of
// all that the layer trains, before clipping.
struct LayerNorms {
  Index layer = 0;
  bool adapted = false;  // else there is no A and no B
  double a_norm = 0, b_norm = 0;
  double grad_norm = 0;
  bool operator==(const LayerNorms&) const = default;
};

struct StepReport {
  Index step = 0;         // from 0
  double loss = 0;        // mean over all scored tokens of the global batch
  double grad_norm = 0;   // global, before clipping
  double lr = 0;
  Index tokens = 0;       // positions processed by all ranks in this step
  std::vector<LayerNorms> layers = {};  // in every run.norms_every steps
};

// A step whose loss or gradient norm is NaN or infinite. Nothing was changed by it, nor by what was begun after it.
class NotFinite : public kernels::Error {
 public:
  NotFinite(const StepReport& report, std::source_location where = std::source_location::current());
  const StepReport& report() const { return report_; }

 private:
  StepReport report_;
};

struct Evaluation {
  double loss = 0;        // mean over scored tokens
  Index scored = 0;
};

class LogitChange;
class Merge;
class ResidualFile;
struct MergeRounding;

class Trainer {
 public:
  // Loads (or makes) the base, attaches adapters, allocates gradients and optimizer state. Collective over the mesh.
  // `config.model.shape` is complete. device and mesh must outlive the trainer.
  Trainer(const Config& config, kernels::Device& device, dist::Mesh& mesh);
  ~Trainer();

  // Steps begun; all but those under way are reported.
  Index steps_done() const;
  // One optimizer step on the batch of steps_done(). Collective. Throws NotFinite on a loss or norm that is not finite,
  // before anything is changed.
  StepReport step(const Dataset& data);
  // The same in two halves, so that a device with a queue never waits for the host: begin() queues a step, finish() waits
  // for the oldest one under way. At most two are under way. A step that is not finite changes nothing, nor does any
  // that was begun after it.
  void begin(const Dataset& data);
  StepReport finish();
  Index under_way() const;
  // After NotFinite: runs the step's passes once more, looking at every tensor, and says which had the first value that
  // is not finite, and where. Changes nothing. Collective; the same on every rank.
  FirstNotFinite::Place find_not_finite(const Dataset& data);
  // After NotFinite: goes on with the step after it, as if that one had changed nothing. Collective.
  void skip_step();
  // Compares the values that every rank of a replica group holds, bit by bit. Throws Failure::numerics naming the rank
  // that has others. Collective.
  void check_replicas() const;
  // Loss over the whole set, in file order; `logits`, unless null, is shown them all. Collective; changes nothing.
  Evaluation evaluate(const Dataset& data, LogitChange* logits = nullptr);

  // Adds the adapters to the frozen weights in place (merge.hpp); passes do without them from then on. Steps and loads are
  // refused until unmerge(), which gives the weights their bits back: from the base file, or from a residual. Collective.
  const MergeRounding& merge();
  void unmerge();
  void unmerge(const ResidualFile& residual);
  // The merged model as a base file. Collective. Returns its digest.
  Digest export_merged(const std::string& path) const;
  // Of the merged adapters; throws Failure::other when none are.
  const Merge& merged() const;
  // Evaluates the bare base while it holds, for comparison.
  void skip_adapters(bool skip);

  // Collective. Returns the file's bytes.
  Index save(const std::string& path) const;
  // The same, begun: the state is copied now, into `memory`, and written beside what follows. Collective.
  std::unique_ptr<BackgroundSave> begin_save(const std::string& path, kernels::HostMemory& memory) const;
  // Bytes of that copy on this rank.
  Index saved_bytes() const;
  // Collective. Throws Failure::configuration when base, method, targets, ranks or extents differ, naming them.
  void load(const std::string& path);
  // The result of full training as a base file. Collective.
  void export_base(const std::string& path) const;

  const ModelShape& shape() const;
  // Trained values of the whole model, each counted once.
  Index trained_parameters() const;
  // Bytes this rank hands to the gradient reduction each step.
  Index reduced_bytes() const;
  const std::string& base_digest() const;  // hex; empty from nothing

  // For tests and certificates: trained tensors, and their gradients of the last step before clipping, whole, on every
  // rank (f32, global extents). Collective.
  struct NamedValues {
    std::string name;
    Index rows = 0, cols = 0;
    std::vector<float> values;
  };
  std::vector<NamedValues> trained_values() const;
  std::vector<NamedValues> gradients() const;
  // Not collective: this rank's own copies of the values that every rank of its stage holds whole (adapters, vectors). The
  // two above show one rank's copy of them.
  std::vector<NamedValues> own_copies() const;

 private:
  Index run_passes(const Dataset& data);
  std::vector<NamedValues> collect(bool gradients) const;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lorashard::core
