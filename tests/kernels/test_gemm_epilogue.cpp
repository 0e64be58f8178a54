// Addends and epilogues of products, on each of the host's ways.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "kernels/elementwise.hpp"
#include "kernels/gemm_host.hpp"
#include "tests/kernels/products.hpp"

namespace lorashard::kernels {
namespace {

class Epilogues : public testing::Test {
 protected:
  void expect_all(const ProductCase& t) {
    for_each_epilogue(t, [&](const ProductCase& with) { expect_product(*device_, with); });
  }
  std::unique_ptr<Device> device_ = make_host_device(2);
};

TEST_F(Epilogues, EveryTypeAndBias) {
  for_each_type([&](DType a, DType b, DType c) {
    for (int bias : {0, 1, 2}) {
      for (Index gap : {0, 3}) expect_all({66, 71, 33, false, true, a, b, c, 1.0f, 0.0f, bias, gap, gap / 2});
    }
  });
}

TEST_F(Epilogues, EveryLayout) {
  for (bool transpose_a : {false, true}) {
    for (bool transpose_b : {false, true}) {
      for (DType type : {DType::f32, DType::bf16}) {
        expect_all({37, 70, 65, transpose_a, transpose_b, type, type, type, 0.5f, 0.0f, 1, 1, 5});
      }
    }
  }
}

// Small whole numbers: aux is z, and C the function of z, whatever way the sum went.
TEST_F(Epilogues, AuxIsExactlyZ) {
  for_each_type([&](DType a, DType b, DType c) {
    expect_all({70, 67, 24, false, true, a, b, c, 1.0f, 0.0f, 1, 1, 2, true});
  });
}

// More than one part of a plain product, and the dense gradient's, which is not cut.
TEST_F(Epilogues, LargerThanOnePart) {
  expect_all({600, 800, 9, false, true, DType::f32, DType::f32, DType::f32, 1.0f, 0.0f, 1, 1, 3});
  expect_all({520, 530, 7, true, false, DType::f32, DType::f32, DType::f32, 1.0f, 0.0f, 2, 0, 1});
  expect_all({1030, 65, 40, false, true, DType::bf16, DType::f32, DType::bf16, 1.0f, 0.0f, 1, 0});
}

// An adapter's products: y = gelu(z), z += s u B^T.
TEST_F(Epilogues, ThinProducts) {
  for (DType x : {DType::f32, DType::bf16}) {
    for (DType c : {DType::f32, DType::bf16}) {
      const ProductCase update{131, 107, 8, false, true, x, DType::f32, c, 0.5f, 0.0f, 0, 1, 2};
      const ProductCase reduce{131, 9, 107, false, true, x, DType::f32, c, 0.5f, 0.0f, 0, 1, 2};
      ProductSample sample(update);
      EXPECT_EQ(host_way(sample.gemm(update)), HostWay::thin);
      expect_all(update);
      expect_all(reduce);
    }
  }
}

TEST_F(Epilogues, NothingToSum) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int bias : {0, 1}) {
      expect_all({5, 7, 0, false, false, type, type, type, 1.0f, 0.0f, bias, 0});
      expect_all({0, 7, 4, false, false, type, type, type, 1.0f, 0.0f, bias, 0});
    }
  }
}

TEST_F(Epilogues, AScaledAddend) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (Addend addend : {Addend::c, Addend::other}) {
      ProductCase t{70, 66, 40, false, true, type, type, type, -2.0f, 0.75f, 1, 1};
      t.addend = addend;
      expect_product(*device_, t);
    }
  }
}

TEST(EpilogueThreads, DoNotShowInFp32) {
  for_each_epilogue({600, 800, 30, false, true}, [](const ProductCase& t) {
    SCOPED_TRACE(testing::PrintToString(t));
    expect_thread_independent([&](Device& device) { return product_image(device, t); });
  });
}

// ---- cost ---------------------------------------------------------------------------------------------------------

