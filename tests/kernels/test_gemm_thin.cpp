// Products with one small extent: the shapes of an adapter.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "kernels/gemm_host.hpp"
#include "tests/kernels/products.hpp"

namespace lorashard::kernels {
namespace {

// Ranks around every tile and vector width that the loops use.
constexpr Index kRanks[] = {1, 3, 8, 9, 16, 17, 24, 31, 32};

// The five products of a pair, in LoRA's terms, for rank r. Extents that are no multiple of any tile.
std::vector<ProductCase> adapter_products(Index r) {
  return {
      {131, r, 107, false, true},                               // u = x A^T
      {131, r, 107, false, false},                              // du = dy B
      {131, 107, r, false, true},                               // y += u B^T
      {131, 107, r, false, false},                              // dx += du A
      {131, 107, r, true, false},  {r, 107, 131, true, false},  // dA = du^T x
      {r, 107, 131, false, false}, {107, r, 131, true, false},  // dB = dy^T u
      {107, r, 131, true, true},
  };
}

class ThinGemms : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_host_device(2);
};

TEST_F(ThinGemms, EveryRank) {
  for (Index rank : kRanks) {
    for (ProductCase t : adapter_products(rank)) {
      expect_product(*device_, t);
      t.alpha = 0.5f, t.beta = 1.0f, t.gap = 3;
      expect_product(*device_, t);
    }
  }
}

TEST_F(ThinGemms, EveryType) {
  for_each_type([&](DType a, DType b, DType c) {
    for (Index rank : {5, 8, 24}) {
      for (ProductCase t : adapter_products(rank)) {
        t.a = a, t.b = b, t.c = c;
        t.alpha = -1.5f, t.beta = 0.5f, t.gap = 1;
        expect_product(*device_, t);
      }
    }
  });
}

// More columns than the pieces in which bf16 rows are widened.
TEST_F(ThinGemms, LongSums) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (Index rank : {8, 20}) {
      expect_product(*device_, {70, rank, 700, false, true, type, DType::f32, DType::f32});
      expect_product(*device_, {rank, 70, 700, true, false, DType::f32, type, DType::f32});
    }
  }
}

TEST_F(ThinGemms, TakeTheThinWay) {
  for (Index rank : kRanks) {
    for (const ProductCase& t : adapter_products(rank)) {
      ProductSample sample(t);
      EXPECT_EQ(host_way(sample.gemm(t)), HostWay::thin) << testing::PrintToString(t);
    }
  }
}

TEST_F(ThinGemms, ThreadsDoNotShow) {
  for (Index rank : {8, 17}) {
    for (ProductCase t : adapter_products(rank)) {
      for (DType type : {DType::f32, DType::bf16}) {
        // One operand stays fp32, else oneDNN may take the product.
        (t.m == rank || t.k == rank ? t.b : t.a) = type;
        SCOPED_TRACE(testing::PrintToString(t));
        expect_thread_independent([&](Device& device) { return product_image(device, t); });
      }
    }
  }
}

TEST(ThinGemmOnAvx2, PassesTheSameTests) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "this is the run on other instructions";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(std::system(text("ONEDNN_MAX_CPU_ISA=AVX2 '", self, "' --gtest_brief=1").c_str()), 0);
}

}  // namespace
}  // namespace lorashard::kernels
