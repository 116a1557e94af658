// What a run of a kernel holds for one number type: its weights, packed, and the tables and the scratch of its threads.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "buffer.h"
#include "isa.h"
#include "kernel.h"
#include "parallel.h"

namespace elman {

bool is_poisoned();             // for tests: see set_poison
bool always_shares_columns();  // for tests: see share_columns

template <class T> const Engine<T>& engine_of(const Isa& isa) {
  if constexpr (sizeof(T) == sizeof(float)) return isa.f32;
  else return isa.f64;
}

constexpr Int alignment = 64;
inline Int aligned(Int bytes) { return (bytes + alignment - 1) / alignment * alignment; }

template <class T> T* at(std::uintptr_t address) { return reinterpret_cast<T*>(address); }

// All weights of a run in the engine's panels, for products of so many rows at once.
template <class T> class Packed {
 public:
  Packed(const Program& program, const Engine<T>& engine, const Sequence& sequence, Int rows)
      : engine_(engine), columns_(engine.panel_columns(rows)), memory_(layout(program, engine)) {
    for (std::size_t i = 0; i < program.weights.size(); ++i) {
      const auto [K, N] = program.weights[i];
      weights_.push_back({memory_.get() + begin_[i], K, N, columns_});
      first_panel_.push_back(panels_);
      panels_ += (N + columns_ - 1) / columns_;
    }
    first_panel_.push_back(panels_);
    const int parts = size_ < worth_a_thread ? 1 : int(std::min<Int>(sequence.threads, panels_));
    in_parallel(parts, [&](int part) { pack(sequence, panels_ * part / parts, panels_ * (part + 1) / parts); });
  }

  const Weight<T>* weights() const { return weights_.data(); }

 private:
  static constexpr Int worth_a_thread = 1 << 14;  // elements

  Int layout(const Program& program, const Engine<T>& engine) {
    for (const WeightShape& shape : program.weights) {
      begin_.push_back(size_);
      size_ += aligned(engine.packed_size(shape.K, shape.N) * Int(sizeof(T))) / Int(sizeof(T));
    }
    return size_;
  }

  // Panels [first, last) in the numbering that runs through all weights.
  void pack(const Sequence& sequence, Int first, Int last) const {
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const Int low = std::max(first, first_panel_[i]), high = std::min(last, first_panel_[i + 1]);
      if (low >= high) continue;
      const WeightMemory& from = sequence.weights[i];
      engine_.pack(memory_.get() + begin_[i], at<const T>(from.address), weights_[i].K, weights_[i].N, from.stride_k,
                   from.stride_n, columns_, low - first_panel_[i], high - first_panel_[i]);
    }
  }

  const Engine<T>& engine_;
  Int columns_;
  std::vector<Int> begin_, first_panel_;
  std::vector<Weight<T>> weights_;
  Int size_ = 0, panels_ = 0;
  Buffer<T> memory_;
};

// The tables and the scratch of one thread.
struct Share {
  Int first_row, last_row;
  int part, parts;
};

