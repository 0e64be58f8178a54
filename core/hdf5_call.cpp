#include "core/hdf5_call.hpp"

#include <cstring>
#include <filesystem>

#include "core/quote.hpp"

namespace lorashard::core {
namespace {

std::string between(const std::string& text, const char* before, char after) {
  const auto at = text.find(before);
  if (at == std::string::npos) return "";
  const auto first = at + std::strlen(before);
  return text.substr(first, text.find(after, first) - first);
}

// The entry the library pushed first is the nearest to the cause. System errors hide inside it as error message =
// '...'.
std::string innermost_reason() {
  std::string reason;
  const auto keep_first = [](unsigned n, const H5E_error2_t* entry, void* to) -> herr_t {
    if (n == 0 && entry->desc) *static_cast<std::string*>(to) = entry->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  H5Eclear2(H5E_DEFAULT);
  const std::string system = between(reason, "error message = '", '\'');
  if (!system.empty()) return system;
  const std::string plain = in_quotes(reason);
  return plain.substr(1, plain.size() - 2);
}

// MPI-IO keeps the system's reason to itself; the one that matters can be seen from outside.
std::string full_disk(const std::string& file) {
  constexpr std::uintmax_t kAsGoodAsNothing_bytes = 1 << 20;
  std::error_code error;
  const auto parent = std::filesystem::path(file).parent_path();
  const auto space = std::filesystem::space(parent.empty() ? "." : parent, error);
  if (error || space.available > kAsGoodAsNothing_bytes) return "";
  return kernels::text(" (", space.available, " bytes are left on the disk)");
}

std::string where(const H5Place& place) {
  return place.object.empty() ? place.file : place.file + ": " + in_quotes(place.object);
}

// Before main, so before MPI starts: a library that finds MPI running hooks itself into MPI_Finalize and closes all
// files there, which crashes over a file that a full disk has kept from closing. For the same reason it gets no exit
// handler. Its own printing of errors and its loading of plug-in filters end here too.
[[maybe_unused]] const bool prepared = [] {
  H5dont_atexit();
  H5open();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
  return true;
}();

}  // namespace

void fail_hdf5(const H5Place& place, const char* trying) {
  const std::string reason = innermost_reason();
  kernels::fail(kernels::Failure::storage, kernels::text(where(place), ": cannot ", trying, reason.empty() ? "" : ": ",
                                                         reason, full_disk(place.file)));
}

void refuse_hdf5(const H5Place& place, const std::string& problem) {
  kernels::fail(kernels::Failure::storage, kernels::text(where(place), ": ", problem));
}

}  // namespace lorashard::core
