// The copies of operands that a product on the cuda device is made with. Private to gemm*.cu and gemm_cuda.cpp, which a
// build without CUDA has too.
#pragma once

#include <optional>

#include "kernels/gemm.hpp"

namespace lorashard::kernels {

// Where each copy lies in the scratch; none where the operand is used as it is.
struct ProductCopies {
  std::optional<Matrix> a, b, bias;
  Index bytes = 0;  // of all of them
};
ProductCopies product_copies(const Gemm& args, std::byte* scratch);

}  // namespace lorashard::kernels
