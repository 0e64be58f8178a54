// How a product is taken apart where sum and epilogue do not go in one pass. Private to gemm*.cpp and gemm*.cu.
#pragma once

#include "kernels/gemm.hpp"

namespace lorashard::kernels {

// What beta multiplies; empty where beta is 0, since then nothing of it is read.
inline ConstMatrix addend_of(const Gemm& args) {
  if (args.beta == 0.0f) return {};
  return args.addend.empty() ? args.c : args.addend;
}

// The product that leaves z, rounded, where a second pass reads it: in aux if there is one, else in C.
inline Gemm sum_of(const Gemm& args) {
  Gemm sum = args;
  sum.addend = addend_of(args);
  if (args.epilogue == Epilogue::gelu && !args.aux.empty()) sum.c = args.aux;
  sum.epilogue = Epilogue::none;
  sum.aux = {};
  sum.aux_in = {};
  return sum;
}

}  // namespace lorashard::kernels