template <class T> class Thread {
 public:
  // shared: registers that all threads of a team see; null for a thread that works alone, on its own rows.
  Thread(const Program& program, const Sequence& sequence, const Weight<T>* weights, const Share& share, T* shared,
         bool may_link)
      : program_(program), sequence_(sequence), weights_(weights), share_(share), shared_(shared),
        first_(shared ? 0 : share.first_row), rows_(shared ? sequence.batch : share.last_row - share.first_row),
        room_(shared ? rows_ : std::max(rows_, sequence.most_rows)),
        links_(may_link ? int(program.links.size()) : 0),
        constants_(program.constants.begin(), program.constants.end()), arrays_(program.arrays.width.size()),
        bound_(Int(program.code.size())), scratch_size_((shared ? 0 : thread_size()) + block_size()), scratch_(scratch_size_) {
    place_registers();
    place_memory();
    place_carries();
    for (const Link& link : program_.links) link_memory_.push_back(arrays_[link.carry].base);
  }

  Task<T> task() {
    Task<T> task{};
    task.code = program_.code.data(), task.instructions = int(program_.code.size());
    task.stages = program_.stages.data(), task.stage_count = int(program_.stages.size());
    task.bound = bound_.get(), task.is_bound = is_bound_;
    task.arrays = arrays_.data(), task.array_count = int(arrays_.size());
    task.moving = moving_.data(), task.moving_count = int(moving_.size()), task.read_count = int(sequence_.in.size());
    task.carries = carries_.data(), task.carry_count = int(carries_.size());
    task.links = program_.links.data(), task.link_memory = link_memory_.data(), task.link_count = links_;
    task.weights = weights_;
    task.steps = sequence_.steps, task.batch = sequence_.batch, task.offsets = sequence_.offsets;
    task.first_row = first_, task.last_row = first_ + rows_;
    task.own_first = share_.first_row, task.own_last = share_.last_row;
    task.part = shared_ ? share_.part : 0, task.parts = shared_ ? share_.parts : 1;
    task.reverse = sequence_.reverse, task.reset_mode = sequence_.reset_mode, task.reset_flags = sequence_.reset_flags;
    task.scratch = scratch_.get(), task.scratch_size = scratch_size_, task.poison = is_poisoned();
    task.shared_scratch = shared_, task.shared_size = shared_ ? thread_size() : 0;
    task.ahead = &ahead_;
    return task;
  }

  // Elements of the registers that cross stages, for so many rows.
  static Int crossing_size(const Program& program, Int rows) {
    return aligned(program.thread_width * rows * Int(sizeof(T))) / Int(sizeof(T));
  }

  // The instructions keep what they found out about the arrays at the first run.
  void keep_bound() { is_bound_ = true; }

  // The task of the last call with the steps of now: put together once, for many short runs.
  const Task<T>& same_task() {
    if (!is_kept_) kept_ = task(), is_kept_ = true;
    kept_.steps = sequence_.steps, kept_.offsets = sequence_.offsets, kept_.reset_flags = sequence_.reset_flags;
    kept_.is_bound = is_bound_, kept_.poison = is_poisoned();
    return kept_;
  }

  // Other rows of the batch, no more than there is room for; the arrays of rows have to be moved to afterwards.
  void take(Int first, Int last) {
    is_kept_ = false;
    share_.first_row = first, share_.last_row = last;
    if (shared_) return;
    first_ = first, rows_ = last - first;
    place_rows();
    place_carries();
  }

  // Other addresses for the arrays of rows.
  void move_to(const std::uintptr_t* in, const std::uintptr_t* out) {
    const std::size_t ins = sequence_.in.size();
    for (std::size_t i = 0; i < moving_.size(); ++i)
      moving_[i].origin = at<T>(i < ins ? in[i] : out[i - ins]) + first_ * moving_[i].stride;
  }

 private:
  Int width(int array) const { return program_.arrays.width[array]; }
  Int block_rows(int stage) const { return std::min(program_.stages[stage].block_rows, room_); }

  Int thread_size() const { return crossing_size(program_, room_); }
  Int block_size() const {
    Int size = 0;
    for (int s = 0; s < int(program_.stages.size()); ++s) size = std::max(size, program_.block_width[s] * block_rows(s));
    return size;
  }

  void place_registers() {
    for (int i = 0; i < int(arrays_.size()); ++i) {
      const RegisterPlace& place = program_.registers[i];
      if (program_.arrays.space(i) != Space::reg || place.stage < 0) continue;
      T* const block = scratch_.get() + (shared_ ? 0 : thread_size());
      T* const crossing = shared_ ? shared_ : scratch_.get();
      if (place.in_block) arrays_[i] = {block + place.offset * block_rows(place.stage), width(i), 0};
      else arrays_[i] = {crossing + place.offset * room_, width(i), width(i)};
    }
  }

  void place_memory() {
    const ArrayTable& arrays = program_.arrays;
    moving_.reserve(sequence_.in.size() + sequence_.out.size());
    for (std::size_t i = 0; i < sequence_.in.size(); ++i)
      add_moving(arrays.of(Space::in, Int(i)), sequence_.in[i].address, sequence_.in[i].stride);
    for (std::size_t i = 0; i < sequence_.out.size(); ++i)
      add_moving(arrays.of(Space::out, Int(i)), sequence_.out[i], width(arrays.of(Space::out, Int(i))));
    place_rows();
    for (std::size_t i = 0; i < sequence_.vec.size(); ++i) arrays_[arrays.of(Space::vec, Int(i))] = {at<T>(sequence_.vec[i]), 0, 0};
    arrays_[arrays.of(Space::constant, 0)] = {constants_.data(), 0, 0};
  }
  void place_rows() {
    const ArrayTable& arrays = program_.arrays;
    for (std::size_t i = 0; i < sequence_.ctx.size(); ++i) add_rows(arrays.of(Space::ctx, Int(i)), sequence_.ctx[i]);
    for (std::size_t i = 0; i < sequence_.carry.size(); ++i) add_rows(arrays.of(Space::carry, Int(i)), sequence_.carry[i]);
  }
  void add_moving(int array, std::uintptr_t address, Int stride) {
    T* origin = at<T>(address) + first_ * stride;
    arrays_[array] = {origin, stride, stride};
    moving_.push_back({array, origin, stride});
  }
  void add_rows(int array, std::uintptr_t address) {
    arrays_[array] = {at<T>(address) + first_ * width(array), width(array), width(array)};
  }

  void place_carries() {
    carries_.clear();
    if (sequence_.reset_mode == ResetMode::none) return;
    for (std::size_t i = 0; i < sequence_.carry.size(); ++i) {
      const int array = program_.arrays.of(Space::carry, Int(i));
      carries_.push_back({arrays_[array].base, at<T>(sequence_.reset[i]) + first_ * width(array), width(array)});
    }
  }

  const Program& program_;
  const Sequence& sequence_;
  const Weight<T>* weights_;
  Share share_;
  T* shared_;
  Int first_, rows_, room_;
  int links_;
  bool is_bound_ = false, is_kept_ = false;
  Ahead ahead_{};
  Task<T> kept_{};
  std::vector<T> constants_;
  std::vector<Array<T>> arrays_;
  std::vector<Moving<T>> moving_;
  std::vector<Carry<T>> carries_;
  std::vector<T*> link_memory_;
  Buffer<Bound<T>> bound_;
  Int scratch_size_;
  Buffer<T> scratch_;
};

