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

bool is_poisoned();  // for tests: see set_poison

template <class T> const Engine<T>& engine_of(const Isa& isa) {
  if constexpr (sizeof(T) == sizeof(float)) return isa.f32;
  else return isa.f64;
}

constexpr Int alignment = 64;
inline Int aligned(Int bytes) { return (bytes + alignment - 1) / alignment * alignment; }

template <class T> T* at(std::uintptr_t address) { return reinterpret_cast<T*>(address); }

// All weights of a run in the engine's panels.
template <class T> class Packed {
 public:
  Packed(const Program& program, const Engine<T>& engine, const Sequence& sequence)
      : engine_(engine), memory_(layout(program, engine)) {
    for (std::size_t i = 0; i < program.weights.size(); ++i) {
      const auto [K, N] = program.weights[i];
      weights_.push_back({memory_.get() + begin_[i], K, N});
      first_panel_.push_back(panels_);
      panels_ += (N + engine.panel_columns - 1) / engine.panel_columns;
    }
    first_panel_.push_back(panels_);
    const int parts = size_ < worth_a_thread ? 1 : int(std::min<Int>(sequence.threads, panels_));
    in_parallel(parts, [&](int part) { pack(sequence, panels_ * part / parts, panels_ * (part + 1) / parts); });
  }

  const Weight<T>* weights() const { return weights_.data(); }

 private:
  static constexpr Int worth_a_thread = 1 << 17;  // elements

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
                   from.stride_n, low - first_panel_[i], high - first_panel_[i]);
    }
  }

  const Engine<T>& engine_;
  std::vector<Int> begin_, first_panel_;
  std::vector<Weight<T>> weights_;
  Int size_ = 0, panels_ = 0;
  Buffer<T> memory_;
};

