// A small job with the structure of a big one, for certificates: the same mesh, schedule, precision, method, targets,
// recompute mode and remainders, over the least extents that keep them.
#pragma once

#include "core/config.hpp"
#include "dist/mesh.hpp"

namespace lorashard::core {

// What is kept, and from which extents on (never above the job's own):
//
//   layers       one or two for each part of the model, as many as fill `layers` of the job
//   heads        one or two key/value heads for each tensor rank, one or two query heads for each of those
//   head size    8, or as much as makes the width 64: where few terms are added, rounding averages badly
//   ffn          its ratio to the width, rounded to the tensor ranks
//   vocab        32 for each tensor rank, 128 in all, and the job's remainder over them
//   length       8 for each tensor rank, 16 in all, and the job's remainder over them; context: one position more if it
//                had more
//   microbatches all where there are few, else pipeline + 1 and at least 2 for each data rank, of 1 or 2 sequences
//   adapters     targets, dropout, which part of the layers; ranks up to 4 with the job's alpha / rank
//
// The model starts from nothing and the job names no file: data.train is to be set. `config` is complete and fits
// `extents`; so does the result.
Config shrunken(const Config& config, const dist::MeshExtents& extents);

}  // namespace lorashard::core
