// The values of adapters from a file.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/checkpoint.hpp"
#include "core/parameters.hpp"

namespace lorashard::core {

// One rank reads all of the file and compares its digests; the others take nothing from it before that. Collective.
void verify_once(const CheckpointReader& reader, dist::Mesh& mesh, kernels::Place& place);

// What an adapter has to have been trained on, where it says so: a checkpoint does, others may. `name` is for messages.
struct AdapterBase {
  std::string digest, name;
};

// Takes A (R, in) or B (out, R) of a pair: read(to) writes it to f32 host memory of these extents.
enum class Side { a, b };
using TakeAdapter = std::function<void(const AdapterSpec&, Side, const std::function<void(Matrix to)>& read)>;

// `path`: a PEFT directory, a loralib file, or a checkpoint, which `verify` gets before anything is taken from it.
// Calls `take` for both sides of each of `wanted`, which are pairs of the file. Throws Failure::configuration and
// Failure::storage.
void read_adapters(const std::string& path, const ModelShape& shape, const std::vector<AdapterSpec>& wanted,
                   const AdapterBase& base, const std::function<void(const CheckpointReader&)>& verify,
                   const TakeAdapter& take);

// The same into the pairs of this rank's layers; its digests are compared once. Collective over the mesh.
void load_adapters(const std::string& path, const Context& context, Parameters& parameters, const AdapterBase& base);

}  // namespace lorashard::core
