// A whole call in one: kernels and sums over rows, one after the other, on arrays that are laid out and made here. What
// is left to Python is to hand over the addresses of what is given and to take what is made.
//
// The steps of a long call are taken in stretches: all kernels and sums for some, then all for the next. What passes from
// one kernel to the next and is wanted no more is then as long as a stretch, and does not leave the caches.
#pragma once

#include <vector>

#include "array.h"
#include "kernel.h"
#include "ragged.h"
#include "sums.h"

namespace elman {

// Rows of an array: 1, B, those of the call, (T + 1)*B or T*B. Those of the call are all T*B, or one after the other the
// ones that are taken (see ragged.h), of which `padded` has all in the caller's places.
enum class Extent : int { one, batch, rows, history, padded };
// Whose memory it is: the caller's; gone after the call; a part of one block with all that are kept; its own.
enum class Keeper : int { given, scratch, kept, own };
// A history holds a state before the first step and after each: `before` is what each step reads (the first T*B rows,
// in reverse the last ones), `after` what it leaves.
enum class Moment : int { plain, before, after };

struct RecipeArray {
  Keeper keeper;
  Extent extent;
  Int width;
  std::vector<Int> tail;  // of its own: the sizes behind (T, B), (T + 1, B) or (B), or all of them
};

struct Operated {
  int array;
  Moment moment;
};

struct RecipeWeight {
  int array;
  Int stride_k, stride_n;
};

struct KernelStep {
  const Kernel* kernel;
  bool all_rows;  // no sequence: all T*B rows, `block` for each thread at once (0: all)
  Int block;
  bool backward;
  std::vector<Operated> in;
  std::vector<int> ctx, vec;
  std::vector<Operated> out;
  std::vector<int> carry;
  std::vector<RecipeWeight> weights;
  std::vector<int> rest;  // where there are resets, of each carry: forward what it goes back to, backward what that gets
};

struct RecipeColumns {
  Operated factor;  // array < 0: there is none
  int out;
};

struct RecipeProduct {
  Operated b;
  int out;
};

struct RecipeSum {
  Operated a;
  Int begin, N;  // columns of `a`, and of every factor
  std::vector<RecipeColumns> columns;
  std::vector<RecipeProduct> products;
};

// The rows of a batch into another array: a state, the first of a history, or once for each step. from < 0: zeros. Into a
// batch they go in the order of the rows (see ragged.h).
struct Start {
  int from, to;
};

// A batch in the order of the rows into one in the caller's order.
struct Unsort {
  int from, to;
};

// Rows of the caller's, `padded` or a batch in the order of the rows, into those of the call; `out`: back, zeros where no
// step is taken.
struct Move {
  int outside, rows;
  bool out;
};

// An array without rows into another one, from its `begin`th element on; added to what is there if `adds`.
struct Join {
  int from, to;
  Int begin;
  bool adds;
};

struct RecipeStep {
  enum class Kind { kernel, sums, move, start, unsort, join } kind;
  KernelStep kernel;
  std::vector<RecipeSum> sums;
  Move move;
  Start start;
  Unsort unsort;
  Join join;

  // Whether it is done a stretch of the steps after the other.
  bool works() const { return kind == Kind::kernel || kind == Kind::sums || kind == Kind::move; }
  std::vector<int> reads() const, writes() const;  // of one that works: arrays, -1 for one that is not there
};

class Recipe {
 public:
  // `block`: the given array that is the block of kept arrays, made by another recipe with the same ones; -1 where this
  // one makes it. Throws std::invalid_argument for what does not fit together.
  Recipe(Number number, const Isa& isa, std::vector<RecipeArray> arrays, std::vector<RecipeStep> steps, int block);

  // What a call makes, as DLPack capsules: the block of kept arrays if there are any, then those of their own, in order.
  // A history of its own is given as the states after each step; the whole histories follow behind all, in the same memory.
  class Made {
   public:
    Made() = default;
    Made(const Made&) = delete;
    Made& operator=(const Made&) = delete;
    ~Made();
    std::vector<PyObject*> capsules, histories;
    std::vector<std::uintptr_t> addresses;
  };
  // ragged: which rows take which steps, of these T, B and direction; null where all take all of them.
  void make(Int T, Int B, bool reverse, const Ragged* ragged, Made& made) const;  // under the interpreter's lock

  // given: the address of each given array, 0 for zeros that a Start or a Move copies. Throws as Kernel::run and sum_rows do.
  // May be called from several threads at once.
  void run(Int T, Int B, bool reverse, const Ragged* ragged, const std::vector<std::uintptr_t>& given, const Made& made,
           int threads) const;

 private:
  friend class Prepared;
  void check_ragged(Int T, Int B, bool reverse, const Ragged* ragged) const;
  void sort(std::vector<RecipeStep> steps);
  Int rows_of_a_stretch() const;
  Int weight_bytes() const;
  Int enough_rows(int threads) const;

  Number number_;
  const Isa& isa_;
  std::vector<RecipeArray> arrays_;
  std::vector<RecipeStep> before_, steps_, after_;
  bool sums_last_ = false;  // there are some, behind all kernels
  bool backward_ = false;  // the loop goes from the last step to the first
  int block_;
  bool keeps_ = false;
  bool moves_ = false;    // rows from the caller's places, and back
  bool shifts_ = false;   // there is a history
  bool goes_on_ = false;  // there are states that go back to nothing
};

// For tests: so many steps in a stretch; 0: as many as are good.
void set_stretch(Int steps);

}  // namespace elman
