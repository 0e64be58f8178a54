#include "core/initial_adapters.hpp"

#include "core/adapter_file.hpp"
#include "core/host_copy.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::fail;
using kernels::Failure;
using kernels::text;

void load_foreign(const std::string& path, const Context& context, Parameters& parameters) {
  ReplicatedGroup& group = parameters.replicated();
  for (const AdapterPair& pair : read_adapter(path, context.shape))
    for (const AdapterSpec& spec : parameters.adapters()) {
      if (spec.layer != pair.layer || spec.target != pair.target) continue;
      kernels::upload(context.device, kernels::view(pair.a.data(), pair.rank, pair.in), group.value(parameters.adapter_a(spec)));
      kernels::upload(context.device, kernels::view(pair.b.data(), pair.out, pair.rank), group.value(parameters.adapter_b(spec)));
    }
}

}  // namespace

void verify_once(const CheckpointReader& reader, dist::Mesh& mesh, kernels::Place& place) {
  if (mesh.rank() == 0) reader.verify([&] { place.beat(); });
  mesh.world().barrier();
}

void load_adapters(const std::string& path, const Context& context, Parameters& parameters, const std::string& base_digest,
                   const std::string& base) {
  if (is_foreign_adapter(path)) return load_foreign(path, context, parameters);
  const CheckpointReader reader(path);
  verify_once(reader, context.mesh, context.device.profile().place());
  if (reader.info().base_digest != base_digest) {
    fail(Failure::configuration, text(path, ": base_digest: found ", reader.info().base_digest, ", expected ",
                                      base_digest, " of ", base));
  }
  ReplicatedGroup& group = parameters.replicated();
  const auto read = [&](const std::string& name, Index rows, Index cols, Matrix to) {
    fill_from_host(context.device, to,
                   [&](Matrix host) { reader.read(name, AxisCut::whole(rows), AxisCut::whole(cols), host); });
  };
  for (const AdapterSpec& spec : parameters.adapters()) {
    read(spec.a_name(), spec.rank, spec.in, group.value(parameters.adapter_a(spec)));
    read(spec.b_name(), spec.out, spec.rank, group.value(parameters.adapter_b(spec)));
  }
}

}  // namespace lorashard::core
