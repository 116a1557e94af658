// What crosses from the portable part of the core to one instruction set: plain data only. The files under simd/
// are compiled once per instruction set and include no standard C++ header, so that no inline function of the
// library can be emitted with, say, AVX-512 code and picked by the linker for everyone.
#pragma once

#include "ops.h"

namespace elman {

using Int = std::int64_t;

inline constexpr int max_operands = 5;
inline constexpr int max_dims = 5;

// A strided view into one row of an array: element (i0, i1, ..) is row[offset + i0*stride[0] + i1*stride[1] + ..].
struct Operand {
  int array;
  Int offset;
  Int stride[max_dims];
};

// Every instruction is a nest of `dims` loops of the given sizes; at[0] is the destination.
//   elementwise (outer, inner)      reduce (outer, reduced, inner)     cumsum, norm_backward (outer, inner)
//   permute (any)
//   rowmm (batch, m, k, n): at = dst, a, b                gemm (N, K): at = dst, a[, init]
struct Instruction {
  Op op;
  int operands;
  int dims;
  int weight;  // gemm only
  Int size[max_dims];
  Operand at[max_operands];
};

// Instructions [begin, end). A product stage is one gemm over all rows of the thread; a row stage runs in blocks of
// at most block_rows rows, so that its scratch registers stay in the first-level cache.
struct Stage {
  int begin, end;
  bool product;
  Int block_rows;
};

// Row r of an array, in the block that starts at row r0 of the thread: base + r0*block + (r-r0)*row.
//   arrays of rows: row == block == stride      block scratch: block == 0      shared vectors, constants: both 0
template <class T> struct Array {
  T* base;
  Int row, block;
};

// An array whose rows differ in time: at a step, base = origin + (packed index of the step's first row) * stride.
template <class T> struct Moving {
  int array;
  T* origin;
  Int stride;
};

// Memory that the next step will touch, brought nearer while this step's products run: those wait for no memory, and
// what comes after them would wait for nothing else. `take` hands out lines in order.
struct Ahead {
  static constexpr int most = 24, line = 64;
  // Lines that follow one another. written: by the next step; another thread may have read them since they were written
  // last, and a write would wait until it has given them up.
  struct Lines {
    const char* begin;
    Int count;
    bool written;
  };
  Lines lines[most];
  int count, at;
  // Whether this step's products go over their weights from the end: a part of what does not fit into a cache is in it
  // still, if each step begins where the one before has ended.
  bool turned;

  void add(const void* memory, Int bytes, bool written) {
    if (count == most || bytes <= 0) return;
    lines[count++] = {static_cast<const char*>(memory), (bytes + line - 1) / line, written};
  }
  // At most `wanted` lines; none once all are taken.
  Lines take(Int wanted) {
    if (at == count) return {nullptr, 0, false};
    Lines& from = lines[at];
    const Lines taken = {from.begin, from.count < wanted ? from.count : wanted, from.written};
    from.begin += taken.count * line, from.count -= taken.count;
    at += from.count == 0;
    return taken;
  }
};

template <class T> struct Carry {
  T* state;  // [rows of the thread, width], distinct from all other memory
  T* reset;  // the same shape, or null
  Int width;
};

// A carry whose next value is a whole row of an array of rows: instead of being copied, it is read there at the next
// step. At the end it is copied to its own memory.
struct Link {
  int carry, out;  // arrays
};

template <class T> struct Weight {
  const T* panels;  // packed by Engine<T>::pack, 64-byte aligned, shared by all threads
  Int K, N, panel_columns;
};

// An instruction with what is known once the arrays are: how its loops collapse, and the function that runs it.
template <class T> struct Bound {
  void (*run)(const Bound& bound, T* const* at, Int rows);
  int operands;
  int array[max_operands];
  Int offset[max_operands];
  Int row[max_operands];
  Int stride[max_operands][max_dims];
  Int size[max_dims];
  bool flat;  // rows and elements form one contiguous loop
  Op op;
  // gemm only:
  const Weight<T>* weight;
  Ahead* ahead;
  Int first_panel, last_panel;
};

enum class ResetMode : int { none = 0, load = 1, flush = 2 };

// Threads that work on the same steps wait here for one another. The last one to come opens it; who waits long lets
// others have the processor.
struct Barrier {
  void (*yield)();
  int waiting = 0;
  unsigned phase = 0;

