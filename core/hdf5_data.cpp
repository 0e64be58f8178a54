// The datasets of an H5File: matrices and flat integer arrays.
#include <algorithm>
#include <array>
#include <cinttypes>
#include <limits>

#include "core/hdf5.hpp"
#include "core/hdf5_call.hpp"

namespace lorashard::core {
namespace {

using kernels::ConstMatrix;
using kernels::DType;
using kernels::Matrix;

// The library holds the selection of a transfer, and the kernel may cut longer ones short: rows of at most this much.
constexpr Index kMostTransfer_bytes = Index{256} << 20;

// Of a deflated matrix: whole rows of about this much, below the 1 MiB that HDF5 keeps of a matrix, so that a reader who
// goes on inside a chunk does not inflate it again.
constexpr hsize_t kChunk_elements = 1 << 17;

// More takes several times as long and saves a few percent of what a residual is.
constexpr unsigned kDeflateLevel = 3;

std::array<hsize_t, 2> chunk_of(const hsize_t* extents) {
  const hsize_t cols = std::min(extents[1], kChunk_elements);
  return {std::clamp<hsize_t>(kChunk_elements / cols, 1, extents[0]), cols};
}

hid_t file_type(DType dtype) { return dtype == DType::f32 ? H5T_IEEE_F32LE : H5T_STD_U16LE; }
hid_t memory_type(DType dtype) { return dtype == DType::f32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_UINT16; }
hid_t file_type(std::int32_t) { return H5T_STD_I32LE; }
hid_t file_type(std::int64_t) { return H5T_STD_I64LE; }
hid_t memory_type(std::int32_t) { return H5T_NATIVE_INT32; }
hid_t memory_type(std::int64_t) { return H5T_NATIVE_INT64; }

H5Handle select(const H5Place& place, int rank, const hsize_t* extents, const hsize_t* start, const hsize_t* count) {
  H5Handle space(checked(H5Screate_simple(rank, extents, nullptr), place, "select"));
  checked(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, start, nullptr, count, nullptr), place, "select");
  return space;
}

// Calls move(memory space, file space) for every rectangle of the cuts, none above kMostTransfer_bytes. The matrix in
// memory has rows of `stride` elements.
template <class Move>
void for_each_piece(const H5Place& place, const dist::AxisCut& rows, const dist::AxisCut& cols, const ConstMatrix& m,
                    const Move& move) {
  const auto u = [](Index value) { return static_cast<hsize_t>(value); };
  const hsize_t in_file[2] = {u(rows.global_extent()), u(cols.global_extent())};
  const hsize_t in_memory[2] = {u(m.rows), u(std::max(m.stride, m.cols))};
  for (const dist::Run& r : rows.runs()) {
    for (const dist::Run& c : cols.runs()) {
      const Index most = std::max<Index>(1, kMostTransfer_bytes / (c.count * kernels::size_bytes(m.dtype)));
      for (Index done = 0; done < r.count; done += most) {
        const hsize_t count[2] = {u(std::min(most, r.count - done)), u(c.count)};
        const hsize_t from[2] = {u(r.local.value + done), u(c.local.value)};
        const hsize_t to[2] = {u(r.global.value + done), u(c.global.value)};
        const H5Handle memory = select(place, 2, in_memory, from, count);
        const H5Handle file = select(place, 2, in_file, to, count);
        move(memory.id(), file.id());
      }
    }
  }
}

void check_cuts(const H5Place& place, const H5File::MatrixInfo& info, const dist::AxisCut& rows,
                const dist::AxisCut& cols, const ConstMatrix& m) {
  if (info.rows != rows.global_extent() || info.cols != cols.global_extent())
    refuse_hdf5(place, "found ", info.rows, "x", info.cols, ", expected ", rows.global_extent(), "x",
                cols.global_extent());
  if (m.rows != rows.local_extent() || m.cols != cols.local_extent() || m.dtype != info.dtype)
    kernels::fail(kernels::Failure::other,
                  kernels::text(place.file, ": ", place.object, ": memory is ", kernels::extents(m), " ", name(m.dtype),
                                ", the cuts and the file give ", rows.local_extent(), "x", cols.local_extent(), " ",
                                name(info.dtype)));
}

}  // namespace

