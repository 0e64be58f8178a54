// Every collective verb against exact sums, and bit for bit against sums in rank order for values whose sums round.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/dist/verbs.hpp"

namespace lorashard::dist {
namespace {

using kernels::bf16;
using kernels::Error;
using kernels::Failure;
using kernels::Phase;
using kernels::text;
using kernels::view;

INSTANTIATE_TEST_SUITE_P(Pieces, Verbs, kPieces);

constexpr Index kExtents[] = {1, 2, 3, 5, 7, 64, 1000, 4097};

// Values are whole numbers below 2^24: every order of summing gives the same, exact f32.
TEST_P(Verbs, AllReduceSumsExactly) {
  for (const Index n : kExtents) {
    std::vector<float> data(n);
    for (Index i = 0; i < n; ++i) data[i] = static_cast<float>((rank() + 1) * (i % 100 + 1));
    group_->all_reduce(view(data.data(), 1, n));
    for (Index i = 0; i < n; ++i) EXPECT_EQ(data[i], static_cast<float>(triangle(size()) * (i % 100 + 1))) << i;
  }
}

TEST_P(Verbs, AllReduceFindsTheMaximum) {
  for (const Index n : kExtents) {
    std::vector<float> data(n);
    for (Index i = 0; i < n; ++i) data[i] = (rank() + i) % size() == 0 ? static_cast<float>(i) : -1.0f - rank();
    group_->all_reduce(view(data.data(), n, 1), Reduction::maximum);
    for (Index i = 0; i < n; ++i) EXPECT_EQ(data[i], static_cast<float>(i));
  }
}

// Values whose sums round: random, of 20 binary orders of magnitude, other ones on each rank.
std::vector<float> rounding_values(Index n, int rank) {
  std::mt19937 random(17 + rank);
  std::vector<float> values(n);
  for (float& x : values) x = std::normal_distribution<float>(0, 1)(random) * std::exp2f(random() % 20);
  return values;
}

std::vector<float> sum_in_rank_order(Index n, int ranks) {
  std::vector<float> sum = rounding_values(n, 0);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<float> term = rounding_values(n, rank);
    for (Index i = 0; i < n; ++i) sum[i] += term[i];
  }
  return sum;
}

// Equal to one and the same array on every rank, so the ranks have the same bits; 600011 takes several blocks.
TEST_P(Verbs, SumsAreMadeInRankOrder) {
  for (const Index n : {1, 2, 3, 5, 7, 64, 1000, 4097, 600011}) {
    if (n > 5000 && GetParam() == 5) continue;
    std::vector<float> data = rounding_values(n, rank());
    group_->all_reduce(view(data.data(), 1, n));
    EXPECT_EQ(data, sum_in_rank_order(n, size())) << n;

    const std::vector<float> whole = rounding_values(n * size(), rank());
    const std::vector<float> sum = sum_in_rank_order(n * size(), size());
    std::vector<float> part(n);
    group_->reduce_scatter(view(whole.data(), size(), n), view(part.data(), 1, n));
    EXPECT_EQ(part, std::vector<float>(sum.begin() + rank() * n, sum.begin() + (rank() + 1) * n)) << n;
  }
}

TEST_P(Verbs, NotANumberSurvivesReductions) {
  for (const Reduction reduction : {Reduction::sum, Reduction::maximum})
    for (int source = 0; source < size(); ++source) {
      std::vector<float> data{1, rank() == source ? std::nanf("") : 2.0f, 3};
      group_->all_reduce(view(data.data(), 1, 3), reduction);
      EXPECT_TRUE(std::isnan(data[1]));
      EXPECT_EQ(data[2], reduction == Reduction::sum ? 3.0f * size() : 3.0f);
    }
}

TEST_P(Verbs, AllGatherLaysRowsInRankOrder) {
  const Index rows = 3;
  for (const Index cols : kExtents) {
    std::vector<bf16> part(rows * cols), whole(size() * rows * cols);
    for (Index i = 0; i < rows * cols; ++i) part[i].bits = static_cast<std::uint16_t>(1000 * rank() + i % 1000);
    group_->all_gather(view(part.data(), rows, cols), view(whole.data(), size() * rows, cols));
    for (int r = 0; r < size(); ++r)
      for (Index i = 0; i < rows * cols; ++i) EXPECT_EQ(whole[r * rows * cols + i].bits, 1000 * r + i % 1000);
  }
}

TEST_P(Verbs, AllGatherTakesThePartFromItsPlace) {
  const Index rows = 2, cols = 7;
  std::vector<float> whole(size() * rows * cols, -1);
  std::fill_n(whole.begin() + rank() * rows * cols, rows * cols, static_cast<float>(rank()));
  const Matrix target = view(whole.data(), size() * rows, cols);
  group_->all_gather(target.row_range(rank() * rows, rows), target);
  for (Index i = 0; i < size() * rows * cols; ++i) EXPECT_EQ(whole[i], static_cast<float>(i / (rows * cols)));
}

TEST_P(Verbs, ReduceScatterGivesEachRankItsRows) {
  const Index rows = 2;
  for (const Index cols : kExtents) {
    const Index n = rows * cols;
    std::vector<float> whole(size() * n), part(n, -1);
    for (Index i = 0; i < size() * n; ++i) whole[i] = static_cast<float>((rank() + 1) * (i % 1000));
    const std::vector<float> before = whole;
    for (const bool started : {false, true}) {
      const ConstMatrix from = view(whole.data(), size() * rows, cols);
      const Matrix to = view(part.data(), rows, cols);
      std::ranges::fill(part, -1.0f);
      started ? group_->start_reduce_scatter(from, to)->wait() : group_->reduce_scatter(from, to);
      EXPECT_EQ(whole, before);
      for (Index i = 0; i < n; ++i) EXPECT_EQ(part[i], static_cast<float>(triangle(size()) * ((rank() * n + i) % 1000)));
    }
  }
}

TEST_P(Verbs, BroadcastFromEveryRoot) {
  for (int root = 0; root < size(); ++root) {
    std::vector<float> data(11, static_cast<float>(rank()));
    group_->broadcast(view(data.data(), 1, 11), root);
    EXPECT_EQ(data, std::vector<float>(11, static_cast<float>(root)));
  }
}

TEST_P(Verbs, StartedSumIsThereAfterTheWait) {
  for (const Index n : kExtents) {
    std::vector<float> first(n), second(n);
    for (Index i = 0; i < n; ++i) first[i] = static_cast<float>((rank() + 1) * (i % 100 + 1));
    for (Index i = 0; i < n; ++i) second[i] = static_cast<float>(rank() - i);
    const auto one = group_->start_all_reduce(view(first.data(), 1, n));
    const auto two = group_->start_all_reduce(view(second.data(), n, 1));
    two->wait();
    one->wait();
    for (Index i = 0; i < n; ++i) EXPECT_EQ(first[i], static_cast<float>(triangle(size()) * (i % 100 + 1))) << i;
    for (Index i = 0; i < n; ++i) EXPECT_EQ(second[i], static_cast<float>(triangle(size() - 1) - size() * i)) << i;
  }
}

TEST_P(Verbs, TotalsAreGatheredAndBroadcastAsDoubles) {
  std::vector<double> part{rank() + 1e-15, -1.0 * rank()}, whole(2 * size());
  group_->all_gather(doubles(part), kernels::Matrix(bytes(whole), kernels::DType::f64, size(), 2, 2));
  for (int r = 0; r < size(); ++r) {
    EXPECT_EQ(whole[2 * r], r + 1e-15);
    EXPECT_EQ(whole[2 * r + 1], -1.0 * r);
  }
  group_->broadcast(doubles(part), size() - 1);
  EXPECT_EQ(part[0], size() - 1 + 1e-15);
}

TEST_P(Verbs, GatheredValuesComeInRankOrder) {
  const double own[] = {rank() + 0.25, -1.0 * rank()};
  const std::vector<double> all = group_->gather_values(own);
  EXPECT_EQ(all.size(), 2u * size());
  for (int r = 0; r < size(); ++r) {
    EXPECT_EQ(all[2 * r], r + 0.25);
    EXPECT_EQ(all[2 * r + 1], -1.0 * r);
  }
  EXPECT_EQ(sum_of(*group_, rank() + 1), triangle(size()));
  group_->barrier();
}

TEST_P(Verbs, WrongArgumentsAreNamed) {
  std::vector<float> data(24);
  const Matrix m = view(data.data(), 4, 6);
  const auto expect = [&](auto&& verb, const std::string& part) {
    try {
      verb();
      ADD_FAILURE() << "no error; expected: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.failure(), Failure::communication);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      const std::string place = text("over axis test, rank ", rank(), " of ", size(), ": ");
      EXPECT_NE(std::string(error.what()).find(place), std::string::npos) << error.what();
    }
  };
  std::vector<bf16> half(24);
  std::vector<float> other(1000);
  expect([&] { group_->all_reduce(m.col_range(0, 3)); }, "data is 4x3 with stride 6, expected contiguous rows");
  expect([&] { group_->all_reduce(view(half.data(), 4, 6)); }, "data is bf16, expected fp32");
  expect([&] { group_->all_reduce({nullptr, kernels::DType::f32, 1, 2, 2}); }, "data has no memory");
  expect([&] { group_->all_gather(m, view(other.data(), 4 * size() + 1, 6)); },
         text("whole is ", 4 * size() + 1, "x6 fp32, expected ", 4 * size(), "x6 fp32"));
  expect([&] { group_->all_gather(view(half.data(), 4, 6), view(other.data(), 4 * size(), 6)); }, "expected");
  const Matrix whole = view(other.data(), 4 * size(), 6);
  expect([&] { group_->all_gather(view(other.data() + 6 * 4 * rank() + 1, 4, 6), whole); }, "part lies inside whole");
  expect([&] { group_->reduce_scatter(view(other.data(), 4 * size(), 5), m); }, "part is 4x6");
  expect([&] { group_->reduce_scatter(whole, whole.row_range(0, 4)); }, "part lies inside whole");
  expect([&] { group_->start_reduce_scatter(whole, whole.row_range(0, 4)); }, "part lies inside whole");
  expect([&] { group_->broadcast(m, size()); }, text("peer ", size(), " lies outside the group"));
  expect([&] { group_->send(m, -1, 0); }, "peer -1 lies outside the group");
  expect([&] { group_->receive(m, rank(), -3); }, "tag -3, expected at least 0");
  expect([&] { group_->start_receive(m, size(), 0); }, text("peer ", size(), " lies outside the group"));
  expect([&] { group_->start_all_reduce(view(half.data(), 4, 6)); }, "data is bf16, expected fp32");
  std::vector<double> wide(24);
  expect([&] { group_->all_reduce(doubles(wide)); }, "data is fp64, expected fp32");
}

TEST_P(Verbs, EmptyDataIsNothing) {
  const Matrix none(nullptr, kernels::DType::f32, 0, 3, 3);
  group_->all_reduce(none);
  group_->all_gather(none, none);
  group_->reduce_scatter(none, none);
  group_->start_reduce_scatter(none, none)->wait();
  group_->broadcast(none, 0);
  group_->send(none, 0, 0)->wait();
  group_->receive(none, 0, 0);
  group_->start_receive(none, 0, 0)->wait();
  group_->start_all_reduce(none)->wait();
  EXPECT_TRUE(group_->gather_values({}).empty());
  EXPECT_EQ(device_->profile().entry(Phase::data).calls, 0);
}

// The plan's counts come from the same lines of code; this holds the two against each other and against the numbers.
TEST_P(Verbs, MetaCountsWhatMpiCounts) {
  const auto meta = kernels::make_meta_device();
  const auto planned = make_meta_communicator(*meta, "test", rank(), size());
  const auto run = [](kernels::Device& device, Communicator& group) {
    const kernels::Category category = kernels::Category::activation;
    kernels::Tensor part(device, category, kernels::DType::f32, 2, 6);
    kernels::Tensor whole(device, category, kernels::DType::f32, 2 * group.size(), 6);
    if (part.view().data) std::fill_n(part.view().row<float>(0), part.count(), 1.0f);
    const int next = (group.rank() + 1) % group.size(), before = (group.rank() + group.size() - 1) % group.size();
    group.all_gather(part, whole);
    group.all_reduce(whole);
    group.reduce_scatter(whole, part);
    group.start_reduce_scatter(whole, part)->wait();
    group.broadcast(part, 0);
    const auto pending = group.send(part, next, 5);
    pending->wait();
    group.receive(whole.view().row_range(0, 2), before, 5);
    const auto incoming = group.start_receive(whole.view().row_range(0, 2), before, 7);
    const auto outgoing = group.send(part, next, 7);
    incoming->wait();
    outgoing->wait();
    group.start_all_reduce(whole)->wait();
    const double own = 1;
    group.gather_values({&own, 1});
    group.barrier();
  };
  run(*device_, *group_);
  run(*meta, *planned);
  for (const Phase phase : {Phase::data, Phase::pipeline}) {
    const auto& real = device_->profile().entry(phase);
    const auto& plan = meta->profile().entry(phase);
    EXPECT_EQ(real.calls, plan.calls);
    EXPECT_EQ(real.bytes, plan.bytes);
    EXPECT_EQ(real.sent_bytes, plan.sent_bytes);
  }
  const double part_bytes = 48;
  const double sent = size() == 1 ? 0 : part_bytes * (1 + 4 * size() + (rank() == 0)) + 8;
  EXPECT_EQ(device_->profile().entry(Phase::data).sent_bytes, sent);
  EXPECT_EQ(device_->profile().entry(Phase::pipeline).sent_bytes, size() == 1 ? 0 : 2 * part_bytes);
  for (int c = 0; c < kernels::kCategoryCount; ++c) {
    const auto category = static_cast<kernels::Category>(c);
    EXPECT_EQ(device_->ledger().peak_bytes(category), meta->ledger().peak_bytes(category)) << name(category);
  }
  EXPECT_EQ(mpi_comm(*planned), MPI_COMM_NULL);
  EXPECT_NE(mpi_comm(*group_), MPI_COMM_NULL);
}

}  // namespace
}  // namespace lorashard::dist
