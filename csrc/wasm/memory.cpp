// Memory straight from the allocator: a stream takes all of it once, and there is no system that would hand out pages.
#include "memory.h"

#include <cstdlib>
#include <new>

namespace elman {

void* take_memory(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes)) throw std::bad_alloc();
  return memory;
}

void give_memory(void* memory, std::size_t) noexcept { std::free(memory); }

}  // namespace elman
