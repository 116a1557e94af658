// A loop kernel: a program for one number type and one instruction set, run over a sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "program.h"

namespace elman {

// Memory that a run reads or writes. Addresses are integers: they come from Python, and are checked before use.
struct Strided {
  std::uintptr_t address;  // of packed row 0
  Int stride;              // elements from one packed row to the next, at least the width
};

struct WeightMemory {
  std::uintptr_t address;
  Int stride_k, stride_n;  // elements; any sign
};

// Row r of step t has the packed index offsets[t] + r; steps have non-increasing numbers of rows, always rows 0..n-1
// of the batch. Buffers belong to the caller, live through run(), and hold elements of the kernel's type. OUT, CARRY
// and (when flushed to) reset memory overlaps nothing else; the rest may overlap freely.
struct Sequence {
  Int steps, batch;
  const Int* offsets;  // [steps + 1], or null: `batch` rows in every step
  bool reverse;        // steps - 1 down to 0
  std::vector<Strided> in;
  std::vector<std::uintptr_t> ctx;    // [batch, width]
  std::vector<std::uintptr_t> vec;    // [width]
  std::vector<std::uintptr_t> out;    // [packed rows, width]
  std::vector<std::uintptr_t> carry;  // [batch, width]; read and replaced
  std::vector<WeightMemory> weights;
  const unsigned char* reset_flags;  // [packed rows], or null
  ResetMode reset_mode;
  std::vector<std::uintptr_t> reset;  // [batch, width] each carry, or empty when reset_mode is none
  int threads;
  Int most_rows = 0;  // of a stream that is told at each run which rows a thread takes: so many at most
};

// Some steps of a stream, with offsets and flags as in Sequence, from packed row 0 on. bounds: rows [bounds[i], bounds[i + 1])
// are those of the i-th thread; null: as they were dealt when the stream was made.
struct Span {
  Int steps;
  const Int* offsets = nullptr;
  const unsigned char* reset_flags = nullptr;
  const Int* bounds = nullptr;
};

// Some steps at a time: weights packed once, states and tables kept. Holds on to nothing of the Sequence but its memory
// for states, contexts and vectors. Not to be called by two at once.
class Stream {
 public:
  virtual ~Stream() = default;
  // Steps with inputs and outputs that begin at these addresses, as many as the kernel has; for no more rows than its batch.
  virtual void run(const Span& span, const std::uintptr_t* in, const std::uintptr_t* out) = 0;
  void run(Int steps, const Int* offsets, const std::uintptr_t* in, const std::uintptr_t* out) { run(Span{steps, offsets}, in, out); }
  // In how many parts, each with its own rows of the batch, the same might be run; 0: only all together. Rows are dealt in
  // the same way to the parts of all streams of as many rows and threads.
  virtual int parts() const = 0;
  // One part of run(), on any thread; parts need not wait for one another, and do not throw.
  virtual void run_part(int part, const Span& span, const std::uintptr_t* in, const std::uintptr_t* out) = 0;
  // One step on arrays [batch, width], checked for their number.
  virtual void step(const std::uintptr_t* in, std::size_t ins, const std::uintptr_t* out, std::size_t outs) = 0;
};

enum class Number { f32, f64 };
constexpr Int element_size(Number number) { return number == Number::f32 ? 4 : 8; }

class Kernel {
 public:
  // Throws std::invalid_argument for a program that is not sound, naming what is wrong.
  Kernel(Number number, const Spec& spec, const Isa& isa);

  // Throws std::invalid_argument before any work if memory is missing, misaligned or overlaps.
  // May be called from several threads at once.
  void run(const Sequence& sequence) const;

  // `sequence` with any memory for its inputs and outputs, and as many steps and rows as will be run at once; the kernel
  // must outlive the stream. Throws as run() does, also for no steps and an empty batch.
  std::unique_ptr<Stream> stream(Sequence sequence) const;

  const Program& program() const { return program_; }
  Number number() const { return number_; }
  const Isa& isa() const { return isa_; }

 private:
  Number number_;
  const Isa& isa_;
  Program program_;
};

// Rows [bounds[i], bounds[i+1]) are the i-th of `parts` contiguous ranges with nearly equal numbers of active steps.
std::vector<Int> partition(Int steps, Int batch, const Int* offsets, int parts);

// Throws std::invalid_argument unless the sequence's memory fits the program. False: there is no row to run.
bool check_sequence(const Program& program, const Sequence& sequence, Int element_size);

// For tests: registers start every step as NaN; threads share the columns of every product, however small.
void set_poison(bool on);
void share_columns(bool always);

}  // namespace elman
