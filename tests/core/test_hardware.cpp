// The hardware files and the clock's formulas: what the reader refuses, what must hold on any card, and how far the
// formulas are from the public measurements of ../shared/reference that their constants were fitted on. The bounds on
// errors are those of the fit, rounded up: they hold a file and its formula together, and predict nothing.
// Long, since every measured table has a reader and a bound of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <sstream>

#include "core/hardware.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using kernels::DType;
using kernels::Index;
using kernels::ProductShape;

constexpr const char* kDirectory = "configs/hardware";
const char* const kNames[] = {"v100-32gb", "a100-80gb", "h100", "h200", "b200", "host"};
const Verb kVerbs[] = {Verb::all_reduce, Verb::all_gather, Verb::reduce_scatter, Verb::broadcast};

Hardware card(const std::string& name) { return read_hardware(std::string(kDirectory) + "/" + name + ".ini"); }

// Rows by column; none where the file is not there.
using Row = std::map<std::string, std::string>;
std::vector<Row> rows_of(const std::string& file) {
  const char* shared = std::getenv("LORASHARD_SHARED");
  std::string bytes = bytes_of(std::string(shared ? shared : "../shared") + "/reference/" + file);
  std::erase(bytes, '\r');
  std::istringstream in(bytes);
  std::vector<Row> rows;
  std::string names, line, name, cell;
  for (std::getline(in, names); std::getline(in, line);) {
    std::istringstream name_cells(names), cells(line);
    Row& row = rows.emplace_back();
    while (std::getline(name_cells, name, ',') && std::getline(cells, cell, ',')) row[name] = cell;
  }
  return rows;
}
constexpr const char* kNoTable = "no ../shared/reference (LORASHARD_SHARED names another place)";

struct Bounds {
  double half, nine_of_ten, bias;  // of the errors half, and nine of ten, are at most this large, and so is their mean
};
struct Errors {
  std::vector<double> all;  // predicted / measured - 1
  void add(double predicted, double measured) { all.push_back(predicted / measured - 1); }
  void expect(std::size_t rows, const Bounds& bounds, const std::string& what) const {
    ASSERT_EQ(all.size(), rows) << what;
    std::vector<double> sizes;
    for (const double x : all) sizes.push_back(std::abs(x));
    std::sort(sizes.begin(), sizes.end());
    EXPECT_LE(sizes[(rows - 1) / 2], bounds.half) << what;
    EXPECT_LE(sizes[(rows * 9 - 1) / 10], bounds.nine_of_ten) << what;
    EXPECT_LE(std::abs(std::accumulate(all.begin(), all.end(), 0.0)) / static_cast<double>(rows), bounds.bias) << what;
  }
};

TEST(Hardware, EveryFileReads) {
  for (const auto& entry : std::filesystem::directory_iterator(kDirectory)) {
    const Hardware hardware = read_hardware(entry.path().string());
    EXPECT_EQ(hardware.path, entry.path().string());
    EXPECT_GT(hardware.memory_bytes, hardware.libraries_bytes) << hardware.path;
    EXPECT_GE(hardware.host_memory_bytes, hardware.memory_bytes) << hardware.path;
  }
  for (const char* name : kNames) EXPECT_FALSE(card(name).name.empty());
  EXPECT_EQ(card("a100-80gb").memory_bytes, 79.2 * 0x1p30);
  EXPECT_EQ(card("a100-80gb").bf16_flops, 312e12);
  EXPECT_EQ(card("a100-80gb").between.latency_s, 5 * 1e-6);
}

