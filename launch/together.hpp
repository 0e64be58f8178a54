// Work that only some ranks do, such as making a directory: all ranks learn how it ended before they go on.
#pragma once

#include <functional>

#include "dist/communicator.hpp"

namespace lorashard::launch {

// Collective. Runs `body` on every rank. When it throws on any, all ranks throw: those their own error, the others the
// same Failure with a word about it.
void together(dist::Communicator& world, const std::function<void()>& body);

// Collective. The same on rank 0 alone; every rank returns what `body` returned there.
double on_first_rank(dist::Communicator& world, const std::function<double()>& body);

}  // namespace lorashard::launch
