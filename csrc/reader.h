// One instruction's integers -> Instruction.
#pragma once

#include "program.h"

namespace elman {

// Sizes, offsets and strides stay far from overflow when multiplied.
inline constexpr Int largest = Int(1) << 31;

[[noreturn]] void refuse(const std::string& message);  // throws std::invalid_argument
inline std::string text(Int value) { return std::to_string(value); }

// Reads integers in order; `where` opens every error message.
class Reader {
 public:
  Reader(const std::vector<Int>& words, const ArrayTable& arrays, std::string where)
      : words_(words), arrays_(arrays), where_(std::move(where)) {}

  [[noreturn]] void fail(const std::string& what) const { refuse(where_ + ": " + what); }

  Int next(const char* what) {
    if (at_ == words_.size()) fail(std::string("ends before its ") + what);
    return words_[at_++];
  }
  Int size(const char* what) {
    const Int value = next(what);
    if (value < 1 || value > largest) fail(std::string(what) + " is " + text(value) + ", expected 1 or more");
    return value;
  }
  Operand place(const char* what) {
    const Int space = next(what), index = next(what), offset = next(what);
    if (space < 0 || space >= space_count) fail(std::string(what) + " is in space " + text(space) + ", expected 0..6");
    const bool constant = Space(space) == Space::constant;
    const Int count = constant ? arrays_.width.back() : arrays_.count(Space(space));
    if (index < 0 || index >= count)
      fail(std::string(what) + " is " + space_names[space] + " " + text(index) + " of " + text(count));
    if (offset < 0 || offset > largest || (constant && offset != 0))
      fail(std::string(what) + " has the offset " + text(offset));
    if (constant) return {arrays_.of(Space::constant, 0), index, {}};
    return {arrays_.of(Space(space), index), offset, {}};
  }
  void strides(Operand& operand, int first, int count, const char* what) {
    for (int i = 0; i < count; ++i) {
      const Int stride = next(what);
      if (stride < -largest || stride > largest) fail(std::string(what) + " has the stride " + text(stride));
      operand.stride[first + i] = stride;
    }
  }
  void finish() const {
    if (at_ != words_.size()) fail("has " + text(Int(words_.size() - at_)) + " more numbers than its operation takes");
  }

 private:
  const std::vector<Int>& words_;
  const ArrayTable& arrays_;
  std::string where_;
  std::size_t at_ = 0;
};

// Throws std::invalid_argument unless the words have the form of their operation, with operands that exist.
Instruction read_instruction(Reader& reader, const std::vector<WeightShape>& weights);

}  // namespace elman
