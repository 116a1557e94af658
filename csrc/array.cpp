#include "array.h"

#include <atomic>
#include <new>
#include <stdexcept>
#include <string>

#include "memory.h"

namespace elman {

namespace {

// The layout that DLPack (its header, before version 1) prescribes.
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
  std::int64_t sizes[max_array_dims], strides[max_array_dims];
  std::size_t bytes;
  Owned* owner;  // of the memory: this one, or that which this is a window of
  std::atomic<int> users;  // of the memory, if it is this one's
};

void drop(Managed* managed) {
  Owned* array = static_cast<Owned*>(managed->context);
  Owned* owner = array->owner;
  if (array != owner) delete array;
  if (owner->users.fetch_sub(1) > 1) return;
  give_memory(owner->managed.tensor.data, owner->bytes);
  delete owner;
}

// Who takes the array over renames the capsule; then it is no longer ours to drop.
void drop_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor")) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

}  // namespace

ArrayShape::ArrayShape(Int element_size, const std::vector<Int>& sizes) : element_size_(element_size) {
  constexpr Int largest = Int(1) << 46;
  Int count = 1;
  bool sound = !sizes.empty() && sizes.size() <= max_array_dims;
  for (Int size : sizes) {
    sound = sound && size > 0 && count <= largest / size;
    if (sound) count *= size;
  }
  if (!sound) {
    std::string text;
    for (Int size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
    throw std::invalid_argument("an array of (" + text + "), expected 1 to 6 sizes of 1 or more");
  }
  dims_ = int(sizes.size());
  bytes_ = std::size_t(count * element_size);
  for (int i = 0; i < dims_; ++i) {
    sizes_[i] = sizes[std::size_t(i)];
    count /= sizes_[i];
    strides_[i] = count;
  }
}

PyObject* ArrayShape::make(std::uintptr_t* address) const {
  void* memory = take_memory(bytes_);
  Owned* array = new (std::nothrow) Owned;
  if (!array) {
    give_memory(memory, bytes_);
    throw std::bad_alloc();
  }
  array->bytes = bytes_, array->owner = array, array->users = 1;
  if (address) *address = reinterpret_cast<std::uintptr_t>(memory);
  return capsule_of(array, memory);
}

PyObject* ArrayShape::window(PyObject* whole, Int begin) const {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(whole, "dltensor"));
  Owned* owner = static_cast<Owned*>(managed->context)->owner;
  Owned* array = new Owned;
  array->bytes = bytes_, array->owner = owner, array->users = 0;
  ++owner->users;
  return capsule_of(array, static_cast<char*>(managed->tensor.data) + begin * element_size_);
}

PyObject* ArrayShape::capsule_of(void* owned, void* data) const {
  Owned* array = static_cast<Owned*>(owned);
  for (int i = 0; i < dims_; ++i) array->sizes[i] = sizes_[i], array->strides[i] = strides_[i];
  array->managed = {{data, on_cpu, 0, dims_, floating, std::uint8_t(8 * element_size_), 1, array->sizes, array->strides, 0},
                    array, drop};
  PyObject* capsule = PyCapsule_New(&array->managed, "dltensor", drop_capsule);
  if (!capsule) drop(&array->managed);
  return capsule;
}

}  // namespace elman
