// Whole sequences of several lengths through a frozen model, on two threads that share it, and the same model step by step:
// says whether both agree bit for bit, and whether a step takes memory.
//
//     c++ -std=c++17 sequences.cpp -lelman_runtime -lpthread -o sequences
//     ./sequences gru.elman
#include <elman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// Every allocation of C++ comes by here, the library's too where it is linked statically.
static long long taken = 0;
void* operator new(std::size_t size) {
  ++taken;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

void check(elman_status status) {
  if (status != ELMAN_OK) throw std::runtime_error(elman_error());
}

using Model = std::unique_ptr<elman_model, void (*)(elman_model*)>;
using Stream = std::unique_ptr<elman_stream, void (*)(elman_stream*)>;

Model load(const char* path) {
  elman_model* model = nullptr;
  check(elman_load(path, &model));
  return {model, elman_free};
}

Stream open(const Model& model, std::int64_t batch) {
  elman_stream* stream = nullptr;
  check(elman_open(model.get(), batch, &stream));
  return {stream, elman_close};
}

std::int64_t width(const Model& model, elman_role role) {
  elman_array array;
  check(elman_describe(model.get(), role, 0, &array));
  if (array.type != ELMAN_FLOAT) throw std::runtime_error("its numbers are not floats");
  return array.width;
}

std::vector<float> run(const Model& model, const std::vector<float>& x, std::int64_t steps, const std::vector<std::int64_t>& lengths) {
  const auto batch = std::int64_t(lengths.size());
  std::vector<float> y(std::size_t(steps * batch * width(model, ELMAN_OUTPUT)));
  const void* in = x.data();
  void* out = y.data();
  elman_sequence sequence{};
  sequence.steps = steps, sequence.batch = batch, sequence.lengths = lengths.data();
  sequence.x = &in, sequence.y = &out;
  check(elman_run(model.get(), &sequence));
  return y;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) return std::fprintf(stderr, "usage: %s MODEL\n", argv[0]), 2;
  const Model model = load(argv[1]);
  const std::int64_t I = width(model, ELMAN_INPUT), H = width(model, ELMAN_OUTPUT), T = 6;
  const std::vector<std::int64_t> lengths = {6, 3, 5};
  const auto B = std::int64_t(lengths.size());
  std::vector<float> x(std::size_t(T * B * I));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(int(i * 37 % 19) - 9) / 7;

  std::vector<float> first, second;
  std::thread other([&] { second = run(model, x, T, lengths); });
  first = run(model, x, T, lengths);
  other.join();
  bool same = std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
  std::printf("two threads: %s\n", same ? "equal" : "different");
  if (!elman_can_step(model.get())) return same ? 0 : 1;

  const Stream stream = open(model, B);
  std::vector<float> y(std::size_t(B * H));
  long long during = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    const long long before = taken;
    check(elman_step(stream.get(), x.data() + t * B * I, y.data()));
    during += taken - before;
    for (std::int64_t b = 0; b < B; ++b)
      if (t < lengths[std::size_t(b)])
        same = same && std::memcmp(&y[std::size_t(b * H)], &first[std::size_t((t * B + b) * H)], std::size_t(H) * sizeof(float)) == 0;
  }
  std::printf("step by step: %s\nallocations in %lld steps: %lld\n", same ? "equal" : "different", static_cast<long long>(T), during);
  return same && during == 0 ? 0 : 1;
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s: %s\n", argv[1], error.what()), 1;
}
