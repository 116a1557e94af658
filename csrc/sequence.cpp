// What must hold of a sequence's memory before a kernel touches it.
#include <algorithm>

#include "kernel.h"
#include "reader.h"

namespace elman {

namespace {

constexpr Int longest = Int(1) << 40;

// Bytes [low, high) of one buffer.
struct Region {
  std::uintptr_t low, high;
  bool written;
  const char* space;
  int index;

  std::string name() const { return std::string(space) + " " + text(index); }
};

class MemoryCheck {
 public:
  MemoryCheck(const Sequence& sequence, Int element_size) : sequence_(sequence), size_(element_size) {
    first_ = sequence.offsets ? sequence.offsets[0] : 0;
    last_ = sequence.offsets ? sequence.offsets[sequence.steps] : sequence.steps * sequence.batch;
    regions_.reserve(sequence.in.size() + sequence.ctx.size() + sequence.vec.size() + sequence.out.size() +
                     sequence.carry.size() + sequence.weights.size() + sequence.reset.size());
  }

  // Elements [low, high) from an address.
  void add(std::uintptr_t address, Int low, Int high, bool written, const char* space, std::size_t index) {
    const Region region{address + std::uintptr_t(low * size_), address + std::uintptr_t(high * size_), written, space,
                        int(index)};
    if (address == 0) refuse(region.name() + " has a null pointer");
    if (address % std::uintptr_t(size_)) refuse(region.name() + " is not aligned to its element size");
    regions_.push_back(region);
  }
  void add_packed(std::uintptr_t address, Int stride, Int width, bool written, const char* space, std::size_t index) {
    add(address, first_ * stride, (last_ - 1) * stride + width, written, space, index);
  }
  void add_weight(const WeightMemory& memory, const WeightShape& shape, std::size_t index) {
    if (std::max(std::abs(memory.stride_k), std::abs(memory.stride_n)) > largest)
      refuse("weight " + text(Int(index)) + " has the strides (" + text(memory.stride_k) + ", " + text(memory.stride_n) + ")");
    Int low = 0, high = 1;
    for (Int reach : {(shape.K - 1) * memory.stride_k, (shape.N - 1) * memory.stride_n}) (reach < 0 ? low : high) += reach;
    add(memory.address, low, high, false, "weight", index);
  }

  // Whatever is written overlaps nothing.
  void finish() {
    std::sort(regions_.begin(), regions_.end(), [](const Region& a, const Region& b) { return a.low < b.low; });
    const Region *any = nullptr, *written = nullptr;  // those so far that reach highest
    for (const Region& region : regions_) {
      const Region* other = region.written ? any : written;
      if (other && other->high > region.low) refuse(other->name() + " and " + region.name() + " overlap in memory");
      if (!any || region.high > any->high) any = &region;
      if (region.written && (!written || region.high > written->high)) written = &region;
    }
  }