TEST(Hardware, MessagesNamePlaceFoundAndExpected) {
  const TemporaryDirectory directory;
  const std::string path = directory / "card.ini", good = bytes_of(std::string(kDirectory) + "/h100.ini");
  // What is said of `lines` followed by the good file without its line `key = ...`.
  const auto said = [&](const std::string& key, const std::string& lines) {
    const std::size_t start = good.find("\n" + key + " = ");
    put_bytes(path, lines + "\n" + good.substr(0, start) + good.substr(good.find('\n', start + 1)));
    try {
      read_hardware(path);
    } catch (const kernels::Error& error) {
      EXPECT_EQ(error.failure(), kernels::Failure::configuration);
      std::string what = error.what();
      for (std::size_t at; (at = what.find(path)) != what.npos;) what.replace(at, path.size(), "card.ini");
      return what;
    }
    return std::string("nothing was thrown");
  };
  EXPECT_EQ(said("memory", "[card]\nmemory = 80 GiB ; more"), "nothing was thrown");
  EXPECT_EQ(said("memory", "memory = 1GiB"), "card.ini:1: unknown key 'memory'; the nearest is 'card.memory'");
  EXPECT_EQ(said("memory", "[card]\nmemry = 1"), "card.ini:2: unknown key 'card.memry'; the nearest is 'card.memory'");
  EXPECT_EQ(said("memory", ""), "card.ini: expected every key, missing: card.memory");
  EXPECT_EQ(said("cards", "[nodes]"), "card.ini:1: unknown section '[nodes]'; the nearest is '[node]'");
  EXPECT_EQ(said("cards", "cards 8"), "card.ini:1: found 'cards 8', expected [section] or key = value");
  EXPECT_EQ(said("name", "[card]\nname = a\nname = a"), "card.ini:3: 'card.name' was given before, at card.ini:2");
  const struct {
    std::string section, key;
    std::vector<std::string> values;
    std::string expected;
  } refused[] = {
      {"card", "name", {""}, "a name"},
      {"card", "device", {"gpu"}, "one of host, cuda"},
      {"card", "memory", {"80", "8GB/s", "-8GiB", "0", "nanGiB", "GiB"}, "a number of bytes above 0, such as 80GiB"},
      {"card", "libraries", {"-1GiB", "1"}, "a number of bytes of at least 0, such as 2GiB"},
      {"card", "bandwidth", {"3.35TB", "0"}, "bytes a second above 0, such as 2.0TB/s"},
      {"card", "f32", {"0", "67TB/s"}, "FLOPs a second above 0, such as 312TFLOP/s"},
      {"card", "tf32", {"494TFLOP", "-1GFLOP/s"}, "FLOPs a second of at least 0, such as 312TFLOP/s"},
      {"products", "write_exposed", {"-1", "x"}, "a number of at least 0"},
      {"node", "between.latency", {"5", "-5us", "1001ms"}, "a time of at least 0, such as 5us"},
      {"node", "between.share", {"0", "1.01", "-0.5", "50%"}, "a share above 0 and at most 1"},
      {"node", "cards", {"0", "7.5", "8 cards"}, "a whole number of at least 1"}};
  for (const auto& [section, key, values, expected] : refused)
    for (const std::string& value : values)
      EXPECT_EQ(said(key, "[" + section + "]\n" + key + " = " + value),
                "card.ini:2: " + section + "." + key + ": found '" + value + "', expected " + expected);
}

