// Writes a file in the safetensors format (safetensors.hpp), tensor after tensor, in bounded memory.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

using kernels::Index;

struct NewTensor {
  std::string name;
  kernels::DType dtype = kernels::DType::f32;  // or bf16
  std::vector<Index> extents;
  Index bytes() const;
};

class SafeTensorsWriter {
 public:
  // Writes the header to "<path>.partial"; `metadata` goes into it beside the format's own. Throws Failure::storage.
  SafeTensorsWriter(const std::string& path, const std::vector<NewTensor>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  // Unless finished, removes what was written.
  ~SafeTensorsWriter();
  SafeTensorsWriter(const SafeTensorsWriter&) = delete;
  SafeTensorsWriter& operator=(const SafeTensorsWriter&) = delete;

  // The data that come next, in the order of the tensors.
  void write(std::span<const std::byte> bytes);
  // Throws Failure::other unless everything was written. Brings the file to the disk and gives it its name.
  void finish();

 private:
  void put(const void* data, std::size_t bytes);

  std::string path_, partial_;
  int descriptor_ = -1;
  Index left_bytes_ = 0;
};

}  // namespace lorashard::core
