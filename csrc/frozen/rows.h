// The stages that are no kernels, on rows.
#pragma once

#include "frozen/model.h"

namespace elman::frozen {

// Where the rows of sequences lie: row r of step t at offsets[t] + r, sorted by length; null: `batch` rows in each step.
struct Layout {
  Int steps, batch;
  const Int* offsets;

  Int rows() const { return offsets ? offsets[steps] : steps * batch; }
  Int first(Int step) const { return offsets ? offsets[step] : step * batch; }
  Int active(Int step) const { return offsets ? offsets[step + 1] - offsets[step] : batch; }
};

// Throws Refusal for a number that is not in the table; look_up() does not look.
void check_numbers(const Model& model, const LookUp& stage, Int rows, const void* in);
void look_up(const Model& model, const LookUp& stage, Int rows, const void* in, void* out);
// What the numbers in a row are out of bounds for: Refusal.
void check_numbers(const Model& model, const Affixes& stage, Int rows, const void* in);
void check_numbers(const Model& model, const Spell& stage, Int rows, const void* in);
void affixes(const Model& model, const Affixes& stage, Int rows, const void* in, void* out);
// A word without letters is one letter of number 0. Takes memory.
void spell(const Model& model, const Spell& stage, Int rows, int threads, const void* in, void* out);
void convert(const Model& model, const Convert& stage, Int rows, const void* in, void* out);
// scores: null, or one number for each row. A sequence of no steps gives zeros.
void pool(const Model& model, const Pool& stage, const Layout& layout, const void* in, const void* scores, void* out);

}  // namespace elman::frozen
