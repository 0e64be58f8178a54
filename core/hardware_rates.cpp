// The clock's formulas. Their constants are in the files of configs/hardware, each with the data it was fitted on;
// tests/core/test_hardware.cpp holds them against those data and states the errors found.
#include <algorithm>
#include <cmath>

#include "core/hardware.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {

using kernels::Cost;
using kernels::DType;
using kernels::ProductShape;
using kernels::text;

namespace {

// The results that a multiprocessor computes at once: the shapes of cuBLASLt's and CUTLASS's kernels for tensor cores.
struct Tile {
  double rows, columns;
  double results() const { return rows * columns; }
};
constexpr Tile kLargest{128, 256};
constexpr Tile kTiles[] = {kLargest, {256, 128}, {128, 128}, {64, 128}, {128, 64}, {64, 64}};
constexpr int kMostParts = 16;  // of k; more would pay for products smaller than any of a transformer

// Seconds to compute (not to read) the product in tiles of one shape, with k cut into `parts`.
double tiles_s(const Hardware& hardware, const ProductRates& rates, double flops_per_s, const ProductShape& shape,
               const Tile& tile, int parts) {
  const double m = static_cast<double>(shape.m), n = static_cast<double>(shape.n), k = static_cast<double>(shape.k);
  const double tiles = std::ceil(m / tile.rows) * std::ceil(n / tile.columns) * parts;
  const double waves = std::ceil(tiles / hardware.multiprocessors);
  const double largest_s = 2 * kLargest.results() * k / parts / (rates.share * flops_per_s / hardware.multiprocessors);
  const double computing = waves * largest_s * (tile.results() + rates.fill) / (kLargest.results() + rates.fill);
  if (parts == 1) return computing;
  // A second launch adds the parts up: fp32 sums, written once and read once.
  return computing + rates.latency_s + 8 * m * n * parts / (hardware.product_bytes_share * hardware.bytes_per_s);
}

struct Ring {
  int size = 1, nodes = 1, per_node = 1;
  double s_per_byte = 0;  // of its slowest link
};

// Of a ring of `ranks` cards of one node: NCCL opens more channels where there are more neighbours to reach.
double inside_bytes_per_s(const Hardware& hardware, int ranks) {
  return hardware.inside.bytes_per_s * hardware.inside_share * ranks / (ranks + hardware.inside_half_ranks);
}

Ring ring_of(const Hardware& hardware, const Group& group) {
  Ring ring;
  ring.size = group.size;
  ring.per_node = std::clamp(group.per_node, 1, group.size);
  ring.nodes = (group.size + ring.per_node - 1) / ring.per_node;
  if (ring.per_node > 1) ring.s_per_byte = 1 / inside_bytes_per_s(hardware, ring.per_node);
  if (ring.nodes > 1) {
    // A card uses the link next to it, and shares it where a node has more members of such groups than cards.
    const double links = std::min(static_cast<double>(hardware.cards_per_node) / std::max(group.groups_per_node, 1),
                                  static_cast<double>(ring.per_node));
    ring.s_per_byte = std::max(ring.s_per_byte, 1 / (links * hardware.between.bytes_per_s * hardware.between_share));
  }
  return ring;
}

}  // namespace

Hardware hardware_of_rank(Hardware hardware, int threads) {
  if (hardware.device != kernels::DeviceKind::host) return hardware;
  const double cores = hardware.multiprocessors, own = std::clamp<double>(threads, 1, cores);
  for (double* rate : {&hardware.f32_flops, &hardware.tf32_flops, &hardware.bf16_flops, &hardware.bytes_per_s,
                       &hardware.memory_bytes})
    *rate *= own / cores;
  hardware.multiprocessors = own;
  hardware.cards_per_node = std::max(1, static_cast<int>(cores / own));
  return hardware;
}

