// How a trainer's state becomes files and comes back: checkpoints, exported bases, initial adapters, and whole values
// for tests and certificates. All in global coordinates. Longer than most: saving and loading are twins, and are read side
// by side.
#include <algorithm>
#include <map>

#include "core/checkpoint.hpp"
#include "core/host_copy.hpp"
#include "core/initial_adapters.hpp"
#include "core/options.hpp"
#include "core/trainer_state.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

const char* const kFirstMoment = "/first_moment";
const char* const kSecondMoment = "/second_moment";

dist::AxisCut whole(Index extent) { return dist::AxisCut::whole(extent); }

// (parts, share) flat padded rows as the (rows, cols) matrix they hold.
ConstMatrix shaped(const Tensor& flat, const DenseParameter& p) {
  const Index cols = p.col_cut().local_extent();
  return {flat.view().data, DType::f32, p.row_cut().local_extent(), cols, cols};
}

}  // namespace

std::vector<Trainer::State::Trained> Trainer::State::trained() const {
  std::vector<Trained> list;
  for (const AdapterSpec& spec : plan.adapters) {
    list.push_back({spec.a_name(), spec.rank, spec.in, &spec});
    list.push_back({spec.b_name(), spec.out, spec.rank, &spec});
  }
  const auto table = tensor_table(context.shape);
  for (const std::string& name : plan.dense) {
    const TensorInfo& info = find(table, name);
    list.push_back({name, info.rows, info.cols, nullptr});
  }
  return list;
}

