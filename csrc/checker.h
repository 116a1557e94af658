// Refuses instructions that would read or write outside their arrays, read what the step has not written, or
// overwrite what they still read. What passes here cannot crash, whatever the numbers are.
#pragma once

#include "reader.h"

namespace elman {

class Checker {
 public:
  explicit Checker(const ArrayTable& arrays) : arrays_(arrays), written_(arrays.width.size()) {}

  // Instructions in program order; the destination is in REG or OUT.
  void check(const Instruction& in, const Reader& reader);
  // The same for the copies that replace carries.
  void check_commit(const Instruction& in, const Reader& reader);

 private:
  bool is_written_here(int array) const;
  std::vector<bool>& written(int array);
  void check_bounds(const Instruction& in, const Operand& operand, const Reader& reader) const;
  void check_source(const Instruction& in, const Operand& operand, const Reader& reader);
  void check_destination(const Instruction& in, const Reader& reader);
  void check_overlap(const Instruction& in, int source, const std::vector<bool>& mine, const Reader& reader) const;

  const ArrayTable& arrays_;
  std::vector<std::vector<bool>> written_;  // of REG and OUT: by this step, so far
};

}  // namespace elman
