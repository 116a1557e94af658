// Values in memory, watched for a change at a cost that does not grow with their number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "plan.h"

namespace elman {

// Arrays as they were. A look compares about `looked_at` lines spread over all of them, at least one of each array, and
// the next look others: what has changed all over is seen at once, one number at the latest after period() looks.
class Values {
 public:
  static constexpr Int line = 64, looked_at = 8;

  // The memory must live as long as this.
  void add(const void* memory, Int bytes) {
    if (bytes <= 0) return;
    const char* now = static_cast<const char*>(memory);
    parts_.push_back({now, std::vector<char>(now, now + bytes), 1, 0});
    lines_ += lines_of(parts_.back());
    // Odd: lines a power of two apart would share a place in the cache.
    for (Part& part : parts_) part.period = std::min(period(), lines_of(part)), part.at = 0;
  }

  Int period() const { return lines_ / looked_at | 1; }

  bool same() {
    for (Part& part : parts_) {
      const Int lines = lines_of(part);
      for (Int i = part.at; i < lines; i += part.period)
        if (differs(part, i)) return false;
      part.at = part.at + 1 == part.period ? 0 : part.at + 1;
    }
    return true;
  }

  // The lines of the next look, asked for ahead of it: a step in between has swept the nearest cache.
  void fetch() const {
    for (const Part& part : parts_)
      for (Int i = part.at, lines = lines_of(part); i < lines; i += part.period) {
        __builtin_prefetch(part.now + i * line);
        __builtin_prefetch(part.then.data() + i * line);
      }
  }

  // Every number looked at.
  bool equal() const {
    return std::all_of(parts_.begin(), parts_.end(),
                       [](const Part& part) { return std::memcmp(part.now, part.then.data(), part.then.size()) == 0; });
  }

 private:
  struct Part {
    const char* now;
    std::vector<char> then;
    Int period, at;
  };

  static Int lines_of(const Part& part) { return (Int(part.then.size()) + line - 1) / line; }

  static bool differs(const Part& part, Int i) {
    const char *now = part.now + i * line, *then = part.then.data() + i * line;
    const Int left = Int(part.then.size()) - i * line;
    if (left < line) return std::memcmp(now, then, std::size_t(left)) != 0;
    std::uint64_t a[line / 8], b[line / 8], other = 0;
    std::memcpy(a, now, line), std::memcpy(b, then, line);
    for (Int k = 0; k < line / 8; ++k) other |= a[k] ^ b[k];
    return other != 0;
  }

  std::vector<Part> parts_;
  Int lines_ = 0;
};

}  // namespace elman
