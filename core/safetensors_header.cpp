// The JSON header of a safetensors file: every claim it makes is checked here, before any byte of data is touched.
#include <algorithm>
#include <limits>

#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "core/safetensors.hpp"

namespace lorashard::core {
namespace {

namespace json = boost::json;
using kernels::Failure;
using kernels::text;

constexpr const char* kMetadata = "__metadata__";

struct StoredName {
  const char* name;
  StoredType type;
  std::uint64_t bytes;
};
constexpr StoredName kStored[] = {
    {"F64", StoredType::f64, 8},       {"F32", StoredType::f32, 4},       {"F16", StoredType::f16, 2},
    {"BF16", StoredType::bf16, 2},     {"I64", StoredType::i64, 8},       {"I32", StoredType::i32, 4},
    {"U8", StoredType::u8, 1},         {"BOOL", StoredType::other, 1},    {"I8", StoredType::other, 1},
    {"F8_E4M3", StoredType::other, 1}, {"F8_E5M2", StoredType::other, 1}, {"I16", StoredType::other, 2},
    {"U16", StoredType::other, 2},     {"U32", StoredType::other, 4},     {"U64", StoredType::other, 8}};

struct TensorPlace {
  const std::string& path;
  const std::string& tensor;
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... problem) const {
    kernels::fail(Failure::configuration, text(path, ": tensor ", in_quotes(tensor), ": ", problem...));
  }
};

std::uint64_t whole_number(const TensorPlace& place, const char* field, const json::value& value) {
  const std::int64_t* whole = value.if_int64();
  if (!whole || *whole < 0) place.refuse(field, ": found ", shown(&value), ", expected whole numbers of at least 0");
  return static_cast<std::uint64_t>(*whole);
}

const json::array& array_of(const TensorPlace& place, const json::object& object, const char* field) {
  const json::value* value = object.if_contains(field);
  if (!value || !value->is_array()) place.refuse(field, ": found ", shown(value), ", expected an array");
  return value->get_array();
}

const StoredName& stored_of(const TensorPlace& place, const json::object& object) {
  const json::value* value = object.if_contains("dtype");
  if (value && value->is_string())
    for (const StoredName& stored : kStored)
      if (value->get_string() == stored.name) return stored;
  place.refuse("dtype: found ", shown(value), ", expected one of F64 F32 F16 BF16 I64 I32 U8");
}

SafeTensors::Entry parse_entry(const TensorPlace& place, const json::value& value, std::uint64_t data_bytes) {
  if (!value.is_object()) place.refuse("found ", shown(&value), ", expected an object");
  const json::object& object = value.get_object();
  const StoredName& stored = stored_of(place, object);
  SafeTensors::Entry entry{stored.type, {}, 0, 0};
  std::uint64_t bytes = stored.bytes;
  for (const json::value& extent : array_of(place, object, "shape")) {
    const std::uint64_t n = whole_number(place, "shape", extent);
    if (n != 0 && bytes > std::numeric_limits<std::int64_t>::max() / n) place.refuse("shape: more than 2^63 bytes");
    bytes *= n;
    entry.extents.push_back(static_cast<Index>(n));
  }
  const json::array& offsets = array_of(place, object, "data_offsets");
  if (offsets.size() != 2) place.refuse("data_offsets: found ", offsets.size(), " entries, expected 2");
  entry.begin = whole_number(place, "data_offsets", offsets[0]);
  entry.end = whole_number(place, "data_offsets", offsets[1]);
  if (entry.begin > entry.end || entry.end > data_bytes)
    place.refuse("data_offsets: found ", entry.begin, " to ", entry.end, ", expected a range within the file's ",
                 data_bytes, " bytes of data");
  if (entry.end - entry.begin != bytes)
    place.refuse("found ", entry.end - entry.begin, " bytes of data, expected ", bytes, " for its shape");
  return entry;
}

// Texts by name; the format has nothing else there.
std::map<std::string, std::string> parse_metadata(const json::value& value, const std::string& path) {
  const std::string place = text(path, ": ", kMetadata);
  if (!value.is_object())
    kernels::fail(Failure::configuration, text(place, ": found ", shown(&value), ", expected an object"));
  const JsonFields fields{value.get_object(), place};
  std::map<std::string, std::string> metadata;
  for (const auto& item : fields.object) metadata.emplace(item.key(), fields.text(item.key()));
  return metadata;
}

// The format wants the data to be the tensors one after the other, with nothing between, below or on top of them.
void check_contiguous(const std::map<std::string, SafeTensors::Entry>& entries, std::uint64_t data_bytes,
                      const std::string& path) {
  std::vector<const std::pair<const std::string, SafeTensors::Entry>*> by_place;
  for (const auto& item : entries) by_place.push_back(&item);
  std::sort(by_place.begin(), by_place.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t end = 0;
  for (const auto* item : by_place) {
    if (item->second.begin != end)
      TensorPlace{path, item->first}.refuse("data_offsets: begins at ", item->second.begin, ", expected ", end,
                                            ", where the one before it ends");
    end = item->second.end;
  }
  if (end != data_bytes)
    kernels::fail(Failure::configuration,
                  text(path, ": found ", data_bytes, " bytes of data, expected ", end, " for its tensors"));
}

}  // namespace

const char* name(StoredType type) {
  for (const StoredName& stored : kStored)
    if (stored.type == type && type != StoredType::other) return stored.name;
  return "another type";
}

std::string extents_text(const std::vector<Index>& extents) {
  std::string out;
  for (const Index n : extents) out += (out.empty() ? "" : "x") + std::to_string(n);
  return out.empty() ? "a scalar" : out;
}

Index SafeTensors::Entry::count() const {
  Index count = 1;
  for (const Index n : extents) count *= n;
  return count;
}

SafeTensors::Header SafeTensors::parse_header(std::span<const char> source, std::uint64_t data_bytes,
                                              const std::string& path) {
  const json::object object = parse_json_object({source.data(), source.size()}, path);
  Header header;
  for (const auto& item : object) {
    const std::string tensor(item.key());
    if (tensor == kMetadata)
      header.metadata = parse_metadata(item.value(), path);
    else
      header.entries.emplace(tensor, parse_entry({path, tensor}, item.value(), data_bytes));
  }
  check_contiguous(header.entries, data_bytes, path);
  return header;
}

}  // namespace lorashard::core
