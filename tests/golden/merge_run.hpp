// Adapters merged on a mesh and taken out again, for the host and for the cuda device: tests/core and tests/gpu.
#pragma once

#include "core/base_file.hpp"
#include "tests/golden/trial.hpp"

namespace lorashard::golden {

// A base of random weights and an adapter that was trained on it for a few steps at a large rate.
struct MergeCase {
  kernels::DType dtype = kernels::DType::f32;
  bool joint = true;         // one pair for qkv, on every layer; else q, k, v apart with other ranks, on some
  bool many_pieces = false;  // matrices that no piece holds whole
};
struct MergeFiles {
  std::string base, adapter, rows;
};
// Made once a job. Collective over the job.
const MergeFiles& merge_files(const MergeCase& c);
// A job that has the adapter beside its base.
core::Config merge_job(const MergeCase& c, const dist::MeshExtents& mesh);

// Merges and unmerges `times` times: each time the digests of all tensors are the base's again, the losses of all
// states are those of the first time bit for bit, and the last merged file is the first one. Collective over the job.
void merge_and_unmerge(const MergeCase& c, const dist::MeshExtents& mesh, int times, kernels::DeviceKind kind);

// The digest of the file that merging on this mesh makes at `path`. Collective over the job; empty on idle ranks.
std::string merge_to_file(const MergeCase& c, const dist::MeshExtents& mesh, const std::string& path,
                          kernels::DeviceKind kind);

std::string title(const MergeCase& c);

}  // namespace lorashard::golden
