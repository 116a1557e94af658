// Elementwise instructions: one function per (functor, how its sources are read), chosen when the arrays are known.
#pragma once

#include "functors.h"

namespace elman::ELMAN_ISA_NAMESPACE {

// How an operand moves along the innermost loop. either: contiguous or scalar, which is asked at each vector.
enum class Step { contiguous, scalar, strided, either };

// One source along one line.
template <class V, Step step> struct Source {
  const typename V::Scalar* p;
  Int stride;
  V scalar;

  ELMAN_INLINE Source(const typename V::Scalar* p, Int stride) : p(p), stride(stride), scalar{} {
    if constexpr (step == Step::scalar || step == Step::either) scalar = V::splat(*p);
  }
  ELMAN_INLINE V full(Int i) const {
    if constexpr (step == Step::scalar) return scalar;
    if constexpr (step == Step::either)
      if (stride == 0) return scalar;
    if constexpr (step == Step::strided) return gather<V>(p + i * stride, stride, V::N);
    return V::load(p + i);
  }
  ELMAN_INLINE V first(Int i, Int n) const {
    if constexpr (step == Step::scalar) return scalar;
    if constexpr (step == Step::either)
      if (stride == 0) return scalar;
    if constexpr (step == Step::strided) return gather<V>(p + i * stride, stride, n);
    return load_first<V>(p + i, n);
  }
};

// dst[i] = F(sources[i]) for one line of n elements.
template <class F, class V, Step write, class... S>
ELMAN_INLINE void line(typename V::Scalar* dst, Int stride, Int n, const S&... source) {
#if defined(__wasm__)
  // A page is loaded: F once, and not twice.
  for (Int i = 0; i < n; i += V::N) {
    const Int left = n - i < V::N ? n - i : V::N;
    const bool full = left == V::N;
    const V value = F::template apply<V>((full ? source.full(i) : source.first(i, left))...);
    if constexpr (write == Step::contiguous) store_up_to(value, dst + i, left);
    else scatter(value, dst + i * stride, stride, left);
  }
#else
  Int i = 0;
  for (; i + V::N <= n; i += V::N) {
    const V value = F::template apply<V>(source.full(i)...);
    if constexpr (write == Step::contiguous) value.store(dst + i);
    else scatter(value, dst + i * stride, stride, V::N);
  }
  if (i == n) return;
  const V value = F::template apply<V>(source.first(i, n - i)...);
  if constexpr (write == Step::contiguous) store_first(value, dst + i, n - i);
  else scatter(value, dst + i * stride, stride, n - i);
#endif
}

// The whole instruction on a block of rows: rows x outer lines of `inner` elements.
template <class F, class V, Step write, Step... steps> struct Elementwise {
  using T = typename V::Scalar;

  template <int... index> struct Indices {};

  template <int... index>
  static ELMAN_INLINE void lines(const Bound<T>& b, T* const* at, Int rows, Int inner, Indices<index...>) {
    for (Int r = 0; r < rows; ++r)
      for (Int o = 0; o < b.size[0]; ++o)
        line<F, V, write>(at[0] + r * b.row[0] + o * b.stride[0][0], b.stride[0][1], inner,
                          Source<V, steps>(at[index] + r * b.row[index] + o * b.stride[index][0],
                                           b.stride[index][1])...);
  }

  static void run(const Bound<T>& b, T* const* at, Int rows) {
    const Int inner = b.flat ? rows * b.size[1] : b.size[1];
    if (b.flat) rows = 1;
    if constexpr (sizeof...(steps) == 1) lines(b, at, rows, inner, Indices<1>{});
    if constexpr (sizeof...(steps) == 2) lines(b, at, rows, inner, Indices<1, 2>{});
    if constexpr (sizeof...(steps) == 3) lines(b, at, rows, inner, Indices<1, 2, 3>{});
  }
};

template <class T> using Runner = void (*)(const Bound<T>&, T* const*, Int);

template <class F, class V, int sources> Runner<typename V::Scalar> choose(const Bound<typename V::Scalar>& b) {
  constexpr Step c = Step::contiguous, x = Step::strided;
  unsigned scalars = 0;
  bool plain = b.stride[0][1] == 1;
  for (int i = 1; i <= sources; ++i) {
    if (b.stride[i][1] == 0) scalars |= 1u << (i - 1);
    else plain &= b.stride[i][1] == 1;
  }
#if defined(__wasm__)
  // Three functions, or two, instead of up to nine.
  constexpr Step e = Step::either;
  if constexpr (sources == 1) return plain && !scalars ? Elementwise<F, V, c, c>::run : Elementwise<F, V, x, x>::run;
  else if constexpr (sources == 2)
    return !plain ? Elementwise<F, V, x, x, x>::run : scalars ? Elementwise<F, V, c, e, e>::run : Elementwise<F, V, c, c, c>::run;
  else
    return !plain    ? Elementwise<F, V, x, x, x, x>::run
           : scalars ? Elementwise<F, V, c, e, e, e>::run
                     : Elementwise<F, V, c, c, c, c>::run;
#else
  constexpr Step s = Step::scalar;
  if constexpr (sources == 1) {
    if (!plain) return Elementwise<F, V, x, x>::run;
    return scalars ? Elementwise<F, V, c, s>::run : Elementwise<F, V, c, c>::run;
  } else if constexpr (sources == 2) {
    if (!plain) return Elementwise<F, V, x, x, x>::run;
    constexpr Runner<typename V::Scalar> table[] = {Elementwise<F, V, c, c, c>::run, Elementwise<F, V, c, s, c>::run,
                                                    Elementwise<F, V, c, c, s>::run, Elementwise<F, V, c, s, s>::run};
    return table[scalars];
  } else {
    if (!plain) return Elementwise<F, V, x, x, x, x>::run;
    constexpr Runner<typename V::Scalar> table[] = {
        Elementwise<F, V, c, c, c, c>::run, Elementwise<F, V, c, s, c, c>::run, Elementwise<F, V, c, c, s, c>::run,
        Elementwise<F, V, c, s, s, c>::run, Elementwise<F, V, c, c, c, s>::run, Elementwise<F, V, c, s, c, s>::run,
        Elementwise<F, V, c, c, s, s>::run, Elementwise<F, V, c, s, s, s>::run};
    return table[scalars];
  }
#endif
}

template <class V> Runner<typename V::Scalar> choose_elementwise(const Bound<typename V::Scalar>& b) {
  switch (b.op) {
#define ELMAN_CASE(name, sources) \
  case Op::name: return choose<functor::name, V, sources>(b);
    ELMAN_ELEMENTWISE_OPS(ELMAN_CASE)
#undef ELMAN_CASE
    default: return nullptr;
  }
}

// Joins the loops (outer, inner), then (rows, both), wherever every operand lets it: most lines become one long loop.
template <class T> void collapse(Bound<T>& b) {
  if (b.size[1] == 1) {
    b.size[1] = b.size[0], b.size[0] = 1;
    for (int i = 0; i < b.operands; ++i) b.stride[i][1] = b.stride[i][0];
  }
  bool joined = true, flat = true;
  for (int i = 0; i < b.operands; ++i) joined &= b.size[0] == 1 || b.stride[i][0] == b.stride[i][1] * b.size[1];
  if (joined) b.size[1] *= b.size[0], b.size[0] = 1;
  for (int i = 0; i < b.operands; ++i) {
    if (b.size[1] == 1) b.stride[i][1] = 1;
    flat &= b.row[i] == b.stride[i][1] * b.size[1];
  }
  b.flat = flat && b.size[0] == 1;
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
