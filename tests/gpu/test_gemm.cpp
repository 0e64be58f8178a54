// Products on the cuda device against double loops; their addends and epilogues are in test_gemm_epilogue.cpp.
#include "kernels/cuda_operations.hpp"
#include "kernels/gemm_cuda.hpp"
#include "tests/gpu/product_case.hpp"

namespace lorashard::kernels {
namespace {

class Products : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }
};

TEST_F(Products, EveryLayoutTypeAndScale) {
  int bias = 0;
  for_each_type([&](DType a, DType b, DType c) {
    for (bool transpose_a : {false, true}) {
      for (bool transpose_b : {false, true}) {
        for (const auto& [alpha, beta] : {std::pair{1.0f, 0.0f}, {0.5f, 1.0f}, {-2.0f, 0.75f}}) {
          for (Index gap : {0, 5}) {
            bias = (bias + 1) % 3;
            expect_cuda_product({40, 48, 24, transpose_a, transpose_b, a, b, c, alpha, beta, bias, gap});
            expect_cuda_product({37, 45, 29, transpose_a, transpose_b, a, b, c, alpha, beta, bias, gap});
          }
        }
      }
    }
  });
}

TEST_F(Products, EveryBias) {
  for_each_type([](DType a, DType b, DType c) {
    for (int bias : {0, 1, 2}) {
      for (float beta : {0.0f, 1.0f}) expect_cuda_product({33, 64, 40, false, true, a, b, c, 1.0f, beta, bias, 0});
    }
  });
}

TEST_F(Products, LongSums) {
  for_each_type([](DType a, DType b, DType c) {
    expect_cuda_product({24, 40, 3000, false, true, a, b, c});
    expect_cuda_product({40, 24, 3001, true, false, a, b, c, 1.0f, 1.0f});
  });
}

TEST_F(Products, SmallExtents) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (const auto& [m, n, k] : {std::tuple{1, 1, 1}, {1, 200, 70}, {3, 1, 5}, {200, 1, 60}, {2, 90, 1}}) {
      for (bool transposed : {false, true}) {
        expect_cuda_product({m, n, k, transposed, !transposed, type, type, DType::f32, 1, 0.5f, 1, 0});
      }
    }
  }
}

TEST_F(Products, NothingToSum) {
  for_each_type([](DType a, DType b, DType c) {
    expect_cuda_product({0, 5, 5, false, false, a, b, c});
    expect_cuda_product({5, 0, 5, false, false, a, b, c});
    for (int bias : {0, 1, 2}) {
      expect_cuda_product({3, 2, 0, false, false, a, b, c, 1, 0.5f, bias});
      expect_cuda_product({3, 2, 0, true, true, a, b, c, 1, 0.0f, bias});
    }
  });
}

TEST_F(Products, OwnTiles) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (DType c : {DType::f32, type}) {
      for (int layout = 0; layout < 4; ++layout) {
        const int bias = c == DType::bf16 ? 2 : 1;  // its rule: a bias of C's type
        expect_cuda_product({70, 33, 50, (layout & 1) != 0, (layout & 2) != 0, type, type, c, 0.5f, 0.5f, bias, 3},
                            by_own_tiles);
        expect_cuda_product({5, 97, 16, (layout & 1) != 0, (layout & 2) != 0, type, type, c}, by_own_tiles);
      }
    }
  }
}

// What C holds on the device, byte for byte.
std::vector<std::byte> bytes_on_cuda(Pair& c) {
  const ConstMatrix found = c.from_cuda();
  return {found.data, found.data + found.bytes()};
}

// C = 0 * C + ... must not carry over what lies in C.
TEST_F(Products, ReadsNothingWhereBetaIsZero) {
  for (Product product : {by_contract, by_own_tiles}) {
    const ProductCase t{16, 16, 16};
    CudaProduct p(t);
    const ProductReference reference(p, t);
    product(p.gemm(t));  // C holds NaN
    reference.expect(p, t);
    Tensor fresh(cuda(), Category::activation, DType::f32, 16, 16);  // the emulator reports a read of it
    Gemm again = p.gemm(t);
    again.c = fresh;
    product(again);
    duplicate(cuda(), fresh.view(), p.c.on(cuda()));
    reference.expect(p, t);
  }
}

