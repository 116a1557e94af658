// Sums over rows on all threads (see RowSum): the gradients of weights, biases and gains.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernel.h"

namespace elman {

struct ColumnsMemory {
  std::uintptr_t factor;  // 0: there is none
  Int factor_stride;
  std::uintptr_t out;
};

struct ProductMemory {
  std::uintptr_t b;
  Int b_stride, M;
  std::uintptr_t out;
};

struct RowSumMemory {
  Int N;
  std::uintptr_t a;
  Int a_stride;
  std::vector<ColumnsMemory> columns;
  std::vector<ProductMemory> products;
};

// Throws std::invalid_argument before any work for sizes, strides and addresses that do not fit together. What is
// written must overlap nothing else.
void sum_rows(Number number, const Isa& isa, Int rows, const std::vector<RowSumMemory>& jobs, int threads);

// The same in parts, and for many runs, each of some of the rows.
class Sums {
 public:
  virtual ~Sums() = default;
  virtual int parts() const = 0;  // at most `threads`
  // Over as many rows as it was made for, or fewer. read: where they begin, of each job its `a`, then the factors that are
  // there, then each `b`. adds: to what is there. Parts may run at the same time and do not throw.
  virtual void run_part(int part, Int rows, const std::uintptr_t* read, bool adds) = 0;
};
// Throws as sum_rows does.
std::unique_ptr<Sums> make_sums(Number number, const Isa& isa, Int rows, const std::vector<RowSumMemory>& jobs, int threads);

}  // namespace elman
