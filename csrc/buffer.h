// Scratch memory of a call.
#pragma once

#include "memory.h"
#include "plan.h"

namespace elman {

// Uninitialised, aligned to cache lines.
template <class T> class Buffer {
 public:
  explicit Buffer(Int count)
      : bytes_(std::size_t(count > 0 ? count : 1) * sizeof(T)), memory_(static_cast<T*>(take_memory(bytes_))) {}
  ~Buffer() { give_memory(memory_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return memory_; }

 private:
  std::size_t bytes_;
  T* memory_;
};

}  // namespace elman
