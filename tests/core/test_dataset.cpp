#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "core/dataset.hpp"
#include "core/permutation.hpp"
#include "core/token_file.hpp"
#include "core/tokenize.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using Ids = std::vector<std::int32_t>;
constexpr int no = kUnscored;

struct Written {
  TemporaryDirectory directory;
  std::string path = directory / "tokens.h5";
  explicit Written(const TokenFile& content) { write_token_file(path, content); }
  Dataset open(Index length, Order order = Order::sequential, std::uint64_t seed = 1) const {
    return Dataset(path, length, order, seed);
  }
};

TokenFile packed(Ids tokens) {
  TokenFile file{true, "byte", 257, std::move(tokens), {}, {0}};
  file.offsets.push_back(static_cast<std::int64_t>(file.tokens.size()));
  return file;
}

// 3 documents of 4, 1 and 3 tokens.
TokenFile three_rows() { return {false, "none", 50, {10, 11, 12, 13, 20, 30, 31, 32}, {}, {0, 4, 5, 8}}; }

// n documents [i, i + 1].
TokenFile counted_rows(int n) {
  TokenFile file{false, "none", n + 1, {}, {}, {0}};
  for (int i = 0; i < n; ++i) {
    file.tokens.insert(file.tokens.end(), {i, i + 1});
    file.offsets.push_back(2 * (i + 1));
  }
  return file;
}

TEST(Dataset, PackedRowsFollowEachOther) {
  const Written file(packed({1, 2, 3, 4, 5, 6, 7, 8}));
  const Dataset data = file.open(3);
  EXPECT_EQ(data.rows(), 3);
  EXPECT_EQ(data.length(), 3);
  EXPECT_EQ(data.vocab(), 257);
  EXPECT_EQ(data.tokens(), 8);
  EXPECT_EQ(data.tokenizer(), "byte");
  EXPECT_EQ(data.path(), file.path);
  const Rows rows = data.in_order(0, 3);
  EXPECT_EQ(rows.ids, (Ids{1, 2, 3, 4, 5, 6, 7, 8, 0}));
  EXPECT_EQ(rows.labels, (Ids{2, 3, 4, 5, 6, 7, 8, no, no}));
  EXPECT_EQ(rows.scored(), 7);
}

