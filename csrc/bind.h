// What bind*.cpp, the only files that see Python, put into the module between them.
#pragma once

#include <nanobind/nanobind.h>

namespace elman {

void bind_entropy(nanobind::module_& m);  // cross entropy over blocks of rows
void bind_live(nanobind::module_& m);     // steps on weights that may change
void bind_profile(nanobind::module_& m);  // the profile function of a thread

}  // namespace elman
