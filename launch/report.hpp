// One self-contained HTML page of what the program says as JSON: tables, bars and curves in SVG, no scripts, nothing
// fetched.
//
// The page is a function of `data` alone, which it carries (<script id="data">). Every figure that a reader sees is the
// text of an element that says where it stands in the data and how it is written (report_figure.hpp), and bars and
// points say the same, so that a test can hold all of the page against the data.
#pragma once

#include <boost/json.hpp>
#include <string>

namespace lorashard::launch {

// data.report says of what:
//   plan     `lorashard plan --json`
//   search   `hardware`, `memory_bytes`, and `smallest`, `fastest` and `front` of `lorashard plan --search --json`
//   compare  `hardware`, `memory_bytes`; `planned`: `lorashard compare --json`; `front` as in search; `run`: {lora,
//   full},
//            each {summary, metrics}
//   run      `name`; `summary`: summary.json; `metrics`: the lines of metrics.jsonl
// A member that is not there leaves out the section that shows it. Fails (configuration) for another `report`.
std::string report_page(const boost::json::object& data);

}  // namespace lorashard::launch
