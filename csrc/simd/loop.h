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
    if (b.weight) {
      const Int panels = (b.weight->N + b.weight->panel_columns - 1) / b.weight->panel_columns;
      b.first_panel = panels * task.part / task.parts;
      b.last_panel = panels * (task.part + 1) / task.parts;
    }
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

  void run_rows(const Stage& stage, Int first, Int last) const {
    for (Int row = first; row < last; row += stage.block_rows)
      run_block(stage, row, last - row < stage.block_rows ? last - row : stage.block_rows);
  }

  void run_step(Int rows) const {
    for (int s = 0; s < task.stage_count; ++s)
      if (task.stages[s].product) run_block(task.stages[s], 0, rows);
      else run_rows(task.stages[s], 0, rows);
  }

  // Rows [first, last) of the task, whose flags begin at flags[0].
  void load_initial(const unsigned char* flags, Int first, Int last) const {
    for (Int r = first; r < last; ++r)
      if (flags[r])
        for (int c = 0; c < task.carry_count; ++c) {
          const Carry<T>& carry = task.carries[c];
          for (Int i = 0; i < carry.width; ++i) carry.state[r * carry.width + i] = carry.reset[r * carry.width + i];
        }
  }

  void flush(const unsigned char* flags, Int first, Int last) const {
    for (Int r = first; r < last; ++r)
      if (flags[r])
        for (int c = 0; c < task.carry_count; ++c) {
          const Carry<T>& carry = task.carries[c];
          for (Int i = 0; i < carry.width; ++i) {
            carry.reset[r * carry.width + i] += carry.state[r * carry.width + i];
            carry.state[r * carry.width + i] = 0;
          }
        }
  }

  static void poison(T* scratch, Int size) {
    for (Int i = 0; i < size; ++i) scratch[i] = T(__builtin_nanf(""));
  }

  // More than this a step does not stay in a second-level cache, and is long enough for the processor to see it coming.
  static constexpr Int most_ahead = 256 << 10;

  // Rows [first, last) of the task, of the step that begins at packed row `packed`.
  void look_ahead(Int packed, Int first, Int last) const {
    task.ahead->count = task.ahead->at = 0;
    Int bytes = 0;
    for (int i = 0; i < task.moving_count; ++i) bytes += (last - first) * task.moving[i].stride * Int(sizeof(T));
    if (bytes > most_ahead) return;
    for (int i = 0; i < task.moving_count; ++i) {
      const Moving<T>& moving = task.moving[i];
      task.ahead->add(moving.origin + (packed + first) * moving.stride, (last - first) * moving.stride * Int(sizeof(T)),
                      i >= task.read_count);
    }
  }

  Int packed(Int t) const { return task.offsets ? task.offsets[t] : t * task.batch; }

  // Rows of the task that take step t.
  Int active(Int t) const {
    const Int rows = task.offsets ? task.offsets[t + 1] - task.offsets[t] : task.batch;
    return (rows < task.last_row ? rows : task.last_row) - task.first_row;
  }

  // What comes before the stages of step t; [first, last) are the rows that the task does alone.
  void begin_step(Int t, Int first, Int last) const {
    for (int i = 0; i < task.moving_count; ++i) {
      const Moving<T>& moving = task.moving[i];
      task.arrays[moving.array].base = moving.origin + packed(t) * moving.stride;
    }
    const Int next = t + (task.reverse ? -1 : 1);
    if (next >= 0 && next < task.steps) look_ahead(packed(next), first, last);
    else task.ahead->count = task.ahead->at = 0;
    if (task.poison) poison(task.scratch, task.scratch_size);
    if (task.reset_mode == ResetMode::load) load_initial(task.reset_flags + packed(t) + task.first_row, first, last);
  }

  void end_step(Int t, Int first, Int last) const {
    task.ahead->turned = !task.ahead->turned;
    for (int i = 0; i < task.link_count; ++i) task.arrays[task.links[i].carry].base = task.arrays[task.links[i].out].base;
    if (task.reset_mode == ResetMode::flush) flush(task.reset_flags + packed(t) + task.first_row, first, last);
  }

  Int time(Int i) const { return task.reverse ? task.steps - 1 - i : i; }

  // Each run begins with its carries where they are expected.
  void begin_home() const {
    for (int i = 0; i < task.link_count; ++i) task.arrays[task.links[i].carry].base = task.link_memory[i];
  }

  void bind_all() const {
    for (int i = 0; i < task.instructions && !task.is_bound; ++i) bind(task.code[i], task.bound[i]);
  }

  // The last values of linked carries, to where they are expected.
  void bring_home(Int first, Int last) const {
    for (int i = 0; i < task.link_count; ++i) {
      const Array<T>& carry = task.arrays[task.links[i].carry];
      if (carry.base == task.link_memory[i]) continue;
      for (Int j = first * carry.row; j < last * carry.row; ++j) task.link_memory[i][j] = carry.base[j];
    }
  }

  void run() const {
    begin_home();
    bind_all();
    for (Int i = 0; i < task.steps; ++i) {
      const Int t = time(i), rows = active(t);
      if (rows <= 0) continue;
      begin_step(t, 0, rows);
      run_step(rows);
      end_step(t, 0, rows);
    }
    bring_home(0, task.last_row - task.first_row);
  }
};

template <class V> void run_task(const Task<typename V::Scalar>& task) { Loop<V>{task}.run(); }

// Tasks of a team: products are shared by columns, so that each thread's part of the weights stays in its own cache, and
// rows by rows. What one thread writes in a stage, others read only across a product: it has a barrier on each side.
template <class V> struct TeamLoop {
  using T = typename V::Scalar;
  const Task<T>* tasks;
  int count, first, stride;
  Barrier& barrier;

  template <class F> void each(F work) const {
    for (int i = first; i < count; i += stride) work(Loop<V>{tasks[i]});
  }

  static Int own_last(const Task<T>& task, Int active) { return task.own_last < active ? task.own_last : active; }

  void run_stage(const Stage& stage, Int active) const {
    each([&](const Loop<V>& loop) {
      if (stage.product) loop.run_block(stage, 0, active);
      else loop.run_rows(stage, loop.task.own_first, own_last(loop.task, active));
    });
  }

  void run() const {
    each([](const Loop<V>& loop) { loop.begin_home(), loop.bind_all(); });
    const Task<T>& any = tasks[first];
    bool product_before = false;
    for (Int i = 0; i < any.steps; ++i) {
      const Int t = Loop<V>{any}.time(i), active = Loop<V>{any}.active(t);
      if (active <= 0) continue;
      if (product_before) barrier.wait(stride);
      if (any.poison) {
        barrier.wait(stride);
        if (first == 0) Loop<V>::poison(any.shared_scratch, any.shared_size);
        barrier.wait(stride);
      }
      each([&](const Loop<V>& loop) { loop.begin_step(t, loop.task.own_first, own_last(loop.task, active)); });
      product_before = false;
      for (int s = 0; s < any.stage_count; ++s) {
        if (any.stages[s].product || product_before) barrier.wait(stride);
        run_stage(any.stages[s], active);
        product_before = any.stages[s].product;
      }
      each([&](const Loop<V>& loop) { loop.end_step(t, loop.task.own_first, own_last(loop.task, active)); });
    }
    if (product_before) barrier.wait(stride);
    each([](const Loop<V>& loop) { loop.bring_home(loop.task.own_first, loop.task.own_last); });
  }
};

template <class V>
void run_tasks(const Task<typename V::Scalar>* tasks, int count, int first, int stride, Barrier& barrier) {
  if (first < count) TeamLoop<V>{tasks, count, first, stride, barrier}.run();
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
