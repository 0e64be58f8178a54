#include "core/tokenizer.hpp"

#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using kernels::Index;
using kernels::text;

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view bytes) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(bytes.size());
    for (const unsigned char byte : bytes) ids.push_back(byte);
    return ids;
  }

  std::string decode(const std::vector<std::int32_t>& ids) const override {
    std::string bytes;
    for (const std::int32_t id : ids) {
      check_token_id(*this, id);
      if (id != end_of_text()) bytes += static_cast<char>(id);
    }
    return bytes;
  }

  Index vocab() const override { return 257; }
  std::int32_t end_of_text() const override { return 256; }
  const std::string& name() const override { return name_; }

 private:
  std::string name_ = "byte";
};

}  // namespace

void check_token_id(const Tokenizer& tokenizer, std::int32_t id) {
  if (id < 0 || id >= tokenizer.vocab())
    kernels::fail(Failure::configuration, text("cannot decode token ", id, ": tokenizer ", tokenizer.name(),
                                               " has tokens 0 to ", tokenizer.vocab() - 1));
}

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace lorashard::core