  void wait(int parties) {
    const unsigned now = __atomic_load_n(&phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&waiting, 1, __ATOMIC_ACQ_REL) == parties) {
      __atomic_store_n(&waiting, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&phase, now + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int spins = 0; __atomic_load_n(&phase, __ATOMIC_ACQUIRE) == now; ++spins) {
      if (spins > 4000) yield();
#if defined(__x86_64__)
      else __builtin_ia32_pause();
#endif
    }
  }
};

// The work of one thread, all steps. Alone: rows [first_row, last_row) of the batch, on tables of its own. Together with
// others: all arrays are shared, first_row is 0; of a row stage it does rows [own_first, own_last), of a product the
// `part`th of `parts` shares of the columns.
// All tables are the thread's own but code, stages, offsets, reset_flags and weights, which are shared and read-only.
template <class T> struct Task {
  const Instruction* code;
  int instructions;
  const Stage* stages;
  int stage_count;
  Bound<T>* bound;  // [instructions], filled by the engine
  Array<T>* arrays;
  int array_count;
  const Moving<T>* moving;
  int moving_count, read_count;  // those that are read come first
  const Carry<T>* carries;
  int carry_count;
  const Link* links;
  T* const* link_memory;  // of the linked carries
  int link_count;         // the commits of linked carries are the last instructions, and are not run
  const Weight<T>* weights;
  Int steps, batch, first_row, last_row, own_first, own_last;
  int part, parts;
  const Int* offsets;  // [steps + 1], or null: every step has `batch` rows
  bool reverse;
  ResetMode reset_mode;
  const unsigned char* reset_flags;  // [packed rows]
  T* scratch;  // registers; filled with NaN before each step if `poison`
  Int scratch_size;
  T* shared_scratch;  // registers that all threads of a team see, or null
  Int shared_size;
  bool poison;
  Ahead* ahead;
  bool is_bound;  // `bound` is filled already, for arrays of the same strides
};

// Sums over rows r of a (rows, N): for each of the columns out[n] = sum_r a[r, n] (times factor[r, n] where there is
// one), for each of the products out[n, m] = sum_r a[r, n] b[r, m]; added to what is there where `adds`.
template <class T> struct SummedColumns {
  const T* factor;  // or null
  Int factor_stride;
  T* out;  // (N,)
};

template <class T> struct SummedProduct {
  const T* b;
  Int b_stride, M;
  T* out;  // (N, M), contiguous
};

template <class T> struct RowSum {
  Int rows, N;
  const T* a;
  Int a_stride;
  const SummedColumns<T>* columns;
  int column_count;
  const SummedProduct<T>* products;
  int product_count;
  bool adds;
};

// Classes of a row of logits that are taken at once; `factor` has one element for each such chunk.
inline constexpr Int entropy_chunk = 1024;

// Of rows r of logits l_r = z_r + bias, with targets t_r: nll[r] = -log p[t_r] and even[r] = -sum_v weight[v] log p[v], where
// p = softmax(l_r). keeps: p stands in the place of z then, but for a factor: p[v] = z[v] factor[r, v / entropy_chunk].
template <class T> struct Entropy {
  T* z;
  Int rows, classes, stride;
  const T* bias;    // (classes,), or null
  const T* weight;  // (classes,), or null: ones
  const Int* target;
  T *factor, *nll;
  T* even;  // or null
  bool keeps;
};

// The gradient g of such rows in the place of z: g[v] = scale[r] p[v] - even[r] weight[v], less right[r] where v is t_r;
// and sum[v] (+)= sum_r g_r[v].
template <class T> struct EntropyGradient {
  T* z;
  Int rows, classes, stride;
  const T* weight;  // (classes,), or null: ones
  const Int* target;
  const T *factor, *scale, *right;
  const T* even;  // or null: zeros
  T* sum;         // (classes,), or null
  bool adds;
};

template <class T> struct Engine {
  // Columns of a panel that are good for products of so many rows at once by one thread.
  Int (*panel_columns)(Int rows);
  // Packs columns of W (element (k, n) at w[k*stride_k + n*stride_n]) for panels [first, last) of so many columns each;
  // panel p starts at panels + p*columns*K.
  void (*pack)(T* panels, const T* w, Int K, Int N, Int stride_k, Int stride_n, Int columns, Int first, Int last);
  Int (*packed_size)(Int K, Int N);
  void (*run)(const Task<T>& task);
  // Tasks first, first + stride, ... of one team; other threads run the others at the same time, and wait at the barrier.
  void (*run_together)(const Task<T>* tasks, int count, int first, int stride, Barrier& barrier);
  // Columns [first, last), counted on from one to the next, of jobs that have the same `b` in their products; with
  // sums_scratch(jobs[0]) elements of scratch, aligned.
  void (*sums)(const RowSum<T>* jobs, int count, Int first, Int last, T* scratch);
  Int (*sums_scratch)(const RowSum<T>& job);
  void (*entropy)(const Entropy<T>& entropy, Int first_row, Int last_row);
  void (*entropy_gradient)(const EntropyGradient<T>& gradient, Int first_chunk, Int last_chunk);
};

struct Isa {
  const char* name;
  Engine<float> f32;
  Engine<double> f64;
};

}  // namespace elman
