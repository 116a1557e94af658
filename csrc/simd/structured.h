// Reductions, running sums, strided copies and small products within a row. The order of every sum depends on the
// instruction alone.
#pragma once

#include "elementwise.h"
#include "picking.h"

namespace elman::ELMAN_ISA_NAMESPACE {

struct Sum {
  template <class V> static ELMAN_INLINE V start() { return V::splat(0); }
  template <class V> static ELMAN_INLINE V join(V a, V b) { return a + b; }
};
struct Product {
  template <class V> static ELMAN_INLINE V start() { return V::splat(1); }
  template <class V> static ELMAN_INLINE V join(V a, V b) { return a * b; }
};
struct Largest {
  template <class V> static ELMAN_INLINE V start() { return -infinity<V>(); }
  template <class V> static ELMAN_INLINE V join(V a, V b) { return functor::maximum::apply(a, b); }
};
struct Smallest {
  template <class V> static ELMAN_INLINE V start() { return infinity<V>(); }
  template <class V> static ELMAN_INLINE V join(V a, V b) { return functor::minimum::apply(a, b); }
};

// The lanes of x joined pairwise: (0,N/2) (1,N/2+1) .., then the halves of that.
template <class R, class V> ELMAN_INLINE typename V::Scalar join_lanes(V x) {
  if constexpr (V::N == 1) return x.v[0];
  else {
    const Halves<V> halves = split(x);
    return join_lanes<R>(R::join(halves.low, halves.high));
  }
}

template <class V> ELMAN_INLINE V load_first_or(const typename V::Scalar* p, Int n, V other) {
  typename V::Scalar lane[V::N];
  other.store(lane);
  for (Int i = 0; i < n; ++i) lane[i] = p[i];
  return V::load(lane);
}

template <class R, class V> ELMAN_INLINE typename V::Scalar reduce_line(const typename V::Scalar* p, Int n) {
  V sum[4] = {R::template start<V>(), R::template start<V>(), R::template start<V>(), R::template start<V>()};
  Int i = 0;
  for (; i + 4 * V::N <= n; i += 4 * V::N)
    for (int j = 0; j < 4; ++j) sum[j] = R::join(sum[j], V::load(p + i + j * V::N));
  for (; i + V::N <= n; i += V::N) sum[0] = R::join(sum[0], V::load(p + i));
  if (i < n) sum[1] = R::join(sum[1], load_first_or(p + i, n - i, R::template start<V>()));
  return join_lanes<R>(R::join(R::join(sum[0], sum[1]), R::join(sum[2], sum[3])));
}

// size = (outer, reduced, inner); the destination is contiguous (outer, inner)
template <class R, class V> struct Reduce {
  using T = typename V::Scalar;

  static ELMAN_INLINE void across(const Bound<T>& b, T* dst, const T* src) {
    const Int inner = b.size[2], step = b.stride[1][2];
    for (Int i = 0; i < inner; i += V::N) {
      const Int n = inner - i < V::N ? inner - i : V::N;
      V sum = R::template start<V>();
      for (Int k = 0; k < b.size[1]; ++k) {
        const T* p = src + k * b.stride[1][1] + i * step;
        sum = R::join(sum, step == 1 && n == V::N ? V::load(p) : gather<V>(p, step, n));
      }
      store_up_to(sum, dst + i, n);
    }
  }

  static void run(const Bound<T>& b, T* const* at, Int rows) {
    const bool along = b.size[2] == 1 && b.stride[1][1] == 1;
    for (Int r = 0; r < rows; ++r)
      for (Int o = 0; o < b.size[0]; ++o) {
        T* dst = at[0] + r * b.row[0] + o * b.stride[0][0];
        const T* src = at[1] + r * b.row[1] + o * b.stride[1][0];
        if (along) *dst = reduce_line<R, V>(src, b.size[1]);
        else across(b, dst, src);
      }
  }
};

template <class V> ELMAN_INLINE typename V::Scalar dot(const typename V::Scalar* a, const typename V::Scalar* b, Int n) {
  V sum[4] = {V::splat(0), V::splat(0), V::splat(0), V::splat(0)};
  Int i = 0;
  for (; i + 4 * V::N <= n; i += 4 * V::N)
    for (int j = 0; j < 4; ++j) sum[j] = fma(V::load(a + i + j * V::N), V::load(b + i + j * V::N), sum[j]);
  for (; i < n; i += V::N) {
    const Int left = n - i < V::N ? n - i : V::N;
    sum[0] = fma(load_up_to<V>(a + i, left), load_up_to<V>(b + i, left), sum[0]);
  }
  return join_lanes<Sum>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// What a sum over two sources adds up: their products, or the squares of the differences to a mean, one for each sum.
template <class V> struct Products {
  using T = typename V::Scalar;
  static bool along(const Bound<T>& b) { return b.stride[1][1] == 1 && b.stride[2][1] == 1; }
  static ELMAN_INLINE T line(const T* a, const T* b, Int n) { return dot<V>(a, b, n); }
  static ELMAN_INLINE T term(T a, T b) { return a * b; }
};

template <class V> struct SquaredDeviations {
  using T = typename V::Scalar;
  static bool along(const Bound<T>& b) { return b.stride[1][1] == 1; }
  static ELMAN_INLINE T line(const T* a, const T* mean, Int n) {
    const V m = V::splat(*mean);
    V sum[4] = {V::splat(0), V::splat(0), V::splat(0), V::splat(0)};
    Int i = 0;
    const auto add = [&](V x, int j) { sum[j] = fma(x - m, x - m, sum[j]); };
    for (; i + 4 * V::N <= n; i += 4 * V::N)
      for (int j = 0; j < 4; ++j) add(V::load(a + i + j * V::N), j);
    for (; i + V::N <= n; i += V::N) add(V::load(a + i), 0);
    if (i < n) add(load_first_or(a + i, n - i, m), 0);
    return join_lanes<Sum>((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
  static ELMAN_INLINE T term(T a, T mean) { return (a - mean) * (a - mean); }
};

// As Reduce<Sum>, of the terms of two sources.
template <class V, class Terms> struct ReduceTerms {
  using T = typename V::Scalar;

  static void run(const Bound<T>& b, T* const* at, Int rows) {
    const bool along = b.size[2] == 1 && Terms::along(b);
    for (Int r = 0; r < rows; ++r)
      for (Int o = 0; o < b.size[0]; ++o)
        for (Int i = 0; i < b.size[2]; ++i) {
          T& to = at[0][r * b.row[0] + o * b.stride[0][0] + i];
          const T* left = at[1] + r * b.row[1] + o * b.stride[1][0] + i * b.stride[1][2];
          const T* right = at[2] + r * b.row[2] + o * b.stride[2][0] + i * b.stride[2][2];
          if (along) {
            to = Terms::line(left, right, b.size[1]);
            continue;
          }
          T sum = 0;
          for (Int k = 0; k < b.size[1]; ++k) sum += Terms::term(left[k * b.stride[1][1]], right[k * b.stride[2][1]]);
          to = sum;
        }
  }
};
template <class V> using ReduceDot = ReduceTerms<V, Products<V>>;
template <class V> using ReduceDeviation = ReduceTerms<V, SquaredDeviations<V>>;

// What Base reduces, divided by a number; and 1 / sqrt(that + another number). The last operands are the numbers.
template <class V, class Base, bool rstd = false> struct Mean {
  using T = typename V::Scalar;
  using One = Vec<T, 1>;

  static void run(const Bound<T>& b, T* const* at, Int rows) {
    Base::run(b, at, rows);
    const One n = One::splat(*at[b.operands - 1 - rstd]), e = One::splat(*at[b.operands - 1]);
    for (Int r = 0; r < rows; ++r)
      for (Int i = 0; i < b.size[0] * b.size[2]; ++i) {
        T& to = at[0][r * b.row[0] + i];
        One mean = One::splat(to) / n;
        if constexpr (rstd) mean = functor::rsqrt::apply(mean + e);
        to = mean.v[0];
      }
  }
};

// Two passes over each line: the means, and what is made of them. Some lines' means first: their last additions wait for one
// another, but not for those of the next line. operands: dst, g, gain, y, r.
template <class V> struct NormBackward {
  using T = typename V::Scalar;
  struct Line {
    T* dst;
    const T *g, *gain, *y;
    T r, mean, slope;
  };

  template <class W> static ELMAN_INLINE W apply(W g, W y, W r, W mean, W slope) {
    return functor::sub_mul::apply(y, slope, g - mean) * r;
  }

  template <bool gained> static ELMAN_INLINE V incoming(const Line& line, Int i) {
    const V g = V::load(line.g + i);
    return gained ? g * V::load(line.gain + i) : g * V::splat(*line.gain);
  }
  template <bool gained> static ELMAN_INLINE V incoming(const Line& line, Int i, Int n) {
    const V g = load_up_to<V>(line.g + i, n);
    return gained ? g * load_up_to<V>(line.gain + i, n) : g * V::splat(*line.gain);
  }

  template <bool gained> static ELMAN_INLINE void means(Line& line, Int size) {
    constexpr int some = 4;
    V sum[some], product[some];
    for (int j = 0; j < some; ++j) sum[j] = product[j] = V::splat(0);
    const auto add = [&](V g, V y, int j) { sum[j] = sum[j] + g, product[j] = fma(g, y, product[j]); };
    Int i = 0;
    for (; i + some * V::N <= size; i += some * V::N)
      for (int j = 0; j < some; ++j) add(incoming<gained>(line, i + j * V::N), V::load(line.y + i + j * V::N), j);
    for (; i < size; i += V::N) {
      const Int left = size - i < V::N ? size - i : V::N;
      add(incoming<gained>(line, i, left), load_up_to<V>(line.y + i, left), 0);
    }
    line.mean = join_lanes<Sum>((sum[0] + sum[1]) + (sum[2] + sum[3])) / T(size);
    line.slope = join_lanes<Sum>((product[0] + product[1]) + (product[2] + product[3])) / T(size);
  }

  template <bool gained> static ELMAN_INLINE void finish(const Line& line, Int size) {
    const V r = V::splat(line.r), mean = V::splat(line.mean), slope = V::splat(line.slope);
    Int i = 0;
    for (; i + V::N <= size; i += V::N)
      apply(incoming<gained>(line, i), V::load(line.y + i), r, mean, slope).store(line.dst + i);
    if (i == size) return;
    const Int left = size - i;
    store_up_to(apply(incoming<gained>(line, i, left), load_up_to<V>(line.y + i, left), r, mean, slope), line.dst + i, left);
  }

  static Line line_of(const Bound<T>& b, T* const* at, Int row, Int outer) {
    const auto begin = [&](int i) { return at[i] + row * b.row[i] + outer * b.stride[i][0]; };
    return {begin(0), begin(1), begin(2), begin(3), *begin(4), 0, 0};
  }

  template <bool gained> static void lines(const Bound<T>& b, T* const* at, Int rows) {
    constexpr int together = 4;
    Line line[together];
    int count = 0;
    const auto flush = [&] {
      for (int i = 0; i < count; ++i) finish<gained>(line[i], b.size[1]);
      count = 0;
    };
    for (Int row = 0; row < rows; ++row)
      for (Int o = 0; o < b.size[0]; ++o) {
        line[count] = line_of(b, at, row, o);
        means<gained>(line[count], b.size[1]);
        if (++count == together) flush();
      }
    flush();
  }

  static void strided(const Bound<T>& b, const Line& line) {
    using One = Vec<T, 1>;
    const auto at = [&](const T* p, int operand, Int i) { return One::splat(p[i * b.stride[operand][1]]); };
    const auto incoming = [&](Int i) { return at(line.g, 1, i) * at(line.gain, 2, i); };
    One sum = One::splat(0), product = sum;
    for (Int i = 0; i < b.size[1]; ++i) sum = sum + incoming(i), product = fma(incoming(i), at(line.y, 3, i), product);
    const One size = One::splat(T(b.size[1]));
    for (Int i = 0; i < b.size[1]; ++i)
      line.dst[i * b.stride[0][1]] = apply(incoming(i), at(line.y, 3, i), One::splat(line.r), sum / size, product / size).v[0];
  }

  static void run(const Bound<T>& b, T* const* at, Int rows) {
    const bool plain = b.stride[0][1] == 1 && b.stride[1][1] == 1 && b.stride[3][1] == 1;
    if (plain && b.stride[2][1] == 1) return lines<true>(b, at, rows);
    if (plain && b.stride[2][1] == 0) return lines<false>(b, at, rows);
    for (Int row = 0; row < rows; ++row)
      for (Int o = 0; o < b.size[0]; ++o) strided(b, line_of(b, at, row, o));
  }
};

template <class T> void run_cumsum(const Bound<T>& b, T* const* at, Int rows) {
  for (Int r = 0; r < rows; ++r)
    for (Int o = 0; o < b.size[0]; ++o) {
      T* dst = at[0] + r * b.row[0] + o * b.stride[0][0];
      const T* src = at[1] + r * b.row[1] + o * b.stride[1][0];
      T sum = 0;
      for (Int i = 0; i < b.size[1]; ++i) dst[i * b.stride[0][1]] = sum += src[i * b.stride[1][1]];
    }
}

// The dimensions are padded in front to five.
template <class V> void run_permute(const Bound<typename V::Scalar>& b, typename V::Scalar* const* at, Int rows) {
  using T = typename V::Scalar;
  const Int *size = b.size, *d = b.stride[0], *s = b.stride[1];
  const bool copy = d[4] == 1 && s[4] == 1;
  for (Int r = 0; r < rows; ++r)
    for (Int i = 0; i < size[0]; ++i)
      for (Int j = 0; j < size[1]; ++j)
        for (Int k = 0; k < size[2]; ++k)
          for (Int l = 0; l < size[3]; ++l) {
            T* dst = at[0] + r * b.row[0] + i * d[0] + j * d[1] + k * d[2] + l * d[3];
            const T* src = at[1] + r * b.row[1] + i * s[0] + j * s[1] + k * s[2] + l * s[3];
            if (copy) line<functor::copy, V, Step::contiguous>(dst, 1, size[4], Source<V, Step::contiguous>(src, 1));
            else
              for (Int e = 0; e < size[4]; ++e) dst[e * d[4]] = src[e * s[4]];
          }
}

// size = (batch, m, k, n): dst[m, n] = sum over k of a[m, k] b[k, n]
template <class V> struct RowProduct {
  using T = typename V::Scalar;

  // Columns of b are contiguous in k, and so are rows of a.
  static ELMAN_INLINE void dots(const Bound<T>& b, T* dst, const T* left, const T* right) {
    for (Int n = 0; n < b.size[3]; ++n) dst[n] = dot<V>(left, right + n * b.stride[2][3], b.size[2]);
  }

  static ELMAN_INLINE void sums(const Bound<T>& b, T* dst, const T* left, const T* right) {
    const Int columns = b.size[3], step = b.stride[2][3];
    for (Int n = 0; n < columns; n += V::N) {
      const Int lanes = columns - n < V::N ? columns - n : V::N;
      V sum = V::splat(0);
      for (Int k = 0; k < b.size[2]; ++k) {
        const T* p = right + k * b.stride[2][2] + n * step;
        const V column = step == 1 ? load_up_to<V>(p, lanes) : gather<V>(p, step, lanes);
        sum = fma(V::splat(left[k * b.stride[1][2]]), column, sum);
      }
      store_up_to(sum, dst + n, lanes);
    }
  }

  static void run(const Bound<T>& b, T* const* at, Int rows) {
    const bool contiguous = b.stride[1][2] == 1 && b.stride[2][2] == 1 && b.stride[2][3] != 1;
    for (Int r = 0; r < rows; ++r)
      for (Int i = 0; i < b.size[0]; ++i)
        for (Int m = 0; m < b.size[1]; ++m) {
          T* dst = at[0] + r * b.row[0] + i * b.stride[0][0] + m * b.stride[0][1];
          const T* left = at[1] + r * b.row[1] + i * b.stride[1][0] + m * b.stride[1][1];
          const T* right = at[2] + r * b.row[2] + i * b.stride[2][0];
          if (contiguous) dots(b, dst, left, right);
          else sums(b, dst, left, right);
        }
  }
};

template <class V> Runner<typename V::Scalar> choose_structured(Op op) {
  using T = typename V::Scalar;
  switch (op) {
    case Op::reduce_sum: return Reduce<Sum, V>::run;
    case Op::reduce_prod: return Reduce<Product, V>::run;
    case Op::reduce_dot: return ReduceDot<V>::run;
    case Op::reduce_mean: return Mean<V, Reduce<Sum, V>>::run;
    case Op::dot_mean: return Mean<V, ReduceDot<V>>::run;
    case Op::dot_rstd: return Mean<V, ReduceDot<V>, true>::run;
    case Op::deviation_rstd: return Mean<V, ReduceDeviation<V>, true>::run;
    case Op::norm_backward: return NormBackward<V>::run;
    case Op::reduce_max: return Reduce<Largest, V>::run;
    case Op::reduce_min: return Reduce<Smallest, V>::run;
    case Op::place_of_max: return Extremum<T, true>::run;
    case Op::place_of_min: return Extremum<T, false>::run;
    case Op::gather: return run_gather<T>;
    case Op::scatter: return Scatter<T, false>::run;
    case Op::scatter_add: return Scatter<T, true>::run;
    case Op::order: return run_order<T>;
    case Op::top: return run_top<T>;
    case Op::cumsum: return run_cumsum<T>;
    case Op::permute: return run_permute<V>;
    case Op::rowmm: return RowProduct<V>::run;
    default: return nullptr;
  }
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
