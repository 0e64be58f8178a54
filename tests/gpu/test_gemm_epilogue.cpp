// Addends and epilogues of products on the cuda device, on each of its ways: fused by the library, in two passes, and
// in our own tiles.
#include "kernels/cuda_operations.hpp"
#include "tests/gpu/product_case.hpp"

namespace lorashard::kernels {
namespace {

class Epilogues : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }
};

void expect_all(const ProductCase& t, Product product = by_contract) {
  for_each_epilogue(t, [&](const ProductCase& with) { expect_cuda_product(with, product); });
}

TEST_F(Epilogues, EveryTypeAndBias) {
  for_each_type([](DType a, DType b, DType c) {
    for (int bias : {0, 1, 2}) {
      expect_all({24, 40, 32, false, true, a, b, c, 1.0f, 0.0f, bias, 0, 8});
      expect_all({19, 37, 21, false, true, a, b, c, 1.0f, 0.0f, bias, 3, 5});
    }
  });
}

TEST_F(Epilogues, EveryLayout) {
  for (int layout = 0; layout < 4; ++layout) {
    for (DType type : {DType::f32, DType::bf16}) {
      expect_all({24, 40, 32, (layout & 1) != 0, (layout & 2) != 0, type, type, type, 0.5f, 0.0f, 1, 8, 0});
      expect_all({1, 40, 32, (layout & 1) != 0, (layout & 2) != 0, type, type, DType::f32, 0.5f, 0.0f, 1, 0, 3});
    }
  }
}

// Small whole numbers: aux is z, and C the function of z, whatever way the sum went.
TEST_F(Epilogues, AuxIsExactlyZ) {
  for_each_type([](DType a, DType b, DType c) {
    for (Index gap_beside : {0, 5}) expect_all({32, 40, 24, false, true, a, b, c, 1.0f, 0.0f, 1, 0, gap_beside, true});
  });
}

TEST_F(Epilogues, OwnTiles) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (DType c : {DType::f32, type}) {
      for (int bias : {0, c == DType::bf16 ? 2 : 1}) {  // its rule: a bias of C's type
        expect_all({35, 33, 20, false, true, type, type, c, 0.5f, 0.0f, bias, 3, 1}, by_own_tiles);
        expect_all({35, 33, 20, false, true, type, type, c, 1.0f, 0.0f, bias, 0, 0, true}, by_own_tiles);
      }
    }
  }
}

TEST_F(Epilogues, NothingToSum) {
  for_each_type([](DType a, DType b, DType c) {
    expect_all({3, 5, 0, false, false, a, b, c, 1.0f, 0.0f, 1, 0});
    expect_all({0, 5, 4, false, false, a, b, c, 1.0f, 0.0f, 1, 0});
  });
}

// ---- which way a product goes -------------------------------------------------------------------------------------

using Plans = std::map<ProductKey, ProductPlan>;
Plans& plans() { return as_cuda(cuda()).products().plans; }

// Plans for these extents; extents tell the tests below apart.
std::vector<Plans::iterator> plans_of(Index m, Index n) {
  std::vector<Plans::iterator> found;
  for (auto plan = plans().begin(); plan != plans().end(); ++plan) {
    if (plan->first.m == m && plan->first.n == n) found.push_back(plan);
  }
  return found;
}

// The library's tables leave open which of them it has for f32; there it has to multiply at least.
TEST_F(Epilogues, AreFusedWhereAuxIsAligned) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int bias : {0, 1}) {
      for_each_epilogue({48, 72, 32, false, true, type, type, type, 1.0f, 0.0f, bias, 0, 8}, [&](const ProductCase& t) {
        if (t.addend == Addend::aux || (t.epilogue == Epilogue::gelu_backward && t.bias != 0)) return;
        plans().clear();
        expect_cuda_product(t);
        int taken = 0;
        for (const auto& plan : plans_of(48, 72)) {
          if (!plan->second.supported) continue;
          ++taken;
          if (type != DType::bf16) continue;
          const bool aux = t.keeps_z || t.epilogue == Epilogue::gelu_backward;
          EXPECT_EQ(plan->first.epilogue, t.epilogue) << t;
          EXPECT_EQ(plan->first.stride_aux, aux ? 72 + 8 : 0) << t;
        }
        EXPECT_EQ(taken, 1) << t;
      });
    }
  }
}

