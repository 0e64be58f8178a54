// What tests of the whole trainer share: a scratch folder of the job, inputs written into it, and a way to run a body
// on a mesh that is smaller than the job.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/trainer.hpp"
#include "tests/oracle/oracle.hpp"

namespace lorashard::golden {

using core::Index;

// A folder of this job, the same path on every rank; made before the first test, removed after the last.
const std::string& scratch();

// Runs `body` on the first extents.ranks() ranks, one host thread each, or one GPU each (host or cuda); the others sleep
// until it is done. An exception is printed at once (peers may be left in a collective until the watchdog ends them) and
// fails the test. Collective over the job.
void on_mesh(const dist::MeshExtents& extents, const std::function<void(kernels::Device&, dist::Mesh&)>& body,
             kernels::DeviceKind kind = kernels::DeviceKind::host);

// Runs `body` on rank 0 while the others wait, for making input files. Collective; a failure fails the test on rank 0.
void on_rank_0(const std::function<void()>& body);

// Every tensor x pipeline x data mesh of exactly `ranks` ranks.
std::vector<dist::MeshExtents> meshes_of(int ranks);

// What the program calls them. Of positions only theta and the pairs: the oracle knows no scaling, just its frequencies.
core::ModelShape shape_of(const oracle::Shape& shape);
core::Target target_of(oracle::Where where);

// A base file with the model's weights in f32, of shape_of(model.shape) with `rope`. On one rank.
void write_base(const std::string& path, const oracle::Model& model, const core::RopeShape& rope);
void write_base(const std::string& path, const oracle::Model& model);

// One document: what position p of `ids` predicts is labels[p + 1], -100 where unscored.
struct Document {
  std::vector<std::int32_t> ids, labels;
};
// Random documents of `length` + 1 tokens; every fifth is shorter, every fourth label unscored.
std::vector<Document> random_documents(Index count, Index length, Index vocab, unsigned seed);
// A token file made of JSON lines by core::tokenize_file. On one rank.
void write_tokens(const std::string& path, const std::vector<Document>& documents, Index vocab);
// Documents [first, first + count) as the oracle's batch, padded and unscored to `length`.
oracle::Batch batch_of(const std::vector<Document>& documents, Index first, Index count, Index length);

using NamedArrays = std::map<std::string, oracle::Array>;
NamedArrays by_name(const std::vector<core::Trainer::NamedValues>& values);

// "2x2x1_sequence_interleaved_micro2_full": what a test is called.
std::string test_name(const dist::MeshExtents& extents, const core::Config& config);

}  // namespace lorashard::golden