TEST(Dataset, TheLastPackedTokenNeedsNoPosition) {
  const Dataset data = Written(packed({1, 2, 3, 4, 5, 6, 7})).open(3);
  EXPECT_EQ(data.rows(), 2);
  EXPECT_EQ(data.in_order(0, 2).ids, (Ids{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(data.in_order(0, 2).labels, (Ids{2, 3, 4, 5, 6, 7}));
  const Dataset short_text = Written(packed({1, 2})).open(4);
  EXPECT_EQ(short_text.in_order(0, 1).ids, (Ids{1, 2, 0, 0}));
  EXPECT_EQ(short_text.in_order(0, 1).labels, (Ids{2, no, no, no}));
}

TEST(Dataset, RowsArePaddedDocuments) {
  const Written file(three_rows());
  const Dataset data = file.open(3);  // a document of T + 1 tokens just fits
  EXPECT_EQ(data.rows(), 3);
  EXPECT_EQ(data.in_order(0, 3).ids, (Ids{10, 11, 12, 20, 0, 0, 30, 31, 32}));
  EXPECT_EQ(data.in_order(0, 3).labels, (Ids{11, 12, 13, no, no, no, 31, 32, no}));
  EXPECT_EQ(data.in_order(1, 1).ids, (Ids{20, 0, 0}));
  EXPECT_EQ(data.in_order(1, 0).ids, Ids{});
  expect_refused([&] { data.in_order(2, 2); }, Failure::other, {"2 to 4 of 3"});
  expect_refused([&] { file.open(2); }, Failure::configuration,
                 {file.path, "document 0 has 4 tokens", "found data.length 2", "at least 3"});
  expect_refused([&] { file.open(0); }, Failure::configuration, {"data.length", "0"});
}

TEST(Dataset, LabelsBelongToTheTokenBesideThem) {
  TokenFile content = three_rows();
  content.labels = {10, no, 12, 49, 20, no, no, 32};
  const Dataset data = Written(content).open(4);
  EXPECT_EQ(data.in_order(0, 3).labels, (Ids{no, 12, 49, no, no, no, no, no, no, 32, no, no}));
  EXPECT_EQ(data.in_order(0, 3).scored(), 3);
}

TEST(Dataset, SequentialBatchesGoRoundInFileOrder) {
  const Dataset data = Written(counted_rows(5)).open(1);
  EXPECT_EQ(data.batch(0, 3, 0, 3).ids, (Ids{0, 1, 2}));
  EXPECT_EQ(data.batch(1, 3, 0, 3).ids, (Ids{3, 4, 0}));
  EXPECT_EQ(data.batch(1, 3, 0, 3).labels, (Ids{4, 5, 1}));
  EXPECT_EQ(data.batch(2, 3, 1, 2).ids, (Ids{2, 3}));
  EXPECT_EQ(data.batch(0, 12, 0, 12).ids, (Ids{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1}));
  expect_refused([&] { data.batch(0, 3, 1, 3); }, Failure::other, {"1 to 4", "batch of 3"});
}

TEST(Dataset, EveryPassIsAPermutationOfItsOwn) {
  const int n = 37, passes = 20;
  const Dataset data = Written(counted_rows(n)).open(1, Order::shuffled, 7);
  std::set<Ids> orders;
  for (int pass = 0; pass < passes; ++pass) {
    Ids ids = data.batch(pass, n, 0, n).ids;
    orders.insert(ids);
    std::sort(ids.begin(), ids.end());
    Ids all(n);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(ids, all) << pass;
  }
  EXPECT_EQ(orders.size(), static_cast<std::size_t>(passes));  // equal ones by chance: 190 / 37!
}

TEST(Dataset, ABatchIsAFunctionOfSeedAndStepAlone) {
  const Written file(counted_rows(10));
  const Dataset data = file.open(1, Order::shuffled, 7), again = file.open(1, Order::shuffled, 7);
  const Rows whole = data.batch(3, 12, 0, 12);
  for (const Index parts : {1, 2, 3, 4, 6, 12}) {
    Ids ids, labels;
    for (Index part = parts; part-- > 0;) {  // asked for in another order, of another reader
      const Rows rows = again.batch(3, 12, part * 12 / parts, 12 / parts);
      ids.insert(ids.begin(), rows.ids.begin(), rows.ids.end());
      labels.insert(labels.begin(), rows.labels.begin(), rows.labels.end());
    }
    EXPECT_EQ(ids, whole.ids) << parts;
    EXPECT_EQ(labels, whole.labels) << parts;
  }
  // The same rows at other batch sizes: row n of training is what counts.
  EXPECT_EQ(data.batch(9, 4, 0, 4).ids, Ids(whole.ids.begin(), whole.ids.begin() + 4));
  EXPECT_NE(file.open(1, Order::shuffled, 8).batch(3, 12, 0, 12).ids, whole.ids);
}

// The numbers themselves, so that a run resumed by a later program, or elsewhere, sees the same order.
TEST(Permutation, IsTheSameForEver) {
  std::vector<Index> order;
  for (Index i = 0; i < 10; ++i) order.push_back(permuted(i, 10, {1, 2}));
  EXPECT_EQ(order, (std::vector<Index>{5, 3, 4, 6, 7, 0, 1, 8, 2, 9}));
  EXPECT_EQ(permuted(0, Index{1} << 58, {1, 2}), 254120682955832512);
}

TEST(Permutation, MeetsEveryThingOnce) {
  for (Index n = 1; n <= 130; ++n) {
    std::set<Index> seen;
    for (Index i = 0; i < n; ++i) seen.insert(permuted(i, n, {3, static_cast<std::uint64_t>(n)}));
    EXPECT_EQ(static_cast<Index>(seen.size()), n);
    EXPECT_TRUE(*seen.begin() == 0 && *seen.rbegin() == n - 1);
  }
  expect_refused([] { permuted(5, 5, {}); }, Failure::other, {"place 5", "5 things"});
  expect_refused([] { permuted(0, 0, {}); }, Failure::other, {"0 things"});
}

// Pearson's statistic of the orders of n things over many keys: mean n! - 1, variance 2 (n! - 1); six deviations
// allowed.
TEST(Permutation, AllOrdersAreEquallyLikely) {
  for (const int n : {2, 3, 4, 5}) {
    const double orders = std::tgamma(n + 1.0), expected = 200;
    std::map<std::vector<Index>, int> counts;
    for (int key = 0; key < orders * expected; ++key) {
      std::vector<Index> order;
      for (Index i = 0; i < n; ++i) order.push_back(permuted(i, n, {11, static_cast<std::uint64_t>(key)}));
      ++counts[order];
    }
    double statistic = (orders - static_cast<double>(counts.size())) * expected;
    for (const auto& [order, count] : counts) statistic += std::pow(count - expected, 2) / expected;
    EXPECT_LE(statistic, orders - 1 + 6 * std::sqrt(2 * (orders - 1))) << n;
  }
}

TEST(Dataset, DamagedFilesAreRefused) {
  const Written file(counted_rows(2000));
  const std::string bytes = bytes_of(file.path);
  const auto refused = [&](const std::string& damaged, std::initializer_list<std::string> words) {
    put_bytes(file.path, damaged);
    expect_refused([&] { file.open(1); }, Failure::storage, words);
  };
  refused("", {file.path, "empty"});
  refused(bytes.substr(0, bytes.size() / 2), {file.path});
  refused(bytes.substr(0, bytes.size() - 1), {file.path});
  refused("text, not tokens", {file.path});
  // A bit of a token: 1000, 1001 lie beside each other as little-endian words.
  const std::size_t at = bytes.find(std::string("\xe8\x03\0\0\xe9\x03\0\0", 8));
  ASSERT_NE(at, std::string::npos);
  std::string flipped = bytes;
  flipped[at] ^= 1;
  refused(flipped, {file.path, "digest", "damaged"});
  put_bytes(file.path, bytes);
  EXPECT_EQ(file.open(1).rows(), 2000);
  ::remove(file.path.c_str());
  expect_refused([&] { file.open(1); }, Failure::storage, {file.path, "No such file"});
}

// Files with a right digest and wrong content: what another program might write.
TEST(Dataset, WrongContentIsRefused) {
  const auto refused = [](const TokenFile& content, std::initializer_list<std::string> words) {
    const Written file(content);
    expect_refused([&] { file.open(8); }, Failure::configuration, words);
    expect_refused([&] { file.open(8); }, Failure::configuration, {file.path});
  };
  TokenFile f = three_rows();
  f.tokens[2] = 50;
  refused(f, {"tokens[2]: found 50", "0 to 49"});
  f = three_rows();
  f.tokens[2] = -100;
  refused(f, {"tokens[2]: found -100"});
  f = three_rows();
  f.labels = f.tokens;
  f.labels[7] = -101;
  refused(f, {"labels[7]: found -101", "or -100"});
  f.labels.pop_back();
  refused(f, {"labels: found 7 entries, expected 8"});
  f = three_rows();
  f.offsets = {1, 4, 8};
  refused(f, {"offsets[0]: found 1, expected 0"});
  f.offsets = {0, 4, 4, 8};
  refused(f, {"offsets[2]: found 4, expected more than 4"});
  f.offsets = {0, 4, 7};
  refused(f, {"offsets[2]: found 7, expected 8"});
  f.offsets = {0};
  refused(f, {"offsets: found 1 entries"});
  f = three_rows();
  f.vocab = 0;
  refused(f, {"vocab: found 0"});
  refused(packed({1}), {"tokens", "at least 2"});
}

TEST(Dataset, OtherFilesAreRefused) {
  const TemporaryDirectory directory;
  const std::string path = directory / "other.h5";
  const auto write = [&](const char* format, const char* kind) {
    H5File file = H5File::create(path);
    file.set_text("/", "format", format);
    if (*kind) file.set_text("/", "kind", kind);
    file.close();
  };
  write("lorashard base 1", "");
  expect_refused([&] { Dataset(path, 1, Order::sequential, 1); }, Failure::configuration,
                 {path, "format", "'lorashard base 1'", "'lorashard tokens 1'"});
  write("lorashard tokens 1", "images");
  expect_refused([&] { Dataset(path, 1, Order::sequential, 1); }, Failure::configuration, {path, "kind", "'images'"});
  write("lorashard tokens 1", "");
  expect_refused([&] { Dataset(path, 1, Order::sequential, 1); }, Failure::storage, {path, "'kind' is missing"});
}

TEST(Dataset, DigestsTellFilesApart) {
  const TokenFile one = three_rows();
  std::set<std::string> digests{one.digest().hex()};
  const auto differs = [&](auto change) {
    TokenFile other = one;
    change(other);
    return digests.insert(other.digest().hex()).second;
  };
  EXPECT_TRUE(differs([](TokenFile& f) { f.packed = true; }));
  EXPECT_TRUE(differs([](TokenFile& f) { f.tokenizer = "byte"; }));
  EXPECT_TRUE(differs([](TokenFile& f) { f.vocab = 51; }));
  EXPECT_TRUE(differs([](TokenFile& f) { std::swap(f.tokens[0], f.tokens[1]); }));
  EXPECT_TRUE(differs([](TokenFile& f) { f.offsets[1] = 3; }));
  EXPECT_TRUE(differs([](TokenFile& f) { f.labels = f.tokens; }));
  EXPECT_EQ(Written(one).open(8).digest(), one.digest());
}

}  // namespace
}  // namespace lorashard::core
