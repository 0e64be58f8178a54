// A random order of n things without a table of it.
#pragma once

#include "kernels/random.hpp"

namespace lorashard::core {

// The thing at place `index` of the order that belongs to the key: index -> permuted(index, n, key) is a permutation of
// [0, n), the same on every platform. Takes 1 <= n <= 2^58 and 0 <= index < n; a place costs about two microseconds.
kernels::Index permuted(kernels::Index index, kernels::Index n, kernels::RandomKey key);

}  // namespace lorashard::core