// OpenXLA's table; a batch of b products counts as one with b m rows. TF32 on an H100 is the worst fit: there a batch
// takes up to 1.6 times as long as one product of the same work, and only single products, as ours are, were fitted.
TEST(Hardware, ProductsTakeTheTimesMeasured) {
  const std::vector<Row> rows = rows_of("gemm_h100_b200.csv");
  if (rows.empty()) GTEST_SKIP() << kNoTable;
  const struct {
    std::string device, file, types;
    bool batches;
    Bounds all, large, largest;  // large: from 1e10 FLOP, largest: from 1e11
  } cases[] = {
      {"sm_90", "h100", "bf16xbf16->bf16", true, {0.03, 0.08, 0.01}, {0.03, 0.06, 0.02}, {0.02, 0.03, 0.01}},
      {"sm_100_B200", "b200", "bf16xbf16->bf16", true, {0.02, 0.08, 0.01}, {0.02, 0.09, 0.01}, {0.02, 0.10, 0.04}},
      {"sm_90", "h100", "f32xf32->f32", false, {0.10, 0.32, 0.07}, {0.09, 0.15, 0.05}, {0.14, 0.14, 0.14}},
      {"sm_100_B200", "b200", "f32xf32->f32", true, {0.03, 0.10, 0.01}, {0.03, 0.12, 0.02}, {0.03, 0.06, 0.02}}};
  for (const auto& c : cases) {
    const Hardware hardware = card(c.file);
    const DType dtype = c.types.ends_with("bf16") ? DType::bf16 : DType::f32;
    Errors all, large, largest;
    for (const Row& row : rows) {
      if (row.at("device") != c.device || row.at("types") != c.types || (row.at("b") != "1" && !c.batches)) continue;
      const auto extent = [&](const char* name) { return std::stoll(row.at(name)); };
      const ProductShape shape{extent("b") * extent("m"), extent("n"), extent("k"), dtype};
      const double flops = 2.0 * static_cast<double>(shape.m * shape.n * shape.k);
      for (auto [errors, least] : {std::pair(&all, 0.0), {&large, 1e10}, {&largest, 1e11}})
        if (flops >= least) errors->add(product_s(hardware, shape, true), flops / (1e12 * std::stod(row.at("tflops"))));
    }
    all.expect(c.batches ? 375 : 125, c.all, c.device + c.types);
    large.expect(c.batches ? 108 : 20, c.large, c.device + c.types + " large");
    largest.expect(c.batches ? 15 : 1, c.largest, c.device + c.types + " largest");
  }
}

TEST(Hardware, NoExtentMakesAProductFasterByGrowing) {
  const Index extents[] = {1, 4, 63, 64, 65, 128, 129, 300, 1500, 2048, 4097, 12288};
  for (const char* name : kNames)
    for (const DType dtype : {DType::bf16, DType::f32})
      for (const Index a : extents)
        for (const Index b : extents) {
          const Hardware hardware = card(name);
          const auto s = [&](const ProductShape& shape) { return product_s(hardware, shape, true); };
          for (Index x = 1, i = 0; i < std::ssize(extents); x = extents[i++]) {
            const Index y = extents[i];
            EXPECT_LE(s({x, a, b, dtype}), s({y, a, b, dtype})) << name << " m " << y << ": " << a << " " << b;
            EXPECT_LE(s({a, x, b, dtype}), s({a, y, b, dtype})) << name << " n " << y << ": " << a << " " << b;
            EXPECT_LE(s({a, b, x, dtype}), s({a, b, y, dtype})) << name << " k " << y << ": " << a << " " << b;
          }
        }
}

// Two ranks of a core each have what one of two cores has; a card is nobody's share.
TEST(Hardware, RanksOfAHostShareIt) {
  const Hardware whole = card("host"), one = hardware_of_rank(whole, 1), all = hardware_of_rank(whole, 2);
  EXPECT_EQ(2 * one.f32_flops, whole.f32_flops);
  EXPECT_EQ(2 * one.bytes_per_s, all.bytes_per_s);
  EXPECT_EQ(2 * one.memory_bytes, whole.memory_bytes);
  EXPECT_EQ(one.cards_per_node, 2);
  EXPECT_EQ(all.cards_per_node, 1);
  EXPECT_EQ(hardware_of_rank(whole, 99).f32_flops, whole.f32_flops);  // there are no more cores
  EXPECT_EQ(hardware_of_rank(card("h100"), 1).f32_flops, card("h100").f32_flops);
  // Thin products are worth less: 8 of anything is no eighth of 64.
  const auto s = [&](Index n) { return product_s(whole, {1024, n, 768, DType::f32}, false); };
  EXPECT_GT(8 * s(8), s(64));
}

