// Which rows of a batch take which steps, where not every row takes all of them.
#pragma once

#include <vector>

#include "plan.h"

namespace elman {

// The rows of a call one after the other: those of a step together, in the order of the rows with the most steps first, so
// that the rows of a step are the first ones of that order. A row takes its own steps without a hole: its k-th row here is
// its k-th step that is taken, whenever that is. In reverse the same rows are taken from the last one to the first.
class Ragged {
 public:
  // lengths [B] or null: a row's steps are before its length. mask [T, B] or null: only where it is true. reset [T, B] or
  // null: the state goes back to the initial one before that step; at a step that is not taken, before the row's next one.
  // In reverse it does so on the way from that step to the one before it. Nothing of these is kept. Throws
  // std::invalid_argument for sizes and lengths that are none.
  Ragged(Int T, Int B, bool reverse, const Int* lengths, const unsigned char* mask, const unsigned char* reset);

  Int T, B, steps = 0, rows = 0;  // steps: of the row with the most
  bool reverse;
  bool waits = false;     // some rows take no step at all
  bool is_whole = false;  // every row takes every step
  std::vector<Int> offsets;            // [steps + 1]
  std::vector<Int> order;              // [B], rows of the caller
  std::vector<Int> index;              // [rows], places in (T, B)
  std::vector<unsigned char> flags;    // [rows], or empty: whether the state goes back before it
  std::vector<std::pair<Int, Int>> holes;  // [begin, end) in (T, B): steps that are not taken

 private:
  void find_holes();
  void mark(const unsigned char* reset, const std::vector<Int>& counts, const std::vector<Int>& times);
};

}  // namespace elman
