// How a trainer looks at itself: where a step stopped being finite, and whether its replicas still agree.
#include <array>

#include "core/digest.hpp"
#include "core/host_copy.hpp"
#include "core/trainer_state.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

FirstNotFinite::Place Trainer::find_not_finite(const Dataset& data) {
  State& s = *state_;
  FirstNotFinite finder(s.context.device, s.config.model.shape.layers);
  const auto look_at_trained = [&](bool gradients) {
    ReplicatedGroup& group = s.parameters.replicated();
    for (int i = 0; i < static_cast<int>(group.entries().size()); ++i) {
      const ReplicatedGroup::Entry& entry = group.entries()[i];
      finder.look(entry.name, entry.layer, gradients ? group.gradient(i) : group.value(i), nullptr, 0);
    }
    for (DenseParameter& p : s.parameters.dense())
      finder.look(p.info().name, -1, gradients ? ConstMatrix(p.gradient()) : p.has_master() ? p.master_share() : p.value_share(),
                  nullptr, 0);
  };
  look_at_trained(false);
  s.context.finder = &finder;
  run_passes(data);
  s.context.finder = nullptr;
  s.optimizer.reduce();  // what was begun must be ended
  finder.begin(FirstNotFinite::Pass::gradients);
  look_at_trained(true);
  return finder.first_of_all(s.context.mesh.world());
}

void Trainer::skip_step() { ++state_->steps_done; }

// A digest in numbers that a double holds exactly.
static std::array<double, 4> parts_of(const Digest& digest) {
  const auto low = [](std::uint64_t word) { return static_cast<double>(word & 0xffffffff); };
  return {low(digest.high >> 32), low(digest.high), low(digest.low >> 32), low(digest.low)};
}

void Trainer::check_replicas() const {
  State& s = *state_;
  ReplicatedGroup& group = s.parameters.replicated();
  dist::Communicator& replica = s.context.mesh.replica();
  if (group.count() == 0 || replica.size() == 1) return;
  const kernels::AtPlace work(s.context.device.profile().place().work, "comparing replicas");
  const HostCopy values(s.context.device, group.values());
  const std::array<double, 4> own =
      parts_of(digest_of(values, dist::AxisCut::whole(1), dist::AxisCut::whole(group.count())));
  const std::vector<double> all = replica.gather_values(own);
  for (int other = 1; other < replica.size(); ++other)
    if (!std::equal(all.begin(), all.begin() + 4, all.begin() + 4 * other))
      fail(Failure::numerics,
           text("after step ", s.steps_done, ": the trained values of rank ", other, " of axis replica (stage ",
                s.context.mesh.point().pipeline, ") are no longer those of rank 0, expected the same bits: a device or "
                "its memory may be failing"));
}

}  // namespace lorashard::core
