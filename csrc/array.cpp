#include "array.h"

#include <new>
#include <stdexcept>
#include <string>

#include "memory.h"

namespace elman {

namespace {

// The layout that DLPack (dlpack.h, before version 1) prescribes.
struct Tensor {
  void* data;
  std::int32_t device_type, device;
  std::int32_t dims;
  std::uint8_t type_code, bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t offset;
};

struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

constexpr std::int32_t on_cpu = 1;
constexpr std::uint8_t floating = 2;

struct Owned {
  Managed managed;
  std::int64_t sizes[2], strides[2];
  std::size_t bytes;
};

void drop(Managed* managed) {
  Owned* array = static_cast<Owned*>(managed->context);
  give_memory(managed->tensor.data, array->bytes);
  delete array;
}

// Who takes the array over renames the capsule; then it is no longer ours to drop.
void drop_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor")) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

}  // namespace

PyObject* new_array(Int element_size, Int rows, Int width) {
  constexpr Int largest = Int(1) << 46;
  if (rows < 1 || width < 1 || rows > largest / width)
    throw std::invalid_argument("an array of (" + std::to_string(rows) + ", " + std::to_string(width) + ")");
  const std::size_t bytes = std::size_t(rows * width * element_size);
  void* memory = take_memory(bytes);
  Owned* array = new (std::nothrow) Owned{{}, {rows, width}, {width, 1}, bytes};
  if (!array) {
    give_memory(memory, bytes);
    throw std::bad_alloc();
  }
  array->managed = {{memory, on_cpu, 0, 2, floating, std::uint8_t(8 * element_size), 1, array->sizes, array->strides, 0},
                    array, drop};
  PyObject* capsule = PyCapsule_New(&array->managed, "dltensor", drop_capsule);
  if (!capsule) drop(&array->managed);
  return capsule;
}

}  // namespace elman
