#include "core/parameters.hpp"

#include <cmath>

#include "core/host_copy.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::RandomKey;
using kernels::text;

// Weights of linear layers are multiplied with and nothing else, so their storage is the product's business. Embedding
// tables and an untied head are read by rows too and stay plain.
bool is_linear_weight(const TensorInfo& info) { return info.home == Home::layer && info.rows > 1; }

DType compute_type(const Context& context, const TensorInfo& info) {
  return info.rows > 1 ? context.activation : DType::f32;
}

// The part of a random (or constant) tensor that the cuts leave to this rank.
void fill_initial(kernels::Device& device, const TensorInfo& info, const dist::AxisCut& rows, const dist::AxisCut& cols,
                  std::uint64_t seed, Matrix to) {
  if (info.init_scale == 0) {
    kernels::fill(device, to, info.init_constant);
    return;
  }
  for (const dist::Run& r : rows.runs()) {
    for (const dist::Run& c : cols.runs()) {
      const kernels::NormalFill fill{{seed, stream_of(info.name)}, info.init_scale, r.global.value, c.global.value, info.cols};
      kernels::fill_normal(device, fill, to.row_range(r.local.value, r.count).col_range(c.local.value, c.count));
    }
  }
}

void load(const Context& context, const BaseFile* base, std::uint64_t seed, const TensorInfo& info, Matrix to) {
  context.device.profile().place().beat();
  const dist::AxisCut rows = info.row_cut(context.tensor_rank(), context.tensor_size());
  const dist::AxisCut cols = info.col_cut(context.tensor_rank(), context.tensor_size());
  if (base == nullptr) {
    // A plan does without the file: it counts on one that holds what the rank holds.
    if (context.device.meta()) note_host_copy(context.device, to);
    return fill_initial(context.device, info, rows, cols, seed, to);
  }
  const DType stored = base->dtype(info);
  if (stored == to.dtype) {
    fill_from_host(context.device, to, [&](Matrix host) { base->read(info, rows, cols, host); });
    return;
  }
  Tensor staging(context.device, Category::workspace, stored, to.rows, to.cols);
  fill_from_host(context.device, staging, [&](Matrix host) { base->read(info, rows, cols, host); });
  kernels::copy(context.device, staging, to);
}

}  // namespace

Parameters::Parameters(const Context& context, const TrainingPlan& plan, const std::vector<TensorInfo>& here,
                       const BaseFile* base, std::uint64_t seed)
    : context_(context) {
  add_adapters(plan, here);
  const bool has_adapters = replicated_.count() > 0;
  dense_.reserve(here.size());  // places hold numbers, gradients() hold views: nothing may move
  for (const TensorInfo& info : here) add_place(plan, info);
  replicated_.allocate(context.device, has_adapters ? Category::adapter : Category::base);
  if (replicated_.count() > 0) {
    for (Matrix m : {replicated_.values(), replicated_.gradients(), replicated_.first_moments(), replicated_.second_moments()}) {
      kernels::fill(context.device, m, 0.0f);
    }
  }
  for (auto& [name, place] : places_) fill(base, seed, place);
  initialise_adapters();
}

// Pairs of one linear layer: all A first, then all B, so that u = A x of a layer is one product.
void Parameters::add_adapters(const TrainingPlan& plan, const std::vector<TensorInfo>& here) {
  for (const TensorInfo& info : here) {
    if (!is_linear_weight(info)) continue;
    std::vector<AdapterSpec> pairs;
    for (const AdapterSpec& spec : plan.adapters) {
      const bool here_too = spec.layer == info.layer;  // spares the text of most: planning makes many models
      if (here_too && spec.linear() + ".weight" == info.name) pairs.push_back(spec);
    }
    for (const AdapterSpec& s : pairs) adapter_numbers_[s.a_name()] = replicated_.add(s.a_name(), s.rank, s.in, true, s.layer);
    for (const AdapterSpec& s : pairs) adapter_numbers_[s.b_name()] = replicated_.add(s.b_name(), s.out, s.rank, true, s.layer);
    adapters_.insert(adapters_.end(), pairs.begin(), pairs.end());
  }
}

