#include "frozen/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "frozen/refusal.h"

namespace elman::frozen {

namespace {

template <class T> void converted(const std::int64_t* in, T* out, Int count) {
  for (Int i = 0; i < count; ++i) out[i] = T(in[i]);
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
    if (tokens[r] < 0 || tokens[r] >= count)
      throw Refusal(ELMAN_BAD_ARGUMENT, model.arrays[std::size_t(stage.in)].name + " has the number " + std::to_string(tokens[r]) +
                                            ", expected 0.." + std::to_string(count - 1));
}

void look_up(const Model& model, const LookUp& stage, Int rows, const void* in, void* out) {
  const auto* tokens = static_cast<const std::int64_t*>(in);
  const Int bytes = model.arrays[std::size_t(stage.out)].row_bytes();
  for (Int r = 0; r < rows; ++r)
    std::memcpy(static_cast<char*>(out) + r * bytes, static_cast<const char*>(stage.table->memory) + tokens[r] * bytes, std::size_t(bytes));
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
