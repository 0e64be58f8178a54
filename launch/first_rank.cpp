#include "launch/first_rank.hpp"

#include <exception>
#include <vector>

namespace lorashard::launch {

using kernels::Failure;

double on_first_rank(dist::Communicator& world, const std::function<double()>& body) {
  std::exception_ptr error;
  double verdict[2] = {0, 0};  // failure (0: none), value
  if (world.rank() == 0) try {
      verdict[1] = body();
    } catch (const kernels::Error& caught) {
      error = std::current_exception();
      verdict[0] = static_cast<double>(caught.failure());
    } catch (...) {
      error = std::current_exception();
      verdict[0] = static_cast<double>(Failure::other);
    }
  const std::vector<double> all = world.gather_values(verdict);
  if (error) std::rethrow_exception(error);
  if (all[0] != 0)
    kernels::fail(static_cast<Failure>(static_cast<int>(all[0])), "rank 0 ended the job; see its message");
  return all[1];
}

}  // namespace lorashard::launch
