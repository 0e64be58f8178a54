#include "core/initial_adapters.hpp"

#include <cstring>

#include "core/adapter_file.hpp"
#include "core/host_copy.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;

void read_foreign(const std::string& path, const ModelShape& shape, const std::vector<AdapterSpec>& wanted,
                  const TakeAdapter& take) {
  for (const AdapterPair& pair : read_adapter(path, shape))
    for (const AdapterSpec& spec : wanted) {
      if (spec.layer != pair.layer || spec.target != pair.target) continue;
      const auto copy = [](const std::vector<float>& values) {
        return [&values](Matrix to) { std::memcpy(to.data, values.data(), values.size() * sizeof(float)); };
      };
      take(spec, Side::a, copy(pair.a));
      take(spec, Side::b, copy(pair.b));
    }
}

}  // namespace

void verify_once(const CheckpointReader& reader, dist::Mesh& mesh, kernels::Place& place) {
  if (mesh.rank() == 0) reader.verify([&] { place.beat(); });
  mesh.world().barrier();
}

void read_adapters(const std::string& path, const ModelShape& shape, const std::vector<AdapterSpec>& wanted,
                   const AdapterBase& base, const std::function<void(const CheckpointReader&)>& verify,
                   const TakeAdapter& take) {
  if (is_foreign_adapter(path)) {
    if (const std::string stated = stated_base(path); !stated.empty()) expect_base(path, stated, base.digest, base.name);
    return read_foreign(path, shape, wanted, take);
  }
  const CheckpointReader reader(path);
  verify(reader);
  expect_base(path, reader.info().base_digest, base.digest, base.name);
  for (const AdapterSpec& spec : wanted) {
    const auto read = [&](const std::string& name, Index rows, Index cols) {
      return [&, name, rows, cols](Matrix to) { reader.read(name, AxisCut::whole(rows), AxisCut::whole(cols), to); };
    };
    take(spec, Side::a, read(spec.a_name(), spec.rank, spec.in));
    take(spec, Side::b, read(spec.b_name(), spec.out, spec.rank));
  }
}

void load_adapters(const std::string& path, const Context& context, Parameters& parameters, const AdapterBase& base) {
  const auto verify = [&](const CheckpointReader& reader) {
    verify_once(reader, context.mesh, context.device.profile().place());
  };
  const TakeAdapter take = [&](const AdapterSpec& spec, Side side, const std::function<void(Matrix)>& read) {
    const int entry = side == Side::a ? parameters.adapter_a(spec) : parameters.adapter_b(spec);
    fill_from_host(context.device, parameters.replicated().value(entry), read);
  };
  read_adapters(path, context.shape, parameters.adapters(), base, verify, take);
}

}  // namespace lorashard::core
