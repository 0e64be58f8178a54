// Sums in double on the cuda device.
#include "kernels/adamw.hpp"
#include "kernels/loss.hpp"
#include "totals.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

struct Extents {
  Index rows, cols, gap;
};
// Less than a vector, rows with gaps, several parts and a bit, and more elements than 1024 parts of 4096.
const Extents kExtents[] = {{1, 1, 0}, {1, 3, 0}, {7, 33, 0}, {7, 33, 5}, {12, 1024, 4}, {1, 4097, 0}, {3, 10001, 0}};

// 2^12 beside 1, squared 2^24 beside 1: a sum in float would lose the ones.
void fill_with_integers(Twin& m) {
  for (Index r = 0; r < m.host().view().rows; ++r) {
    for (Index c = 0; c < m.host().view().cols; ++c) set_element(m.host(), r, c, (r + c) % 3 == 0 ? 1.0 : 4096.0);
  }
  m.send();
}

TEST(CudaSums, AreExactForIntegersAndAddToTheTotal) {
  SKIP_WITHOUT_GPU();
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(text(e.rows, "x", e.cols, " and a gap of ", e.gap));
    Twin m(DType::f32, e.rows, e.cols, e.gap);
    fill_with_integers(m);
    Totals totals(1, 3, {5, 7, 9});
    Twin::on_both([&](Device& d) {
      add_sum(d, m.on(d), totals.on(d).col_range(0, 1));
      add_sum_of_squares(d, m.on(d), totals.on(d).col_range(2, 1));
    });
    EXPECT_EQ(totals.from_cuda(), totals.on_host());
  }
}

TEST(CudaSums, ManyPartsAndNoAlignment) {
  SKIP_WITHOUT_GPU();
  Twin m(DType::f32, 1, 1024 * 4096 + 2);
  fill_with_integers(m);
  Totals totals(1, 2, {0, 0});
  Twin::on_both([&](Device& d) {
    add_sum(d, m.on(d), totals.on(d).col_range(0, 1));
    add_sum(d, m.on(d).col_range(1, 100001), totals.on(d).col_range(1, 1));
  });
  EXPECT_EQ(totals.from_cuda(), totals.on_host());
}

TEST(CudaSums, AreAlwaysTheSame) {
  SKIP_WITHOUT_GPU();
  Twin m(DType::f32, 3, 10001);
  m.normals(1);
  Totals totals(1, 1, {0}), again(1, 1, {0});
  Twin::on_both([&](Device& d) { add_sum(d, m.on(d), totals.on(d)); });
  add_sum(cuda(), m.on(cuda()), again.on(cuda()));
  EXPECT_EQ(totals.from_cuda(), again.from_cuda());
  // In double on both: far below the 30003 roundings of terms below 6 that any order of summation stays within.
  EXPECT_NEAR(totals.from_cuda()[0], totals.on_host()[0], 30003.0 * 6 * 30003 * 0x1.0p-53);
}

TEST(CudaSums, NothingAddsNothing) {
  SKIP_WITHOUT_GPU();
  Totals totals(1, 1, {3});
  add_sum(cuda(), ConstMatrix{}, totals.on(cuda()));
  add_sum_of_squares(cuda(), ConstMatrix{}, totals.on(cuda()));
  EXPECT_EQ(totals.from_cuda()[0], 3);
}

}  // namespace
}  // namespace lorashard::kernels