void Parameters::replace_adapters(const TrainingPlan& plan) {
  std::vector<TensorInfo> here;
  for (const auto& [name, place] : places_) {
    if (trains(name)) fail(Failure::other, text("adapters were replaced beside ", name, ", which trains itself"));
    here.push_back(place.info);
  }
  replicated_ = {};
  adapter_numbers_.clear();
  adapters_.clear();
  add_adapters(plan, here);
  replicated_.allocate_values(context_.device, Category::adapter);
}

void Parameters::add_place(const TrainingPlan& plan, const TensorInfo& info) {
  Place& place = places_[info.name];
  place.info = info;
  if (!plan.trains(info.name)) return;
  if (info.cut == CutAxis::none) {
    place.replicated = replicated_.add(info.name, info.rows, info.cols, info.decay, info.layer);
  } else {
    place.dense = static_cast<int>(dense_.size());
    dense_.emplace_back(context_, info, compute_type(context_, info));
  }
}

void Parameters::fill(const BaseFile* base, std::uint64_t seed, Place& place) {
  const TensorInfo& info = place.info;
  kernels::Device& device = context_.device;
  if (place.replicated >= 0) return load(context_, base, seed, info, replicated_.value(place.replicated));
  const Index rows = info.row_cut(context_.tensor_rank(), context_.tensor_size()).local_extent();
  const Index cols = info.col_cut(context_.tensor_rank(), context_.tensor_size()).local_extent();
  if (place.dense >= 0) {
    Tensor whole(device, Category::workspace, DType::f32, rows, cols);
    load(context_, base, seed, info, whole);
    dense_[place.dense].set_value(context_, whole);
    return;
  }
  Tensor plain(device, Category::base, compute_type(context_, info), rows, cols);
  load(context_, base, seed, info, plain);
  if (is_linear_weight(info)) {
    place.weight_memory = plain;
    place.weight = kernels::Weight(device, std::move(plain));
  } else {
    place.frozen = std::move(plain);
  }
}

// A with the variance of PEFT's default (uniform within 1 / sqrt(in)), drawn from the normal distribution; B is zero.
void Parameters::initialise_adapters() {
  for (const AdapterSpec& spec : adapters_) {
    const float scale = 1.0f / std::sqrt(3.0f * static_cast<float>(spec.in));
    const RandomKey key{context_.adapter_seed, stream_of(spec.a_name())};
    kernels::fill_normal(context_.device, {key, scale, 0, 0, spec.in}, replicated_.value(adapter_a(spec)));
  }
}

const Parameters::Place& Parameters::place(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) fail(Failure::other, text("rank holds no tensor called '", name, "'"));
  return found->second;
}

ConstMatrix Parameters::value(const std::string& name) const {
  const Place& p = place(name);
  if (p.replicated >= 0) return replicated_.value(p.replicated);
  if (p.dense >= 0) return dense_[p.dense].value();
  if (!p.weight.none()) fail(Failure::other, text(name, " is stored for products only"));
  return p.frozen;
}

Matrix Parameters::gradient(const std::string& name) const {
  const Place& p = place(name);
  if (p.dense >= 0) return dense_[p.dense].gradient();
  if (p.replicated >= 0 && (p.info.of_heads || context_.adds_whole_gradients())) return replicated_.gradient(p.replicated);
  return {};
}

bool Parameters::trains(const std::string& name) const {
  const Place& p = place(name);
  return p.dense >= 0 || p.replicated >= 0;
}

const kernels::Weight* Parameters::weight(const std::string& name) const {
  const Place& p = place(name);
  return p.weight.none() ? nullptr : &p.weight;
}

Matrix Parameters::frozen_memory(const std::string& name) const {
  const Place& p = place(name);
  if (p.weight.none()) fail(Failure::other, text(name, " is no frozen weight of a linear layer"));
  return p.weight_memory;
}

}  // namespace lorashard::core
