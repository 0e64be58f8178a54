#include "launch/run_trace.hpp"

#include <algorithm>

#include "core/text_file.hpp"
#include "launch/together.hpp"
#include "launch/trace.hpp"

namespace lorashard::launch {

using core::Index;
using core::Span;

namespace {

// What a step consists of; between ranks a work is its place here.
constexpr const char* kWorks[] = {"clear", "forward", "backward", "reduce", "update"};
constexpr std::size_t kValues = 5;  // of a span on its way

double place_of(const std::string& work) {
  const auto found = std::find(std::begin(kWorks), std::end(kWorks), work);
  if (found == std::end(kWorks)) kernels::fail(kernels::Failure::other, kernels::text("trace: no work called ", work));
  return static_cast<double>(found - std::begin(kWorks));
}

std::vector<double> packed(const std::vector<Span>& spans) {
  std::vector<double> values;
  for (const Span& s : spans)
    for (const double value : {place_of(s.work), double(s.number), double(s.part), s.start_s, s.end_s})
      values.push_back(value);
  return values;
}

std::vector<Span> unpacked(const double* values, std::size_t count) {
  std::vector<Span> spans;
  for (const double* v = values; v < values + count; v += kValues)
    spans.push_back({kWorks[static_cast<int>(v[0])], static_cast<int>(v[1]), static_cast<int>(v[2]), v[3], v[4]});
  return spans;
}

}  // namespace

RunTrace::RunTrace(kernels::Device& device, dist::Mesh& mesh, std::string path, Index steps, Index first, Index last)
    : device_(device),
      mesh_(mesh),
      path_(std::move(path)),
      steps_(std::min(steps, last - first)),
      begin_(std::min(first + 1, last - steps_)),
      end_(begin_ + steps_) {}

void RunTrace::before(Index step) {
  if (steps_ == 0 || step != begin_) return;
  device_.synchronize();
  mesh_.world().barrier();
  recorder_.emplace(device_);
}

void RunTrace::after(Index done) {
  if (!recorder_ || done != end_) return;
  write();
  recorder_.reset();
}

void RunTrace::write() {
  dist::Communicator& world = mesh_.world();
  std::vector<double> values = packed(recorder_->spans());
  // Stages may have different numbers of works: all send as much as the one that has most.
  const double own_count = static_cast<double>(values.size());
  const std::vector<double> counts = world.gather_values({&own_count, 1});
  const auto most = static_cast<std::size_t>(*std::max_element(counts.begin(), counts.end()));
  values.resize(most);
  const std::vector<double> all = world.gather_values(values);
  on_first_rank(world, [&] {
    std::vector<Lane> lanes;
    for (std::size_t rank = 0; rank < counts.size(); ++rank)
      lanes.push_back({lane_name(mesh_.extents(), static_cast<int>(rank)),
                       unpacked(all.data() + rank * most, static_cast<std::size_t>(counts[rank]))});
    core::write_whole(path_, chrome_trace(lanes));
    return 0.0;
  });
}

}  // namespace lorashard::launch