 private:
  const Sequence& sequence_;
  Int size_, first_, last_;
  std::vector<Region> regions_;
};

void check_count(const char* what, std::size_t found, Int expected) {
  if (Int(found) != expected) refuse(std::string(what) + ": expected " + text(expected) + " pointers, got " + text(Int(found)));
}

void check_counts(const Program& program, const Sequence& sequence) {
  const ArrayTable& arrays = program.arrays;
  check_count("in_ptrs", sequence.in.size(), arrays.count(Space::in));
  check_count("ctx_ptrs", sequence.ctx.size(), arrays.count(Space::ctx));
  check_count("vec_ptrs", sequence.vec.size(), arrays.count(Space::vec));
  check_count("out_ptrs", sequence.out.size(), arrays.count(Space::out));
  check_count("carry_ptrs", sequence.carry.size(), arrays.count(Space::carry));
  check_count("weights", sequence.weights.size(), Int(program.weights.size()));
  const bool resets = sequence.reset_mode != ResetMode::none;
  check_count("reset_ptrs", sequence.reset.size(), resets ? arrays.count(Space::carry) : Int(sequence.reset.size()));
  if (resets && !sequence.reset_flags) refuse("reset_ptr is null, but reset_mode is not 0");
}

void check_extent(const Sequence& sequence) {
  if (sequence.steps < 0 || sequence.batch < 0 || sequence.steps > longest || sequence.batch > longest)
    refuse("T = " + text(sequence.steps) + ", B = " + text(sequence.batch) + ", expected 0 or more");
  if (sequence.threads < 1) refuse("threads = " + text(sequence.threads) + ", expected 1 or more");
  if (!sequence.offsets) return;
  Int rows = sequence.batch;
  if (sequence.offsets[0] < 0) refuse("offsets[0] = " + text(sequence.offsets[0]) + ", expected 0 or more");
  for (Int t = 0; t < sequence.steps; ++t) {
    const Int active = sequence.offsets[t + 1] - sequence.offsets[t];
    if (active < 0 || active > rows)
      refuse("step " + text(t) + " has " + text(active) + " rows, expected 0.." + text(rows) + " (the step before, or B)");
    rows = active;
  }
}

void check_memory(const Program& program, const Sequence& sequence, Int element_size) {
  const ArrayTable& arrays = program.arrays;
  MemoryCheck check(sequence, element_size);
  const auto width = [&](Space space, std::size_t i) { return arrays.width[arrays.of(space, Int(i))]; };
  for (std::size_t i = 0; i < sequence.in.size(); ++i) {
    const auto [address, stride] = sequence.in[i];
    if (stride < width(Space::in, i) || stride > largest)
      refuse("IN " + text(Int(i)) + " has the stride " + text(stride) + ", expected its width " + text(width(Space::in, i)) + " or more");
    check.add_packed(address, stride, width(Space::in, i), false, "IN", i);
  }
  for (std::size_t i = 0; i < sequence.ctx.size(); ++i)
    check.add(sequence.ctx[i], 0, sequence.batch * width(Space::ctx, i), false, "CTX", i);
  for (std::size_t i = 0; i < sequence.vec.size(); ++i) check.add(sequence.vec[i], 0, width(Space::vec, i), false, "VEC", i);
  for (std::size_t i = 0; i < sequence.out.size(); ++i)
    check.add_packed(sequence.out[i], width(Space::out, i), width(Space::out, i), true, "OUT", i);
  for (std::size_t i = 0; i < sequence.carry.size(); ++i)
    check.add(sequence.carry[i], 0, sequence.batch * width(Space::carry, i), true, "CARRY", i);
  for (std::size_t i = 0; i < sequence.weights.size(); ++i) check.add_weight(sequence.weights[i], program.weights[i], i);
  if (sequence.reset_mode != ResetMode::none)
    for (std::size_t i = 0; i < sequence.reset.size(); ++i)
      check.add(sequence.reset[i], 0, sequence.batch * width(Space::carry, i), sequence.reset_mode == ResetMode::flush, "reset", i);
  check.finish();
}

bool has_rows(const Sequence& sequence) {
  if (sequence.steps == 0 || sequence.batch == 0) return false;
  return !sequence.offsets || sequence.offsets[1] > sequence.offsets[0];
}

}  // namespace

bool check_sequence(const Program& program, const Sequence& sequence, Int element_size) {
  check_counts(program, sequence);
  check_extent(sequence);
  if (!has_rows(sequence)) return false;
  check_memory(program, sequence, element_size);
  return true;
}

std::vector<Int> partition(Int steps, Int batch, const Int* offsets, int parts) {
  std::vector<Int> bounds;
  bounds.reserve(std::size_t(parts) + 1);
  bounds.push_back(0);
  auto steps_of = [&, t = steps](Int row) mutable {
    if (!offsets) return steps;
    while (t > 0 && offsets[t] - offsets[t - 1] <= row) --t;
    return t;
  };
  const Int total = offsets ? offsets[steps] - offsets[0] : batch * steps;
  Int done = 0;
  for (Int row = 0; row < batch; ++row) {
    done += steps_of(row);
    if (Int(bounds.size()) < parts && done * parts >= total * Int(bounds.size())) bounds.push_back(row + 1);
  }
  while (Int(bounds.size()) <= parts) bounds.push_back(batch);
  bounds.back() = batch;
  return bounds;
}

}  // namespace elman
