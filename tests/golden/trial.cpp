#include "tests/golden/trial.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "core/base_file.hpp"
#include "core/tokenize.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::golden {
namespace {

using kernels::text;

class Scratch final : public testing::Environment {
 public:
  void SetUp() override {
    std::array<char, 512> path{};
    if (runtime().rank() == 0) {
      std::snprintf(path.data(), path.size(), "%s/lorashard-test-XXXXXX",
                    std::filesystem::temp_directory_path().c_str());
      if (!mkdtemp(path.data())) MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Bcast(path.data(), static_cast<int>(path.size()), MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = path.data();
  }
  void TearDown() override {
    MPI_Barrier(MPI_COMM_WORLD);
    std::error_code ignored;
    if (runtime().rank() == 0) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// GoogleTest owns it.
Scratch* const the_scratch = [] {
  auto* scratch = new Scratch;
  testing::AddGlobalTestEnvironment(scratch);
  return scratch;
}();

// A blocking barrier would spin, and idle ranks would take the two cores from those at work.
void sleep_until_all_arrive() {
  MPI_Request request;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  for (int done = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE), !done;)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

void guarded(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", runtime().rank(), error.what());
    ADD_FAILURE() << error.what();
  }
}

const char* short_name(core::Recompute recompute) {
  switch (recompute) {
    case core::Recompute::none: return "keep";
    case core::Recompute::selective: return "selective";
    case core::Recompute::full: return "full";
  }
  return "";
}

}  // namespace

const std::string& scratch() { return the_scratch->path(); }

void on_mesh(const dist::MeshExtents& extents, const std::function<void(kernels::Device&, dist::Mesh&)>& body,
             kernels::DeviceKind kind) {
  // Ranks share the GPUs that there are: what counts here is that they compute the same.
  const std::unique_ptr<kernels::Device> device =
      kind == kernels::DeviceKind::cuda ? kernels::make_cuda_device(runtime().gpu(kernels::cuda_device_count(), true))
                                        : kernels::make_host_device(1);
  const std::unique_ptr<dist::Mesh> mesh = runtime().make_sub_mesh(*device, extents);
  if (mesh) guarded([&] { body(*device, *mesh); });
  sleep_until_all_arrive();
}

void on_rank_0(const std::function<void()>& body) {
  if (runtime().rank() == 0) guarded(body);
  sleep_until_all_arrive();
}

std::vector<dist::MeshExtents> meshes_of(int ranks) {
  std::vector<dist::MeshExtents> meshes;
  for (int tensor = 1; tensor <= ranks; ++tensor)
    for (int pipeline = 1; tensor * pipeline <= ranks; ++pipeline)
      if (ranks % (tensor * pipeline) == 0) meshes.push_back({tensor, pipeline, ranks / (tensor * pipeline)});
  return meshes;
}

core::ModelShape shape_of(const oracle::Shape& shape) {
  core::ModelShape result;
  result.family = shape.family;
  result.layers = shape.layers, result.width = shape.width;
  result.heads = shape.heads, result.kv_heads = shape.kv_heads ? shape.kv_heads : shape.heads;
  result.ffn = shape.ffn, result.vocab = shape.vocab, result.context = shape.context;
  result.tied_head = shape.tied_head;
  result.norm_eps = static_cast<float>(shape.norm_eps);
  result.own_head_size = shape.head_size;
  result.qkv_bias = shape.qkv_bias, result.qk_norm = shape.qk_norm;
  result.window = shape.window;
  result.rope.theta = shape.rope_theta, result.rope.neighbours = shape.rope_neighbours;
  return result;
}

core::Target target_of(oracle::Where where) {
  using core::Target;
  switch (where) {
    case oracle::Where::q: return Target::q;
    case oracle::Where::k: return Target::k;
    case oracle::Where::v: return Target::v;
    case oracle::Where::o: return Target::o;
    case oracle::Where::up: return Target::up;
    case oracle::Where::gate: return Target::gate;
    case oracle::Where::down: return Target::down;
    case oracle::Where::qkv: break;
  }
  return Target::qkv;
}

void write_base(const std::string& path, const oracle::Model& model) {
  write_base(path, model, shape_of(model.shape).rope);
}

void write_base(const std::string& path, const oracle::Model& model, const core::RopeShape& rope) {
  const std::unique_ptr<kernels::Device> device = kernels::make_host_device(1);
  const std::unique_ptr<dist::Communicator> alone = dist::make_meta_communicator(*device, "alone", 0, 1);
  core::ModelShape shape = shape_of(model.shape);
  shape.rope = rope;
  core::BaseFileWriter writer(path, shape, kernels::DType::f32, *alone);
  oracle::Model copy = model;
  NamedArrays weights;
  for (const oracle::Named& n : named(copy)) weights[n.name] = *n.array;
  for (const core::TensorInfo& info : core::tensor_table(shape)) {
    const oracle::Array& array = weights.at(info.name);
    const std::vector<float> values(array.values.begin(), array.values.end());
    writer.write(info, info.row_cut(0, 1), info.col_cut(0, 1), kernels::view(values.data(), info.rows, info.cols));
  }
  writer.finish();
}

std::vector<Document> random_documents(Index count, Index length, Index vocab, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<Document> documents(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const Index tokens = i % 5 == 4 ? 2 + static_cast<Index>(engine() % (length - 1)) : length + 1;
    for (Index t = 0; t < tokens; ++t) {
      documents[i].ids.push_back(static_cast<std::int32_t>(engine() % vocab));
      documents[i].labels.push_back(t == 0 || engine() % 4 == 0 ? -100 : documents[i].ids.back());
    }
  }
  return documents;
}

void write_tokens(const std::string& path, const std::vector<Document>& documents, Index vocab) {
  const std::string from = path + ".jsonl";
  const auto list = [](const std::vector<std::int32_t>& values) {
    std::ostringstream all;
    for (std::size_t i = 0; i < values.size(); ++i) all << (i ? "," : "") << values[i];
    return all.str();
  };
  {
    std::ofstream out(from);
    for (const Document& d : documents)
      out << "{\"input_ids\": [" << list(d.ids) << "], \"labels\": [" << list(d.labels) << "]}\n";
  }
  core::TokenizeJob job;
  job.from = from, job.to = path;
  job.format = core::TextFormat::json;
  job.vocab_size = vocab;
  core::tokenize_file(job);
}

oracle::Batch batch_of(const std::vector<Document>& documents, Index first, Index count, Index length) {
  oracle::Batch batch{length, {}, {}};
  for (Index i = first; i < first + count; ++i) {
    const Document& d = documents[static_cast<std::size_t>(i)];
    for (std::size_t t = 0; t < static_cast<std::size_t>(length); ++t) {
      batch.ids.push_back(t < d.ids.size() ? d.ids[t] : 0);
      batch.labels.push_back(t + 1 < d.labels.size() ? d.labels[t + 1] : -100);
    }
  }
  return batch;
}

NamedArrays by_name(const std::vector<core::Trainer::NamedValues>& values) {
  NamedArrays arrays;
  for (const core::Trainer::NamedValues& v : values) {
    oracle::Array array(v.rows, v.cols);
    EXPECT_EQ(array.values.size(), v.values.size()) << v.name;
    array.values.assign(v.values.begin(), v.values.end());
    EXPECT_TRUE(arrays.emplace(v.name, std::move(array)).second) << v.name << " is there twice";
  }
  return arrays;
}

std::string test_name(const dist::MeshExtents& extents, const core::Config& config) {
  std::string name = dist::to_string(extents);
  if (config.mesh.sequence_parallel) name += "_sequence";
  if (extents.pipeline > 1) name += text("_", dist::name(config.mesh.schedule));
  name += config.train.microbatch ? text("_micro", config.train.microbatch) : "_all";
  return text(name, "_", short_name(config.train.recompute));
}

}  // namespace lorashard::golden