TEST_F(Epilogues, RecordTheirCost) {
  const Index m = 70, n = 90, k = 80;
  const double product = 2.0 * m * n * k, operands = 4.0 * (m * k + n * k), c = 4.0 * m * n;
  const auto expect_cost = [&](const ProductCase& t, double flops, double bytes) {
    ProductSample sample(t);
    const auto device = make_host_device(1);
    gemm(*device, sample.gemm(t));
    EXPECT_EQ(device->profile().entry(Phase::matmul).flops, flops) << testing::PrintToString(t);
    EXPECT_EQ(device->profile().entry(Phase::matmul).bytes, bytes) << testing::PrintToString(t);
    EXPECT_EQ(device->profile().entry(Phase::elementwise).calls, 0);
  };
  ProductCase t{m, n, k, false, true};
  t.addend = Addend::other;
  expect_cost(t, product, operands + c);  // beta is 0: nothing is added
  t.beta = 1;
  expect_cost(t, product, operands + 2 * c);
  t.addend = Addend::c;
  expect_cost(t, product, operands + 2 * c);
  t.beta = 0, t.epilogue = Epilogue::gelu;
  expect_cost(t, product + 20.0 * m * n, operands + c);
  t.keeps_z = true;
  expect_cost(t, product + 20.0 * m * n, operands + 2 * c);
  t.keeps_z = false, t.epilogue = Epilogue::gelu_backward;
  expect_cost(t, product + 30.0 * m * n, operands + 2 * c);
}

TEST(EpiloguePlan, MetaAsksForTheSame) {
  for_each_type([](DType a, DType b, DType c) {
    for_each_epilogue({70, 90, 24, false, true, a, b, c}, [&](const ProductCase& t) {
      expect_same_cost(Phase::matmul, [&](Device& device) {
        const auto tensor = [&](DType dtype, Index rows, Index cols) {
          Tensor result(device, Category::activation, dtype, rows, cols);
          fill(device, result, 1.0f);
          return result;
        };
        Tensor x = tensor(t.a, t.m, t.k), w = tensor(t.b, t.n, t.k), y = tensor(t.c, t.m, t.n);
        Tensor other = tensor(t.c, t.m, t.n), aux = tensor(t.c, t.m, t.n);
        Gemm args{.a = x.view(), .b = w.view(), .c = y, .transpose_b = true, .beta = t.beta, .epilogue = t.epilogue};
        if (t.addend != Addend::c) args.addend = t.addend == Addend::other ? other.view() : aux.view();
        if (t.keeps_z) args.aux = aux;
        if (t.epilogue == Epilogue::gelu_backward) args.aux_in = aux.view();
        gemm(device, args);
      });
    });
  });
}

// ---- refusals -----------------------------------------------------------------------------------------------------

TEST_F(Epilogues, NameWhatDoesNotFit) {
  Sample a(DType::f32, 6, 5), b(DType::f32, 5, 8), c(DType::f32, 6, 8, 2), same(DType::f32, 6, 8);
  Sample narrow(DType::f32, 6, 7), low(DType::bf16, 6, 8);
  for (Sample* sample : {&a, &b, &c, &same, &narrow, &low}) sample->fill(1);
  const auto expect_refusal = [&](Epilogue epilogue, const char* message, auto change) {
    Gemm args{.a = a, .b = b, .c = c, .beta = 1.0f, .epilogue = epilogue};
    change(args);
    try {
      gemm(*device_, args);
      ADD_FAILURE() << "accepted; expected: " << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.failure(), Failure::configuration);
      EXPECT_STREQ(error.what(), message);
    }
  };
  using enum Epilogue;
  expect_refusal(none, "gemm: addend is 6x7, expected 6x8", [&](Gemm& args) { args.addend = narrow; });
  expect_refusal(none, "gemm: addend is bf16, expected fp32", [&](Gemm& args) { args.addend = low; });
  expect_refusal(gelu, "gemm: aux is 6x7, expected 6x8", [&](Gemm& args) { args.aux = narrow; });
  expect_refusal(gelu, "gemm: aux is bf16, expected fp32", [&](Gemm& args) { args.aux = low; });
  expect_refusal(gelu, "gemm: aux is C, expected other memory", [&](Gemm& args) { args.aux = c; });
  expect_refusal(gelu_backward, "gemm: aux_in is 0x0, expected 6x8", [&](Gemm& args) { args.aux = same; });
  expect_refusal(gelu_backward, "gemm: aux_in is 6x7, expected 6x8", [&](Gemm& args) { args.aux_in = narrow; });
  expect_refusal(gelu_backward, "gemm: aux_in is C, expected other memory", [&](Gemm& args) { args.aux_in = c; });
  expect_refusal(none, "gemm: addend begins where C does, with stride 8, expected 10", [&](Gemm& args) {
    args.addend = {c.view().data, DType::f32, 6, 8, 8};
  });
  expect_refusal(gelu, "gemm: addend begins where aux does, with stride 9, expected 8", [&](Gemm& args) {
    args.aux = same;
    args.addend = {same.view().data, DType::f32, 6, 8, 9};
  });
}

