#include "core/tokenizer.hpp"

#include <filesystem>
#include <utility>

#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using kernels::Index;
using kernels::text;
using Ids = std::vector<std::int32_t>;

class ByteTokenizer : public Tokenizer {
 public:
  Index vocab() const override { return 257; }
  std::optional<std::int32_t> find(std::string_view token) const override {
    return token.size() == 1 ? std::optional<std::int32_t>(static_cast<unsigned char>(token[0])) : std::nullopt;
  }
  std::int32_t end_of_text() const override { return 256; }
  const std::string& name() const override { return name_; }

 protected:
  void append_ids(std::string_view bytes, const Encoding&, Ids& ids) const override {
    for (const unsigned char byte : bytes) ids.push_back(byte);
  }
  std::string bytes_of(std::int32_t id, bool, Decoded&) const override {
    return id == 256 ? "" : std::string{static_cast<char>(id)};
  }

 private:
  std::string name_ = "byte";
};

// Where the last character of a text begins, if more of it must come; the end otherwise.
std::size_t whole_until(std::string_view bytes) {
  namespace utf = boost::locale::utf;
  for (const char *at = bytes.data(), *end = at + bytes.size(); at != end;) {
    const char* start = at;
    const utf::code_point c = utf::utf_traits<char>::decode(at, end);
    if (c == utf::incomplete) return static_cast<std::size_t>(start - bytes.data());
    if (c == utf::illegal) at = start + 1;
  }
  return bytes.size();
}

}  // namespace

Ids Tokenizer::encode(std::string_view utf8, const Encoding& how) const {
  Ids ids;
  if (how.frame) ids = frame().front;
  append_ids(utf8, how, ids);
  if (how.frame) ids.insert(ids.end(), frame().back.begin(), frame().back.end());
  return ids;
}

std::string Tokenizer::decode(const Ids& ids, bool specials) const {
  std::string bytes;
  Decoded so_far;
  for (const std::int32_t id : ids) {
    check_token_id(*this, id);
    bytes += bytes_of(id, specials, so_far);
  }
  return bytes;
}

const Frame& Tokenizer::frame() const {
  static const Frame none;
  return none;
}

std::string StreamDecoder::next(std::int32_t id) {
  check_token_id(tokenizer_, id);
  held_ += tokenizer_.bytes_of(id, specials_, so_far_);
  const std::size_t end = whole_until(held_);
  std::string given = held_.substr(0, end);
  held_.erase(0, end);
  return given;
}

std::string StreamDecoder::finish() { return std::exchange(held_, ""); }

void check_token_id(const Tokenizer& tokenizer, std::int32_t id) {
  if (id < 0 || id >= tokenizer.vocab())
    kernels::fail(Failure::configuration, text("cannot decode token ", id, ": tokenizer ", tokenizer.name(),
                                               " has tokens 0 to ", tokenizer.vocab() - 1));
}

void expect_utf8(std::string_view utf8) {
  const std::size_t wrong = invalid_utf8_at(utf8);
  if (wrong != std::string_view::npos)
    kernels::fail(Failure::configuration, text("text is not UTF-8 at byte ", wrong, ": found ",
                                               static_cast<int>(static_cast<unsigned char>(utf8[wrong]))));
}

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& path) {
  std::error_code none;
  if (!std::filesystem::is_directory(path, none))
    return path.ends_with(".bin") ? make_llama2c_tokenizer(path) : make_json_tokenizer(path);
  const std::string file = path + "/tokenizer.json";
  return std::filesystem::exists(file, none) ? make_json_tokenizer(file) : make_gpt2_tokenizer(path);
}

}  // namespace lorashard::core
