// What a node was found to have, and which nodes of a job are not as the others are. Nothing here measures.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

namespace lorashard::launch {

// Zero or an empty text where nothing was measured.
struct NodeRow {
  std::string host;
  int ranks = 0;
  int cores = 0;  // that its ranks may run on, together
  int gpus = 0;
  std::string card;             // "NVIDIA H100 80GB HBM3", several where they differ
  std::string driver;           // "550.54.15"
  std::string gpu_fault;        // why its GPUs could not be tried
  double pair_bytes_per_s = 0;  // all-reduce between two of its GPUs, the slowest pair
  double latency_s = 0;         // to the next node of the table (of the last one: to the first), one way
  double link_bytes_per_s = 0;
  double skew_ms = 0;  // its clock against that of the first node: positive is ahead
  double free_memory_bytes = 0;
  std::string folder;  // "yes": as the first node sees it, or what was seen instead
};

// Of two in the middle their mean; 0 of none.
double median(std::vector<double> values);

boost::json::object row_json(const NodeRow& row);
NodeRow row_from(const boost::json::object& json);  // what row_json made

// What is wrong with each row, a line each: what was found, what was expected. None: a good node.
//
//   GPUs, card, driver     fewer GPUs, or another card or driver, than most nodes have; a GPU that cannot be used
//   GPU pairs              less than half of the median node's bandwidth
//   link                   the better of a node's two links below half of the median node's: a slow node slows its
//                          neighbours' links too, and those have a good one left. A slow link between two good nodes is
//                          named on the first of the two. Two nodes have one link and nothing to compare it with.
//   clock                  more than 100 ms from the first node's; where that leaves most nodes out, from the median
//   memory                 less than half of the median node's free memory
//   folder                 not seen as the first node sees it
std::vector<std::vector<std::string>> judge(const std::vector<NodeRow>& rows);

}  // namespace lorashard::launch
