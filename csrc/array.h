// Arrays of our own memory in the hands of Python: DLPack capsules, which torch and others take over without a copy.
#pragma once

#include <Python.h>

#include <vector>

#include "plan.h"

namespace elman {

inline constexpr int max_array_dims = 6;

// The shape of contiguous floats of 4 or 8 bytes on the CPU.
class ArrayShape {
 public:
  // Throws std::invalid_argument for sizes that are none.
  ArrayShape(Int element_size, const std::vector<Int>& sizes);
  // A new array, uninitialised: a capsule "dltensor". Throws std::bad_alloc.
  PyObject* make(std::uintptr_t* address = nullptr) const;
  // An array in the memory of another one, a capsule that `make` gave, from its element `begin` on. The memory is given
  // back when both are gone. Throws std::bad_alloc.
  PyObject* window(PyObject* whole, Int begin) const;

 private:
  PyObject* capsule_of(void* owned, void* data) const;

  Int element_size_;
  int dims_;
  std::size_t bytes_;
  Int sizes_[max_array_dims], strides_[max_array_dims];
};

}  // namespace elman
