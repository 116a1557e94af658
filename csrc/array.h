// Arrays of our own memory in the hands of Python: DLPack capsules, which torch and others take over without a copy.
#pragma once

#include <Python.h>

#include "plan.h"

namespace elman {

// A new capsule "dltensor": uninitialised, contiguous (rows, width) floats of 4 or 8 bytes on the CPU.
// Throws std::invalid_argument for sizes that are none, std::bad_alloc.
PyObject* new_array(Int element_size, Int rows, Int width);

}  // namespace elman
