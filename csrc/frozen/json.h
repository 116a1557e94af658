// JSON, read: as much of it as the header of a frozen file needs, and strictly.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plan.h"

namespace elman::frozen {

// A value, and the way to what is in it: each of the readers below throws Refusal (refusal.h), naming what was looked
// for, where the value is another.
class Json {
 public:
  enum class Kind { null, boolean, integer, number, string, list, object };

  // Throws Refusal with the byte where the text is no JSON, or is deeper than 64 lists and objects.
  static Json parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool boolean(const char* what) const;
  Int integer(const char* what) const;
  Int size(const char* what) const;  // an integer from 0 to 2^31
  const std::string& string(const char* what) const;
  const std::vector<Json>& list(const char* what) const;
  const std::vector<std::pair<std::string, Json>>& object(const char* what) const;
  std::vector<Int> integers(const char* what) const;
  std::vector<Int> sizes(const char* what) const;

  const Json* find(std::string_view key) const;  // null: this is no object, or has no such key
  const Json& need(std::string_view key) const;
  std::size_t begin() const { return begin_; }  // byte of the text at which it begins

 private:
  friend class Parser;

  Kind kind_ = Kind::null;
  std::size_t begin_ = 0;
  bool boolean_ = false;
  Int integer_ = 0;
  std::string string_;
  std::vector<Json> list_;
  std::vector<std::pair<std::string, Json>> object_;
};

}  // namespace elman::frozen
