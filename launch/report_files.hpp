// Reports where they are written to.
#pragma once

#include <boost/json.hpp>
#include <string>

namespace lorashard::launch {

// The page at `path`, and its data beside it: page.html and page.json. Throws Failure::storage.
void write_report(const std::string& path, const boost::json::object& data);

// A finished run as a report shows it: {summary, metrics}, read from its directory. Of very many steps every so many
// are kept, and those with an evaluation.
boost::json::object run_data(const std::string& run_directory);

}  // namespace lorashard::launch
