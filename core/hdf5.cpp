#include "core/hdf5.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/hdf5_call.hpp"
#include "core/quote.hpp"

namespace lorashard::core {
namespace {

// Longest text attribute: the names of all tensors of the largest model are below it; a hostile length must not become
// an allocation.
constexpr std::size_t kMostText = 1 << 24;

const std::string kWholeFile;

void close_id(hid_t id) noexcept {
  if (id < 0) return;
  switch (H5Iget_type(id)) {
    case H5I_FILE:
      H5Fclose(id);
      break;
    case H5I_GROUP:
      H5Gclose(id);
      break;
    case H5I_DATATYPE:
      H5Tclose(id);
      break;
    case H5I_DATASPACE:
      H5Sclose(id);
      break;
    case H5I_DATASET:
      H5Dclose(id);
      break;
    case H5I_ATTR:
      H5Aclose(id);
      break;
    case H5I_GENPROP_LST:
      H5Pclose(id);
      break;
    default:
      break;
  }
}

// Messages that say more than the library's "unable to open file".
void check_openable(const std::string& path) {
  const H5Place place{path, kWholeFile};
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || ::access(path.c_str(), R_OK) != 0)
    refuse_hdf5(place, "cannot open: ", std::strerror(errno));
  if (!S_ISREG(status.st_mode)) refuse_hdf5(place, "found a directory or device, expected an HDF5 file");
  if (status.st_size == 0) refuse_hdf5(place, "found an empty file, expected an HDF5 file");
}

}  // namespace

H5Handle::~H5Handle() { close_id(id_); }

H5Handle& H5Handle::operator=(H5Handle&& other) noexcept {
  if (this != &other) {
    close_id(id_);
    id_ = std::exchange(other.id_, H5I_INVALID_HID);
  }
  return *this;
}

H5File H5File::open(const std::string& path, Packing packing) {
  check_openable(path);
  const H5Place place{path, kWholeFile};
  const H5Handle access(checked(H5Pcreate(H5P_FILE_ACCESS), place, "open"));
  // Many parallel file systems have no flock; files are written under another name, so readers need no lock.
  checked(H5Pset_file_locking(access.id(), false, true), place, "open");
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id());
  if (id < 0) fail_hdf5(place, "open as HDF5");
  return H5File(path, H5Handle(id), Use::reading, packing);
}

H5File H5File::create(const std::string& path, Packing packing) {
  const H5Place place{path, kWholeFile};
  const H5Handle access(checked(H5Pcreate(H5P_FILE_ACCESS), place, "create"));
  checked(H5Pset_file_locking(access.id(), false, true), place, "create");
  // The layout of 1.8 keeps a checksum in every piece of metadata, so damage is found when a file is opened.
  checked(H5Pset_libver_bounds(access.id(), H5F_LIBVER_V18, H5F_LIBVER_V18), place, "create");
  // Without this, small writes wait in a buffer until a dataset is closed, and an error there goes nowhere.
  checked(H5Pset_sieve_buf_size(access.id(), 0), place, "create");
  const H5Handle creation(checked(H5Pcreate(H5P_FILE_CREATE), place, "create"));
  checked(H5Pset_obj_track_times(creation.id(), false), place, "create");
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.id(), access.id());
  if (id < 0) fail_hdf5(place, "create");
  return H5File(path, H5Handle(id), Use::writing, packing);
}

H5File::~H5File() {
  if (file_.id() < 0 || use_ == Use::reading) return;
  // Emptied first, so that what the library still holds back finds room on a full disk.
  static_cast<void>(::truncate(path_.c_str(), 0));
  H5Fclose(file_.release());
  H5Eclear2(H5E_DEFAULT);
}

H5Handle H5File::object(const std::string& name) const {
  const H5Place place{path_, name};
  std::size_t end = 0;
  while (end != std::string::npos && name != "/") {
    end = name.find('/', end + 1);
    const std::string prefix = name.substr(0, end);
    H5L_info_t link{};
    if (H5Lexists(file_.id(), prefix.c_str(), H5P_DEFAULT) <= 0) refuse_hdf5(place, "not found in this file");
    checked(H5Lget_info(file_.id(), prefix.c_str(), &link, H5P_DEFAULT), place, "look up");
    if (link.type != H5L_TYPE_HARD) refuse_hdf5(place, "found a soft or external link, which are refused");
  }
  return H5Handle(checked(H5Oopen(file_.id(), name.c_str(), H5P_DEFAULT), place, "open"));
}

bool H5File::exists(const std::string& name) const {
  std::size_t end = 0;
  while (end != std::string::npos && name != "/") {
    end = name.find('/', end + 1);
    if (H5Lexists(file_.id(), name.substr(0, end).c_str(), H5P_DEFAULT) <= 0) {
      H5Eclear2(H5E_DEFAULT);
      return false;
    }
  }
  return true;
}

std::vector<std::string> H5File::names(const std::string& group) const {
  const H5Place place{path_, group};
  const H5Handle handle = object(group);
  if (H5Iget_type(handle.id()) != H5I_GROUP) refuse_hdf5(place, "found a dataset, expected a group");
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(name);
    return 0;
  };
  checked(H5Literate(handle.id(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect, &names), place, "list");
  std::sort(names.begin(), names.end());
  return names;
}

