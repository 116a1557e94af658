#include "frozen/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "frozen/refusal.h"
#include "frozen/whole.h"

namespace elman::frozen {

namespace {

template <class T> void converted(const std::int64_t* in, T* out, Int count) {
  for (Int i = 0; i < count; ++i) out[i] = T(in[i]);
}

// How many of the numbers of a word are letters.
Int letters_in(const std::int64_t* word, Int width) { return std::count_if(word, word + width, [](std::int64_t n) { return n > 0; }); }

[[noreturn]] void out_of_bounds(const ArrayInfo& in, std::int64_t found, std::int64_t most) {
  throw Refusal(ELMAN_BAD_ARGUMENT, in.name + " has the number " + std::to_string(found) + ", expected 0.." + std::to_string(most));
}

// The hashes of elman.nn.Affixes, which stay below 2^52.
template <class T> void summed_affixes(const Affixes& stage, Int rows, Int width, Int size, const std::int64_t* words, T* out) {
  constexpr std::int64_t prime = 2'147'483'647, factor = 1'000'003;
  const T* table = static_cast<const T*>(stage.table->memory);
  for (Int r = 0; r < rows; ++r, words += width, out += size) {
    const Int letters = letters_in(words, width);
    std::fill(out, out + size, T(0));
    for (int side = 0; side < 2; ++side) {
      std::int64_t code = side + 1;
      for (Int n = 0; n < stage.longest; ++n) {
        const Int at = side ? letters - 1 - n : n;
        code = (code * factor + (at >= 0 && at < width ? words[at] : 0) + 1) % prime;
        const T* row = table + code % stage.table->shape[0] * size;
        for (Int i = 0; i < size; ++i) out[i] += row[i];
      }
    }
  }
}

template <class T> void weighed(const Layout& layout, Int width, const T* in, const T* scores, T* out) {
  for (Int r = 0; r < layout.batch; ++r) {
    T top = -INFINITY, total = 0;
    T* sum = out + r * width;
    std::fill(sum, sum + width, T(0));
    for (Int t = 0; t < layout.steps && layout.active(t) > r; ++t) top = std::max(top, scores[layout.first(t) + r]);
    for (Int t = 0; t < layout.steps && layout.active(t) > r; ++t) total += std::exp(scores[layout.first(t) + r] - top);
    for (Int t = 0; t < layout.steps && layout.active(t) > r; ++t) {
      const Int row = layout.first(t) + r;
      const T weight = std::exp(scores[row] - top) / total;
      for (Int i = 0; i < width; ++i) sum[i] += weight * in[row * width + i];
    }
  }
}

template <class T> void pooled(const Pool& stage, const Layout& layout, Int width, const T* in, T* out) {
  for (Int r = 0; r < layout.batch; ++r) {
    T* to = out + r * width;
    Int steps = 0;
    while (steps < layout.steps && layout.active(steps) > r) ++steps;
    const auto row = [&](Int t) { return in + (layout.first(t) + r) * width; };
    std::fill(to, to + width, T(0));
    if (steps == 0) continue;
    if (stage.kind == Pool::Kind::mean) {
      for (Int t = 0; t < steps; ++t)
        for (Int i = 0; i < width; ++i) to[i] += row(t)[i];
      for (Int i = 0; i < width; ++i) to[i] /= T(steps);
      continue;
    }
    std::copy_n(row(stage.kind == Pool::Kind::last ? steps - 1 : 0), width, to);
    if (stage.kind == Pool::Kind::max)
      for (Int t = 1; t < steps; ++t)  // NaN stays NaN, as in torch
        for (Int i = 0; i < width; ++i) to[i] = row(t)[i] > to[i] || std::isnan(row(t)[i]) ? row(t)[i] : to[i];
  }
}

template <class T>
void pool_of(const Model& model, const Pool& stage, const Layout& layout, const void* in, const void* scores, void* out) {
  const Int width = model.arrays[std::size_t(stage.in)].width;
  if (scores) weighed(layout, width, static_cast<const T*>(in), static_cast<const T*>(scores), static_cast<T*>(out));
  else pooled(stage, layout, width, static_cast<const T*>(in), static_cast<T*>(out));
}

}  // namespace

void check_numbers(const Model& model, const LookUp& stage, Int rows, const void* in) {
  const auto* tokens = static_cast<const std::int64_t*>(in);
  const Int count = stage.table->shape[0];
  for (Int r = 0; r < rows; ++r)
    if (tokens[r] < 0 || tokens[r] >= count) out_of_bounds(model.arrays[std::size_t(stage.in)], tokens[r], count - 1);
}

void look_up(const Model& model, const LookUp& stage, Int rows, const void* in, void* out) {
  const auto* tokens = static_cast<const std::int64_t*>(in);
  const Int bytes = model.arrays[std::size_t(stage.out)].row_bytes();
  for (Int r = 0; r < rows; ++r)
    std::memcpy(static_cast<char*>(out) + r * bytes, static_cast<const char*>(stage.table->memory) + tokens[r] * bytes, std::size_t(bytes));
}

void check_numbers(const Model& model, const Affixes& stage, Int rows, const void* in) {
  constexpr std::int64_t most = 2'147'483'647;
  const ArrayInfo& info = model.arrays[std::size_t(stage.in)];
  const auto* letters = static_cast<const std::int64_t*>(in);
  for (Int i = 0; i < rows * info.width; ++i)
    if (letters[i] < 0 || letters[i] > most) out_of_bounds(info, letters[i], most);
}

void check_numbers(const Model& model, const Spell& stage, Int rows, const void* in) {
  const ArrayInfo& info = model.arrays[std::size_t(stage.in)];
  for (const Stage& one : stage.inner->stages)
    if (const auto* table = std::get_if<LookUp>(&one)) check_numbers(*stage.inner, *table, rows * info.width, in);
}

void affixes(const Model& model, const Affixes& stage, Int rows, const void* in, void* out) {
  const Int width = model.arrays[std::size_t(stage.in)].width, size = model.arrays[std::size_t(stage.out)].width;
  const auto* words = static_cast<const std::int64_t*>(in);
  if (model.number == Number::f32) summed_affixes(stage, rows, width, size, words, static_cast<float*>(out));
  else summed_affixes(stage, rows, width, size, words, static_cast<double*>(out));
}

// Some words at a time, each a sequence: what they take stays small.
void spell(const Model& model, const Spell& stage, Int rows, int threads, const void* in, void* out) {
  constexpr Int most = 1024;
  const Int width = model.arrays[std::size_t(stage.in)].width, bytes = model.arrays[std::size_t(stage.out)].row_bytes();
  std::vector<std::int64_t> steps;
  std::vector<Int> lengths;
  for (Int first = 0; first < rows; first += most) {
    const Int count = std::min(most, rows - first);
    const auto* words = static_cast<const std::int64_t*>(in) + first * width;
    lengths.clear();
    for (Int r = 0; r < count; ++r) lengths.push_back(std::max<Int>(1, letters_in(words + r * width, width)));
    const Int longest = *std::max_element(lengths.begin(), lengths.end());
    steps.resize(std::size_t(longest * count));
    for (Int r = 0; r < count; ++r)
      for (Int t = 0; t < longest; ++t) steps[std::size_t(t * count + r)] = words[r * width + t];
    const void* x = steps.data();
    void* y = static_cast<char*>(out) + first * bytes;
    elman_sequence sequence{};
    sequence.steps = longest, sequence.batch = count, sequence.lengths = lengths.data();
    sequence.x = &x, sequence.y = &y, sequence.threads = threads;
    run_whole(*stage.inner, sequence);
  }
}

void convert(const Model& model, const Convert& stage, Int rows, const void* in, void* out) {
  const auto* from = static_cast<const std::int64_t*>(in);
  const Int count = rows * model.arrays[std::size_t(stage.in)].width;
  if (model.number == Number::f32) converted(from, static_cast<float*>(out), count);
  else converted(from, static_cast<double*>(out), count);
}

void pool(const Model& model, const Pool& stage, const Layout& layout, const void* in, const void* scores, void* out) {
  if (model.number == Number::f32) pool_of<float>(model, stage, layout, in, scores, out);
  else pool_of<double>(model, stage, layout, in, scores, out);
}

}  // namespace elman::frozen
