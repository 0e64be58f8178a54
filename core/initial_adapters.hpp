// The values of adapters from a file into a rank's parameters.
#pragma once

#include <string>

#include "core/checkpoint.hpp"
#include "core/parameters.hpp"

namespace lorashard::core {

// One rank reads all of the file and compares its digests; the others take nothing from it before that. Collective.
void verify_once(const CheckpointReader& reader, dist::Mesh& mesh, kernels::Place& place);

// `path`: a PEFT directory, a loralib file, or a checkpoint, which must have been trained on the base of this digest (`base`
// is what messages call it). Fills the pairs of this rank's layers. Collective over the mesh. Throws
// Failure::configuration and Failure::storage.
void load_adapters(const std::string& path, const Context& context, Parameters& parameters, const std::string& base_digest,
                   const std::string& base);

}  // namespace lorashard::core
