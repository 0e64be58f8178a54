#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "kernels/gemm.hpp"
#include "tests/kernels/products.hpp"

namespace lorashard::kernels {
namespace {

class Gemms : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_host_device(2);
};

TEST_F(Gemms, EveryLayoutTypeAndScale) {
  int bias = 0;
  for_each_type([&](DType a, DType b, DType c) {
    for (bool transpose_a : {false, true}) {
      for (bool transpose_b : {false, true}) {
        for (const auto& [alpha, beta] : {std::pair{1.0f, 0.0f}, {0.5f, 1.0f}, {-2.0f, 0.75f}}) {
          for (Index gap : {0, 5}) {
            bias = (bias + 1) % 3;
            expect_product(*device_, {70, 93, 81, transpose_a, transpose_b, a, b, c, alpha, beta, bias, gap});
          }
        }
      }
    }
  });
}

TEST_F(Gemms, EveryBias) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (DType c : {DType::f32, DType::bf16}) {
      for (int bias : {0, 1, 2}) {
        for (float beta : {0.0f, 1.0f}) {
          expect_product(*device_, {66, 129, 72, false, true, type, type, c, 1.0f, beta, bias, 0});
        }
      }
    }
  }
}

// More than one part and one panel of widened operands along each extent.
TEST_F(Gemms, LargerThanOnePart) {
  for (bool transpose_a : {false, true}) {
    for (DType type : {DType::f32, DType::bf16}) {
      expect_product(*device_, {1100, 70, 66, transpose_a, !transpose_a, type, DType::f32, type, 1, 1, 1, 1});
      expect_product(*device_, {70, 1100, 66, transpose_a, transpose_a, DType::f32, type, type, 1, 1, 1, 1});
      expect_product(*device_, {70, 65, 4500, transpose_a, !transpose_a, type, DType::f32, type, 1, 1, 1, 1});
    }
  }
  expect_product(*device_, {600, 530, 40, true, false, DType::f32, DType::f32, DType::f32, 1, 1, 0, 0});
}

TEST_F(Gemms, SmallExtents) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (const auto& [m, n, k] : {std::tuple{1, 1, 1}, {1, 200, 70}, {3, 1, 5}, {200, 1, 300}, {2, 300, 1}}) {
      for (bool transposed : {false, true}) {
        expect_product(*device_, {m, n, k, transposed, !transposed, type, type, DType::f32, 1, 0.5f, 1, 0});
      }
    }
  }
}

TEST_F(Gemms, NothingToSum) {
  for (DType type : {DType::f32, DType::bf16}) {
    expect_product(*device_, {0, 5, 5, false, false, type, type, type});
    expect_product(*device_, {5, 0, 5, false, false, type, type, type});
    expect_product(*device_, {3, 2, 0, false, false, type, type, type, 1, 0.5f, 1});
    expect_product(*device_, {3, 2, 0, true, true, type, type, type, 1, 0.0f, 0});
  }
  EXPECT_EQ(device_->profile().entry(Phase::matmul).flops, 0);
}

TEST_F(Gemms, RefusesWhatDoesNotFit) {
  Sample a(DType::f32, 64, 128), b(DType::f32, 256, 32), fits(DType::f32, 128, 32), c(DType::f32, 64, 32);
  Sample bias(DType::f32, 1, 31);
  try {
    gemm(*device_, {.a = a, .b = b, .c = c});
    FAIL() << "extents that differ were accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.failure(), Failure::configuration);
    EXPECT_STREQ(error.what(), "gemm: op(A) is 64x128, op(B) is 256x32, C is 64x32: inner extents differ");
  }
  EXPECT_THROW(gemm(*device_, {.a = a, .b = fits, .c = b}), Error);
  EXPECT_THROW(gemm(*device_, {.a = a, .b = fits, .c = c, .bias = bias}), Error);
}

TEST_F(Gemms, RecordsCostAndShape) {
  Sample a(DType::bf16, 70, 80), b(DType::bf16, 90, 80), c(DType::f32, 70, 90), bias(DType::f32, 1, 90);
  const Gemm product{.a = a, .b = b, .c = c, .transpose_b = true, .beta = 1.0f, .bias = bias};
  gemm(*device_, product);
  const Profile& profile = device_->profile();
  EXPECT_EQ(profile.entry(Phase::matmul).flops, 2.0 * 70 * 90 * 80);
  EXPECT_EQ(profile.entry(Phase::matmul).bytes, 2.0 * 80 * (70 + 90) + 2 * 4.0 * 70 * 90 + 4 * 90);
  EXPECT_EQ(profile.products().at({70, 90, 80, DType::bf16}), 1);
  Gemm adapter = product;
  adapter.phase = Phase::adapter;
  gemm(*device_, adapter);
  EXPECT_EQ(profile.entry(Phase::adapter).calls, 1);
  EXPECT_EQ(profile.products().size(), 1u);
}

