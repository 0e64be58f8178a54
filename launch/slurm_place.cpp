#include <algorithm>

#include "launch/slurm_job.hpp"

namespace lorashard::launch {

using kernels::DeviceKind;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

[[noreturn]] void refuse(const std::string& line) { fail(Failure::configuration, "command line: " + line); }

std::string nodes_text(int nodes) { return text(nodes, nodes == 1 ? " node" : " nodes"); }

// The most ranks of a node.
int node_limit(const Arguments& arguments, bool on_gpus, const core::Hardware* hardware) {
  const char *right = on_gpus ? "gpus-per-node" : "tasks-per-node",
             *wrong = on_gpus ? "tasks-per-node" : "gpus-per-node";
  if (arguments.has(wrong))
    refuse(text("--", wrong, ": found with device.kind = ", on_gpus ? "cuda" : "host", ", expected --", right));
  if (arguments.has(right)) return ranks_option(arguments, right, 1);
  if (!on_gpus) return 1;
  if (!hardware) refuse("--gpus-per-node: missing, expected it or device.hardware, whose file has the GPUs of a node");
  return hardware->cards_per_node;
}

// A rank on a GPU: the main thread, the guardian, NCCL's helpers, and one for the files.
constexpr int kCoresBesideAGpu = 4;

int cpus_of_rank(const core::Config& config, const Arguments& arguments, const core::Hardware* hardware, bool on_gpus,
                 int per_node) {
  const int threads = config.device.threads, asked = ranks_option(arguments, "cpus-per-task", 0);
  if (asked > 0 && asked < threads)
    refuse(text("--cpus-per-task: found ", asked, ", expected at least device.threads = ", threads));
  if (asked > 0) return asked;
  if (on_gpus) return std::max(threads, kCoresBesideAGpu);
  if (threads > 0) return threads;
  if (!hardware) refuse("--cpus-per-task: missing, expected it, device.threads, or a host's device.hardware");
  return std::max(1, static_cast<int>(hardware->multiprocessors) / per_node);
}

}  // namespace

Placement place_ranks(const core::Config& config, const Arguments& arguments, const core::Hardware* hardware) {
  if (config.device.kind == DeviceKind::meta)
    fail(Failure::configuration, "device.kind: found meta, expected host or cuda: a rehearsal needs no cluster");
  const bool on_gpus = config.device.kind == DeviceKind::cuda;
  if (hardware && hardware->device != config.device.kind)
    fail(Failure::configuration, text("device.hardware: found ", hardware->name, " (", name(hardware->device),
                                      "), expected hardware of device.kind = ", name(config.device.kind)));
  const int limit = node_limit(arguments, on_gpus, hardware), tensor = config.mesh.tensor,
            least = tensor * config.mesh.pipeline;
  const char *unit = on_gpus ? "GPUs" : "ranks", *limit_option = on_gpus ? "GPUs" : "--tasks-per-node";
  Placement place;
  place.nodes = ranks_option(arguments, "nodes", 0);
  place.ranks = arguments.has("ranks") ? planned_ranks(config, arguments)
                : place.nodes > 0      ? place.nodes * limit
                                       : least;
  if (place.ranks < least)
    refuse(text("found ", place.ranks, " ", unit, place.nodes > 0 ? " on " + nodes_text(place.nodes) : "",
                ", expected at least ", least, ", mesh.tensor x mesh.pipeline"));
  if (place.ranks % least != 0)
    refuse(text("found ", place.ranks, " ranks, expected a multiple of ", least, ", mesh.tensor x mesh.pipeline"));
  if (place.nodes > 0) {
    if (place.ranks % place.nodes != 0)
      refuse(text("--nodes: found ", place.nodes, " for ", place.ranks, " ranks, expected as many ranks on each"));
    place.per_node = place.ranks / place.nodes;
    if (place.per_node > limit)
      refuse(text("--nodes: found ", place.nodes, " for ", place.ranks, " ranks, ", place.per_node,
                  " on each, expected at most ", limit, ", the ", limit_option, " of a node"));
  } else {
    place.per_node = std::min(limit, place.ranks);
    if (place.ranks % place.per_node != 0)
      refuse(text("found ", place.ranks, " ranks, expected a multiple of ", place.per_node, ", the ranks of a node"));
    place.nodes = place.ranks / place.per_node;
  }
  if (place.nodes > 1 && place.per_node % tensor != 0 && !arguments.has("tensor-across-nodes"))
    refuse(text("found ", place.per_node, " ", unit, " a node, expected a multiple of mesh.tensor = ", tensor,
                ": a tensor group would leave its node (--tensor-across-nodes allows it)"));
  place.cpus = cpus_of_rank(config, arguments, hardware, on_gpus, place.per_node);
  place.why = text(place.ranks, place.ranks == 1 ? " rank" : " ranks",
                   arguments.has("ranks")   ? " (--ranks)"
                   : arguments.has("nodes") ? " (--nodes)"
                                            : " (mesh.tensor x mesh.pipeline, one copy of the model)",
                   ", ", place.per_node, " a node");
  return place;
}

}  // namespace lorashard::launch