// ---- frozen weights -----------------------------------------------------------------------------------------------

TEST_F(Epilogues, WeightsPassAllOn) {
  for (DType type : {DType::f32, DType::bf16}) {
    Sample w(type, 110, 90), x(type, 67, 90), y(type, 67, 110), z(type, 67, 110, 1), other(type, 67, 110, 3);
    Sample y_expected(type, 67, 110), z_expected(type, 67, 110, 1), bias(DType::f32, 1, 110);
    w.normals(1), x.normals(2), bias.normals(3), other.normals(4);
    for (Sample* sample : {&y, &z, &y_expected, &z_expected}) sample->fill(0.5);
    Tensor plain(*device_, Category::base, type, 110, 90);
    copy(*device_, w, plain);
    const Weight weight(*device_, std::move(plain));
    multiply(*device_, WeightForward{weight, x, y, bias, other, Epilogue::gelu, z});
    Gemm forward{.a = x, .b = w, .c = y_expected, .transpose_b = true, .beta = 1.0f, .addend = other, .bias = bias};
    forward.epilogue = Epilogue::gelu, forward.aux = z_expected;
    gemm(*device_, forward);
    EXPECT_EQ(y.image(), y_expected.image());
    EXPECT_EQ(z.image(), z_expected.image());

    Sample dx(type, 67, 90), dx_expected(type, 67, 90), before(type, 67, 90);
    dx.fill(0.25), dx_expected.fill(0.25), before.normals(5);
    multiply(*device_, WeightBackward{weight, y, dx, dx, Epilogue::gelu_backward, before});
    Gemm backward{.a = y, .b = w, .c = dx_expected, .beta = 1.0f, .epilogue = Epilogue::gelu_backward};
    backward.aux_in = before;
    gemm(*device_, backward);
    EXPECT_EQ(dx.image(), dx_expected.image());
  }
}

TEST_F(Epilogues, WeightsReadNothingWithoutAnAddend) {
  Sample w(DType::f32, 40, 30), x(DType::f32, 20, 30), y(DType::f32, 20, 40), dx(DType::f32, 20, 30);
  w.normals(1), x.normals(2);
  for (Sample* sample : {&y, &dx}) sample->fill(std::numeric_limits<double>::quiet_NaN());
  Tensor plain(*device_, Category::base, DType::f32, 40, 30);
  copy(*device_, w, plain);
  const Weight weight(*device_, std::move(plain));
  multiply(*device_, WeightForward{weight, x, y});
  multiply(*device_, WeightBackward{weight, y, dx});
  for (Sample* sample : {&y, &dx}) {
    for (Index r = 0; r < 20; ++r) {
      for (Index c = 0; c < 30; ++c) ASSERT_TRUE(std::isfinite((*sample)(r, c)));
    }
  }
}

TEST(EpilogueOnAvx2, PassesTheSameTests) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "this is the run on other instructions";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(std::system(text("ONEDNN_MAX_CPU_ISA=AVX2 '", self, "' --gtest_brief=1").c_str()), 0);
}

}  // namespace
}  // namespace lorashard::kernels