// Views that begin at any element of aligned rows: alignments from 2 bytes on, of operands, result and bias. The
// aligned bias goes first, so that a plan made for it is there.
TEST_F(Products, AnyAlignment) {
  constexpr Index kMargin = 8;
  const ProductCase t{24, 40, 32, false, true};
  for (DType type : {DType::f32, DType::bf16}) {
    Pair a(type, t.m, t.k + kMargin), b(type, t.n, t.k + kMargin), c(type, t.m, t.n + kMargin),
        bias(type, 1, t.n + kMargin);
    a.normals(1), b.normals(2), bias.normals(4);
    for (Index shift = 0; shift < kMargin; ++shift) {
      for (Index bias_shift : {Index{0}, shift}) {
        SCOPED_TRACE(text(name(type), ", shift ", shift, ", of the bias ", bias_shift));
        c.normals(3);
        Gemm args{.a = a.on(cuda()).col_range(shift, t.k),
                  .b = b.on(cuda()).col_range(shift, t.k),
                  .c = c.on(cuda()).col_range(shift, t.n)};
        args.transpose_b = true;
        args.bias = bias.on(cuda()).col_range(bias_shift, t.n);
        gemm(cuda(), args);
        Doubles expected(t.m, t.n), bound(t.m, t.n);
        for (Index i = 0; i < t.m; ++i) {
          for (Index j = 0; j < t.n; ++j) {
            double sum = bias.host()(0, bias_shift + j), size = std::abs(sum);
            for (Index l = 0; l < t.k; ++l) {
              const double term = a.host()(i, shift + l) * b.host()(j, shift + l);
              sum += term, size += std::abs(term);
            }
            expected(i, j) = sum;
            bound(i, j) = 2 * (t.k + 3) * sum_roundoff(type) * size + 2 * unit_roundoff(type) * std::abs(sum);
          }
        }
        const ConstMatrix found = c.from_cuda();
        expect_close(
            found.col_range(shift, t.n), expected, [&](Index r, Index col) { return bound(r, col); }, "C");
        for (Index i = 0; i < t.m; ++i) {
          for (Index j = 0; j < t.n + kMargin; ++j) {
            if (j >= shift && j < shift + t.n) continue;
            EXPECT_EQ(element(found, i, j), c.host()(i, j)) << "beside C";
          }
        }
      }
    }
  }
}

TEST_F(Products, SameBitsEveryTime) {
  for_each_type([](DType a, DType b, DType c) {
    for (Product product : {by_contract, by_own_tiles}) {
      const bool uniform = a == b && (c == a || c == DType::f32);
      if (product == by_own_tiles && !uniform) continue;
      const ProductCase t{64, 72, 520, false, true, a, b, c};
      std::vector<std::byte> first;
      for (int run = 0; run < 3; ++run) {
        CudaProduct p(t);
        product(p.gemm(t));
        const std::vector<std::byte> found = bytes_on_cuda(p.c);
        if (run == 0) first = found;
        EXPECT_TRUE(found == first) << t;
      }
    }
  });
}

// One plan serves every call of its kind, whatever the bias.
TEST_F(Products, PlansAreKept) {
  const ProductCase t{48, 80, 64, false, true, DType::bf16, DType::bf16, DType::bf16, 1, 0, 2};
  CudaProduct one(t), other(t);
  other.bias.normals(9);
  const ProductReference first(one, t, arithmetic(t)), second(other, t, arithmetic(t));
  gemm(cuda(), one.gemm(t));
  const std::size_t kept = as_cuda(cuda()).products().plans.size();
  gemm(cuda(), other.gemm(t));
  EXPECT_EQ(as_cuda(cuda()).products().plans.size(), kept);
  first.expect(one, t);
  second.expect(other, t);
}

// The usual products, with aligned rows and bias, are the library's.
TEST_F(Products, TheLibraryTakesWhatIsAligned) {
  for_each_type([](DType a, DType b, DType c) {
    for (int layout = 0; layout < 4; ++layout) {
      const ProductCase t{96, 112, 80, (layout & 1) != 0, (layout & 2) != 0, a, b, c, 1, 1, 1};
      CudaProduct p(t);
      gemm(cuda(), p.gemm(t));
    }
  });
  int found = 0;
  for (const auto& [key, plan] : as_cuda(cuda()).products().plans) {
    if (key.m != 96 || key.n != 112) continue;
    EXPECT_TRUE(plan.supported) << name(key.operands) << " " << name(key.result) << key.transpose_a << key.transpose_b;
    ++found;
  }
  EXPECT_EQ(found, 3 * 4);  // f32 f32, bf16 f32, bf16 bf16
}