int Trainer::State::replicated_number(const std::string& name) const {
  const auto& entries = const_cast<Parameters&>(parameters).replicated().entries();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

DenseParameter* Trainer::State::dense(const std::string& name) {
  for (DenseParameter& p : parameters.dense()) {
    if (p.info().name == name) return &p;
  }
  return nullptr;
}

bool Trainer::State::writes(const std::string& name) const {
  return !parameters.has(name) || parameters.info(name).home != Home::both_ends || context.mesh.first_stage();
}

// The checkpoint holds just the tensors that this job trains. Checked before anything is overwritten.
void Trainer::State::expect_entries(const CheckpointReader& reader) const {
  std::map<std::string, const CheckpointEntry*> entries;
  for (const CheckpointEntry& entry : reader.entries()) entries[entry.name] = &entry;
  const auto list = trained();
  for (const Trained& t : list) {
    const auto found = entries.find(t.name);
    const std::string extents =
        found == entries.end() ? "no such tensor" : text(found->second->rows, "x", found->second->cols);
    if (extents != text(t.rows, "x", t.cols)) {
      fail(Failure::configuration, text(reader.path(), ": ", t.name, ": found ", extents, ", expected ", t.rows, "x",
                                        t.cols, " for this job's targets and ranks"));
    }
  }
  const std::size_t expected = 3 * list.size() + plan.adapters.size();
  if (entries.size() != expected) {
    fail(Failure::configuration, text(reader.path(), ": found ", entries.size(), " tensors, expected ", expected,
                                      " for this job's targets and layers"));
  }
}

std::unique_ptr<CheckpointWriter> Trainer::State::make_writer(const std::string& path) const {
  std::vector<CheckpointEntry> entries;
  for (const auto& t : trained()) {
    for (const char* suffix : {"", kFirstMoment, kSecondMoment}) entries.push_back({t.name + suffix, t.rows, t.cols});
  }
  for (const AdapterSpec& spec : plan.adapters) entries.push_back({spec.alpha_name(), 1, 1});
  const CheckpointInfo info{steps_done, name(config.adapter.method), canonical_text(config), base_digest};
  return std::make_unique<CheckpointWriter>(path, info, entries, context.mesh.world());
}

void Trainer::State::for_each_slice(const Put& put) {
  for (const auto& t : trained()) {
    context.device.profile().place().beat();
    if (const int number = replicated_number(t.name); number >= 0) {
      if (!speaks()) continue;
      ReplicatedGroup& group = parameters.replicated();
      put(t.name, whole(t.rows), whole(t.cols), group.value(number));
      put(t.name + kFirstMoment, whole(t.rows), whole(t.cols), group.first_moment(number));
      put(t.name + kSecondMoment, whole(t.rows), whole(t.cols), group.second_moment(number));
    } else if (DenseParameter* p = dense(t.name)) {
      const auto put_share = [&](const std::string& name, ConstMatrix share) {
        const Tensor flat = p->whole_of(context, share);
        if (context.mesh.point().data == 0 && writes(t.name)) put(name, p->owned_rows(), p->owned_cols(), shaped(flat, *p));
      };
      put_share(t.name, p->has_master() ? p->master_share() : p->value_share());
      put_share(t.name + kFirstMoment, p->first_moment());
      put_share(t.name + kSecondMoment, p->second_moment());
    }
  }
}

// A few bytes a pair.
void Trainer::State::write_alphas(CheckpointWriter& writer) const {
  for (const AdapterSpec& spec : plan.adapters) {
    if (replicated_number(spec.a_name()) < 0 || !speaks()) continue;
    const float alpha = static_cast<float>(spec.alpha);
    writer.write(spec.alpha_name(), whole(1), whole(1), kernels::view(&alpha, 1, 1));
  }
}

Index Trainer::save(const std::string& path) const {
  State& s = *state_;
  kernels::Device& device = s.context.device;
  const kernels::AtPlace work(device.profile().place().work, "saving");
  const auto writer = s.make_writer(path);
  s.write_alphas(*writer);
  s.for_each_slice([&](const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
                       ConstMatrix from) { writer->write(name, rows, cols, HostCopy(device, from)); });
  return writer->finish();
}

std::unique_ptr<BackgroundSave> Trainer::begin_save(const std::string& path, kernels::HostMemory& memory) const {
  State& s = *state_;
  kernels::Device& device = s.context.device;
  const kernels::AtPlace work(device.profile().place().work, "saving");
  auto writer = s.make_writer(path);
  s.write_alphas(*writer);
  auto save = std::make_unique<BackgroundSave>(std::move(writer), memory);
  s.for_each_slice([&](const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
                       ConstMatrix from) { save->add(device, name, rows, cols, from); });
  save->start();
  return save;
}

// What for_each_slice() puts, without its names: a search for layouts asks this of every rank that it looks at.
Index Trainer::saved_bytes() const {
  State& s = *state_;
  Index values = 0;
  if (s.speaks())
    for (const ReplicatedGroup::Entry& entry : s.parameters.replicated().entries()) values += entry.rows * entry.cols;
  if (s.context.mesh.point().data == 0)
    for (const DenseParameter& p : s.parameters.dense()) values += s.writes(p.info().name) ? p.count() : 0;
  return 3 * size_bytes(DType::f32) * values;
}

void Trainer::load(const std::string& path) {
  State& s = *state_;
  if (s.merge) fail(Failure::other, "a checkpoint was loaded while the adapters are merged");
  const kernels::AtPlace work(s.context.device.profile().place().work, "loading");
  const CheckpointReader reader(path);
  verify_once(reader, s.context.mesh, s.context.device.profile().place());
  const std::string method = name(s.config.adapter.method);
  if (reader.info().method != method) {
    fail(Failure::configuration, text(path, ": method: found ", reader.info().method, ", expected ", method));
  }
  expect_base(path, reader.info().base_digest, s.base_digest, s.config.model.base);
  s.expect_entries(reader);
  const auto read = [&](const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, Matrix to) {
    fill_from_host(s.context.device, to, [&](Matrix host) { reader.read(name, rows, cols, host); });
    s.context.device.profile().place().beat();
  };
  const auto trained = s.trained();
  for (const auto& t : trained) {
    if (const int number = s.replicated_number(t.name); number >= 0) {
      ReplicatedGroup& group = s.parameters.replicated();
      read(t.name, whole(t.rows), whole(t.cols), group.value(number));
      read(t.name + kFirstMoment, whole(t.rows), whole(t.cols), group.first_moment(number));
      read(t.name + kSecondMoment, whole(t.rows), whole(t.cols), group.second_moment(number));
    } else if (DenseParameter* p = s.dense(t.name)) {
      Tensor slice(s.context.device, Category::workspace, DType::f32, p->row_cut().local_extent(),
                   p->col_cut().local_extent());
      read(t.name, p->row_cut(), p->col_cut(), slice);
      p->set_value(s.context, slice);
      read(t.name + kFirstMoment, p->row_cut(), p->col_cut(), slice);
      p->take_share(s.context, slice, p->first_moment());
      read(t.name + kSecondMoment, p->row_cut(), p->col_cut(), slice);
      p->take_share(s.context, slice, p->second_moment());
    }
  }
  s.steps_done = reader.info().step;
}

void Trainer::State::load_initial_adapters() {
  if (config.adapter.init.empty() || config.adapter.method == Method::full || context.device.meta()) return;
  load_adapters(config.adapter.init, context, parameters, {base_digest, config.model.base});
}

void Trainer::export_base(const std::string& path) const {
  State& s = *state_;
  if (s.config.adapter.method != Method::full) {
    fail(Failure::configuration, "adapter.method: found lora, expected full: only a densely trained model is a base");
  }
  BaseFileWriter writer(path, s.context.shape, DType::f32, s.context.mesh.world());
  for (const TensorInfo& info : tensor_table(s.context.shape)) {
    if (const int number = s.replicated_number(info.name); number >= 0) {
      if (s.speaks()) {
        writer.write(info, whole(info.rows), whole(info.cols),
                     HostCopy(s.context.device, s.parameters.replicated().value(number)));
      }
    } else if (DenseParameter* p = s.dense(info.name)) {
      const Tensor flat = p->whole_of(s.context, p->has_master() ? p->master_share() : p->value_share());
      if (s.context.mesh.point().data == 0 && s.writes(info.name)) {
        writer.write(info, p->owned_rows(), p->owned_cols(), HostCopy(s.context.device, shaped(flat, *p)));
      }
    }
  }
  writer.finish();
}

// Each element is put in by one rank and the rest are zero: the sum over the world is the tensor.
static void put(const dist::AxisCut& rows, const dist::AxisCut& cols, ConstMatrix from, Trainer::NamedValues& to) {
  for (const dist::Run& r : rows.runs()) {
    for (Index i = 0; i < r.count; ++i) {
      const float* source = from.row<float>(r.local.value + i);
      for (const dist::Run& c : cols.runs()) {
        std::copy_n(source + c.local.value, c.count,
                    to.values.data() + (r.global.value + i) * to.cols + c.global.value);
      }
    }
  }
}

std::vector<Trainer::NamedValues> Trainer::collect(bool gradients) const {
  State& s = *state_;
  kernels::Device& device = s.context.device;
  std::vector<NamedValues> list;
  for (const auto& t : s.trained()) {
    NamedValues named{t.name, t.rows, t.cols, std::vector<float>(t.rows * t.cols)};
    if (const int number = s.replicated_number(t.name); number >= 0) {
      ReplicatedGroup& group = s.parameters.replicated();
      const Matrix own = gradients ? group.gradient(number) : group.value(number);
      if (s.speaks()) put(whole(t.rows), whole(t.cols), HostCopy(device, own), named);
    } else if (DenseParameter* p = s.dense(t.name)) {
      const Matrix share = gradients ? p->gradient_share() : p->has_master() ? p->master_share() : p->value_share();
      const Tensor flat = p->whole_of(s.context, share);
      if (s.context.mesh.point().data == 0 && s.writes(t.name)) {
        put(p->owned_rows(), p->owned_cols(), HostCopy(device, shaped(flat, *p)), named);
      }
    }
    const Matrix values = kernels::view(named.values.data(), 1, t.rows * t.cols);
    Tensor sum(device, Category::workspace, DType::f32, 1, t.rows * t.cols);
    kernels::upload(device, values, sum);
    s.context.mesh.world().all_reduce(sum);
    kernels::download(device, sum, values);
    list.push_back(std::move(named));
  }
  return list;
}

std::vector<Trainer::NamedValues> Trainer::own_copies() const {
  ReplicatedGroup& group = state_->parameters.replicated();
  std::vector<NamedValues> list;
  for (std::size_t i = 0; i < group.entries().size(); ++i) {
    const auto& entry = group.entries()[i];
    list.push_back({entry.name, entry.rows, entry.cols, std::vector<float>(entry.rows * entry.cols)});
    const HostCopy own(state_->context.device, group.value(static_cast<int>(i)));
    put(whole(entry.rows), whole(entry.cols), own, list.back());
  }
  return list;
}

std::vector<Trainer::NamedValues> Trainer::trained_values() const { return collect(false); }
std::vector<Trainer::NamedValues> Trainer::gradients() const { return collect(true); }

}  // namespace lorashard::core
