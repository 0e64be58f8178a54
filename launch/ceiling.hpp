// What the library (oneDNN, cuBLASLt) alone would need for the products that a device's profile has counted.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.hpp"

namespace lorashard::launch {

struct Ceiling {
  struct Row {
    kernels::ProductShape shape;
    kernels::Index calls = 0;
    double flops = 0;
    double gflops = 0;  // of the library by itself; 0: not measured
  };
  std::string library;
  std::vector<Row> rows;  // the most work first
  double library_s = 0;   // for all products at the measured speeds
  double product_s = 0;   // what they took
  double share() const { return product_s > 0 ? library_s / product_s : 0; }
};

// Measures the shapes with the most work until `covered` of it is known, about 0.4 s each; the rest counts with their
// mean speed. To be called on all ranks of a host at once, as they share its cores in a step too. Not on meta.
Ceiling measure_ceiling(kernels::Device& device, double covered = 0.8);

std::string ceiling_table(const Ceiling& ceiling, kernels::Index steps);

}  // namespace lorashard::launch
