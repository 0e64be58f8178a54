// One product against naive double loops, for any layout, type, scale, stride, addend and epilogue.
#pragma once

#include <algorithm>

#include "kernels/gemm.hpp"
#include "tests/kernels/samples.hpp"

namespace lorashard::kernels {

enum class Addend { c, other, aux };  // what beta multiplies

struct ProductCase {
  Index m, n, k;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  float alpha = 1, beta = 0;
  int bias = 0;  // none, fp32, bf16
  Index gap = 0;
  Index gap_beside = 0;  // of addend, aux and aux_in
  bool whole = false;    // small whole numbers, with which every z is exact in bf16 (k <= 24, alpha and beta 1 or 0)
  Epilogue epilogue = Epilogue::none;
  bool keeps_z = false;  // gelu with aux
  Addend addend = Addend::c;
};

inline const char* name(Epilogue epilogue) {
  return epilogue == Epilogue::none ? "none" : epilogue == Epilogue::gelu ? "gelu" : "gelu_backward";
}

inline std::ostream& operator<<(std::ostream& out, const ProductCase& t) {
  constexpr const char* kAddends[] = {"C", "other", "aux"};
  return out << t.m << "x" << t.n << "x" << t.k << (t.transpose_a ? " t" : " n") << (t.transpose_b ? "t " : "n ")
             << name(t.a) << " " << name(t.b) << " " << name(t.c) << " alpha " << t.alpha << " beta " << t.beta
             << " addend " << kAddends[static_cast<int>(t.addend)] << " bias " << t.bias << " gap " << t.gap << ", "
             << t.gap_beside << " epilogue " << name(t.epilogue) << (t.keeps_z ? " with aux" : "")
             << (t.whole ? " whole" : "");
}

inline Matrix view_of(Sample& sample) { return sample; }
inline const Sample& values_of(Sample& sample) { return sample; }
inline ConstMatrix found_in(Sample& sample) { return sample; }

// Operands and results of a case. Store: a Sample, or whatever has the three functions above. What must not be read
// holds NaN.
template <class Store>
struct ProductOperands {
  explicit ProductOperands(const ProductCase& t)
      : a(t.a, t.transpose_a ? t.k : t.m, t.transpose_a ? t.m : t.k, t.gap),
        b(t.b, t.transpose_b ? t.n : t.k, t.transpose_b ? t.k : t.n, t.gap),
        c(t.c, t.m, t.n, t.gap),
        bias(t.bias == 2 ? DType::bf16 : DType::f32, 1, t.n),
        addend(t.c, t.m, t.n, t.gap_beside),
        aux(t.c, t.m, t.n, t.gap_beside) {
    std::uint64_t stream = 0;
    for (Store* store : {&a, &b, &c, &bias, &addend, &aux}) {
      ++stream;
      t.whole ? fill_whole(*store, static_cast<Index>(stream)) : static_cast<void>(store->normals(stream));
    }
    if (t.beta == 0.0f || t.addend != Addend::c) c.fill(std::numeric_limits<double>::quiet_NaN());
  }
  Gemm gemm(const ProductCase& t) {
    Gemm result{.a = view_of(a), .b = view_of(b), .c = view_of(c)};
    result.transpose_a = t.transpose_a, result.transpose_b = t.transpose_b;
    result.alpha = t.alpha, result.beta = t.beta;
    if (t.bias != 0) result.bias = view_of(bias);
    if (t.addend == Addend::other) result.addend = view_of(addend);
    if (t.addend == Addend::aux) result.addend = view_of(aux);
    result.epilogue = t.epilogue;
    if (t.keeps_z) result.aux = view_of(aux);
    if (t.epilogue == Epilogue::gelu_backward) result.aux_in = view_of(aux);
    return result;
  }
  Store& added(const ProductCase& t) { return t.addend == Addend::c ? c : t.addend == Addend::other ? addend : aux; }
  Store a, b, c, bias, addend, aux;

