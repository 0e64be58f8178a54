#include "kernels/gemm_host.hpp"

#include <dnnl.hpp>

namespace lorashard::kernels {
namespace {

// Instruction sets are sets of bits, and some (AVX2-VNNI) stand above those of AVX512.
bool has(dnnl::cpu_isa isa) {
  static const auto present = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(isa);
  return (present & wanted) == wanted;
}

}  // namespace

bool has_avx512() { return has(dnnl::cpu_isa::avx512_core); }
bool has_bf16_products() { return has(dnnl::cpu_isa::avx512_core_bf16); }
bool has_amx() { return has(dnnl::cpu_isa::avx512_core_amx); }

std::string host_bf16_path() {
  if (!has_bf16_products()) return "fp32 (widened)";
  return has_amx() ? "bf16 (AMX)" : "bf16 (AVX512-BF16)";
}

HostWay host_way(const Gemm& args) {
  const bool bias = args.bias.count() != 0;
  if (args.a.dtype == DType::bf16 && args.b.dtype == DType::bf16 && has_bf16_products()) {
    // oneDNN scales product and bias together, and has no product over nothing.
    const bool expressible = !args.a.empty() && (args.alpha == 1.0f || !bias);
    if (expressible) return HostWay::native;
  }
  if (is_thin(args)) return HostWay::thin;
  const bool all_f32 = args.a.dtype == DType::f32 && args.b.dtype == DType::f32 && args.c.dtype == DType::f32;
  return all_f32 ? HostWay::plain : HostWay::panels;
}

Index host_scratch_bytes(const Gemm& args) {
  switch (host_way(args)) {
    case HostWay::plain:
      return 0;
    case HostWay::native:
      return gemm_native_scratch(args);
    case HostWay::thin:
      return gemm_thin_scratch(args);
    case HostWay::panels:
      return gemm_panels_scratch(args);
  }
  return 0;
}

void gemm_host(const Gemm& args, std::byte* scratch) {
  const HostWay way = host_way(args);
  if (way == HostWay::plain) return gemm_plain(args);
  with_epilogue(args, [&](const Gemm& sum) {
    if (way == HostWay::native) gemm_native(sum, scratch);
    if (way == HostWay::thin) gemm_thin(sum, scratch);
    if (way == HostWay::panels) gemm_panels(sum, scratch);
  });
}

}  // namespace lorashard::kernels
