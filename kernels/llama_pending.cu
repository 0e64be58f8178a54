// Operations that have no cuda meaning yet; the commit that gives them one removes this file.
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

[[noreturn]] void refuse(const char* operation) {
  fail(Failure::configuration, text(operation, ": not made for cuda yet; expected device.kind host or meta"));
}

}  // namespace

void swiglu_cuda(Device&, ConstMatrix, Matrix) { refuse("swiglu"); }
void swiglu_backward_cuda(Device&, ConstMatrix, ConstMatrix, Matrix) { refuse("swiglu_backward"); }
void rms_norm_cuda(Device&, const RmsNormForward&) { refuse("rms_norm"); }
void rms_norm_cuda(Device&, const RmsNormBackward&, std::byte*) { refuse("rms_norm backward"); }
void rotary_cuda(Device&, const Rotary&) { refuse("rotary"); }

}  // namespace lorashard::kernels