 private:
  // From -2 to 2: any column of 24 products, an addend and a bias sum to 100 at most.
  static void fill_whole(Store& store, Index seed) {
    Sample& values = host_of(store);
    for (Index r = 0; r < values.view().rows; ++r) {
      for (Index col = 0; col < values.view().cols; ++col) {
        set_element(values.view(), r, col, static_cast<double>((5 * r + 3 * col + seed * (r % 3 + 1)) % 5 - 2));
      }
    }
    send(store);
  }
  static Sample& host_of(Sample& sample) { return sample; }
  static void send(Sample&) {}
  template <class Other>
  static Sample& host_of(Other& store) {
    return store.host();
  }
  template <class Other>
  static void send(Other& store) {
    store.send();
  }
};
using ProductSample = ProductOperands<Sample>;

// How a device computes: what it rounds operands and bias to first, the unit roundoff of its sums, and by how much it
// may round f32 operands besides.
struct ProductArithmetic {
  DType operands = DType::f32, bias = DType::f32;
  double sum_roundoff = kFloatEpsilon, operand_roundoff = 0;
};

inline double rounded(double value, DType dtype) {
  return dtype == DType::bf16 ? to_float(to_bf16(static_cast<float>(value))) : value;
}

// What C and aux shall hold, and how far each element may be off.
//
// z: a sum of k products in fp32, in any order, is off by at most k u sum|a b| (Higham 2002, section 3.1), in which
// scale, beta and bias join as three more terms; rounding into C's type adds u_C of the result. Twice that, since
// Higham's k u is to first order. GELU's derivative is 1.13 at most, which is how much of z's error passes, whether z
// was rounded on its way or not; the function itself adds 20 roundings of a result below |z|, its derivative 40 of one
// below 2, and C's type one more.
struct ProductReference {
  template <class Store>
  ProductReference(ProductOperands<Store>& p, const ProductCase& t, const ProductArithmetic& how = {})
      : z(t.m, t.n), z_bound(t.m, t.n), c(t.m, t.n), c_bound(t.m, t.n) {
    const Sample &a = values_of(p.a), &b = values_of(p.b);
    for (Index i = 0; i < t.m; ++i) {
      for (Index j = 0; j < t.n; ++j) {
        double sum = 0, size = 0;
        for (Index l = 0; l < t.k; ++l) {
          const double term = rounded(t.transpose_a ? a(l, i) : a(i, l), how.operands) *
                              rounded(t.transpose_b ? b(j, l) : b(l, j), how.operands);
          sum += term;
          size += std::abs(term);
        }
        const double added = t.beta == 0.0f ? 0.0 : t.beta * values_of(p.added(t))(i, j);
        const double bias = t.bias == 0 ? 0.0 : rounded(values_of(p.bias)(0, j), how.bias);
        z(i, j) = t.alpha * sum + added + bias;
        const double scale = std::abs(t.alpha) * size + std::abs(added) + std::abs(bias);
        const double of_sum = 2 * ((t.k + 3) * how.sum_roundoff + 2 * how.operand_roundoff) * scale;
        z_bound(i, j) = t.whole ? kTiny : of_sum + 2 * unit_roundoff(t.c) * std::abs(z(i, j)) + kTiny;
        finish(i, j, t, t.epilogue == Epilogue::gelu_backward ? values_of(p.aux)(i, j) : 0.0);
      }
    }
  }
  template <class Store>
  void expect(ProductOperands<Store>& p, const ProductCase& t) const {
    expect_close(found_in(p.c), c, within(c_bound), "C");
    if (t.keeps_z) expect_close(found_in(p.aux), z, within(z_bound), "aux");
  }
  Doubles z, z_bound, c, c_bound;

 private:
  static constexpr double kTiny = 1e-30;
  static std::function<double(Index, Index)> within(const Doubles& bound) {
    return [&bound](Index row, Index col) { return bound(row, col); };
  }
  static double sigmoid_of(double x) {  // (1 + tanh u) / 2
    return 1.0 / (1.0 + std::exp(-2.0 * std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  void finish(Index i, Index j, const ProductCase& t, double x) {
    const double size = std::abs(z(i, j)), bound = z_bound(i, j);
    if (t.epilogue == Epilogue::none) {
      c(i, j) = z(i, j);
      c_bound(i, j) = bound;
    } else if (t.epilogue == Epilogue::gelu) {
      c(i, j) = z(i, j) * sigmoid_of(z(i, j));
      c_bound(i, j) = 1.13 * bound + 20 * kFloatEpsilon * size + 2 * unit_roundoff(t.c) * std::abs(c(i, j));
    } else {
      const double s = sigmoid_of(x);
      const double slope = s + x * s * (1 - s) * 2 * std::sqrt(2.0 / M_PI) * (1 + 3 * 0.044715 * x * x);
      c(i, j) = z(i, j) * slope;
      c_bound(i, j) = 1.13 * bound + 80 * kFloatEpsilon * size + 2 * unit_roundoff(t.c) * std::abs(c(i, j));
    }
  }
};

inline void expect_product(Device& device, const ProductCase& t) {
  SCOPED_TRACE(testing::PrintToString(t));
  ProductSample sample(t);
  const ProductReference reference(sample, t);
  const std::vector<std::byte> addend = sample.addend.image();
  gemm(device, sample.gemm(t));
  reference.expect(sample, t);
  EXPECT_TRUE(sample.addend.image() == addend) << "the addend was written to";
}

inline std::vector<std::byte> product_image(Device& device, const ProductCase& t) {
  ProductSample sample(t);
  gemm(device, sample.gemm(t));
  return sample.c.image();
}

// Calls f(a, b, c) with every combination of element types.
template <class F>
void for_each_type(F f) {
  for (DType a : {DType::f32, DType::bf16}) {
    for (DType b : {DType::f32, DType::bf16}) {
      for (DType c : {DType::f32, DType::bf16}) f(a, b, c);
    }
  }
}

// Calls f with `t` under every epilogue and every addend that goes with it.
template <class F>
void for_each_epilogue(ProductCase t, const F& f) {
  for (const auto& [epilogue, keeps_z] : {std::pair{Epilogue::none, false},
                                          {Epilogue::gelu, false},
                                          {Epilogue::gelu, true},
                                          {Epilogue::gelu_backward, false}}) {
    t.epilogue = epilogue, t.keeps_z = keeps_z;
    for (const auto& [beta, addend] :
         {std::pair{0.0f, Addend::c}, {1.0f, Addend::c}, {1.0f, Addend::other}, {1.0f, Addend::aux}}) {
      if (addend == Addend::aux && !keeps_z) continue;
      t.beta = beta, t.addend = addend;
      f(t);
    }
  }
}

}  // namespace lorashard::kernels
