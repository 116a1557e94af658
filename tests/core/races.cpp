// Looks for races between the threads of a run: the core's own code under the thread sanitizer, with std::thread in the
// place of OpenMP (whose runtime is not instrumented, so that every barrier of it would look like a race).
//
//   elman_races          several threads pack and run a loop, sum over rows, take losses and their gradients, and several
//                        kernels run at once: must be silent
//   elman_races --plant  the same with one range of rows given to two threads: the sanitizer must report it
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "entropy.h"
#include "isa.h"
#include "kernel.h"
#include "parallel.h"
#include "sums.h"

namespace {

bool planted = false;

}  // namespace

namespace elman {

// Takes the place of parallel.cpp.
void in_parallel(int parts, PartWork work, void* context) {
  std::vector<std::thread> threads;
  for (int part = 0; part < parts; ++part)
    threads.emplace_back([=] { work(context, planted && part > 0 ? part - 1 : part); });
  for (std::thread& thread : threads) thread.join();
}

void in_team(int wanted, TeamWork work, void* context) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < wanted; ++thread)
    threads.emplace_back([=] { work(context, planted && thread > 0 ? thread - 1 : thread, wanted); });
  for (std::thread& thread : threads) thread.join();
}

void yield_processor() { std::this_thread::yield(); }

}  // namespace elman

namespace {

using namespace elman;

constexpr Int H = 64, T = 6, B = 13;

Int opcode(const char* name) {
  for (int i = 0; i < op_count; ++i)
    if (std::strcmp(op_table[i].name, name) == 0) return i;
  std::abort();
}

// h' = tanh(x + h U), with the sum of h' in an output, and a second product that packs in parallel.
Spec recurrent_step() {
  const Int reg = 0, in = 1, out = 4, carry = 5;
  Spec spec;
  spec.widths = {{H, 4 * H, 8 * H}, {H}, {}, {}, {H, 1}, {H}};
  spec.weights = {{H, H}, {H, 4 * H}, {4 * H, 8 * H}};
  spec.code = {
      {opcode("gemm"), 0, H, H, reg, 0, 0, 1, in, 0, 0, carry, 0, 0},
      {opcode("tanh"), 1, H, out, 0, 0, 0, 1, reg, 0, 0, 0, 1},
      {opcode("reduce_sum"), 1, H, 1, out, 1, 0, out, 0, 0, 0, 1, 0},
      {opcode("gemm"), 1, 4 * H, H, reg, 1, 0, 0, 0, 0, 0, out, 0, 0},
      {opcode("gemm"), 2, 8 * H, 4 * H, reg, 2, 0, 0, 0, 0, 0, reg, 1, 0},
  };
  spec.commits = {{0, out, 0, 0}};
  return spec;
}

struct Buffers {
  std::vector<float> x = std::vector<float>(T * B * H, 0.1f), y = std::vector<float>(T * B * H), sum = std::vector<float>(T * B),
                     h = std::vector<float>(B * H), reset = std::vector<float>(B * H);
  std::vector<float> first, second, third;
  std::vector<unsigned char> flags = std::vector<unsigned char>(T * B, 1);
  std::vector<Int> offsets = {0, 13, 24, 33, 40, 45, 46};

  Buffers() : first(H * H, 0.01f), second(4 * H * H, 0.01f), third(32 * H * H, 0.01f) {}

  Sequence sequence(int threads, ResetMode mode, bool ragged) {
    const auto at = [](auto& v) { return reinterpret_cast<std::uintptr_t>(v.data()); };
    return {T, B, ragged ? offsets.data() : nullptr, mode == ResetMode::flush, {{at(x), H}}, {}, {}, {at(y), at(sum)},
            {at(h)}, {{at(first), 1, H}, {at(second), 4 * H, 1}, {at(third), 1, 4 * H}},
            flags.data(), mode, {at(reset)}, threads};
  }
};

void run_all(const Kernel& kernel) {
  for (const ResetMode mode : {ResetMode::none, ResetMode::load, ResetMode::flush})
    for (const bool ragged : {false, true})
      for (const int threads : {2, 4, 20}) {
        Buffers buffers;
        kernel.run(buffers.sequence(threads, mode, ragged));
      }
}

std::uintptr_t at(const auto& v) { return reinterpret_cast<std::uintptr_t>(v.data()); }

// Sums of columns and of products over many rows.
void sum_all(const Isa& isa) {
  constexpr Int rows = 4000, N = 96, M = 48;
  const std::vector<float> a(rows * N, 0.1f), b(rows * M, 0.2f);
  for (const int threads : {2, 5}) {
    std::vector<float> columns(N), products(N * M);
    sum_rows(Number::f32, isa, rows, {{N, at(a), N, {{0, 0, at(columns)}}, {{at(b), M, M, at(products)}}}}, threads);
  }
}

// Losses of rows of many classes, and what they hand back, in the place of the logits.
void lose_all(const Isa& isa) {
  constexpr Int rows = 40, classes = 6000;
  const std::vector<float> bias(classes, 0.1f), scale(rows, 1.0f);
  const std::vector<Int> target(rows, 7);
  for (const int threads : {2, 5}) {
    std::vector<float> z(rows * classes, 0.5f), factor(rows * ((classes + entropy_chunk - 1) / entropy_chunk)), nll(rows), sum(classes);
    entropy(Number::f32, isa, {at(z), rows, classes, classes, at(bias), 0, at(target), at(factor), at(nll), 0, true}, threads);
    entropy_gradient(Number::f32, isa, {at(z), rows, classes, classes, 0, at(target), at(factor), at(scale), at(scale), 0, at(sum), false},
                     threads);
  }
}

}  // namespace

int main(int count, char** arguments) {
  planted = count > 1 && std::strcmp(arguments[1], "--plant") == 0;
  for (const Isa* isa : available_isas()) {
    const Kernel kernel(Number::f32, recurrent_step(), *isa);
    if (planted) {
      Buffers buffers;
      kernel.run(buffers.sequence(2, ResetMode::none, false));
      continue;
    }
    run_all(kernel);
    share_columns(true);
    run_all(kernel);
    share_columns(false);
    sum_all(*isa);
    lose_all(*isa);
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i) callers.emplace_back([&] { run_all(kernel); });
    for (std::thread& caller : callers) caller.join();
    std::printf("%s: done\n", isa->name);
  }
}