TEST(Hardware, CardsReachWhatIsKnownOfThem) {
  const Hardware h200 = card("h200"), v100 = card("v100-32gb"), a100 = card("a100-80gb");
  const ProductShape bf16{8192, 8192, 8192, DType::bf16}, f32{8192, 8192, 8192, DType::f32};
  // Measured on an H200 (the README of ../shared/reference): this product, and a copy.
  EXPECT_NEAR(2 * std::pow(8192.0, 3) / product_s(h200, bf16, false), 790e12, 0.01 * 790e12);
  EXPECT_NEAR(8e9 / kernel_s(h200, {0, 8e9}), 4.3e12, 0.02 * 4.3e12);
  // NVIDIA/nccl issue 1048: an all-reduce of 4 GB among the cards of a DGX A100 moves 232.5 GB/s at each.
  EXPECT_NEAR(2 * 7.0 / 8 * 4e9 / collective_s(a100, Verb::all_reduce, 4e9, {8, 8, 1}), 232.5e9, 0.02 * 232.5e9);
  Hardware by_library = h200;  // our kernels for attention reach their share of its speed
  by_library.attention_own_share = 1;
  EXPECT_NEAR(attention_s(by_library, {1e15, 0}, DType::bf16) / attention_s(h200, {1e15, 0}, DType::bf16), 0.6, 1e-4);
  EXPECT_EQ(product_s(v100, f32, true), product_s(v100, f32, false));      // a V100 has no TF32
  EXPECT_GT(product_s(a100, f32, false), 7 * product_s(a100, f32, true));  // 19.5 and 156 TFLOP/s
}

// Forward and backward pass together: one share for both makes the first slower and the second faster than measured.
TEST(Hardware, AttentionTakesTheTimesMeasured) {
  const std::vector<Row> rows = rows_of("attention_h200.csv");
  if (rows.empty()) GTEST_SKIP() << kNoTable;
  Hardware hardware = card("h200");
  hardware.attention_own_share = 1;
  Errors causal, whole;
  for (const Row& row : rows) {
    if (row.at("data_type") != "bfloat16") continue;
    const auto number = [&](const char* name) { return std::stod(row.at(name)); };
    const bool masked = row.at("attn_mask") == "top_left";
    const double length = number("q_seqlen"), size = number("head_dim_qk"), heads = number("num_q_heads");
    const double pairs = heads * (masked ? length * (length + 1) / 2 : length * length), sums = 4 * length * heads;
    const double parts = 2 * length * size * (2 * heads + 2 * number("num_kv_heads"));  // q, k, v and out
    (masked ? causal : whole)
        .add(attention_s(hardware, {4 * size * pairs, parts + sums}, DType::bf16) +
                 attention_s(hardware, {10 * size * pairs, 2 * parts + sums}, DType::bf16),
             1e-3 * (number("fwd_time_ms") + number("bwd_time_ms")));
  }
  causal.expect(5, {0.012, 0.02, 0.01}, "causal");
  whole.expect(5, {0.05, 0.09, 0.04}, "without a mask: not in the fit");
}

