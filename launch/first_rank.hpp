// Work that one rank does for all, such as making a directory: all ranks learn how it ended before they go on.
#pragma once

#include <functional>

#include "dist/communicator.hpp"

namespace lorashard::launch {

// Collective. Runs `body` on rank 0. When it throws, every rank throws the same Failure: rank 0 its own error, the
// others a word about it. Returns what `body` returned on rank 0.
double on_first_rank(dist::Communicator& world, const std::function<double()>& body);

}  // namespace lorashard::launch
