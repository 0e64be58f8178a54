// A thin owner of HDF5 handles: checked calls that throw Failure::storage with the file, the object and the library's
// own reason; destructors that never throw. Files are untrusted: external links and filters are refused, extents are
// checked against what the caller expects before anything is allocated.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dist/shard.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {

using kernels::Index;

// Owns one identifier; closes it by the function that fits its kind. Move-only.
class H5Handle {
 public:
  H5Handle() = default;
  explicit H5Handle(hid_t id) : id_(id) {}
  ~H5Handle();
  H5Handle(H5Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  H5Handle& operator=(H5Handle&& other) noexcept;
  hid_t id() const { return id_; }
  // Lets go without closing.
  hid_t release() { return std::exchange(id_, H5I_INVALID_HID); }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

class H5File {
 public:
  // Whether matrices lie plainly in the file, or in chunks that HDF5's own shuffle and deflate filters made smaller. A
  // file is of one kind; a deflated matrix takes some memory of at most a chunk's (and what its stored bytes inflate to).
  enum class Packing { plain, deflated };
  // Reading needs no MPI: every rank opens the file for itself and reads its own slices.
  static H5File open(const std::string& path, Packing packing = Packing::plain);
  // Creates (truncates) `path`. Objects carry no times, so equal content gives equal bytes.
  static H5File create(const std::string& path, Packing packing = Packing::plain);
  // A file that is being written and was not closed is given up: its content is lost, nothing is thrown. On a full disk
  // closing fails time and again.
  ~H5File();
  H5File(H5File&&) = default;
  H5File& operator=(H5File&&) = default;

  const std::string& path() const { return path_; }
  bool exists(const std::string& name) const;
  std::vector<std::string> names(const std::string& group) const;  // sorted

  // Attributes of the object `name` ("/" is the root). Reading throws when missing or of another kind.
  bool has_attribute(const std::string& name, const std::string& attribute) const;
  std::string text(const std::string& name, const std::string& attribute) const;
  std::int64_t integer(const std::string& name, const std::string& attribute) const;
  double real(const std::string& name, const std::string& attribute) const;
  void set_text(const std::string& name, const std::string& attribute, const std::string& value);
  void set_integer(const std::string& name, const std::string& attribute, std::int64_t value);
  void set_real(const std::string& name, const std::string& attribute, double value);

  // Matrices of f32, or of bf16 (kept as 16-bit integers with the attribute dtype = "bf16"). Extents in the file must be
  // `rows` x `cols`.
  struct MatrixInfo {
    kernels::DType dtype;
    Index rows, cols;
  };
  MatrixInfo matrix_info(const std::string& name) const;
  void create_matrix(const std::string& name, kernels::DType dtype, Index rows, Index cols);
  // The runs of (rows x cols) between the file's global coordinates and a host matrix in local coordinates, with the
  // element type of the file.
  void read(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::Matrix to) const;
  void write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::ConstMatrix from);
  // Where its first element lies in the file; the others follow row by row, little-endian. Known once it was created.
  std::int64_t offset_bytes(const std::string& name) const;

  // Flat integer arrays (tokens, offsets). Writing creates the array; each is written once.
  Index array_length(const std::string& name) const;
  void write_array(const std::string& name, const std::vector<std::int32_t>& values);
  void write_array(const std::string& name, const std::vector<std::int64_t>& values);
  std::vector<std::int32_t> read_int32(const std::string& name, Index first, Index count) const;
  std::vector<std::int64_t> read_int64(const std::string& name, Index first, Index count) const;

  void flush();
  // Closes now and throws what closing reports (a full disk may show only here).
  void close();

 private:
  enum class Use { reading, writing };
  H5File(std::string path, H5Handle file, Use use, Packing packing)
      : path_(std::move(path)), file_(std::move(file)), use_(use), packing_(packing) {}
  void set_attribute(const std::string& name, const std::string& attribute, hid_t type, const void* value);
  // The object, reached through hard links only.
  H5Handle object(const std::string& name) const;
  H5Handle attribute(const std::string& name, const std::string& attribute) const;
  // A dataset that is plainly stored inside this file, with its extents; `rank` of them are expected.
  H5Handle dataset(const std::string& name, int rank, hsize_t* extents) const;
  void expect_deflated(const std::string& name, hid_t creation, const hsize_t* extents) const;
  H5Handle create_dataset(const std::string& name, hid_t type, int rank, const hsize_t* extents);
  template <class T>
  void write_integers(const std::string& name, const std::vector<T>& values);
  template <class T>
  std::vector<T> read_integers(const std::string& name, Index first, Index count) const;

  std::string path_;
  H5Handle file_;
  Use use_;
  Packing packing_;
};

}  // namespace lorashard::core
