// Expects that a call throws an Error of the failure given, on one line that contains every one of the words.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "kernels/error.hpp"

namespace lorashard::core {

template <class Call>
void expect_refused(const Call& call, kernels::Failure failure, std::initializer_list<std::string> words) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const kernels::Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(static_cast<int>(error.failure()), static_cast<int>(failure)) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    for (const std::string& word : words)
      EXPECT_NE(what.find(word), std::string::npos) << "'" << word << "' in: " << what;
  }
}

}  // namespace lorashard::core