H5Handle H5File::attribute(const std::string& name, const std::string& attribute) const {
  const H5Place place{path_, name};
  const H5Handle owner = object(name);
  if (checked(H5Aexists(owner.id(), attribute.c_str()), place, "look up an attribute") == 0)
    refuse_hdf5(place, "attribute '", attribute, "' is missing");
  H5Handle handle(checked(H5Aopen(owner.id(), attribute.c_str(), H5P_DEFAULT), place, "open an attribute"));
  const H5Handle space(checked(H5Aget_space(handle.id()), place, "read an attribute"));
  if (H5Sget_simple_extent_npoints(space.id()) != 1)
    refuse_hdf5(place, "attribute '", attribute, "' holds many values, expected one");
  return handle;
}

bool H5File::has_attribute(const std::string& name, const std::string& attribute) const {
  return checked(H5Aexists_by_name(file_.id(), name.c_str(), attribute.c_str(), H5P_DEFAULT), {path_, name},
                 "look up an attribute") > 0;
}

std::string H5File::text(const std::string& name, const std::string& attribute) const {
  const H5Place place{path_, name};
  const H5Handle handle = this->attribute(name, attribute);
  const H5Handle type(checked(H5Aget_type(handle.id()), place, "read an attribute"));
  if (H5Tget_class(type.id()) != H5T_STRING || H5Tis_variable_str(type.id()) != 0)
    refuse_hdf5(place, "attribute '", attribute, "' is of another kind, expected text of fixed length");
  const std::size_t bytes = H5Tget_size(type.id());
  if (bytes > kMostText)
    refuse_hdf5(place, "attribute '", attribute, "' has ", bytes, " bytes, expected at most ", kMostText);
  std::string value(bytes, '\0');
  checked(H5Aread(handle.id(), type.id(), value.data()), place, "read an attribute");
  return value.substr(0, value.find('\0'));
}

std::int64_t H5File::integer(const std::string& name, const std::string& attribute) const {
  const H5Place place{path_, name};
  const H5Handle handle = this->attribute(name, attribute);
  const H5Handle type(checked(H5Aget_type(handle.id()), place, "read an attribute"));
  if (H5Tequal(type.id(), H5T_STD_I64LE) <= 0)
    refuse_hdf5(place, "attribute '", attribute, "' is of another kind, expected a 64-bit integer");
  std::int64_t value = 0;
  checked(H5Aread(handle.id(), H5T_NATIVE_INT64, &value), place, "read an attribute");
  return value;
}

double H5File::real(const std::string& name, const std::string& attribute) const {
  const H5Place place{path_, name};
  const H5Handle handle = this->attribute(name, attribute);
  const H5Handle type(checked(H5Aget_type(handle.id()), place, "read an attribute"));
  if (H5Tequal(type.id(), H5T_IEEE_F64LE) <= 0)
    refuse_hdf5(place, "attribute '", attribute, "' is of another kind, expected a 64-bit real");
  double value = 0;
  checked(H5Aread(handle.id(), H5T_NATIVE_DOUBLE, &value), place, "read an attribute");
  return value;
}

void H5File::set_attribute(const std::string& name, const std::string& attribute, hid_t type, const void* value) {
  const H5Place place{path_, name};
  const H5Handle owner = object(name);
  const H5Handle space(checked(H5Screate(H5S_SCALAR), place, "write an attribute"));
  if (H5Aexists(owner.id(), attribute.c_str()) > 0)
    checked(H5Adelete(owner.id(), attribute.c_str()), place, "replace an attribute");
  const H5Handle handle(checked(H5Acreate2(owner.id(), attribute.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT),
                                place, "add an attribute"));
  checked(H5Awrite(handle.id(), type, value), place, "write an attribute");
}

void H5File::set_text(const std::string& name, const std::string& attribute, const std::string& value) {
  const H5Place place{path_, name};
  if (value.size() > kMostText)
    refuse_hdf5(place, "attribute '", attribute, "' of ", value.size(), " bytes, at most ", kMostText);
  const H5Handle type(checked(H5Tcopy(H5T_C_S1), place, "write an attribute"));
  checked(H5Tset_size(type.id(), std::max<std::size_t>(1, value.size())), place, "write an attribute");
  checked(H5Tset_strpad(type.id(), H5T_STR_NULLPAD), place, "write an attribute");
  set_attribute(name, attribute, type.id(), value.c_str());
}

void H5File::set_integer(const std::string& name, const std::string& attribute, std::int64_t value) {
  set_attribute(name, attribute, H5T_STD_I64LE, &value);
}

void H5File::set_real(const std::string& name, const std::string& attribute, double value) {
  set_attribute(name, attribute, H5T_IEEE_F64LE, &value);
}

void H5File::flush() { checked(H5Fflush(file_.id(), H5F_SCOPE_LOCAL), {path_, kWholeFile}, "write"); }

void H5File::close() {
  const H5Place place{path_, kWholeFile};
  if (use_ != Use::reading) flush();  // what fails here leaves the file open, for the destructor to give up
  checked(H5Fclose(file_.id()), place, "close");
  file_.release();
}

}  // namespace lorashard::core