TEST(Hardware, CollectivesAndMessagesTakeTheTimesMeasured) {
  const std::vector<Row> rows = rows_of("collectives_h100_b200.csv");
  if (rows.empty()) GTEST_SKIP() << kNoTable;
  const struct {
    std::string device, file;
    Bounds all, large, messages;  // from 4 KiB, from 1 MiB, from 4 KiB
  } cases[] = {{"sm_90", "h100", {0.11, 0.34, 0.01}, {0.07, 0.21, 0.01}, {0.22, 0.34, 0.08}},
               {"sm_100_B200", "b200", {0.09, 0.24, 0.01}, {0.05, 0.20, 0.01}, {0.25, 0.49, 0.14}}};
  for (const auto& c : cases) {
    const Hardware hardware = card(c.file);
    Errors all, large, messages;
    for (const Row& row : rows) {
      const double bytes = std::stod(row.at("tensor_bytes"));
      if (row.at("device") != c.device || bytes < 4096) continue;
      const double measured = 1e-6 * std::stod(row.at("time_us"));
      if (row.at("op") == "collective-permute") messages.add(message_s(hardware, bytes, true), measured);
      const int ranks = std::stoi(row.at("devices_per_group"));
      for (const Verb verb : {Verb::all_reduce, Verb::all_gather, Verb::reduce_scatter})
        for (Errors* errors : {&all, bytes >= 0x1p20 ? &large : nullptr})
          if (errors && row.at("op") == dist::name(verb))
            errors->add(collective_s(hardware, verb, bytes, {ranks, ranks, 1}), measured);
    }
    all.expect(180, c.all, c.device);
    large.expect(108, c.large, c.device + " large");
    messages.expect(60, c.messages, c.device + " messages");
  }
}

TEST(Hardware, CollectivesKeepTheirOrder) {
  for (const char* name : kNames) {
    const Hardware hardware = card(name);
    const int cards = hardware.cards_per_node;
    for (double bytes = 1; bytes < 1e11; bytes *= 7) {
      SCOPED_TRACE(kernels::text(name, " ", bytes, " bytes"));
      for (const Verb verb : kVerbs) {
        EXPECT_EQ(collective_s(hardware, verb, bytes, {1, 1, 1}), 0);
        double before = collective_s(hardware, verb, bytes, {cards, cards, 1});  // more nodes are never faster
        EXPECT_LT(collective_s(hardware, verb, bytes / 7, {cards, cards, 1}), before);
        for (int nodes = 2; nodes <= 512; nodes = nodes * 2 + nodes % 3) {
          const double now = collective_s(hardware, verb, bytes, {nodes * cards, cards, 1});
          EXPECT_GE(now, before) << dist::name(verb) << " " << nodes;
          before = now;
        }
      }
      for (const Group group : {Group{2, 2, 1}, Group{cards, cards, 1}, Group{64, 8, 1}, Group{96, 1, 8}})
        EXPECT_GE((1 + 1e-12) * (collective_s(hardware, Verb::reduce_scatter, bytes, group) +
                                 collective_s(hardware, Verb::all_gather, bytes, group)),
                  collective_s(hardware, Verb::all_reduce, bytes, group));
      EXPECT_GT(message_s(hardware, bytes, false), message_s(hardware, bytes, true));
    }
  }
}

TEST(Hardware, GroupsShareTheLinksOfANode) {
  const Hardware hardware = card("a100-80gb");
  const double link = hardware.between.bytes_per_s * hardware.between_share;
  const auto links = [&](const Group& group) {  // that a member gathers through: 63 of 64 parts come from others
    return 1e12 * 63 / 64 / collective_s(hardware, Verb::all_gather, 1e12, group) / link;
  };
  EXPECT_NEAR(links({64, 1, 1}), 1, 1e-3);  // one card a node uses one link, and has it to itself
  EXPECT_NEAR(links({64, 1, 8}), 1, 1e-3);
  EXPECT_NEAR(links({64, 1, 16}), 0.5, 1e-3);
  EXPECT_NEAR(links({64, 4, 2}), 4, 4e-3);
}

TEST(Hardware, OtherVerbsAreRefused) {
  const Hardware hardware = card("h100");
  for (const Verb verb : {Verb::send, Verb::receive, Verb::values, Verb::barrier})
    expect_refused(
        [&] {
          collective_s(hardware, verb, 1e6, {8, 8, 1});
        },
        kernels::Failure::configuration,
        {kernels::text("collective_s: found ", dist::name(verb),
                       ", expected all_reduce, all_gather, "
                       "reduce_scatter or broadcast")});
}

}  // namespace
}  // namespace lorashard::core
