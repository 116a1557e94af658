#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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

// Arrays of a call are read and written side by side, row by row. If all began at the same place in a page, the same rows
// of all would fall into the same few sets of the caches, and a load would wait for a store that only looks like its own
// (the processor compares the last twelve bits). So each begins at another line, `colours` of them in turn.
constexpr std::size_t colours = 23, step_of_colours = 11 * line, room_for_colours = 4 * 4096;
static_assert(colours * step_of_colours + line <= room_for_colours);

// In front of what is handed out: where the system's memory begins, and how much of it may be used.
struct Front {
  std::size_t size;
  void* begin;
};
Front& front_of(void* memory) { return static_cast<Front*>(memory)[-1]; }

void* allocate(std::size_t size) {
  static std::atomic<std::size_t> turn{0};
  const bool huge = size >= huge_page;
  const std::size_t room = size < least_kept ? line : room_for_colours;
  void* begin = nullptr;  // not aligned_alloc, whose sizes have to be whole numbers of the alignment
  if (posix_memalign(&begin, huge ? huge_page : line, up_to(size + room, line))) throw std::bad_alloc();
  if (huge) madvise(begin, size, MADV_HUGEPAGE);
  const std::size_t colour = size < least_kept ? 0 : turn++ % colours;
  char* memory = static_cast<char*>(begin) + line + colour * step_of_colours;
  front_of(memory) = {size, begin};
  return memory;
}

void give_back(void* memory) { std::free(front_of(memory).begin); }

std::size_t limit_of_machine() {
  if (const char* given = std::getenv("ELMAN_CACHE_MB")) return std::size_t(std::max(0L, std::atol(given))) << 20;
  const std::size_t memory = std::size_t(sysconf(_SC_PHYS_PAGES)) * std::size_t(sysconf(_SC_PAGE_SIZE));
  return std::min<std::size_t>(memory / 8, std::size_t(1) << 30);
}

class Cache {
 public:
  const std::size_t limit = limit_of_machine();

  // Null where there is none. Of one size the newest, which is likeliest to be in the processor's caches; where there is none
  // of this size the next larger one up to twice as large: calls of many lengths, as sentences have, share their memory, and
  // what is new the system hands out page by page, which takes longer than the call.
  void* take(std::size_t size) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    std::size_t best = blocks_.size();
    for (std::size_t i = blocks_.size(); i-- > 0;) {
      const std::size_t own = blocks_[i].size;
      if (own < size || own > 2 * size || (best < blocks_.size() && own >= blocks_[best].size)) continue;
      best = i;
      if (own == size) break;
    }
    if (best == blocks_.size()) return nullptr;
    void* memory = blocks_[best].memory;
    kept_ -= blocks_[best].size;
    blocks_.erase(blocks_.begin() + std::ptrdiff_t(best));
    return memory;
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
    give_back(blocks_.front().memory);
    kept_ -= blocks_.front().size;
    blocks_.erase(blocks_.begin());
  }

  // Only ever tried on the way of a call: who finds it taken (by another thread; in a forked child by one that does not
  // exist there) does without.
  std::mutex mutex_;
  std::vector<Block> blocks_;  // oldest first
  std::size_t kept_ = 0;
};

// Pieces of up to 4 KiB, as the output of one step is, kept by the thread that gave them. The system's allocator takes as
// long for one as a step of 64 units spends on its inputs: each has to begin at a cache line.
class Pieces {
 public:
  static constexpr std::size_t largest = 4096, kept = 16;

  Pieces() { alive = true; }
  ~Pieces() {
    alive = false;  // a tensor that dies after this goes straight back to the system
    release();
  }
  void* take(std::size_t size) {
    Few& few = of_[size / line - 1];
    return few.count ? few.memory[--few.count] : nullptr;
  }
  bool give(void* memory, std::size_t size) {
    Few& few = of_[size / line - 1];
    if (few.count == kept) return false;
    few.memory[few.count++] = memory;
    return true;
  }
  void release() {
    for (Few& few : of_)
      while (few.count) give_back(few.memory[--few.count]);
  }

  static thread_local bool alive;
  static Pieces* here() {
    static thread_local Pieces only;
    return alive ? &only : nullptr;
  }

 private:
  struct Few {
    void* memory[kept];
    std::size_t count = 0;
  };
  Few of_[largest / line];
};

thread_local bool Pieces::alive = true;

// Never destroyed: tensors may outlive everything else.
Cache& cache() {
  static Cache& only = *new Cache;
  return only;
}

}  // namespace

void* take_memory(std::size_t bytes) {
  const std::size_t size = size_of(bytes);
  void* memory = nullptr;
  if (size >= least_kept) {
    memory = cache().take(size);
  } else if (Pieces* pieces = size <= Pieces::largest ? Pieces::here() : nullptr) {
    memory = pieces->take(size);
  }
  return memory ? memory : allocate(size);
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  const std::size_t size = size_of(bytes);
  bool kept = false;
  if (size >= least_kept) {
    kept = cache().give(memory, front_of(memory).size);
  } else if (Pieces* pieces = size <= Pieces::largest ? Pieces::here() : nullptr) {
    kept = pieces->give(memory, size);
  }
  if (!kept) give_back(memory);
}

std::size_t kept_memory() { return cache().kept(); }
std::size_t memory_limit() { return cache().limit; }
void release_memory() {
  cache().release();
  if (Pieces* pieces = Pieces::here()) pieces->release();
}

}  // namespace elman
