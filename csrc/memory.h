// Memory for arrays, kept for the next call. A call's arrays are megabytes; taken fresh, the system hands them out page
// by page at first touch and takes them back at the end, which costs as much as the products of a small layer.
#pragma once

#include <cstddef>

namespace elman {

// At least `bytes` (more than 0) of uninitialised memory, aligned to cache lines; throws std::bad_alloc.
// Safe from any thread and in a forked child.
void* take_memory(std::size_t bytes);
// What take_memory(bytes) gave; kept, unless that would be more than the limit: then the oldest goes back.
void give_memory(void* memory, std::size_t bytes) noexcept;

// Bytes kept of large arrays at the moment, and the most that are kept: ELMAN_CACHE_MB, else an eighth of the machine's memory, at most
// 1 GiB.
std::size_t kept_memory();
std::size_t memory_limit();
void release_memory();

}  // namespace elman
