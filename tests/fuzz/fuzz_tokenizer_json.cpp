#include <sys/mman.h>
#include <unistd.h>

#include "core/tokenizer.hpp"
#include "tests/fuzz/targets.hpp"

namespace lorashard::fuzz {

// A tokenizer.json; one that is accepted encodes and decodes a text of many kinds.
void tokenizer_json(std::span<const char> input) {
  const int descriptor = ::memfd_create("input", MFD_CLOEXEC);
  insist(descriptor >= 0, "a file in memory can be made");
  insist(::write(descriptor, input.data(), input.size()) == static_cast<ssize_t>(input.size()), "it takes the bytes");
  const std::string path = kernels::text("/proc/self/fd/", descriptor);
  std::unique_ptr<core::Tokenizer> tokenizer;
  if (accepts([&] { tokenizer = core::make_json_tokenizer(path); })) {
    accepts([&] {
      for (const bool specials : {false, true}) {
        const auto ids =
            tokenizer->encode("ab c  <s>\u00e9\n\u65e5x1234 \U0001F642's", {.specials = specials, .frame = true});
        std::string text;
        core::StreamDecoder stream(*tokenizer, specials);
        for (const std::int32_t id : ids) text += stream.next(id);
        insist(text + stream.finish() == tokenizer->decode(ids, specials), "a stream says what a whole decoding says");
      }
    });
  }
  ::close(descriptor);
}

}  // namespace lorashard::fuzz
