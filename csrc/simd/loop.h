// The loop over time of one thread.
#pragma once

#include "gemm.h"
#include "structured.h"

namespace elman::ELMAN_ISA_NAMESPACE {

template <class V> struct Loop {
  using T = typename V::Scalar;
  const Task<T>& task;
  void bind(const Instruction& from, Bound<T>& b) const {
    b.op = from.op;
    b.operands = from.operands;
    b.flat = false;
    b.weight = from.op == Op::gemm ? task.weights + from.weight : nullptr;
    b.ahead = task.ahead;
    for (int i = 0; i < max_dims; ++i) b.size[i] = i < from.dims ? from.size[i] : 1;
    for (int i = 0; i < from.operands; ++i) {
      b.array[i] = from.at[i].array;
      b.offset[i] = from.at[i].offset;
      b.row[i] = task.arrays[b.array[i]].row;
      for (int j = 0; j < max_dims; ++j) b.stride[i][j] = j < from.dims ? from.at[i].stride[j] : 0;
    }
    if (is_elementwise(b.op)) collapse(b);
    b.run = is_elementwise(b.op) ? choose_elementwise<V>(b) : b.op == Op::gemm ? run_gemm<V> : choose_structured<V>(b.op);
  }

  ELMAN_INLINE void run_block(const Stage& stage, Int row, Int rows) const {
    const int last = task.instructions - task.link_count;
    for (int i = stage.begin; i < (stage.end < last ? stage.end : last); ++i) {
      const Bound<T>& b = task.bound[i];
      T* at[max_operands];
      for (int j = 0; j < b.operands; ++j) {
        const Array<T>& array = task.arrays[b.array[j]];
        at[j] = array.base + b.offset[j] + row * array.block;
      }
      b.run(b, at, rows);
    }
  }

  void run_step(Int rows) const {
    for (int s = 0; s < task.stage_count; ++s) {
      const Stage& stage = task.stages[s];
      const Int block = stage.product ? rows : stage.block_rows;
      for (Int row = 0; row < rows; row += block) run_block(stage, row, rows - row < block ? rows - row : block);
    }
  }

  void load_initial(const unsigned char* flags, Int rows) const {
    for (Int r = 0; r < rows; ++r)
      if (flags[r])
        for (int c = 0; c < task.carry_count; ++c) {
          const Carry<T>& carry = task.carries[c];
          for (Int i = 0; i < carry.width; ++i) carry.state[r * carry.width + i] = carry.reset[r * carry.width + i];
        }
  }

  void flush(const unsigned char* flags, Int rows) const {
    for (Int r = 0; r < rows; ++r)
      if (flags[r])
        for (int c = 0; c < task.carry_count; ++c) {
          const Carry<T>& carry = task.carries[c];
          for (Int i = 0; i < carry.width; ++i) {
            carry.reset[r * carry.width + i] += carry.state[r * carry.width + i];
            carry.state[r * carry.width + i] = 0;
          }
        }
  }

  void poison() const {
    for (Int i = 0; i < task.scratch_size; ++i) task.scratch[i] = T(__builtin_nanf(""));
  }

  // More than this a step does not stay in a second-level cache, and is long enough for the processor to see it coming.
  static constexpr Int most_ahead = 256 << 10;

  void look_ahead(Int packed, Int rows) const {
    task.ahead->count = task.ahead->at = 0;
    Int bytes = 0;
    for (int i = 0; i < task.moving_count; ++i) bytes += rows * task.moving[i].stride * Int(sizeof(T));
    if (bytes > most_ahead) return;
    for (int i = 0; i < task.moving_count; ++i) {
      const Moving<T>& moving = task.moving[i];
      task.ahead->add(moving.origin + packed * moving.stride, rows * moving.stride * Int(sizeof(T)));
    }
  }

  void step(Int t) const {
    const Int packed = task.offsets ? task.offsets[t] : t * task.batch;
    const Int active = task.offsets ? task.offsets[t + 1] - packed : task.batch;
    const Int rows = (active < task.last_row ? active : task.last_row) - task.first_row;
    if (rows <= 0) return;
    for (int i = 0; i < task.moving_count; ++i) {
      const Moving<T>& moving = task.moving[i];
      task.arrays[moving.array].base = moving.origin + packed * moving.stride;
    }
    const Int next = t + (task.reverse ? -1 : 1);
    if (next >= 0 && next < task.steps) look_ahead(task.offsets ? task.offsets[next] : next * task.batch, rows);
    else task.ahead->count = task.ahead->at = 0;
    const Int first = packed + task.first_row;
    if (task.poison) poison();
    if (task.reset_mode == ResetMode::load) load_initial(task.reset_flags + first, rows);
    run_step(rows);
    for (int i = 0; i < task.link_count; ++i) task.arrays[task.links[i].carry].base = task.arrays[task.links[i].out].base;
    if (task.reset_mode == ResetMode::flush) flush(task.reset_flags + first, rows);
  }

  // The last values of linked carries, to where they are expected.
  void bring_home() const {
    const Int rows = task.last_row - task.first_row;
    for (int i = 0; i < task.link_count; ++i) {
      const Array<T>& carry = task.arrays[task.links[i].carry];
      if (carry.base == task.link_memory[i]) continue;
      for (Int j = 0; j < rows * carry.row; ++j) task.link_memory[i][j] = carry.base[j];
    }
  }

  void run() const {
    for (int i = 0; i < task.instructions && !task.is_bound; ++i) bind(task.code[i], task.bound[i]);
    for (Int i = 0; i < task.steps; ++i) step(task.reverse ? task.steps - 1 - i : i);
    bring_home();
  }
};

template <class V> void run_task(const Task<typename V::Scalar>& task) { Loop<V>{task}.run(); }

}  // namespace elman::ELMAN_ISA_NAMESPACE
