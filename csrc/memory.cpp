#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace elman {

namespace {

constexpr std::size_t line = 64, least_kept = 64 << 10, huge_page = 2 << 20;

std::size_t up_to(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// What is taken for `bytes`: eight sizes from one power of two to the next, so that calls of nearly equal length share.
std::size_t size_of(std::size_t bytes) {
  if (bytes < least_kept) return up_to(bytes, line);
  std::size_t step = least_kept / 8;
  while (step * 16 <= bytes) step *= 2;
  return up_to(bytes, bytes >= huge_page ? std::max(step, huge_page) : step);
}

void* allocate(std::size_t size) {
  void* memory = std::aligned_alloc(size >= huge_page ? huge_page : line, size);
  if (!memory) throw std::bad_alloc();
  if (size >= huge_page) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

std::size_t limit_of_machine() {
  if (const char* given = std::getenv("ELMAN_CACHE_MB")) return std::size_t(std::max(0L, std::atol(given))) << 20;
  const std::size_t memory = std::size_t(sysconf(_SC_PHYS_PAGES)) * std::size_t(sysconf(_SC_PAGE_SIZE));
  return std::min<std::size_t>(memory / 8, std::size_t(1) << 30);
}

class Cache {
 public:
  const std::size_t limit = limit_of_machine();

  // Null where there is none; the newest first, which is likeliest to be in the processor's caches.
  void* take(std::size_t size) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    for (std::size_t i = blocks_.size(); i-- > 0;)
      if (blocks_[i].size == size) {
        void* memory = blocks_[i].memory;
        blocks_.erase(blocks_.begin() + std::ptrdiff_t(i));
        kept_ -= size;
        return memory;
      }
    return nullptr;
  }

  bool give(void* memory, std::size_t size) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || size > limit || blocks_.size() == blocks_.capacity()) return false;
    while (kept_ + size > limit) drop_oldest();
    blocks_.push_back({memory, size});
    kept_ += size;
    return true;
  }

  std::size_t kept() {
    const std::lock_guard lock(mutex_);
    return kept_;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    while (!blocks_.empty()) drop_oldest();
  }

  Cache() { blocks_.reserve(4096); }

 private:
  struct Block {
    void* memory;
    std::size_t size;
  };

  void drop_oldest() {
    std::free(blocks_.front().memory);
    kept_ -= blocks_.front().size;
    blocks_.erase(blocks_.begin());
  }

  // Only ever tried on the way of a call: who finds it taken (by another thread; in a forked child by one that does not
  // exist there) does without.
  std::mutex mutex_;
  std::vector<Block> blocks_;  // oldest first
  std::size_t kept_ = 0;
};

// Never destroyed: tensors may outlive everything else.
Cache& cache() {
  static Cache& only = *new Cache;
  return only;
}

}  // namespace

void* take_memory(std::size_t bytes) {
  const std::size_t size = size_of(bytes);
  if (size >= least_kept)
    if (void* memory = cache().take(size)) return memory;
  return allocate(size);
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  const std::size_t size = size_of(bytes);
  if (size < least_kept || !cache().give(memory, size)) std::free(memory);
}

std::size_t kept_memory() { return cache().kept(); }
std::size_t memory_limit() { return cache().limit; }
void release_memory() { cache().release(); }

}  // namespace elman
