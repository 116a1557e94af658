// Cross entropy over blocks of rows of logits on all threads (see Entropy and EntropyGradient in plan.h).
#pragma once

#include <cstdint>

#include "kernel.h"

namespace elman {

// Arrays by address, contiguous but for the rows of z, which are `stride` elements apart; 0 for what is not there.
// target: (rows,) of 64 bits; factor: (rows, chunks of entropy_chunk classes); bias, weight, sum: (classes,); else (rows,).
struct EntropyMemory {
  std::uintptr_t z;
  Int rows, classes, stride;
  std::uintptr_t bias, weight, target, factor, nll, even;
  bool keeps;
};

struct EntropyGradientMemory {
  std::uintptr_t z;
  Int rows, classes, stride;
  std::uintptr_t weight, target, factor, scale, right, even, sum;
  bool adds;
};

// Throw std::invalid_argument before any work for sizes, addresses and targets that do not fit together. No row depends on
// those beside it, and no sum on the number of threads.
void entropy(Number number, const Isa& isa, const EntropyMemory& memory, int threads);
void entropy_gradient(Number number, const Isa& isa, const EntropyGradientMemory& memory, int threads);

}  // namespace elman