H5Handle H5File::dataset(const std::string& name, int rank, hsize_t* extents) const {
  const H5Place place{path_, name};
  H5Handle set = object(name);
  if (H5Iget_type(set.id()) != H5I_DATASET) refuse_hdf5(place, "found a group, expected a dataset");
  const H5Handle creation(checked(H5Dget_create_plist(set.id()), place, "examine"));
  const bool deflated = packing_ == Packing::deflated && rank == 2;
  if (!deflated && (H5Pget_layout(creation.id()) != H5D_CONTIGUOUS || H5Pget_external_count(creation.id()) != 0 ||
                    H5Pget_nfilters(creation.id()) != 0))
    refuse_hdf5(place, "data that is filtered, chunked, virtual or outside of the file is refused");
  const H5Handle space(checked(H5Dget_space(set.id()), place, "examine"));
  const int found = H5Sis_simple(space.id()) > 0 ? H5Sget_simple_extent_ndims(space.id()) : -1;
  if (found != rank) refuse_hdf5(place, "found ", found, " extents, expected ", rank);
  checked(H5Sget_simple_extent_dims(space.id(), extents, nullptr), place, "examine");
  const H5Handle type(checked(H5Dget_type(set.id()), place, "examine"));
  hsize_t bytes = H5Tget_size(type.id());
  for (int i = 0; i < rank; ++i) {
    if (extents[i] != 0 && bytes > static_cast<hsize_t>(std::numeric_limits<Index>::max()) / extents[i])
      refuse_hdf5(place, "extents of more than 2^63 bytes");
    bytes *= extents[i];
  }
  if (deflated) expect_deflated(name, creation.id(), extents);
  if (deflated || use_ != Use::reading || bytes == 0) return set;
  // All of it must lie inside the file: what is missing would read as zeros, and could be of any size.
  hsize_t file_bytes = 0;
  checked(H5Fget_filesize(file_.id(), &file_bytes), place, "examine");
  const haddr_t at = H5Dget_offset(set.id());
  if (at == HADDR_UNDEF || H5Dget_storage_size(set.id()) != bytes || bytes > file_bytes || at > file_bytes - bytes)
    refuse_hdf5(place, "its ", bytes, " bytes do not lie in the file's ", file_bytes);
  return set;
}

// Just what create_matrix() makes: no other filter, and chunks of no other size than a reader counts on.
void H5File::expect_deflated(const std::string& name, hid_t creation, const hsize_t* extents) const {
  const H5Place place{path_, name};
  const std::array<hsize_t, 2> expected = chunk_of(extents);
  std::array<hsize_t, 2> chunk{};
  const bool chunked = H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, 2, chunk.data()) == 2;
  const auto filter = [&](unsigned i) {
    std::size_t values = 0;  // of its settings none are asked for
    return H5Pget_filter2(creation, i, nullptr, &values, nullptr, 0, nullptr, nullptr);
  };
  if (!chunked || chunk != expected || H5Pget_nfilters(creation) != 2 || filter(0) != H5Z_FILTER_SHUFFLE ||
      filter(1) != H5Z_FILTER_DEFLATE)
    refuse_hdf5(place, "found another storage, expected chunks of ", expected[0], "x", expected[1],
                ", shuffled and deflated");
}

H5Handle H5File::create_dataset(const std::string& name, hid_t type, int rank, const hsize_t* extents) {
  const H5Place place{path_, name};
  const auto slash = name.rfind('/');
  const std::string group = name.substr(0, slash == std::string::npos ? 0 : slash);
  if (!group.empty() && !exists(group)) {
    const H5Handle plain(checked(H5Pcreate(H5P_GROUP_CREATE), place, "create"));
    checked(H5Pset_obj_track_times(plain.id(), false), place, "create");
    H5Handle(checked(H5Gcreate2(file_.id(), group.c_str(), H5P_DEFAULT, plain.id(), H5P_DEFAULT), place, "create"));
  }
  const H5Handle creation(checked(H5Pcreate(H5P_DATASET_CREATE), place, "create"));
  checked(H5Pset_obj_track_times(creation.id(), false), place, "create");
  // Space is taken at once and not filled with zeros first: every element is written exactly once.
  if (packing_ == Packing::deflated && rank == 2) {
    checked(H5Pset_chunk(creation.id(), 2, chunk_of(extents).data()), place, "create");
    checked(H5Pset_shuffle(creation.id()), place, "create");
    checked(H5Pset_deflate(creation.id(), kDeflateLevel), place, "create");
  } else {
    checked(H5Pset_alloc_time(creation.id(), H5D_ALLOC_TIME_EARLY), place, "create");
  }
  checked(H5Pset_fill_time(creation.id(), H5D_FILL_TIME_NEVER), place, "create");
  const H5Handle space(checked(H5Screate_simple(rank, extents, nullptr), place, "create"));
  return H5Handle(
      checked(H5Dcreate2(file_.id(), name.c_str(), type, space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT), place,
              "create"));
}

