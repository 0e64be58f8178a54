// Lines of the form prompt||completion: what a text is to be made from, and a text that was made from it.
#pragma once

#include <string>
#include <string_view>

namespace lorashard::core {

// Both without the blanks around them; views of the line.
struct PromptPair {
  std::string_view prompt, completion;
};

// Cuts at the first "||". `where` is what messages call the line. Throws Failure::configuration when there is none, or
// when a side is empty.
PromptPair split_pair(std::string_view line, const std::string& where);

}  // namespace lorashard::core
