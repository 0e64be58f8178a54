// What every rank test may use: the runtime of this process, made before the first test.
#pragma once

#include "dist/runtime.hpp"

lorashard::dist::Runtime& runtime();
