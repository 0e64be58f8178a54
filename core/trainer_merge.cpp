// A trainer's adapters merged into its weights, for passes that cost what the base's do, and taken out again.
#include "core/merged_file.hpp"
#include "core/residual_file.hpp"
#include "core/trainer_state.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

}  // namespace

const MergeRounding& Trainer::merge() {
  State& s = *state_;
  if (s.merge) fail(Failure::other, "the adapters are merged already");
  if (s.under_way.size() > 0) fail(Failure::other, "adapters were merged while a step is under way");
  if (s.plan.adapters.empty()) fail(Failure::configuration, "adapter.method: found no adapter, expected some to merge");
  const kernels::AtPlace work(s.context.device.profile().place().work, "merging");
  s.merge.emplace(s.context, s.parameters, s.plan, s.base.get());
  s.context.skips_adapters = true;
  return s.merge->rounding();
}

// The weights are the base's only when undo() did not throw; after an error they are not to be used.
template <class Undo>
void Trainer::State::unmerge(const Undo& undo) {
  if (!merge) fail(Failure::other, "no adapter is merged");
  const kernels::AtPlace work(context.device.profile().place().work, "unmerging");
  undo(*merge);
  merge.reset();
  context.skips_adapters = false;
}

void Trainer::unmerge() {
  State& s = *state_;
  if (!s.base) fail(Failure::configuration, "model.base: missing, expected the file that the weights came from");
  s.unmerge([&](Merge& merge) { merge.undo(*s.base); });
}

void Trainer::unmerge(const ResidualFile& residual) {
  State& s = *state_;
  if (residual.base().hex() != s.base_digest)
    fail(Failure::configuration, text(residual.path(), ": base: found ", residual.base().hex(), ", expected ",
                                      s.base_digest, " of ", s.config.model.base));
  s.unmerge([&](Merge& merge) { merge.undo(residual); });
}

const Merge& Trainer::merged() const {
  if (!state_->merge) fail(Failure::other, "no adapter is merged");
  return *state_->merge;
}

Digest Trainer::export_merged(const std::string& path) const {
  const State& s = *state_;
  if (!s.base) fail(Failure::configuration, "model.base: missing, expected the file that the weights came from");
  if (dtype_of(*s.base) != s.context.activation)
    fail(Failure::configuration, text("train.precision: found ", name(s.context.activation), ", expected ",
                                      name(dtype_of(*s.base)), " as in ", s.base->path()));
  const kernels::AtPlace work(s.context.device.profile().place().work, "saving");
  return write_merged(path, *s.base, merged(), s.context);
}

void Trainer::skip_adapters(bool skip) { state_->context.skips_adapters = skip || state_->merge; }

}  // namespace lorashard::core
