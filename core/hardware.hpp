// A card and the machine around it, as the clock knows them: read from a file of configs/hardware, which gives the
// source of every number. Rates are per card; a rank is one card (on the host: one process with its threads).
#pragma once

#include <string>

#include "dist/traffic.hpp"
#include "kernels/device.hpp"
#include "kernels/profile.hpp"

namespace lorashard::core {

// Bytes a second a rank can send while it receives as many (data sheet), and what one hop of a collective costs.
struct Link {
  double bytes_per_s = 0;
  double latency_s = 0;
};

// What the products of one operand type reach of a peak, see product_s.
struct ProductRates {
  double latency_s = 0;  // from launch to a first result
  double share = 1;      // of the peak, by multiprocessors that all hold a tile of 128 x 256 results
  double fill = 0;       // a tile takes as long as one with this many results more: smaller tiles are less worth it
  double sustained = 1;  // of the peak, by a product of a millisecond and more: power sets it
};

struct Hardware {
  std::string name;  // "A100-80GB"
  std::string path;  // of the file

  // [card]
  kernels::DeviceKind device = kernels::DeviceKind::cuda;  // host or cuda
  double memory_bytes = 0;                                 // that a program can ask for, before what the libraries take
  double libraries_bytes = 0;                            // the run-time's context, cuBLASLt and NCCL: not in the ledger
  double f32_flops = 0, tf32_flops = 0, bf16_flops = 0;  // a second, data sheet; 0: the card lacks it
  double bytes_per_s = 0;                                // device memory, data sheet
  double multiprocessors = 1;  // on a host: its cores, which the rates above are of together

  // [products]: see product_s.
  ProductRates bf16_products, f32_products;  // the second for TF32 and plain fp32
  double product_write_exposed = 0;          // of the time that writing the result takes, what no computing hides
  double product_bytes_share = 1;            // of bytes_per_s, by a product that only moves its operands

  // [kernels]: see attention_s and kernel_s.
  double attention_share = 1;      // of bf16_flops (f32_flops for fp32), by long rows, forward and backward together
  double attention_edge = 0;       // FLOPs lost per byte moved, at the diagonal and at the start of each row
  double attention_own_share = 1;  // of the measured library's speed, by our kernels
  double kernel_bytes_share = 1, kernel_latency_s = 0;

  // [node]: see collective_s and message_s.
  int cards_per_node = 8;
  Link inside, between;                            // from one card to others of its node, and of other nodes
  double inside_share = 1, inside_half_ranks = 0;  // n cards reach inside_share n / (n + inside_half_ranks)
  double between_share = 1;
  double quick_share = 1;           // of a ring's rate, by the protocol that starts at once
  double bulk_start_s = 0;          // before the protocol that reaches the whole rate gets there
  double message_share = 1;         // of inside, by a message to one card, up to about 64 MB
  double message_bulk_start_s = 0;  // after which a message moves as fast as a ring of two
  double collective_latency_s = 0;  // launch
  double host_memory_bytes = 0;     // of a node
  double storage_bytes_per_s = 0;   // read by a node from the file system
};

// Throws Failure::configuration naming file, key, what was found and what was expected; unknown keys are refused with
// the nearest one, and every key must be there. Numbers carry units: 80GiB, 312TFLOP/s, 2.0TB/s, 5us.
Hardware read_hardware(const std::string& path);

// What one rank has of it. A card is a rank's own; a host's file is about all its cores (multiprocessors) at work, and a
// rank of `threads` threads has that share of its rates and of its memory, as the others have theirs.
Hardware hardware_of_rank(Hardware hardware, int threads);

// Seconds of one matrix product alone on the card. The result is cut into tiles, each computed by one multiprocessor,
// and takes as many rounds as the fullest multiprocessor has tiles (its waves); the library picks the tile, and how
// many parts k is cut into, that end first. No product is faster than its operands pass through memory, nor than the
// share of the peak that power sustains. No extent makes it faster by growing. On a host there are no tiles: the smallest
// of m, n and k counts `fill` more, as the library's blocks are worth less on thin products.
double product_s(const Hardware& hardware, const kernels::ProductShape& shape, bool tf32);
// Seconds of attention (one call) and of any other operation, from what they count. Attention's bytes grow with the
// length of a row and its FLOPs with the square, so that attention_edge makes short rows slower.
double attention_s(const Hardware& hardware, const kernels::Cost& cost, kernels::DType dtype);
double kernel_s(const Hardware& hardware, const kernels::Cost& cost);

// Ranks of a collective: `size` in all, `per_node` of them in one node (size when all are), and how many groups like
// this one use the node's links at the same time.
struct Group {
  int size = 1;
  int per_node = 1;
  int groups_per_node = 1;
};
using dist::Verb;  // all_reduce, all_gather, reduce_scatter or broadcast
// `bytes`: of the whole (the reduced buffer, or all parts together). The faster of a ring and a tree, each in the
// faster of NCCL's two kinds of protocol; 0 for one rank. A card of a group sends to other nodes through its own share
// of the node's links. Throws Failure::configuration for any other verb.
double collective_s(const Hardware& hardware, Verb verb, double bytes, const Group& group);
// From a rank's send to the arrival of the last byte at one other rank.
double message_s(const Hardware& hardware, double bytes, bool inside_node);

}  // namespace lorashard::core