// Whether the threads share columns and not rows: where there are fewer rows than threads, and a step's products take
// longer than the two barriers around them. (With more rows it changes nothing, measured up to 4 MiB of weights.)
inline bool works_together(const Program& program, const Sequence& sequence, Int element_size) {
  constexpr Int worth_two_barriers = 192 << 10;
  if (always_shares_columns()) return sequence.threads > 1;
  if (sequence.batch >= sequence.threads || sequence.steps < 2) return false;
  Int bytes = 0;
  for (const WeightShape& weight : program.weights) bytes += weight.K * weight.N * element_size;
  return bytes > worth_two_barriers;
}

// All rows of a sequence, dealt to the threads: each alone on its own rows, or, where rows are few, all
// together, each on its columns of every product.
template <class T> class Team {
 public:
  // May throw; run() does not.
  Team(const Program& program, const Engine<T>& engine, const Sequence& sequence, bool may_link)
      : engine_(engine), together_(works_together(program, sequence, sizeof(T))),
        parts_(together_ ? sequence.threads : int(std::min<Int>(sequence.threads, sequence.batch))),
        packed_(program, engine, sequence, together_ ? sequence.batch : (sequence.batch + parts_ - 1) / parts_),
        shared_(together_ ? Thread<T>::crossing_size(program, sequence.batch) : 1) {
    const std::vector<Int> bounds = partition(sequence.steps, sequence.batch, sequence.offsets, parts_);
    tasks_.reserve(std::size_t(parts_));
    for (int part = 0; part < parts_; ++part) {
      const Share share{bounds[std::size_t(part)], bounds[std::size_t(part) + 1], part, parts_};
      threads_.push_back(std::make_unique<Thread<T>>(program, sequence, packed_.weights(), share,
                                                     together_ ? shared_.get() : nullptr, may_link));
    }
  }

  void run() {
    tasks_.clear();
    for (auto& thread : threads_) tasks_.push_back(thread->task());
    const int parts = int(tasks_.size());
    if (!together_) return in_parallel(parts, [&](int part) { engine_.run(tasks_[std::size_t(part)]); });
    Barrier barrier{yield_processor};
    in_team(parts, [&](int thread, int threads) {
      engine_.run_together(tasks_.data(), parts, thread, threads, barrier);
    });
  }

  int parts() const { return together_ ? 0 : parts_; }

  // For many runs, each on other addresses and of other lengths.
  void run_part(int part, const Span& span, const std::uintptr_t* in, const std::uintptr_t* out) const {
    Thread<T>& thread = *threads_[std::size_t(part)];
    if (span.bounds) thread.take(span.bounds[part], span.bounds[part + 1]);
    thread.move_to(in, out);
    Task<T> task = thread.task();
    task.steps = span.steps, task.offsets = span.offsets, task.reset_flags = span.reset_flags;
    engine_.run(task);
    thread.keep_bound();
  }

  // For many runs, each on other addresses.
  void run_on(const Int* bounds, const std::uintptr_t* in, const std::uintptr_t* out) {
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      if (bounds) threads_[i]->take(bounds[i], bounds[i + 1]);
      threads_[i]->move_to(in, out);
    }
    if (parts_ == 1) engine_.run(threads_[0]->same_task());
    else run();
    for (auto& thread : threads_) thread->keep_bound();
  }

 private:
  const Engine<T>& engine_;
  bool together_;
  int parts_;
  Packed<T> packed_;
  Buffer<T> shared_;
  std::vector<std::unique_ptr<Thread<T>>> threads_;
  std::vector<Task<T>> tasks_;
};

}  // namespace elman
