#include "launch/job.hpp"

#include "core/base_file.hpp"
#include "core/option_values.hpp"
#include "core/options.hpp"
#include "core/tensor_table.hpp"
#include "kernels/gemm.hpp"
#include "launch/machine.hpp"
#include "launch/together.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::DeviceKind;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

std::string describe_adapters(const core::AdapterConfig& adapter) {
  const auto rank_text = [](core::Index rank) { return rank == core::kFullRank ? "full" : std::to_string(rank); };
  std::string targets;
  for (const core::Target target : adapter.targets) {
    const auto own = adapter.rank_of.find(target);
    targets += text(targets.empty() ? "" : ", ", name(target),
                    own == adapter.rank_of.end() ? "" : " (rank " + rank_text(own->second) + ")");
  }
  return text("LoRA of rank ", rank_text(adapter.rank), " on ", targets,
              adapter.layers.empty() ? "" : " of layers " + core::text_of(adapter.layers));
}

}  // namespace

core::Dataset open_tokens(const std::string& path, const core::Config& config) {
  core::Dataset data(path, config.data.length, config.data.order, config.data.seed);
  const core::Index vocab = config.model.shape.vocab;
  if (data.vocab() > vocab)
    fail(Failure::configuration,
         text(path, ": vocab: found ", data.vocab(), " token ids, expected at most the model's ", vocab));
  return data;
}

Job make_job(core::Config config, int ranks) {
  if (config.model.base.empty())
    complete_config(config, nullptr);
  else
    complete_config(config, &core::BaseFile(config.model.base).shape());
  check_config(config, ranks);
  Job job;
  job.extents = dist::make_extents(ranks, config.mesh.tensor, config.mesh.pipeline);
  job.threads = config.device.threads > 0 ? config.device.threads : fair_threads();
  job.config = std::move(config);
  return job;
}

std::vector<std::string> valid_paths(const core::Config& config) {
  std::vector<std::string> paths;
  const std::string& list = config.data.valid;
  for (std::size_t from = 0; from < list.size();) {
    const std::size_t comma = std::min(list.find(',', from), list.size());
    paths.emplace_back(core::trimmed(std::string_view(list).substr(from, comma - from)));
    from = comma + 1;
  }
  return paths;
}

void verify_base(const core::Config& config, dist::Communicator& world, kernels::Place& place) {
  if (config.model.base.empty()) return;
  const kernels::AtPlace work(place.work, "verifying the base");
  together(world, [&] { core::BaseFile(config.model.base).verify(world.rank(), world.size(), [&] { place.beat(); }); });
}

JobData open_data(const core::Config& config) {
  if (config.data.train.empty())
    fail(Failure::configuration, "data.train: missing, expected a token file (see lorashard tokenize --help)");
  JobData data{open_tokens(config.data.train, config), {}};
  for (const std::string& path : valid_paths(config)) data.valid.push_back(open_tokens(path, config));
  return data;
}

std::unique_ptr<kernels::Device> make_device(const Job& job, dist::Runtime& runtime) {
  switch (job.config.device.kind) {
    case DeviceKind::host:
      return kernels::make_host_device(job.threads);
    case DeviceKind::meta:
      return kernels::make_meta_device(job.target);
    case DeviceKind::cuda:
      break;
  }
  const int count = kernels::cuda_device_count();
  if (count == 0) fail(Failure::configuration, text("device.kind: found cuda, but there is no GPU here (this program is built ",
                                                    kernels::cuda_build(), "); expected host or meta"));
  return kernels::make_cuda_device(runtime.gpu(count, job.config.device.oversubscribe), job.config.device.tf32);
}

std::string device_text(const Job& job) {
  const DeviceKind kind = job.config.device.kind;
  if (kind == DeviceKind::cuda) return text(name(kind), " (", kernels::cuda_build(), ")");
  if (kind == DeviceKind::meta) return text(name(kind), " for ", name(job.target));
  return name(kind);
}

std::string describe(const Job& job, core::Index trained_parameters, const JobData& data) {
  const core::Config& config = job.config;
  const core::ModelShape& shape = config.model.shape;
  const double share = 100.0 * static_cast<double>(trained_parameters) / static_cast<double>(parameter_count(shape));
  const bool full = config.adapter.method == core::Method::full;
  const bool bf16 = config.train.precision == kernels::DType::bf16;
  std::string valid;
  for (const core::Dataset& set : data.valid)
    valid += text(valid.empty() ? "; held out " : ", ", set.path(), " (", count_text(set.rows()), " rows)");
  const std::string source = config.model.base.empty() ? "from nothing" : "from " + config.model.base;
  const std::string method = full ? "every weight" : describe_adapters(config.adapter);
  const bool on_host = config.device.kind == DeviceKind::host;
  const std::string precision =
      !bf16 ? "fp32" : on_host ? "bf16, products in " + kernels::host_bf16_path() : std::string("bf16");
  const std::string tokens =
      job.random_tokens ? text("random rows of ", data.train.length(), " tokens")
                        : text(data.train.path(), " (", count_text(data.train.rows()), " rows of ", data.train.length(), " tokens)");
  const std::string threads = config.device.kind == DeviceKind::meta
                                  ? ""
                                  : text(job.threads, job.threads == 1 ? " thread" : " threads", " a rank, ");
  return text(
      "model    ", shape.family, ", ", shape.layers, " layers, width ", shape.width, ", ", shape.heads,
      " heads, vocabulary ", shape.vocab, ": ", count_text(parameter_count(shape)), " parameters, ", source, "\n",
      "trained  ", method, ": ", count_text(trained_parameters), " parameters (", fixed_text(share, share < 1 ? 3 : 1),
      " %)\n", "data     ", tokens, valid, "\n", "mesh     ", to_string(job.extents), " (tensor x pipeline x data), ", threads,
      "device ", device_text(job), ", ", precision, "\n");
}

}  // namespace lorashard::launch
