#include "core/config.hpp"

namespace lorashard::core {

const char* name(Target target) {
  static const char* names[kTargetCount] = {"q", "k", "v", "o", "up", "gate", "down", "qkv"};
  return names[static_cast<int>(target)];
}

const char* name(Method method) { return method == Method::full ? "full" : "lora"; }

}  // namespace lorashard::core