H5File::MatrixInfo H5File::matrix_info(const std::string& name) const {
  hsize_t extents[2];
  const H5Handle set = dataset(name, 2, extents);
  const H5Handle type(checked(H5Dget_type(set.id()), {path_, name}, "examine"));
  MatrixInfo info{DType::f32, static_cast<Index>(extents[0]), static_cast<Index>(extents[1])};
  if (info.rows < 1 || info.cols < 1)
    refuse_hdf5({path_, name}, "found ", info.rows, "x", info.cols, ", expected at least 1x1");
  if (H5Tequal(type.id(), file_type(DType::f32)) > 0) return info;
  info.dtype = DType::bf16;
  if (H5Tequal(type.id(), file_type(DType::bf16)) <= 0 || this->text(name, "dtype") != "bf16")
    refuse_hdf5({path_, name}, "found another element type, expected f32 or bf16");
  return info;
}

void H5File::create_matrix(const std::string& name, DType dtype, Index rows, Index cols) {
  if (rows < 1 || cols < 1 || rows > std::numeric_limits<Index>::max() / kernels::size_bytes(dtype) / cols)
    refuse_hdf5({path_, name}, "cannot create a matrix of ", rows, "x", cols);
  const hsize_t extents[2] = {static_cast<hsize_t>(rows), static_cast<hsize_t>(cols)};
  create_dataset(name, file_type(dtype), 2, extents);
  if (dtype == DType::bf16) set_text(name, "dtype", "bf16");
}

void H5File::read(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, Matrix to) const {
  const H5Place place{path_, name};
  check_cuts(place, matrix_info(name), rows, cols, to);
  const H5Handle set = object(name);
  for_each_piece(place, rows, cols, to, [&](hid_t memory, hid_t file) {
    checked(H5Dread(set.id(), memory_type(to.dtype), memory, file, H5P_DEFAULT, to.data), place, "read");
  });
}

void H5File::write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, ConstMatrix from) {
  const H5Place place{path_, name};
  check_cuts(place, matrix_info(name), rows, cols, from);
  const H5Handle set = object(name);
  for_each_piece(place, rows, cols, from, [&](hid_t memory, hid_t file) {
    checked(H5Dwrite(set.id(), memory_type(from.dtype), memory, file, H5P_DEFAULT, from.data), place, "write");
  });
}

std::int64_t H5File::offset_bytes(const std::string& name) const {
  const haddr_t at = H5Dget_offset(object(name).id());
  if (at == HADDR_UNDEF) refuse_hdf5({path_, name}, "has no place in the file");
  return static_cast<std::int64_t>(at);
}

Index H5File::array_length(const std::string& name) const {
  hsize_t extent;
  dataset(name, 1, &extent);
  return static_cast<Index>(extent);
}

template <class T>
void H5File::write_integers(const std::string& name, const std::vector<T>& values) {
  const H5Place place{path_, name};
  const hsize_t extent = values.size();
  const H5Handle set = create_dataset(name, file_type(T{}), 1, &extent);
  if (extent == 0) return;
  checked(H5Dwrite(set.id(), memory_type(T{}), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), place, "write");
}

template <class T>
std::vector<T> H5File::read_integers(const std::string& name, Index first, Index count) const {
  const H5Place place{path_, name};
  hsize_t extent;
  const H5Handle set = dataset(name, 1, &extent);
  const H5Handle type(checked(H5Dget_type(set.id()), place, "examine"));
  if (H5Tequal(type.id(), file_type(T{})) <= 0)
    refuse_hdf5(place, "found another element type, expected ", 8 * sizeof(T), "-bit integers");
  if (first < 0 || count < 0 || first > static_cast<Index>(extent) - count)
    refuse_hdf5(place, "found ", extent, " entries, expected ", count, " from ", first, " on");
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count == 0) return values;
  const hsize_t start = static_cast<hsize_t>(first), some = static_cast<hsize_t>(count), none = 0;
  const H5Handle memory = select(place, 1, &some, &none, &some);
  const H5Handle file = select(place, 1, &extent, &start, &some);
  checked(H5Dread(set.id(), memory_type(T{}), memory.id(), file.id(), H5P_DEFAULT, values.data()), place, "read");
  return values;
}

void H5File::write_array(const std::string& name, const std::vector<std::int32_t>& values) {
  write_integers(name, values);
}
void H5File::write_array(const std::string& name, const std::vector<std::int64_t>& values) {
  write_integers(name, values);
}
std::vector<std::int32_t> H5File::read_int32(const std::string& name, Index first, Index count) const {
  return read_integers<std::int32_t>(name, first, count);
}
std::vector<std::int64_t> H5File::read_int64(const std::string& name, Index first, Index count) const {
  return read_integers<std::int64_t>(name, first, count);
}

}  // namespace lorashard::core
