// What a Trainer holds; shared by the pages that implement it.
#pragma once

#include <array>
#include <deque>
#include <functional>

#include "core/checkpoint.hpp"
#include "core/layer_norms.hpp"
#include "core/merge.hpp"
#include "core/optimizer.hpp"
#include "core/pipeline.hpp"
#include "core/trainer.hpp"

namespace lorashard::core {

struct Trainer::State {
  State(const Config& config, kernels::Device& device, dist::Mesh& mesh);

  // The trained tensors of the whole model in checkpoint order; every rank makes the same list.
  struct Trained {
    std::string name;
    Index rows = 0, cols = 0;
    const AdapterSpec* adapter = nullptr;  // null for a dense tensor
  };
  std::vector<Trained> trained() const;
  // True on the rank that speaks for a replicated value of its stage.
  bool speaks() const { return context.mesh.point().tensor == 0 && context.mesh.point().data == 0; }
  // The number in the replicated group, or -1.
  int replicated_number(const std::string& name) const;
  DenseParameter* dense(const std::string& name);
  // True on the stage that writes `name`: a tied table is on two.
  bool writes(const std::string& name) const;
  // Calls put(name, rows, cols, device memory) for each slice of the training state that this rank writes. Collective.
  using Put = std::function<void(const std::string&, const dist::AxisCut&, const dist::AxisCut&, ConstMatrix)>;
  void for_each_slice(const Put& put);
  std::unique_ptr<CheckpointWriter> make_writer(const std::string& path) const;
  void write_alphas(CheckpointWriter& writer) const;
  // Throws Failure::configuration naming the first tensor that differs.
  void expect_entries(const CheckpointReader& reader) const;
  void load_initial_adapters();
  template <class Undo>
  void unmerge(const Undo& undo);

  Config config;
  std::unique_ptr<BaseFile> base;
  std::string base_digest;
  Context context;
  // On the device: this rank's (loss, sum of squares), those of all ranks, and what finish_step made of them. Made before
  // everything else, so that they are part of every peak.
  Tensor totals, all_totals, control;
  TrainingPlan plan;
  LayerNormMeter layer_norms;
  Parameters parameters;
  Pipeline pipeline;
  Optimizer optimizer;
  Index steps_done = 0;
  std::optional<Merge> merge;  // while the adapters are in the weights

  std::array<std::unique_ptr<kernels::Readback>, 2> readbacks;  // of control, by step mod 2
  std::deque<StepReport> under_way;                             // loss and norm are still to come
};

}  // namespace lorashard::core
