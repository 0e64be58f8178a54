#include "launch/evaluate_model.hpp"

#include <boost/json.hpp>
#include <cmath>
#include <cstdio>

#include "core/inference.hpp"
#include "core/text_file.hpp"
#include "launch/job.hpp"
#include "launch/prompts.hpp"
#include "launch/together.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

// Sums of a data set's rows: of losses, and of scored tokens.
struct RowSums {
  std::vector<double> losses, scored;
  explicit RowSums(Index rows) : losses(static_cast<std::size_t>(rows)), scored(static_cast<std::size_t>(rows)) {}
  double loss() const { return total(losses) / std::max(1.0, total(scored)); }
  static double total(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
  }
};

// Rows are dealt out to the data ranks, `together` at a time.
RowSums sums_of(core::Inference& model, const core::Dataset& data, Index together, const dist::Mesh& mesh) {
  RowSums sums(data.rows());
  const Index length = data.length();
  for (Index first = mesh.point().data * together; first < data.rows(); first += together * mesh.extents().data) {
    const Index count = std::min(together, data.rows() - first);
    const core::Rows rows = data.in_order(first, count);
    const std::vector<float> losses = model.losses(rows, length);
    for (Index i = 0; i < count * length; ++i) {
      const auto row = static_cast<std::size_t>(first + i / length);
      sums.losses[row] += losses[static_cast<std::size_t>(i)];
      sums.scored[row] += rows.labels[static_cast<std::size_t>(i)] >= 0 ? 1 : 0;
    }
  }
  return sums;
}

// The sums of all data ranks, each told once, on every rank.
RowSums gathered(RowSums mine, const dist::Mesh& mesh) {
  if (mesh.extents().data == 1) return mine;
  const bool speaks = mesh.point().tensor == 0 && mesh.point().pipeline == 0;
  for (std::vector<double>* values : {&mine.losses, &mine.scored}) {
    if (!speaks) std::fill(values->begin(), values->end(), 0);
    const std::vector<double> all = mesh.world().gather_values(*values);
    const std::size_t rows = values->size();
    std::fill(values->begin(), values->end(), 0);
    for (std::size_t i = 0; i < all.size(); ++i) (*values)[i % rows] += all[i];
  }
  return mine;
}

// Under one adapter: its path, empty for what the job has anyway.
struct Evaluated {
  std::string adapter;
  RowSums sums;
};
std::string shown(const std::string& adapter) { return adapter.empty() ? "-" : adapter; }

// One JSON object a row of data.valid, in file order.
std::string lines_of(const Evaluated& evaluated, bool named) {
  const RowSums& sums = evaluated.sums;
  std::string lines;
  for (std::size_t row = 0; row < sums.losses.size(); ++row) {
    const double scored = sums.scored[row], loss = scored > 0 ? sums.losses[row] / scored : 0;
    boost::json::object line{
        {"row", row}, {"loss", loss}, {"perplexity", std::exp(loss)}, {"scored", static_cast<std::int64_t>(scored)}};
    if (named) line["adapter"] = shown(evaluated.adapter);
    lines += boost::json::serialize(line) + "\n";
  }
  return lines;
}

boost::json::object figures_of(const RowSums& sums) {
  return {{"loss", sums.loss()},
          {"perplexity", std::exp(sums.loss())},
          {"scored", static_cast<std::int64_t>(RowSums::total(sums.scored))},
          {"rows", sums.losses.size()}};
}

std::string page_of(const RowSums& sums, bool json) {
  if (json) return boost::json::serialize(figures_of(sums)) + "\n";
  return table_text({{"loss", fixed_text(sums.loss(), 6)},
                     {"perplexity", fixed_text(std::exp(sums.loss()), 4)},
                     {"scored tokens", count_text(static_cast<Index>(RowSums::total(sums.scored)))},
                     {"rows", count_text(std::ssize(sums.losses))}});
}

// A line for each adapter, in the order of their list.
std::string page_of(const std::vector<Evaluated>& all, bool json) {
  boost::json::array objects;
  std::vector<std::vector<std::string>> rows{{"adapter", "loss", "perplexity"}};
  for (const auto& [adapter, sums] : all) {
    boost::json::object object = figures_of(sums);
    object["adapter"] = shown(adapter);
    objects.push_back(std::move(object));
    rows.push_back({shown(adapter), fixed_text(sums.loss(), 6), fixed_text(std::exp(sums.loss()), 4)});
  }
  return json ? boost::json::serialize(objects) + "\n" : table_text(rows);
}

}  // namespace

core::Config forward_only(core::Config config, const std::string& adapter, int ranks) {
  if (!adapter.empty()) config.adapter.init = adapter;
  config.adapter.method = core::Method::lora;
  config.mesh.sequence_parallel = false;
  config.mesh.chunks = 1;
  config.mesh.schedule = dist::ScheduleKind::one_f_one_b;
  config.train.batch = ranks;
  config.train.microbatch = 0;
  config.optimizer.warmup = 0;
  return config;
}

int evaluate_model(dist::Runtime& runtime, const Arguments& arguments) {
  const core::Config given = arguments.config();
  if (given.data.valid.empty())
    fail(Failure::configuration,
         "data.valid: missing, expected the token file to evaluate (or --outputs and --references)");
  std::vector<std::string> adapters = adapters_of(arguments);
  const bool several = !adapters.empty();
  if (!several) adapters.emplace_back();
  const Index held_bytes = adapter_memory(arguments);
  const Index together = core::microbatch_of(given.train, 1);
  const Job job = make_job(forward_only(given, arguments.value("adapter"), runtime.size()), runtime.size());
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  const core::Dataset data(given.data.valid, job.config.data.length, core::Order::sequential, 1);
  if (data.vocab() > job.config.model.shape.vocab)
    fail(Failure::configuration, text(given.data.valid, ": vocab: found ", data.vocab(),
                                      " token ids, expected at most the model's ", job.config.model.shape.vocab));
  verify_base(job.config, mesh.world(), runtime.place());
  core::Inference model(job.config, *device, mesh, held_bytes);
  std::vector<Evaluated> all;
  for (const std::string& adapter : adapters) {
    if (several) model.use_adapter(adapter);
    all.push_back({adapter, gathered(sums_of(model, data, together, mesh), mesh)});
  }
  on_first_rank(mesh.world(), [&] {
    std::string lines;
    for (const Evaluated& one : all) lines += lines_of(one, several);
    if (arguments.has("losses")) core::write_whole(arguments.value("losses"), lines);
    const bool json = arguments.has("json");
    std::fputs((several ? page_of(all, json) : page_of(all.front().sums, json)).c_str(), stdout);
    if (several) std::fputs(switching_text(model).c_str(), stderr);
    return 0.0;
  });
  return 0;
}

}  // namespace lorashard::launch
