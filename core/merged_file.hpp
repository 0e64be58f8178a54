// Base files that adapters were merged into, and back. All in bounded memory, shared out among the ranks.
#pragma once

#include <string>

#include "core/base_file.hpp"
#include "core/merge.hpp"

namespace lorashard::core {

// The type of every tensor of a base file. Throws Failure::configuration when they differ.
kernels::DType dtype_of(const BaseFile& base);

// Writes the base with the weights that `merge` holds in its place, of the base's type. Collective over the mesh.
Digest write_merged(const std::string& path, const BaseFile& base, const Merge& merge, const Context& context);

// A merged file becomes its base again, by the base file or by a residual. Just one of the two is set.
struct Unmerging {
  std::string from, base, residual, to;
};
// Collective. Everything read is verified first. Throws Failure::configuration when the files do not belong together,
// naming both digests, and Failure::storage when what comes out is not the base: then nothing is written. Returns the
// base's digest.
Digest unmerge_file(const Unmerging& files, dist::Communicator& world, kernels::Place& place);

}  // namespace lorashard::core
