#include "core/parity.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parity_bounds.hpp"
#include "core/parity_record.hpp"

namespace lorashard::core {
namespace {

using kernels::text;
using Tensors = std::vector<Trainer::NamedValues>;
using Comparisons = std::vector<ParityComparison>;

// Floors of magnitude: what cancels is measured against the whole.
constexpr double kLeastShare = 0.01;

double share_of(double difference, double bound) {
  if (difference == 0) return 0;
  return bound > 0 ? difference / bound : std::numeric_limits<double>::infinity();
}

// Keeps the element that comes closest to its bound, or is no number.
void note_element(ParityComparison& c, double difference, double bound) {
  const bool closer = !(share_of(difference, bound) <= share_of(c.difference, c.bound));
  if (std::isnan(c.difference) || (c.bound > 0 && !closer)) return;
  c.difference = difference;
  c.bound = bound;
}

std::string extents_of(const Trainer::NamedValues& t) { return text(t.rows, "x", t.cols); }

// True when both lists name the same tensors of the same extents; else says which do not.
bool same_tensors(const Tensors& mesh, const Tensors& one, Comparisons& list) {
  const std::size_t before = list.size();
  const auto differs = [&](const std::string& tensor, const std::string& note) {
    list.push_back({.kind = ParityKind::tensors, .tensor = tensor, .difference = 1, .note = note});
  };
  for (std::size_t i = 0; i < std::max(mesh.size(), one.size()); ++i) {
    if (i >= mesh.size())
      differs(one[i].name, "missing on the mesh");
    else if (i >= one.size())
      differs(mesh[i].name, "on the mesh alone");
    else if (mesh[i].name != one[i].name)
      differs(one[i].name, text("on the mesh ", mesh[i].name, " stands there"));
    else if (extents_of(mesh[i]) != extents_of(one[i]))
      differs(one[i].name, text(extents_of(mesh[i]), " on the mesh, ", extents_of(one[i]), " on one rank"));
  }
  return list.size() == before;
}

void compare_start(const ParityRecord& mesh, const ParityRecord& one, Comparisons& list) {
  for (std::size_t t = 0; t < one.start.size(); ++t) {
    ParityComparison c{.kind = ParityKind::start, .tensor = one.start[t].name};
    for (std::size_t i = 0; i < one.start[t].values.size(); ++i)
      keep_larger(c.difference, std::abs(static_cast<double>(mesh.start[t].values[i]) - one.start[t].values[i]));
    list.push_back(std::move(c));
  }
}

// On the host every rank sums in rank order; NCCL makes each element of a sum once and hands it out. So copies that
// began alike stay alike, bit for bit.
void compare_copies(const std::vector<CopyDistance>& copies, Index step, Comparisons& list) {
  for (const CopyDistance& each : copies) {
    ParityComparison c{.kind = ParityKind::copies, .step = step, .tensor = each.tensor, .difference = each.distance};
    if (each.distance != 0) c.note = text("rank ", each.rank, " holds another copy than its stage's first");
    list.push_back(std::move(c));
  }
}

// The report of the rank that lies farthest from `expected`.
void compare_reports(ParityKind kind, Index step, const std::vector<double>& found, double expected, double bound,
                     Comparisons& list) {
  ParityComparison c{.kind = kind, .step = step, .bound = bound};
  for (std::size_t rank = 0; rank < found.size(); ++rank) {
    const double d = std::abs(found[rank] - expected);
    if (d <= c.difference || std::isnan(c.difference)) continue;
    c.difference = d;
    c.ratio = found[rank] / expected;
    c.note = text("rank ", rank, " found ", found[rank], ", expected ", expected);
  }
  list.push_back(std::move(c));
}

// One tensor's gradient; returns what each element is allowed.
std::vector<double> compare_gradient(const Trainer::NamedValues& mesh, const Trainer::NamedValues& one, Index step,
                                     double error, double least, Comparisons& list) {
  ParityComparison c{.kind = ParityKind::gradient, .step = step, .tensor = one.name};
  std::vector<double> bounds = magnitudes_of(one, least);
  double squares = 0, product = 0, own = 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    const double expected = one.values[i], found = mesh.values[i], d = std::abs(found - expected);
    bounds[i] *= kElementFactor * error;
    note_element(c, d, bounds[i]);
    squares += d * d, product += found * expected, own += expected * expected;
  }
  c.mean_difference = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(bounds.size(), 1)));
  c.mean_bound = kMeanFactor * error * std::max(root_mean_square(one.values), least);
  if (own > 0) c.ratio = product / own;
  list.push_back(std::move(c));
  return bounds;
}

void compare_values(const Tensors& mesh, const Tensors& one, const std::vector<AdamBounds>& bounds, Index step,
                    Comparisons& list) {
  for (std::size_t t = 0; t < one.size(); ++t) {
    ParityComparison c{.kind = ParityKind::value, .step = step, .tensor = one[t].name};
    for (std::size_t i = 0; i < one[t].values.size(); ++i)
      note_element(c, std::abs(static_cast<double>(mesh[t].values[i]) - one[t].values[i]), bounds[t].bounds()[i]);
    list.push_back(std::move(c));
  }
}

