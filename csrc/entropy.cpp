#include "entropy.h"

#include <algorithm>

#include "isa.h"
#include "parallel.h"
#include "reader.h"

namespace elman {

namespace {

constexpr Int worth_a_thread = 1 << 15;  // logits

void check_address(const char* what, std::uintptr_t address, Int size, bool needed = true) {
  if (address ? address % std::uintptr_t(size) : needed)
    refuse(std::string(what) + " has no address, or one between two elements");
}

template <class Memory> const Int* checked_targets(const Memory& memory, Int size, int threads) {
  if (memory.rows < 1 || memory.rows > largest) refuse("rows = " + text(memory.rows) + ", expected 1 or more");
  if (memory.classes < 1 || memory.classes > largest) refuse("classes = " + text(memory.classes) + ", expected 1 or more");
  if (memory.stride < memory.classes || memory.stride > largest)
    refuse("z has the stride " + text(memory.stride) + ", expected its width " + text(memory.classes) + " or more");
  if (threads < 1) refuse("threads = " + text(threads) + ", expected 1 or more");
  check_address("z", memory.z, size);
  check_address("weight", memory.weight, size, false);
  check_address("even", memory.even, size, false);
  check_address("factor", memory.factor, size);
  check_address("target", memory.target, Int(sizeof(Int)));
  const Int* target = reinterpret_cast<const Int*>(memory.target);
  for (Int r = 0; r < memory.rows; ++r)
    if (target[r] < 0 || target[r] >= memory.classes)
      refuse("target " + text(r) + " is " + text(target[r]) + ", expected 0 to " + text(memory.classes - 1));
  return target;
}

template <class T> T* at(std::uintptr_t address) { return reinterpret_cast<T*>(address); }

// work(first, last) over shares of [0, count).
template <class F> void shared(Int count, Int logits, int threads, F&& work) {
  const int parts = int(std::clamp<Int>(std::min(count, logits / worth_a_thread), 1, threads));
  in_parallel(parts, [&](int part) { work(count * part / parts, count * (part + 1) / parts); });
}

template <class T> void run(const Engine<T>& engine, const EntropyMemory& m, const Int* target, int threads) {
  const Entropy<T> e{at<T>(m.z), m.rows, m.classes, m.stride, at<const T>(m.bias), at<const T>(m.weight), target,
                     at<T>(m.factor), at<T>(m.nll), at<T>(m.even), m.keeps};
  shared(m.rows, m.rows * m.classes, threads, [&](Int first, Int last) { engine.entropy(e, first, last); });
}

template <class T> void run(const Engine<T>& engine, const EntropyGradientMemory& m, const Int* target, int threads) {
  const EntropyGradient<T> g{at<T>(m.z), m.rows, m.classes, m.stride, at<const T>(m.weight), target, at<const T>(m.factor),
                             at<const T>(m.scale), at<const T>(m.right), at<const T>(m.even), at<T>(m.sum), m.adds};
  const Int chunks = (m.classes + entropy_chunk - 1) / entropy_chunk;
  shared(chunks, m.rows * m.classes, threads, [&](Int first, Int last) { engine.entropy_gradient(g, first, last); });
}

template <class Memory> void run(Number number, const Isa& isa, const Memory& memory, const Int* target, int threads) {
  if (number == Number::f32) run(isa.f32, memory, target, threads);
  else run(isa.f64, memory, target, threads);
}

}  // namespace

void entropy(Number number, const Isa& isa, const EntropyMemory& memory, int threads) {
  const Int size = element_size(number);
  const Int* target = checked_targets(memory, size, threads);
  check_address("bias", memory.bias, size, false);
  check_address("nll", memory.nll, size);
  run(number, isa, memory, target, threads);
}

void entropy_gradient(Number number, const Isa& isa, const EntropyGradientMemory& memory, int threads) {
  const Int size = element_size(number);
  const Int* target = checked_targets(memory, size, threads);
  check_address("scale", memory.scale, size);
  check_address("right", memory.right, size);
  check_address("sum", memory.sum, size, false);
  run(number, isa, memory, target, threads);
}

}  // namespace elman