// The tables and the scratch of one thread.
template <class T> class Thread {
 public:
  Thread(const Program& program, const Sequence& sequence, const Weight<T>* weights, Int first_row, Int last_row,
         bool may_link)
      : program_(program), sequence_(sequence), weights_(weights), first_(first_row), rows_(last_row - first_row),
        links_(may_link ? int(program.links.size()) : 0),
        constants_(program.constants.begin(), program.constants.end()), arrays_(program.arrays.width.size()),
        bound_(Int(program.code.size())), scratch_size_(thread_size() + block_size()), scratch_(scratch_size_) {
    place_registers();
    place_memory();
    place_carries();
    for (const Link& link : program_.links) link_memory_.push_back(arrays_[link.carry].base);
  }

  Task<T> task() {
    return {program_.code.data(), int(program_.code.size()), program_.stages.data(), int(program_.stages.size()),
            bound_.get(), arrays_.data(), int(arrays_.size()), moving_.data(), int(moving_.size()), carries_.data(),
            int(carries_.size()), program_.links.data(), link_memory_.data(), links_, weights_, sequence_.steps, sequence_.batch, first_, first_ + rows_,
            sequence_.offsets, sequence_.reverse, sequence_.reset_mode, sequence_.reset_flags, scratch_.get(),
            scratch_size_, is_poisoned(), &ahead_, is_bound_};
  }

  // The instructions keep what they found out about the arrays at the first run.
  void keep_bound() { is_bound_ = true; }

  // Other addresses for the arrays of rows.
  void move_to(const std::uintptr_t* in, const std::uintptr_t* out) {
    const std::size_t ins = sequence_.in.size();
    for (std::size_t i = 0; i < moving_.size(); ++i)
      moving_[i].origin = at<T>(i < ins ? in[i] : out[i - ins]) + first_ * moving_[i].stride;
  }

 private:
  Int width(int array) const { return program_.arrays.width[array]; }
  Int block_rows(int stage) const { return std::min(program_.stages[stage].block_rows, rows_); }

  Int thread_size() const { return aligned(program_.thread_width * rows_ * Int(sizeof(T))) / Int(sizeof(T)); }
  Int block_size() const {
    Int size = 0;
    for (int s = 0; s < int(program_.stages.size()); ++s) size = std::max(size, program_.block_width[s] * block_rows(s));
    return size;
  }

  void place_registers() {
    for (int i = 0; i < int(arrays_.size()); ++i) {
      const RegisterPlace& place = program_.registers[i];
      if (program_.arrays.space(i) != Space::reg || place.stage < 0) continue;
      if (place.in_block) arrays_[i] = {scratch_.get() + thread_size() + place.offset * block_rows(place.stage), width(i), 0};
      else arrays_[i] = {scratch_.get() + place.offset * rows_, width(i), width(i)};
    }
  }

  void place_memory() {
    const ArrayTable& arrays = program_.arrays;
    for (std::size_t i = 0; i < sequence_.in.size(); ++i)
      add_moving(arrays.of(Space::in, Int(i)), sequence_.in[i].address, sequence_.in[i].stride);
    for (std::size_t i = 0; i < sequence_.out.size(); ++i)
      add_moving(arrays.of(Space::out, Int(i)), sequence_.out[i], width(arrays.of(Space::out, Int(i))));
    for (std::size_t i = 0; i < sequence_.ctx.size(); ++i) add_rows(arrays.of(Space::ctx, Int(i)), sequence_.ctx[i]);
    for (std::size_t i = 0; i < sequence_.carry.size(); ++i) add_rows(arrays.of(Space::carry, Int(i)), sequence_.carry[i]);
    for (std::size_t i = 0; i < sequence_.vec.size(); ++i) arrays_[arrays.of(Space::vec, Int(i))] = {at<T>(sequence_.vec[i]), 0, 0};
    arrays_[arrays.of(Space::constant, 0)] = {constants_.data(), 0, 0};
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
    if (sequence_.reset_mode == ResetMode::none) return;
    for (std::size_t i = 0; i < sequence_.carry.size(); ++i) {
      const int array = program_.arrays.of(Space::carry, Int(i));
      carries_.push_back({arrays_[array].base, at<T>(sequence_.reset[i]) + first_ * width(array), width(array)});
    }
  }

  const Program& program_;
  const Sequence& sequence_;
  const Weight<T>* weights_;
  Int first_, rows_;
  int links_;
  bool is_bound_ = false;
  Ahead ahead_{};
  std::vector<T> constants_;
  std::vector<Array<T>> arrays_;
  std::vector<Moving<T>> moving_;
  std::vector<Carry<T>> carries_;
  std::vector<T*> link_memory_;
  Buffer<Bound<T>> bound_;
  Int scratch_size_;
  Buffer<T> scratch_;
};

// All rows of a sequence, dealt to the threads.
template <class T> class Team {
 public:
  // May throw; run() does not.
  Team(const Program& program, const Engine<T>& engine, const Sequence& sequence, bool may_link)
      : engine_(engine), packed_(program, engine, sequence) {
    const int parts = int(std::min<Int>(sequence.threads, sequence.batch));
    const std::vector<Int> bounds = partition(sequence, parts);
    for (int part = 0; part < parts; ++part)
      threads_.push_back(std::make_unique<Thread<T>>(program, sequence, packed_.weights(), bounds[std::size_t(part)],
                                                     bounds[std::size_t(part) + 1], may_link));
  }

  void run() {
    in_parallel(int(threads_.size()), [&](int part) { engine_.run(threads_[std::size_t(part)]->task()); });
  }

  // For many runs, each on other addresses.
  void run_on(const std::uintptr_t* in, const std::uintptr_t* out) {
    for (auto& thread : threads_) thread->move_to(in, out);
    run();
    for (auto& thread : threads_) thread->keep_bound();
  }

 private:
  const Engine<T>& engine_;
  Packed<T> packed_;
  std::vector<std::unique_ptr<Thread<T>>> threads_;
};

}  // namespace elman