void compare_step(const ParityStep& mesh, const ParityStep& one, Index step, double error,
                  std::vector<AdamBounds>& bounds, Comparisons& list) {
  const double loss = one.losses[0], norm = one.norms[0];
  double elements = 0;
  for (const Trainer::NamedValues& t : one.gradients) elements += static_cast<double>(t.values.size());
  const double least = kLeastShare * norm_of(one.gradients) / std::sqrt(std::max(elements, 1.0));
  const double norm_error = kMeanFactor * error;  // of all gradients together: the norm is a norm
  compare_reports(ParityKind::loss, step, mesh.losses, loss, kMeanFactor * error * std::abs(loss), list);
  for (std::size_t t = 0; t < one.gradients.size(); ++t) {
    const Trainer::NamedValues& gradient = one.gradients[t];
    const std::vector<double> bound = compare_gradient(mesh.gradients[t], gradient, step, error, least, list);
    bounds[t].add_step(one.lr, norm, norm_error, gradient.values, bound, one.values[t].values);
  }
  compare_reports(ParityKind::norm, step, mesh.norms, norm, norm_error * norm, list);
  // The very same fp32 values, squared and added in double by both.
  const double own = norm_of(mesh.gradients);
  compare_reports(ParityKind::own_norm, step, mesh.norms, own, std::max(elements, 16.0) * std::ldexp(own, -53), list);
}

}  // namespace

void compare_records(const ParityRecord& mesh, const ParityRecord& one, const Config& config,
                     const dist::MeshExtents& extents, ParityReport& report) {
  Comparisons& list = report.comparisons;
  if (!same_tensors(mesh.start, one.start, list)) return;
  compare_copies(mesh.start_copies, 0, list);
  compare_start(mesh, one, list);
  std::vector<AdamBounds> bounds;
  for (const Trainer::NamedValues& t : one.start) bounds.emplace_back(config.optimizer, t.values.size());
  const double error = relative_error(config, extents);
  for (std::size_t s = 0; s < one.steps.size(); ++s) {
    const Tensors& before = s == 0 ? one.begun : one.steps[s - 1].values;
    const Tensors& before_mesh = s == 0 ? mesh.begun : mesh.steps[s - 1].values;
    report.relative_errors.push_back(std::hypot(error, drift(before, before_mesh)));
    compare_step(mesh.steps[s], one.steps[s], static_cast<Index>(s), report.relative_errors.back(), bounds, list);
  }
  const auto last = static_cast<Index>(one.steps.size()) - 1;
  compare_values(mesh.steps.back().values, one.steps.back().values, bounds, last, list);
  compare_copies(mesh.end_copies, last + 1, list);
}

const char* name(ParityKind kind) {
  switch (kind) {
    case ParityKind::tensors:
      return "tensor";
    case ParityKind::start:
      return "initial values";
    case ParityKind::copies:
      return "copies";
    case ParityKind::loss:
      return "loss";
    case ParityKind::gradient:
      return "gradient";
    case ParityKind::norm:
      return "gradient norm";
    case ParityKind::own_norm:
      return "gradient norm against the mesh's own gradients";
    case ParityKind::value:
      return "values";
  }
  return "";
}

bool ParityComparison::holds() const {
  return difference <= bound && (mean_bound == 0 || mean_difference <= mean_bound);  // false for a NaN
}

double ParityComparison::share() const {
  const double element = share_of(difference, bound);
  return mean_bound > 0 ? std::max(element, share_of(mean_difference, mean_bound)) : element;
}

std::string ParityComparison::what() const {
  const std::string of = tensor.empty() ? name(kind) : text(name(kind), " of ", tensor);
  switch (kind) {
    case ParityKind::tensors:
      return of;
    case ParityKind::start:
      return of;
    case ParityKind::copies:
      return text(of, step == 0 ? " before step 0" : " after the last step");
    case ParityKind::value:
      return text(of, " after step ", step);
    default:
      return text(of, ", step ", step);
  }
}

Index ParityReport::failures() const {
  return std::count_if(comparisons.begin(), comparisons.end(), [](const auto& c) { return !c.holds(); });
}

std::string ParityReport::verdict() const {
  const auto bad = std::find_if(comparisons.begin(), comparisons.end(), [](const auto& c) { return !c.holds(); });
  if (bad == comparisons.end()) {
    double closest = 0;
    for (const ParityComparison& c : comparisons) closest = std::max(closest, c.share());
    return text("the mesh computes what one rank computes: ", comparisons.size(), " comparisons hold, the closest at ",
                closest, " of its bound");
  }
  std::string line = text("the mesh does not compute what one rank computes: ", failures(), " of ", comparisons.size(),
                          " comparisons fail, first the ", bad->what());
  if (!bad->note.empty()) return text(line, ": ", bad->note);
  line += text(": found a difference of ", bad->difference, ", expected at most ", bad->bound);
  if (bad->kind == ParityKind::gradient) line += text("; ", bad->ratio, " times that of one rank");
  return line;
}

ParityReport run_parity(const ParityRequest& request) {
  ParityReport report;
  const ParityRecord mesh = record_of(request, request.config, request.mesh);
  report.trained_parameters = mesh.trained_parameters;
  report.perturbed = mesh.perturbed;
  double holds = 0;
  if (request.reference) {
    const dist::MeshExtents& extents = request.mesh.extents();
    const ParityRecord one = record_of(request, on_one_rank(request.config, extents), *request.reference);
    compare_records(mesh, one, request.config, extents, report);
    holds = report.failures() == 0 && !report.comparisons.empty() ? 1 : 0;
  }
  report.holds = request.mesh.world().gather_values({&holds, 1})[0] == 1;
  return report;
}

}  // namespace lorashard::core
