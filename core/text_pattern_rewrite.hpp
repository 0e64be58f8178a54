// The alphabet that text_pattern.hpp matches in, and patterns rewritten for it.
#pragma once

#include <string>

namespace lorashard::core {

// The byte for a code point: itself in ASCII, else one for its class. The long s and the Kelvin sign, which (?i:...)
// counts as s and k, are letters of their own.
char class_byte(char32_t code_point);

// A pattern of Oniguruma's syntax as one of bytes. What it does not know throws Failure::configuration naming it.
std::string pattern_of_classes(const std::string& pattern, const std::string& where);

}  // namespace lorashard::core