// TF32 keeps 11 bits of an operand: each of the two in a term is off by at most 2^-11 (cut off instead of rounded:
// 2^-10).
TEST_F(Products, Tf32OnlyWhereAllowed) {
  const ProductCase t{64, 64, 96, false, true};
  as_cuda(cuda()).allow_tf32(true);
  CudaProduct p(t);
  const ProductReference loose(p, t, {.operand_roundoff = 0x1.0p-10});
  gemm(cuda(), p.gemm(t));
  as_cuda(cuda()).allow_tf32(false);
  loose.expect(p, t);
  expect_cuda_product(t);
}

// ---- memory -------------------------------------------------------------------------------------------------------

// A buffer may be released while work that uses it is queued; whoever gets its memory next comes after that work.
TEST_F(Products, OperandsMayBeReleasedAtOnce) {
  const ProductCase t{64, 64, 256, false, true};
  for (int run = 0; run < 20; ++run) {
    Pair c(DType::f32, t.m, t.n);
    Sample a(DType::f32, t.m, t.k), b(DType::f32, t.n, t.k);
    a.fill(run + 1), b.fill(2);
    {
      Tensor left(cuda(), Category::activation, DType::f32, t.m, t.k),
          right(cuda(), Category::activation, DType::f32, t.n, t.k);
      upload(cuda(), ConstMatrix(a), left);
      upload(cuda(), ConstMatrix(b), right);
      gemm(cuda(), {.a = left.view(), .b = right.view(), .c = c.on(cuda()), .transpose_b = true});
    }
    Tensor next(cuda(), Category::activation, DType::f32, t.m, 2 * t.k);
    Sample noise(DType::f32, t.m, 2 * t.k);
    upload(cuda(), ConstMatrix(noise.fill(1e30)), next);
    const ConstMatrix found = c.from_cuda();
    for (Index i = 0; i < t.m; ++i) {
      for (Index j = 0; j < t.n; ++j) ASSERT_EQ(element(found, i, j), 512.0 * (run + 1)) << run;
    }
  }
}

TEST_F(Products, MetaCountsTheSameBytes) {
  for_each_type([&](DType a, DType b, DType c) {
    for (const auto& [m, n, k] : {std::tuple{40, 56, 24}, {37, 45, 29}, {8, 16, 0}}) {
      const auto peak_bytes = [&, m = m, n = n, k = k](const std::unique_ptr<Device>& device) {
        EXPECT_EQ(device->ledger().current_bytes(Category::workspace), kCudaProductWorkspaceBytes);
        Tensor left(*device, Category::activation, a, m, k), right(*device, Category::activation, b, n, k);
        Tensor out(*device, Category::activation, c, m, n), bias(*device, Category::activation, DType::f32, 1, n);
        for (Tensor* tensor : {&left, &right, &bias}) fill(*device, *tensor, 1.0f);
        Gemm args{.a = left.view(), .b = right.view(), .c = out, .transpose_b = true};
        args.bias = bias.view();
        gemm(*device, args);
        EXPECT_EQ(device->ledger().current_bytes(Category::workspace), kCudaProductWorkspaceBytes);
        return device->ledger().peak_bytes(Category::workspace);
      };
      EXPECT_EQ(peak_bytes(make_cuda_device(0)), peak_bytes(make_meta_device(DeviceKind::cuda)));
    }
  });
}

// ---- frozen weights -----------------------------------------------------------------------------------------------

TEST_F(Products, WeightsAreProductsWithTheirTranspose) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (DType y_type : {DType::f32, DType::bf16}) {
      Pair w(type, 56, 40), x(type, 24, 40), bias(DType::f32, 1, 56), y(y_type, 24, 56), y_expected(y_type, 24, 56);
      w.normals(1), x.normals(2), bias.normals(3);
      Tensor plain(cuda(), Category::base, type, 56, 40);
      duplicate(cuda(), w.on(cuda()), plain);
      const Weight weight(cuda(), std::move(plain));
      multiply(cuda(), WeightForward{weight, x.on(cuda()), y.on(cuda()), bias.on(cuda())});
      Gemm forward{.a = x.on(cuda()), .b = w.on(cuda()), .c = y_expected.on(cuda()), .transpose_b = true};
      forward.bias = bias.on(cuda());
      gemm(cuda(), forward);
      EXPECT_TRUE(bytes_on_cuda(y) == bytes_on_cuda(y_expected));

      Pair dx(type, 24, 40), dx_expected(type, 24, 40);
      multiply(cuda(), WeightBackward{weight, y.on(cuda()), dx.on(cuda())});
      gemm(cuda(), {.a = y.on(cuda()), .b = w.on(cuda()), .c = dx_expected.on(cuda())});
      EXPECT_TRUE(bytes_on_cuda(dx) == bytes_on_cuda(dx_expected));
    }
  }
}

}  // namespace
}  // namespace lorashard::kernels
