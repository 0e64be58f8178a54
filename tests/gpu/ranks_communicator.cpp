// ranks: 1 2 4
// The verbs on memory of a cuda device: exact values, in line with the device's own operations and
// beside them. Between verbs stand duplicate()s, which are queued on the device's stream as any
// operation is, so a missing event shows as a wrong value (and the emulator names it).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "dist/mpi_communicator.hpp"
#include "dist/nccl_communicator.hpp"
#include "tests/gpu/cuda_verbs.hpp"

namespace lorashard::dist {
namespace {

using kernels::bf16;
using kernels::duplicate;
using kernels::Error;
using kernels::Failure;
using kernels::Phase;

constexpr Index kExtents[] = {1, 2, 3, 7, 64, 1000, 4097};

TEST_F(CudaVerbs, AllReduceStandsInLine) {
  for (const Index n : kExtents) {
    const Tensor source = put(numbers(n, rank() + 1));
    Tensor data(device(), Category::activation, DType::f32, 1, n),
        after(device(), Category::activation, DType::f32, 1, n);
    duplicate(device(), source, data);
    group_->all_reduce(data);
    group_->all_reduce(data);  // size times the sum
    duplicate(device(), data, after);
    EXPECT_EQ(get<float>(after), numbers(n, triangle(size()) * size())) << n;
  }
}

TEST_F(CudaVerbs, AllReduceFindsTheMaximum) {
  for (const Index n : kExtents) {
    std::vector<float> values(n), expected(n);
    for (Index i = 0; i < n; ++i) values[i] = (rank() + i) % size() == 0 ? static_cast<float>(i) : -1.0f - rank();
    std::iota(expected.begin(), expected.end(), 0.0f);
    Tensor data = put(values);
    group_->all_reduce(data, Reduction::maximum);
    EXPECT_EQ(get<float>(data.view()), expected);
  }
}

template <class T>
T made(Index value) {
  if constexpr (std::is_same_v<T, bf16>)
    return {static_cast<std::uint16_t>(value)};
  else
    return static_cast<T>(value) + (sizeof(T) == 8 ? T(1e-9) : T(0));  // no float holds 1 + 1e-9
}
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
class CudaTypes : public CudaVerbs {};
using Types = testing::Types<float, bf16, double>;
TYPED_TEST_SUITE(CudaTypes, Types);

TYPED_TEST(CudaTypes, AllGatherLaysRowsInRankOrder) {
  const Index rows = 3;
  for (const Index cols : kExtents)
    for (const bool in_place : {false, true}) {
      std::vector<TypeParam> part(rows * cols), expected;
      for (Index i = 0; i < rows * cols; ++i) part[i] = made<TypeParam>(1000 * this->rank() + i % 1000);
      for (int r = 0; r < this->size(); ++r)
        for (Index i = 0; i < rows * cols; ++i) expected.push_back(made<TypeParam>(1000 * r + i % 1000));
      const Tensor source = put(part, rows);
      Tensor whole(device(), Category::activation, source.dtype(), this->size() * rows, cols);
      const Matrix own = whole.view().row_range(this->rank() * rows, rows);
      if (in_place) duplicate(device(), source, own);
      this->group_->all_gather(in_place ? ConstMatrix(own) : source.view(), whole);
      EXPECT_TRUE(same(get<TypeParam>(whole.view()), expected)) << cols << (in_place ? " in place" : "");
    }
}

TYPED_TEST(CudaTypes, BroadcastFromEveryRoot) {
  for (int root = 0; root < this->size(); ++root) {
    Tensor data = put(std::vector<TypeParam>(77, made<TypeParam>(this->rank())), 7);
    this->group_->broadcast(data, root);
    EXPECT_TRUE(same(get<TypeParam>(data.view()), std::vector<TypeParam>(77, made<TypeParam>(root)))) << root;
  }
}

TYPED_TEST(CudaTypes, MessagesGoBothWaysRoundTheRing) {
  const Tensor forward = put(std::vector<TypeParam>(1003, made<TypeParam>(this->rank())));
  const Tensor backward = put(std::vector<TypeParam>(17, made<TypeParam>(100 + this->rank())));
  Tensor from_before(device(), Category::activation, forward.dtype(), 1, 1003);
  Tensor from_next(device(), Category::activation, forward.dtype(), 17, 1);
  {
    const auto one = this->group_->send(forward, this->next(), 6);
    const auto two = this->group_->send(backward, this->before(), 3);
    this->group_->receive(from_next, this->next(), 3);
    this->group_->receive(from_before, this->before(), 6);
  }
  EXPECT_TRUE(same(get<TypeParam>(from_before.view()), std::vector<TypeParam>(1003, made<TypeParam>(this->before()))));
  EXPECT_TRUE(same(get<TypeParam>(from_next.view()), std::vector<TypeParam>(17, made<TypeParam>(100 + this->next()))));
}

TEST_F(CudaVerbs, ReduceScatterGivesEachRankItsRows) {
  const Index rows = 2;
  for (const Index cols : kExtents) {
    const Index n = rows * cols;
    std::vector<float> values(size() * n), expected(n);
    for (Index i = 0; i < size() * n; ++i) values[i] = static_cast<float>((rank() + 1) * (i % 1000));
    for (Index i = 0; i < n; ++i) expected[i] = static_cast<float>(triangle(size()) * ((rank() * n + i) % 1000));
    const Tensor whole = put(values, size() * rows);
    Tensor part(device(), Category::activation, DType::f32, rows, cols);
    group_->reduce_scatter(whole, part);
    EXPECT_EQ(get<float>(part.view()), expected);
    EXPECT_EQ(get<float>(whole.view()), values);
  }
}

// While sums are under way the device works on other memory, and verbs in line pass them by.
TEST_F(CudaVerbs, StartedSumsRunBesideOtherWork) {
  const Index n = 4097;
  std::vector<Tensor> sums;
  std::vector<std::unique_ptr<Pending>> pending;
  Tensor other = put(numbers(n, 7)), copy(device(), Category::activation, DType::f32, 1, n);
  for (int k = 0; k < 4; ++k) {
    sums.push_back(put(numbers(n, (rank() + 1) * (k + 1))));
    pending.push_back(group_->start_all_reduce(sums.back()));
    duplicate(device(), other, copy);
    duplicate(device(), copy, other);
  }
  group_->all_reduce(other);
  pending[2]->wait();
  pending[2]->wait();  // is nothing
  pending.clear();     // waits for the others
  for (int k = 0; k < 4; ++k) EXPECT_EQ(get<float>(sums[k].view()), numbers(n, triangle(size()) * (k + 1))) << k;
  EXPECT_EQ(get<float>(other.view()), numbers(n, 7 * size()));
}

TEST_F(CudaVerbs, StartedScattersRunBesideOtherWork) {
  const Index n = 4097;
  std::vector<Tensor> wholes, parts;
  std::vector<std::unique_ptr<Pending>> pending;
  Tensor other = put(numbers(n, 7)), copy(device(), Category::activation, DType::f32, 1, n);
  for (int k = 0; k < 3; ++k) {
    std::vector<float> rows;
    for (int row = 0; row < size(); ++row)
      for (const float value : numbers(n, (rank() + 1) * (k + 1) * (row + 1))) rows.push_back(value);
    wholes.push_back(put(rows, size()));
    parts.emplace_back(device(), Category::activation, DType::f32, 1, n);
    pending.push_back(group_->start_reduce_scatter(wholes.back(), parts.back()));
    duplicate(device(), other, copy);
    duplicate(device(), copy, other);
  }
  group_->all_reduce(other);
  pending.clear();  // waits
  for (int k = 0; k < 3; ++k)
    EXPECT_EQ(get<float>(parts[k].view()), numbers(n, triangle(size()) * (k + 1) * (rank() + 1))) << k;
  EXPECT_EQ(get<float>(other.view()), numbers(n, 7 * size()));
}

// The memory may be given back right after wait(), and be handed out again, while the sum is still queued.
TEST_F(CudaVerbs, MemoryMayGoAfterTheWait) {
  const Index n = 1000;
  Tensor kept(device(), Category::activation, DType::f32, 1, n);
  for (int k = 1; k <= 20; ++k) {
    {
      Tensor data = put(numbers(n, k * (rank() + 1)));
      const auto pending = group_->start_all_reduce(data);
      pending->wait();
      duplicate(device(), data, kept);
    }
    Tensor again = put(std::vector<float>(n, -1.0f));
    EXPECT_EQ(get<float>(kept.view()), numbers(n, k * triangle(size()))) << k;
  }
}

// Receives are begun first, so that no message finds its receiver late.
TEST_F(CudaVerbs, MessagesOfOneParityArriveInOrder) {
  const int count = 5;
  std::vector<Tensor> out, in;
  std::vector<std::unique_ptr<Pending>> receives, sends;
  for (int k = 0; k < count; ++k) {
    in.emplace_back(device(), Category::activation, DType::f32, 1, 100 + k);
    receives.push_back(group_->start_receive(in[k], before(), 10 - 2 * k));
  }
  for (int k = 0; k < count; ++k) {
    out.push_back(put(std::vector<float>(100 + k, static_cast<float>(10 * rank() + k))));
    sends.push_back(group_->send(out[k], next(), 10 - 2 * k));
  }
  receives.clear();
  for (int k = 0; k < count; ++k)
    EXPECT_EQ(get<float>(in[k].view()), std::vector<float>(100 + k, static_cast<float>(10 * before() + k))) << k;
}

TEST_F(CudaVerbs, MessageToOneselfOutlivesTheSendersMemory) {
  Tensor in(device(), Category::activation, DType::f32, 1, 5);
  const Index held_bytes = device().ledger().current_bytes();
  {
    Tensor out = put(std::vector<float>(5, 1));
    const auto pending = group_->send(out, rank(), 3);
    pending->wait();
    duplicate(device(), put(std::vector<float>(5, -1)), out);
  }
  group_->receive(in, rank(), 3);
  EXPECT_EQ(get<float>(in.view()), std::vector<float>(5, 1));
  EXPECT_EQ(device().ledger().current_bytes(), held_bytes);
  EXPECT_THROW(group_->receive(in, rank(), 3), Error);
}

TEST_F(CudaVerbs, ControlPlaneIsInHostMemory) {
  const double own[] = {rank() + 0.25, -1.0 * rank()};
  const std::vector<double> all = group_->gather_values(own);
  EXPECT_EQ(all.size(), 2u * size());
  for (int r = 0; r < size(); ++r) EXPECT_EQ(all[2 * r], r + 0.25);
  group_->barrier();
  for (const Communicator* group : {&mesh_->world(), &mesh_->tensor(), &mesh_->pipeline(), &mesh_->data()})
    EXPECT_NE(mpi_comm(*group), MPI_COMM_NULL) << group->axis();
  EXPECT_EQ(nccl_version().substr(0, 5), "NCCL ");
}

void expect_refused(const std::function<void()>& verb, const std::string& part) {
  try {
    verb();
    ADD_FAILURE() << "no error; expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.failure(), Failure::communication);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_F(CudaVerbs, MessagesOffTheRingAreRefused) {
  Tensor data = put(numbers(4, 1));
  if (size() >= 3) {
    expect_refused([&] { group_->send(data, next(), 1); }, "even tags go to the next rank, odd ones to the one before");
    expect_refused([&] { group_->receive(data, next(), 2); }, text("receive over axis pipeline, rank ", rank()));
  }
  if (size() >= 2)
    expect_refused([&] { mesh_->world().send(data, next(), 0); }, "made without point to point messages");
}

// A mesh and its verbs count what the plan says, and take no memory that the plan does not have.
TEST_F(CudaVerbs, MetaCountsWhatNcclCounts) {
  const auto meta = kernels::make_meta_device(kernels::DeviceKind::cuda);
  const auto planned = make_meta_communicator(*meta, "pipeline", rank(), size());
  const auto run = [&](Device& device, Communicator& group) {
    Tensor part(device, Category::activation, DType::f32, 2, 6),
        whole(device, Category::activation, DType::f32, 2 * size(), 6);
    const std::vector<float> values(part.count(), 1.0f);
    upload(device, kernels::view(values.data(), 2, 6), part);
    group.all_gather(part, whole);
    group.start_all_reduce(whole)->wait();
    group.reduce_scatter(whole, part);
    group.start_reduce_scatter(whole, part)->wait();
    group.broadcast(part, 0);
    const auto incoming = group.start_receive(whole.view().row_range(0, 2), before(), 4);
    const auto sent = group.send(part, next(), 4);
    incoming->wait();
    group.barrier();
  };
  const auto before_it = [&](Phase phase) { return device().profile().entry(phase); };
  const kernels::Profile::Entry data = before_it(Phase::data), pipeline = before_it(Phase::pipeline);
  const Index peak_bytes = device().ledger().peak_bytes(Category::communication);
  runtime().make_sub_mesh(device(), {1, size(), 1});
  run(device(), *group_);
  run(*meta, *planned);
  for (const auto& [phase, start] : {std::pair(Phase::data, data), std::pair(Phase::pipeline, pipeline)}) {
    EXPECT_EQ(device().profile().entry(phase).calls - start.calls, meta->profile().entry(phase).calls);
    EXPECT_EQ(device().profile().entry(phase).bytes - start.bytes, meta->profile().entry(phase).bytes);
    EXPECT_EQ(device().profile().entry(phase).sent_bytes - start.sent_bytes, meta->profile().entry(phase).sent_bytes);
  }
  EXPECT_EQ(device().ledger().peak_bytes(Category::communication), peak_bytes);
}

}  // namespace
}  // namespace lorashard::dist
