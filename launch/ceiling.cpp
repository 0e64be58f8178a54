#include "launch/ceiling.hpp"

#include <algorithm>

#include "kernels/ceiling.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::text;

Ceiling measure_ceiling(kernels::Device& device, double covered) {
  Ceiling ceiling;
  ceiling.library = kernels::library_name(device);
  double all_flops = 0, measured_flops = 0;
  for (const auto& [shape, calls] : device.profile().products()) {
    const double flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
                         static_cast<double>(shape.k) * static_cast<double>(calls);
    ceiling.rows.push_back({shape, calls, flops, 0});
    all_flops += flops;
  }
  std::sort(ceiling.rows.begin(), ceiling.rows.end(), [](const auto& a, const auto& b) { return a.flops > b.flops; });
  for (Ceiling::Row& row : ceiling.rows) {
    if (measured_flops >= covered * all_flops) break;
    row.gflops = kernels::library_gflops(device, row.shape.m, row.shape.n, row.shape.k, row.shape.dtype);
    ceiling.library_s += row.flops / (row.gflops * 1e9);
    measured_flops += row.flops;
  }
  if (measured_flops > 0) ceiling.library_s *= all_flops / measured_flops;
  ceiling.product_s = device.profile().entry(kernels::Phase::matmul).seconds;
  return ceiling;
}

std::string ceiling_table(const Ceiling& ceiling, kernels::Index steps) {
  double all_flops = 0;
  for (const Ceiling::Row& row : ceiling.rows) all_flops += row.flops;
  std::vector<std::vector<std::string>> rows{{"products, rank 0", "calls a step", "share of work",
                                             ceiling.library + " GFLOP/s"}};
  for (const Ceiling::Row& row : ceiling.rows)
    rows.push_back({text("  ", row.shape.m, " x ", row.shape.n, " x ", row.shape.k, " ", name(row.shape.dtype)),
                    fixed_text(static_cast<double>(row.calls) / static_cast<double>(steps), 1),
                    fixed_text(100 * row.flops / all_flops, 1) + " %",
                    row.gflops > 0 ? fixed_text(row.gflops, 1) : "-"});
  return table_text(rows);
}

}  // namespace lorashard::launch
