// Launches: which are possible, and the kernel's name.
#include "tests/emulator/blocks.hpp"

namespace lorashard::emulator {
namespace {

// "scale<float>" from "... [with auto kKernel = lorashard::kernels::scale<float>; Arguments = {...}]".
std::string kernel_name(std::string text) {
  const std::string key = "kKernel = ";
  const auto start = text.find(key);
  if (start == std::string::npos) return text;
  text = text.substr(start + key.size());
  text = text.substr(0, text.find_first_of(";]"));
  const auto scope = text.rfind("::", text.find('<'));
  return scope == std::string::npos ? text : text.substr(scope + 2);
}

bool shape_allowed(const std::string& name, dim3 grid, dim3 block, std::size_t shared_bytes) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kLargestBlock || block.z > 64) {
    fault(name, "a block of " + std::to_string(threads) + " threads; 1 to 1024 are possible");
  } else if (grid.x > kLargestGrid.x || grid.y > kLargestGrid.y || grid.z > kLargestGrid.z) {
    fault(name, "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                    std::to_string(grid.z) + " blocks; 2147483647 x 65535 x 65535 are possible");
  } else if (shared_bytes > largest_shared_bytes()) {
    fault(name, std::to_string(shared_bytes) + " bytes of shared memory; a block has at most " +
                    std::to_string(largest_shared_bytes()));
  } else {
    return true;
  }
  return false;
}

}  // namespace

void queue_kernel(cudaStream_t stream, const char* text, dim3 grid, dim3 block, std::size_t shared_bytes,
                  Closure body) {
  const std::string name = kernel_name(text);
  if (!usable(stream, name.c_str()) || !shape_allowed(name, grid, block, shared_bytes)) return;
  queue(stream, {.name = name,
                 .work = [=](const Operation& operation) { run_grid(operation, body, grid, block, shared_bytes); }});
}

}  // namespace lorashard::emulator
