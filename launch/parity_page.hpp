// A certificate of parity as people and programs read it.
#pragma once

#include <boost/json.hpp>
#include <string>

#include "core/parity.hpp"
#include "launch/job.hpp"

namespace lorashard::launch {

// What was compared, and where.
struct ParityHeader {
  core::Config asked;  // the user's job, complete
  Job run;             // what ran: the same, or a small job of its structure
  bool shrunken = false;
  bool own_data = false;  // else random tokens
  core::Index steps = 0;
  int hosts = 1;
  std::string host;  // of rank 0
  std::string date;  // UTC
};

// The header, the ten comparisons that came closest to their bounds and all that fail, and the verdict.
std::string parity_text(const ParityHeader& header, const core::ParityReport& report);
// All comparisons.
boost::json::object parity_json(const ParityHeader& header, const core::ParityReport& report);

}  // namespace lorashard::launch
