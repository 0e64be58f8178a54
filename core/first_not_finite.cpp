#include "core/first_not_finite.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/context.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::core {

using kernels::text;

namespace {

double value_at(ConstMatrix m, Index row, Index col) {
  if (m.dtype == DType::bf16) return kernels::to_float(m.row<kernels::bf16>(row)[col]);
  if (m.dtype == DType::f64) return m.row<double>(row)[col];
  return m.row<float>(row)[col];
}

// The texts of all ranks would be long; only that of one is wanted everywhere.
std::string text_of_rank(dist::Communicator& world, int rank, const std::string& own) {
  constexpr std::size_t kMost = 400;
  std::vector<double> letters(kMost);
  for (std::size_t i = 0; i < std::min(own.size(), kMost); ++i) letters[i] = static_cast<unsigned char>(own[i]);
  const std::vector<double> all = world.gather_values(letters);
  std::string words;
  for (std::size_t i = 0; i < kMost; ++i)
    if (const double letter = all[static_cast<std::size_t>(rank) * kMost + i]; letter > 0)
      words += static_cast<char>(letter);
  return words;
}

}  // namespace

void FirstNotFinite::look(const std::string& tensor, Index layer, ConstMatrix values, const Microbatch* microbatch,
                          Index first_row) {
  if (found() || values.empty()) return;
  const HostCopy copy(device_, values);
  const ConstMatrix host = copy;
  for (Index row = 0; row < host.rows; ++row)
    for (Index col = 0; col < host.cols; ++col) {
      const double value = value_at(host, row, col);
      if (std::isfinite(value)) continue;
      tensor_ = tensor;
      found_in_ = pass_;
      value_ = value;
      row_ = row;
      column_ = col;
      // Backward passes run from the top down.
      depth_ = static_cast<double>(pass_ == Pass::backward ? layers_ - layer : layer + 1);
      if (microbatch) {
        microbatch_ = microbatch->number;
        sequence_ = microbatch->first_sequence + (first_row + row) / microbatch->length;
        position_ = (first_row + row) % microbatch->length;
      }
      return;
    }
}

std::string FirstNotFinite::words() const {
  const char* const passes[] = {"before the step", "forward", "backward", "gradient"};
  std::string words = text(tensor_, ", ", passes[static_cast<int>(found_in_)]);
  if (microbatch_ >= 0) words += text(" of microbatch ", microbatch_);
  words += text(": found ", std::isnan(value_) ? "nan" : value_ < 0 ? "-inf" : "inf", " at ");
  words += sequence_ >= 0 ? text("sequence ", sequence_, " of the batch, position ", position_) : text("row ", row_);
  return words + text(", column ", column_);
}

FirstNotFinite::Place FirstNotFinite::first_of_all(dist::Communicator& world) const {
  // In the order in which one rank alone would meet them; the layer and the pass decide, not who was faster.
  constexpr double kNever = std::numeric_limits<double>::max();
  double own[] = {kNever, 0, 0};
  if (found()) {
    own[0] = found_in_ == Pass::before || found_in_ == Pass::gradients ? 2.0 * static_cast<int>(found_in_) : 3;
    own[1] = static_cast<double>(std::max<Index>(microbatch_, 0)) * 2 + (found_in_ == Pass::backward ? 1 : 0);
    own[2] = depth_;
  }
  const std::vector<double> all = world.gather_values(own);
  int first = 0;
  for (int rank = 1; rank < world.size(); ++rank)
    if (std::lexicographical_compare(&all[3 * rank], &all[3 * rank] + 3, &all[3 * first], &all[3 * first] + 3))
      first = rank;
  const double pass = all[3 * static_cast<std::size_t>(first)];
  if (pass == kNever) return {};
  return {text_of_rank(world, first, found() ? text(words(), " (rank ", world.rank(), ")") : ""), pass == 0};
}

}  // namespace lorashard::core
