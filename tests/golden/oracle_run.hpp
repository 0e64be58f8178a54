// The real trainer on random small models against the oracle: loss, gradient norm and every gradient of a step, and an
// evaluation, on every mesh of as many ranks as the test runs on, in each of its modes.
#pragma once

#include <functional>
#include <string>

#include "tests/golden/trial.hpp"

namespace lorashard::golden {

// No tensor extent above 1 divides the length of a row, none above 1 the vocabulary. 12 heads and 6 layers are there
// for meshes of up to 6 ranks; the rest of a shape is the test's.
inline constexpr Index kOracleLength = 7;
oracle::Shape oracle_shape();

// How a step is cut and what it keeps: the ways to do so that every mesh may meet.
inline constexpr std::size_t kOracleModes = 3;

struct OracleCase {
  const oracle::Model& model;
  std::string base;                                                // the file that holds it
  std::function<void(core::Config&)> change;                       // what trains, and how
  std::function<bool(std::size_t mesh, std::size_t mode)> chosen;  // of meshes_of() and the modes
};
// Collective over the job.
void expect_oracles_steps(const OracleCase& c);

}  // namespace lorashard::golden