// What the library does not fuse it multiplies still.
TEST_F(Epilogues, TakeTwoPassesElsewhere) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (Index gap_beside : {0, 5}) {
      for_each_epilogue({40, 56, 32, false, true, type, type, type, 1.0f, 0.0f, 1, 0, gap_beside},
                        [&](const ProductCase& t) {
                          const bool with_bias = t.epilogue == Epilogue::gelu_backward;
                          const bool odd = gap_beside != 0 && t.keeps_z;
                          if (!with_bias && !odd && t.addend != Addend::aux) return;
                          plans().clear();
                          expect_cuda_product(t);
                          const auto found = plans_of(40, 56);
                          ASSERT_EQ(found.size(), 1u) << t;
                          EXPECT_EQ(found[0]->first.epilogue, Epilogue::none) << t;
                          EXPECT_TRUE(found[0]->second.supported) << t;
                        });
    }
  }
}

// A library that has no algorithm for a fused product, then none at all.
TEST_F(Epilogues, GoOnWhereTheLibraryDeclines) {
  for (DType type : {DType::f32, DType::bf16}) {
    for_each_epilogue({56, 48, 32, false, true, type, type, type, 1.0f, 0.0f, 0, 0, 8}, [](const ProductCase& t) {
      if (t.epilogue == Epilogue::none || t.addend == Addend::aux) return;
      plans().clear();
      expect_cuda_product(t);
      for (const auto& plan : plans_of(56, 48)) plan->second.supported &= plan->first.epilogue == Epilogue::none;
      expect_cuda_product(t);
      const auto found = plans_of(56, 48);
      ASSERT_EQ(found.size(), 2u) << t;
      for (const auto& plan : found) {
        EXPECT_EQ(plan->second.supported, plan->first.epilogue == Epilogue::none) << t;
        plan->second.supported = false;
      }
      expect_cuda_product(t);
      EXPECT_EQ(plans_of(56, 48).size(), 2u) << t;
    });
  }
  plans().clear();
}

// One plan serves every call of its kind, whatever the addend, the bias and aux.
TEST_F(Epilogues, PlansAreKept) {
  for_each_epilogue({64, 88, 32, false, true, DType::bf16, DType::bf16, DType::bf16, 1.0f, 0.0f, 0, 0, 0},
                    [](const ProductCase& t) {
                      expect_cuda_product(t);
                      const std::size_t kept = plans().size();
                      CudaProduct p(t);
                      for (Twin* twin : {&p.addend, &p.aux}) twin->normals(9);
                      const ProductReference reference(p, t, arithmetic(t));
                      gemm(cuda(), p.gemm(t));
                      reference.expect(p, t);
                      EXPECT_EQ(plans().size(), kept) << t;
                    });
}

// Views that begin at any element of aligned rows, after the aligned ones, whose plans are there. One reference serves
// them all: with whole numbers every way gives the same z.
TEST_F(Epilogues, AnyAlignment) {
  constexpr Index kMargin = 8;
  for (DType type : {DType::f32, DType::bf16}) {
    for_each_epilogue(
        {24, 40, 24, false, true, type, type, type, 1.0f, 0.0f, 0, 0, 0, true}, [&](const ProductCase& t) {
          CudaProduct p(t);
          const ProductReference reference(p, t, arithmetic(t));
          for (Index shift = 0; shift < kMargin; ++shift) {
            SCOPED_TRACE(text(testing::PrintToString(t), ", shift ", shift));
            CudaProduct fresh(t);
            Tensor wide_aux(cuda(), Category::activation, type, t.m, t.n + kMargin);
            Tensor wide_addend(cuda(), Category::activation, type, t.m, t.n + kMargin);
            const Matrix aux = wide_aux.view().col_range(shift, t.n), addend = wide_addend.view().col_range(shift, t.n);
            duplicate(cuda(), fresh.aux.on(cuda()), aux);
            duplicate(cuda(), fresh.addend.on(cuda()), addend);
            Gemm args = fresh.gemm(t);
            if (t.keeps_z) args.aux = aux;
            if (t.epilogue == Epilogue::gelu_backward) args.aux_in = aux;
            if (t.addend == Addend::other) args.addend = addend;
            if (t.addend == Addend::aux) args.addend = aux;
            gemm(cuda(), args);
            if (t.keeps_z) duplicate(cuda(), aux, fresh.aux.on(cuda()));
            reference.expect(fresh, t);
          }
        });
  }
}