TEST(GemmPlan, MetaAsksForTheSame) {
  for_each_type([](DType a, DType b, DType c) {
    for (const auto& [m, n, k] : {std::tuple{70, 1100, 90}, {80, 16, 90}, {96, 90, 24}, {8, 100, 3000}}) {
      for (bool transposed : {false, true}) {
        expect_same_cost(Phase::adapter, [&, m = m, n = n, k = k](Device& device) {
          Tensor left(device, Category::activation, a, transposed ? k : m, transposed ? m : k);
          Tensor right(device, Category::activation, b, transposed ? n : k, transposed ? k : n);
          Tensor out(device, Category::activation, c, m, n);
          if (!device.meta()) std::memset(left.view().data, 0, left.view().bytes());
          if (!device.meta()) std::memset(right.view().data, 0, right.view().bytes());
          gemm(device, {.a = left.view(),
                        .b = right.view(),
                        .c = out,
                        .transpose_a = transposed,
                        .transpose_b = transposed,
                        .phase = Phase::adapter});
        });
      }
    }
  });
}

// While there are as many parts as threads; oneDNN's bf16 products round differently for each number of threads.
TEST(GemmThreads, DoNotShowInFp32) {
  for (const auto& [m, n, k] : {std::tuple{600, 800, 300}, {128, 1700, 200}, {100, 100, 1000}, {40, 300, 700}}) {
    for (bool transpose_a : {false, true}) {
      for (bool transpose_b : {false, true}) {
        const ProductCase t{m, n, k, transpose_a, transpose_b};
        SCOPED_TRACE(testing::PrintToString(t));
        expect_thread_independent([&](Device& device) { return product_image(device, t); });
      }
    }
  }
}

// ---- frozen weights -----------------------------------------------------------------------------------------------

Weight weight_of(Device& device, const ConstMatrix& values) {
  Tensor plain(device, Category::base, values.dtype, values.rows, values.cols);
  for (Index r = 0; r < values.rows; ++r) {
    for (Index c = 0; c < values.cols; ++c) set_element(plain, r, c, element(values, r, c));
  }
  return Weight(device, std::move(plain));
}

TEST_F(Gemms, WeightsAreProductsWithTheirTranspose) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (DType x_type : {DType::f32, DType::bf16}) {
      for (DType y_type : {DType::f32, DType::bf16}) {
        Sample w(type, 110, 90), x(x_type, 67, 90, 3), bias(DType::f32, 1, 110);
        Sample y(y_type, 67, 110, 2), y_expected(y_type, 67, 110, 2);
        w.normals(1), x.normals(2), bias.normals(3), y.fill(0), y_expected.fill(0);
        const Weight weight = weight_of(*device_, w);
        EXPECT_EQ(weight.bytes(), 110 * 90 * size_bytes(type));
        multiply(*device_, WeightForward{weight, x, y, bias});
        gemm(*device_, {.a = x, .b = w, .c = y_expected, .transpose_b = true, .bias = bias});
        EXPECT_EQ(y.image(), y_expected.image());

        Sample dx(x_type, 67, 90), dx_expected(x_type, 67, 90);
        dx.fill(0), dx_expected.fill(0);
        multiply(*device_, WeightBackward{weight, y, dx});
        gemm(*device_, {.a = y, .b = w, .c = dx_expected});
        EXPECT_EQ(dx.image(), dx_expected.image());
      }
    }
  }
  EXPECT_EQ(device_->ledger().current_bytes(), 0);
}

TEST_F(Gemms, WeightsNameWhatDoesNotFit) {
  Sample w(DType::f32, 8, 4), x(DType::f32, 3, 5), y(DType::f32, 3, 8);
  w.normals(1);
  const Weight weight = weight_of(*device_, w);
  EXPECT_THROW(multiply(*device_, WeightForward{weight, x, y}), Error);
  EXPECT_THROW(multiply(*device_, WeightBackward{weight, x, y}), Error);
}

// ---- other processors ---------------------------------------------------------------------------------------------

// All of the above once more, as a processor without AVX512 (and so without bf16 products) takes it.
TEST(GemmOnAvx2, PassesTheSameTests) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "this is the run on other instructions";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(std::system(text("ONEDNN_MAX_CPU_ISA=AVX2 '", self, "' --gtest_brief=1").c_str()), 0);
}

}  // namespace
}  // namespace lorashard::kernels
