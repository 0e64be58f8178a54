// A meta device over MPI: no data moves, and ranks that do not ask for the same are told of each other.
#include <gtest/gtest.h>

#include "tests/dist/verbs.hpp"

namespace lorashard::dist {
namespace {

using kernels::Category;
using kernels::Tensor;

class Rehearsal : public testing::Test {
 protected:
  Tensor values(Index count) { return Tensor(*device_, Category::activation, kernels::DType::f32, 1, count); }
  // What the body throws; empty where it does not.
  template <class Body>
  static std::string error_of(const Body& body) {
    try {
      body();
    } catch (const kernels::Error& error) {
      EXPECT_EQ(error.failure(), kernels::Failure::communication);
      return error.what();
    }
    return "";
  }

  std::unique_ptr<kernels::Device> device_ = kernels::make_meta_device();
  Mesh mesh_ = runtime().make_mesh(*device_, {1, runtime().size(), 1});
  Communicator& axis_ = mesh_.pipeline();
};

TEST_F(Rehearsal, SameVerbsPass) {
  const int size = runtime().size();
  Tensor whole = values(8 * size), part = values(8);
  const auto rows = [&](Matrix m, Index count) { return Matrix{m.data, m.dtype, count, 8, 8}; };
  EXPECT_EQ(error_of([&] {
              axis_.all_reduce(whole);
              axis_.start_all_reduce(whole)->wait();
              axis_.all_gather(rows(part, 1), rows(whole, size));
              axis_.reduce_scatter(rows(whole, size), rows(part, 1));
              axis_.start_reduce_scatter(rows(whole, size), rows(part, 1))->wait();
              axis_.broadcast(whole, 0);
              axis_.barrier();
            }),
            "");
  const std::vector<double> all = axis_.gather_values(std::vector<double>{double(axis_.rank())});
  EXPECT_EQ(all.back(), size - 1);  // the control plane is real
}

TEST_F(Rehearsal, AnotherVerbOrLengthIsNamed) {
  if (runtime().size() == 1) GTEST_SKIP() << "nobody to differ from";
  const bool odd = axis_.rank() == 1;
  Tensor data = values(odd ? 4 : 8);
  const std::string length = error_of([&] { axis_.all_reduce(data); });
  EXPECT_NE(length.find(odd ? "rank 0 of the axis entered all-reduce of 32 bytes, expected all-reduce of 16 bytes"
                            : "rank 1 of the axis entered all-reduce of 16 bytes, expected all-reduce of 32 bytes"),
            std::string::npos)
      << length;
  Tensor same = values(8);
  const std::string verb = error_of([&] { odd ? axis_.broadcast(same, 0) : axis_.all_reduce(same); });
  EXPECT_NE(verb.find(odd ? "entered all-reduce" : "entered broadcast"), std::string::npos) << verb;
}

TEST_F(Rehearsal, MessagesAreHeldAgainstWhatIsAwaited) {
  if (runtime().size() == 1) GTEST_SKIP() << "nobody to send to";
  Tensor eight = values(8), four = values(4);
  std::string error;
  if (axis_.rank() == 0) {
    axis_.send(eight, 1, 2)->wait();
    axis_.send(eight, 1, 4)->wait();
  } else if (axis_.rank() == 1) {
    EXPECT_EQ(error_of([&] { axis_.receive(eight, 0, 2); }), "");
    error = error_of([&] { axis_.receive(four, 0, 4); });
    EXPECT_NE(error.find("found send of 32 bytes, expected 16 bytes"), std::string::npos) << error;
  }
  axis_.barrier();
}

}  // namespace
}  // namespace lorashard::dist
