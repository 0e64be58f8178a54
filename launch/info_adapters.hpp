// What lorashard info says of adapters: this program's checkpoints, PEFT directories and safetensors files.
#pragma once

#include <string>

namespace lorashard::launch {

// All throw kernels::Error naming the file, and what in it is missing or damaged. `base`: a base file that the adapter
// must belong to, or empty.

// Reads all of it and compares the digests.
std::string describe_checkpoint(const std::string& path, const std::string& base);
// Pairs, ranks and, where the directory says it, its base. Without a base file nobody knows whether whole layers are
// missing at the end; with one, all that loading asks for is asked.
std::string describe_peft(const std::string& directory, const std::string& base);
// Any file of that format, or an index of some: its tensors. With a base file it must be a loralib adapter.
std::string describe_safetensors(const std::string& path, const std::string& base);

}  // namespace lorashard::launch
