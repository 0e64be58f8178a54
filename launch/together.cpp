#include "launch/together.hpp"

#include <chrono>
#include <exception>
#include <thread>
#include <vector>

namespace lorashard::launch {

using kernels::Failure;

void together(dist::Communicator& world, const std::function<void()>& body) {
  std::exception_ptr error;
  double failure[] = {0};
  try {
    body();
  } catch (const kernels::Error& caught) {
    error = std::current_exception();
    failure[0] = static_cast<double>(caught.failure());
  } catch (...) {
    error = std::current_exception();
    failure[0] = static_cast<double>(Failure::other);
  }
  const std::vector<double> all = world.gather_values(failure);
  if (error) std::rethrow_exception(error);
  for (std::size_t rank = 0; rank < all.size(); ++rank)
    if (all[rank] != 0) {
      // That rank prints its message and ends the job; this one speaks only if it does not.
      std::this_thread::sleep_for(std::chrono::seconds(5));
      kernels::fail(static_cast<Failure>(static_cast<int>(all[rank])),
                    kernels::text("rank ", rank, " failed; see its message"));
    }
}

double on_first_rank(dist::Communicator& world, const std::function<double()>& body) {
  double value[] = {0};
  together(world, [&] {
    if (world.rank() == 0) value[0] = body();
  });
  return world.gather_values(value)[0];
}

}  // namespace lorashard::launch
