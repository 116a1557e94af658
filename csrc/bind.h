// What bind*.cpp, the only files that see Python, put into the module between them.
#pragma once

#include <nanobind/nanobind.h>

namespace elman {

class Quick;
class Recipe;

const Recipe& recipe_of(nanobind::handle course);  // of an `elman._core.Recipe`
Quick& packed_call(nanobind::handle call);         // an `elman._core.PackedCall`

void bind_entropy(nanobind::module_& m);  // cross entropy over blocks of rows
void bind_live(nanobind::module_& m);     // steps on weights that may change
void bind_packed(nanobind::module_& m);   // whole calls whose weights are packed
void bind_profile(nanobind::module_& m);  // the profile function of a thread

}  // namespace elman
