// What is wrong, as a code and a sentence: what elman.h gives to its caller.
#pragma once

#include <stdexcept>
#include <string>

#include "elman.h"

namespace elman::frozen {

class Refusal : public std::runtime_error {
 public:
  Refusal(elman_status status, const std::string& sentence) : std::runtime_error(sentence), status_(status) {}
  elman_status status() const { return status_; }

 private:
  elman_status status_;
};

[[noreturn]] inline void damaged(const std::string& what) {
  throw Refusal(ELMAN_DAMAGED, "the file is damaged or no frozen model: " + what);
}

}  // namespace elman::frozen