double product_s(const Hardware& hardware, const ProductShape& shape, bool tf32) {
  if (shape.m <= 0 || shape.n <= 0 || shape.k <= 0) return 0;
  const bool bf16 = shape.dtype == DType::bf16 && hardware.bf16_flops > 0;
  const ProductRates& rates = bf16 ? hardware.bf16_products : hardware.f32_products;
  const double f32_flops = tf32 && hardware.tf32_flops > 0 ? hardware.tf32_flops : hardware.f32_flops;
  const double flops_per_s = bf16 ? hardware.bf16_flops : f32_flops;
  const double m = static_cast<double>(shape.m), n = static_cast<double>(shape.n), k = static_cast<double>(shape.k);
  const double element_bytes = static_cast<double>(kernels::size_bytes(shape.dtype));
  if (hardware.device == kernels::DeviceKind::host) {
    const double computing = 2 * m * n * k * (1 + rates.fill / std::min({m, n, k})) / (rates.share * flops_per_s);
    const double bytes = element_bytes * (m * k + k * n + m * n);
    return rates.latency_s + std::max(computing, bytes / (hardware.product_bytes_share * hardware.bytes_per_s));
  }
  const double write = element_bytes * m * n / hardware.bytes_per_s;
  const double move = element_bytes * (m * k + k * n + m * n) / (hardware.product_bytes_share * hardware.bytes_per_s);
  double computing = tiles_s(hardware, rates, flops_per_s, shape, kLargest, 1);
  for (const Tile& tile : kTiles)
    for (int parts = 1; parts <= kMostParts; parts *= 2)
      computing = std::min(computing, tiles_s(hardware, rates, flops_per_s, shape, tile, parts));
  const double sustained = 2 * m * n * k / (rates.sustained * flops_per_s);
  return rates.latency_s + std::max({computing + hardware.product_write_exposed * write, move, sustained});
}

double attention_s(const Hardware& hardware, const Cost& cost, DType dtype) {
  const double flops_per_s = dtype == DType::bf16 && hardware.bf16_flops > 0 ? hardware.bf16_flops : hardware.f32_flops;
  const double library = (cost.flops + hardware.attention_edge * cost.bytes) / (hardware.attention_share * flops_per_s);
  return hardware.kernel_latency_s + library / hardware.attention_own_share;
}

double kernel_s(const Hardware& hardware, const Cost& cost) {
  return hardware.kernel_latency_s +
         std::max(cost.flops / hardware.f32_flops, cost.bytes / (hardware.kernel_bytes_share * hardware.bytes_per_s));
}

double collective_s(const Hardware& hardware, Verb verb, double bytes, const Group& group) {
  if (verb != Verb::all_reduce && verb != Verb::all_gather && verb != Verb::reduce_scatter && verb != Verb::broadcast)
    kernels::fail(kernels::Failure::configuration,
                  text("collective_s: found ", dist::name(verb),
                       ", expected all_reduce, all_gather, reduce_scatter or broadcast"));
  if (group.size <= 1) return 0;
  const Ring ring = ring_of(hardware, group);
  const auto seconds = [&](double hops_s, double link_bytes) {
    const double s = link_bytes * ring.s_per_byte;
    return hardware.collective_latency_s + hops_s + std::min(s / hardware.quick_share, hardware.bulk_start_s + s);
  };
  // An all-reduce goes round twice: once to sum, once to hand the sums on (Patarasuk and Yuan 2009).
  const double rounds = verb == Verb::all_reduce ? 2 : 1;
  const double part = verb == Verb::broadcast ? 1 : (ring.size - 1.0) / ring.size;
  const double hops_s =
      (ring.size - ring.nodes) * hardware.inside.latency_s + (ring.nodes - 1) * hardware.between.latency_s;
  const double by_ring = seconds(rounds * hops_s, rounds * part * bytes);
  if (ring.nodes == 1 || verb == Verb::all_gather || verb == Verb::reduce_scatter) return by_ring;
  // NCCL's double binary tree joins nodes; the cards of a node stay a chain (Sanders, Speck and Traeff 2009).
  const double tree_hops_s =
      (ring.per_node - 1) * hardware.inside.latency_s + std::ceil(std::log2(ring.nodes)) * hardware.between.latency_s;
  return std::min(by_ring, seconds(rounds * tree_hops_s, rounds * bytes));
}

double message_s(const Hardware& hardware, double bytes, bool inside_node) {
  const Link& link = inside_node ? hardware.inside : hardware.between;
  const double share = inside_node ? hardware.message_share : hardware.between_share;
  double s = bytes / (share * link.bytes_per_s);
  if (inside_node) s = std::min(s, hardware.message_bulk_start_s + bytes / inside_bytes_per_s(hardware, 2));
  return hardware.collective_latency_s + link.latency_s + s;
}

}  // namespace lorashard::core