TEST_F(Epilogues, SameBitsEveryTime) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (Index gap_beside : {0, 5}) {
      for_each_epilogue({40, 72, 260, false, true, type, type, type, 1.0f, 0.0f, 0, 0, gap_beside},
                        [](const ProductCase& t) {
                          std::vector<std::byte> first;
                          for (int run = 0; run < 3; ++run) {
                            CudaProduct p(t);
                            gemm(cuda(), p.gemm(t));
                            std::vector<std::byte> found = p.c.bytes();
                            if (t.keeps_z) {
                              const std::vector<std::byte> aux = p.aux.bytes();
                              found.insert(found.end(), aux.begin(), aux.end());
                            }
                            if (run == 0) first = found;
                            EXPECT_TRUE(found == first) << t;
                          }
                        });
    }
  }
}

TEST_F(Epilogues, MetaCountsTheSame) {
  for_each_type([](DType a, DType b, DType c) {
    for_each_epilogue({37, 45, 29, false, true, a, b, c, 1.0f, 0.0f, 1}, [](const ProductCase& t) {
      const auto count = [&](const std::unique_ptr<Device>& device) {
        Tensor x(*device, Category::activation, t.a, t.m, t.k), w(*device, Category::activation, t.b, t.n, t.k);
        Tensor y(*device, Category::activation, t.c, t.m, t.n), other(*device, Category::activation, t.c, t.m, t.n);
        Tensor aux(*device, Category::activation, t.c, t.m, t.n),
            bias(*device, Category::activation, DType::f32, 1, t.n);
        for (Tensor* tensor : {&x, &w, &y, &other, &aux, &bias}) fill(*device, *tensor, 1.0f);
        Gemm args{.a = x.view(), .b = w.view(), .c = y, .transpose_b = true, .beta = t.beta};
        args.bias = bias.view(), args.epilogue = t.epilogue;
        if (t.addend != Addend::c) args.addend = t.addend == Addend::other ? other.view() : aux.view();
        if (t.keeps_z) args.aux = aux;
        if (t.epilogue == Epilogue::gelu_backward) args.aux_in = aux.view();
        const auto elementwise = device->profile().entry(Phase::elementwise).calls;
        gemm(*device, args);
        EXPECT_EQ(device->profile().entry(Phase::elementwise).calls, elementwise);
        const auto& entry = device->profile().entry(Phase::matmul);
        return std::tuple{device->ledger().peak_bytes(Category::workspace), entry.flops, entry.bytes, entry.calls};
      };
      EXPECT_EQ(count(make_cuda_device(0)), count(make_meta_device(DeviceKind::cuda))) << t;
    });
  });
}

// ---- frozen weights -----------------------------------------------------------------------------------------------

TEST_F(Epilogues, WeightsPassAllOn) {
  for (DType type : {DType::f32, DType::bf16}) {
    Twin w(type, 56, 40), x(type, 24, 40), bias(DType::f32, 1, 56), other(type, 24, 56, 8);
    Twin y(type, 24, 56), z(type, 24, 56), y_expected(type, 24, 56), z_expected(type, 24, 56);
    w.normals(1), x.normals(2), bias.normals(3), other.normals(4);
    Tensor plain(cuda(), Category::base, type, 56, 40);
    duplicate(cuda(), w.on(cuda()), plain);
    const Weight weight(cuda(), std::move(plain));
    multiply(cuda(), WeightForward{weight, x.on(cuda()), y.on(cuda()), bias.on(cuda()), other.on(cuda()),
                                   Epilogue::gelu, z.on(cuda())});
    Gemm forward{.a = x.on(cuda()), .b = w.on(cuda()), .c = y_expected.on(cuda()), .transpose_b = true, .beta = 1.0f};
    forward.addend = other.on(cuda()), forward.bias = bias.on(cuda());
    forward.epilogue = Epilogue::gelu, forward.aux = z_expected.on(cuda());
    gemm(cuda(), forward);
    EXPECT_TRUE(y.bytes() == y_expected.bytes());
    EXPECT_TRUE(z.bytes() == z_expected.bytes());

    Twin dx(type, 24, 40), dx_expected(type, 24, 40), before(type, 24, 40);
    dx.fill(0.25), dx_expected.fill(0.25), before.normals(5);
    multiply(cuda(), WeightBackward{weight, y.on(cuda()), dx.on(cuda()), dx.on(cuda()), Epilogue::gelu_backward,
                                    before.on(cuda())});
    Gemm backward{.a = y.on(cuda()), .b = w.on(cuda()), .c = dx_expected.on(cuda()), .beta = 1.0f};
    backward.epilogue = Epilogue::gelu_backward, backward.aux_in = before.on(cuda());
    gemm(cuda(), backward);
    EXPECT_TRUE(dx.bytes() == dx_expected.bytes());
  }
}

}  // namespace
}  // namespace lorashard::kernels
