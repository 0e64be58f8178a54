#include "tests/oracle/tensor_file.hpp"

#include <boost/json.hpp>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace lorashard::oracle {
namespace {

template <class Stored>
void convert(const char* from, Array& to) {
  for (std::size_t i = 0; i < to.values.size(); ++i) {
    Stored value;
    std::memcpy(&value, from + i * sizeof(Stored), sizeof(Stored));
    to.values[i] = value;
  }
}

Array make_array(const boost::json::array& extents) {
  Index count = 1;
  for (const boost::json::value& extent : extents) count *= extent.to_number<Index>();
  const Index cols = extents.empty() ? 1 : extents.back().to_number<Index>();
  return Array(count / cols, cols);
}

}  // namespace

std::map<std::string, Array> read_tensor_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) throw std::runtime_error(path + ": cannot be read");
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const boost::json::value header = boost::json::parse(bytes.substr(sizeof header_bytes, header_bytes));

  std::map<std::string, Array> tensors;
  for (const auto& [name, entry] : header.as_object()) {
    if (name == "__metadata__") continue;
    const boost::json::object& fields = entry.as_object();
    const boost::json::string& type = fields.at("dtype").as_string();
    if (type != "F32" && type != "F64") continue;
    const std::size_t begin = fields.at("data_offsets").as_array()[0].to_number<std::size_t>();
    Array array = make_array(fields.at("shape").as_array());
    const char* data = bytes.data() + sizeof header_bytes + header_bytes + begin;
    if (data + array.values.size() * (type == "F32" ? 4 : 8) > bytes.data() + bytes.size())
      throw std::runtime_error(path + ": shorter than its header says");
    type == "F32" ? convert<float>(data, array) : convert<double>(data, array);
    tensors[name] = std::move(array);
  }
  return tensors;
}

}  // namespace lorashard::oracle
