// Sums over rows: out[n, m] = sum_r a[r, n] b[r, m] and sum_r a[r, n] [f[r, n]], as gradients of weights are.
//
// Rows are taken in blocks of `block_rows`; within one a sum is a chain of fused multiply-adds from zero, and the
// blocks are added in order: what comes out depends neither on the columns beside nor on the threads, and the rounding
// error grows with the number of blocks, not of rows.
//
// The factors of a product are read where they are, as long as that is not far apart or not often; otherwise they are packed:
// `a` in tiles of up to wide_rows columns, `b` in the panels of gemm.h.
#pragma once

#include "gemm.h"

namespace elman::ELMAN_ISA_NAMESPACE {

inline constexpr Int block_rows = 256;
template <class V> inline constexpr Int panel_columns = wide_vectors * V::N;
// Columns of `a` that are packed at once: with a panel of `b` they stay in a second-level cache of 512 KiB.
inline constexpr Int block_columns = 32 * wide_rows;

// For each of some columns jobs out[n] (+)= sum of a[k, n] over K rows, or of a[k, n] f[k, n], for n in [0, N) of at most
// four vectors; `a` is read once for all. plain: how many have no factor; those come first. full: N is four vectors.
template <class V, int plain, int factors, bool full> ELMAN_INLINE void sum_columns(
    const typename V::Scalar* a, Int a_stride, const SummedColumns<typename V::Scalar>* const* columns, Int begin, Int row,
    Int K, Int N, bool adds) {
  using T = typename V::Scalar;
  constexpr int wide = 4, count = plain + factors;
  V sum[count][wide];
#pragma GCC unroll 3
  for (int c = 0; c < count; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < wide; ++v) sum[c][v] = V::splat(0);
  const T* f[factors + 1];
  for (int c = 0; c < factors; ++c) f[c] = columns[plain + c]->factor + row * columns[plain + c]->factor_stride + begin;
  const auto lanes = [&](int v) { return full || N - v * V::N >= V::N ? Int(V::N) : N > v * V::N ? N - v * V::N : 0; };
  for (Int k = 0; k < K; ++k, a += a_stride) {
#pragma GCC unroll 4
    for (int v = 0; v < wide; ++v) {
      const V x = load_up_to<V>(a + v * V::N, lanes(v));
#pragma GCC unroll 1
      for (int c = 0; c < plain; ++c) sum[c][v] = sum[c][v] + x;
#pragma GCC unroll 2
      for (int c = 0; c < factors; ++c)
        sum[plain + c][v] = fma(x, load_up_to<V>(f[c] + v * V::N, lanes(v)), sum[plain + c][v]);
    }
    for (int c = 0; c < factors; ++c) f[c] += columns[plain + c]->factor_stride;
  }
#pragma GCC unroll 3
  for (int c = 0; c < count; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < wide; ++v) {
      T* out = columns[c]->out + begin + v * V::N;
      store_up_to(adds ? load_up_to<V>(out, lanes(v)) + sum[c][v] : sum[c][v], out, lanes(v));
    }
}

// Jobs that have the same `b` in their products, or none: those are packed once for all.
template <class V> struct Sums {
  using T = typename V::Scalar;
  const RowSum<T>* jobs;
  int count;
  Int first, last;  // columns of all `a`, counted on from one job to the next
  T *packed_b, *packed_a;

  // Rows [row, row + K), columns [column, column + N).
  template <int plain, int factors>
  void columns(const RowSum<T>& job, const SummedColumns<T>* const* some, Int row, Int K, Int column, Int N) const {
    const Int step = 4 * V::N;
    for (Int n = column; n < column + N; n += step) {
      const T* a = job.a + row * job.a_stride + n;
      const Int left = column + N - n;
      if (left >= step) sum_columns<V, plain, factors, true>(a, job.a_stride, some, n, row, K, step, row || job.adds);
      else sum_columns<V, plain, factors, false>(a, job.a_stride, some, n, row, K, left, row || job.adds);
    }
  }

  // All columns of a job: one without a factor and up to two with one at a time.
  void columns(const RowSum<T>& job, Int row, Int K, Int column, Int N) const {
    const SummedColumns<T>*some[2] = {}, *plain = nullptr;
    int factors = 0;
    const auto run = [&] {
      const SummedColumns<T>* const ordered[3] = {plain ? plain : some[0], plain ? some[0] : some[1], some[1]};
      if (plain && factors == 2) columns<1, 2>(job, ordered, row, K, column, N);
      else if (plain && factors == 1) columns<1, 1>(job, ordered, row, K, column, N);
      else if (plain) columns<1, 0>(job, ordered, row, K, column, N);
      else if (factors == 2) columns<0, 2>(job, ordered, row, K, column, N);
      else if (factors == 1) columns<0, 1>(job, ordered, row, K, column, N);
      plain = nullptr, factors = 0;
    };
    for (int i = 0; i < job.column_count; ++i) {
      const SummedColumns<T>& next = job.columns[i];
      if (next.factor ? factors == 2 : plain != nullptr) run();
      if (next.factor) some[factors++] = &next;
      else plain = &next;
    }
    run();
  }

  // Tile i of columns [column, column + N): its columns side by side for each row. Some rows of all tiles after the other:
  // rows are often a power of two apart, and more of them would not fit into a first-level cache.
  void pack_a(const RowSum<T>& job, Int row, Int K, Int column, Int N) const {
    constexpr Int some = 8;
    const Int tiles = (N + wide_rows - 1) / wide_rows;
    for (Int first = 0; first < K; first += some) {
      const Int last = first + some < K ? first + some : K;
      const T* from = job.a + (row + first) * job.a_stride + column;
      T* to = packed_a;
      for (Int i = 0; i < tiles; ++i) {
        const Int height = N / tiles + (i < N % tiles);
        if (height == wide_rows) copy_rows<wide_rows>(from, job.a_stride, to + first * wide_rows, last - first, height);
        else copy_rows<0>(from, job.a_stride, to + first * height, last - first, height);
        from += height, to += height * K;
      }
    }
  }

  template <int known> static ELMAN_INLINE void copy_rows(const T* from, Int stride, T* to, Int rows, Int width) {
    if constexpr (known) width = known;
    for (Int k = 0; k < rows; ++k, from += stride, to += width)
      for (Int j = 0; j < width; j += V::N) {
        const Int n = width - j < V::N ? width - j : V::N;
        store_first(load_first<V>(from + j, n), to + j, n);
      }
  }

  static Int panel_count(const SummedProduct<T>& product) { return (product.M + panel_columns<V> - 1) / panel_columns<V>; }

  // Whether a tile reads its columns of `a` where they are: once for each panel, a line for each row.
  static bool reads_a(const RowSum<T>& job) {
    constexpr Int few = 8;
    Int panels = 0;
    for (int i = 0; i < job.product_count; ++i) panels += panel_count(job.products[i]);
    return panels <= few;
  }

  // How many of a product's panels are read where they are: whole vectors, of rows that do not fall on one another in the
  // caches. The others, behind them, are packed.
  static Int panels_read(const SummedProduct<T>& product) {
    constexpr Int near = 1024;  // bytes from one row to the next
    if (product.b_stride * Int(sizeof(T)) > near) return 0;
    return product.M % V::N ? product.M / panel_columns<V> : panel_count(product);
  }

  void pack_b(Int row, Int K) const {
    const RowSum<T>& job = jobs[0];
    T* to = packed_b;
    for (int i = 0; i < job.product_count; ++i) {
      const SummedProduct<T>& product = job.products[i];
      pack<V>(to, product.b + row * product.b_stride, K, product.M, product.b_stride, 1, panel_columns<V>, panels_read(product),
              panel_count(product));
      to += packed_size<V>(K, product.M);
    }
  }

  // Columns of `a` against one product's panels, added to what the blocks before have left.
  void multiply(const SummedProduct<T>& product, Rows<const T> a, const T* panels, bool adds, Int row, Int K, Int column,
                Int N) const {
    const Int read = panels_read(product);
    const Tiling<V, true> whole(N, wide_vectors, 1);
    for (Int m = 0, p = 0; m < product.M; m = ++p * panel_columns<V>) {
      const Int width = panel_width<V>(product.M, p, panel_columns<V>), left = product.M - m;
      T* out = product.out + column * product.M + m;
      const Rows<const T> b = p < read ? Rows<const T>{product.b + row * product.b_stride + m, product.b_stride}
                                       : Rows<const T>{panels + m * K, width};
      const Tiling<V, true> tiling = width == panel_columns<V> ? whole : Tiling<V, true>(N, width / V::N, 1);
      tiling.multiply({{out, product.M}, {adds ? out : nullptr, product.M}, a, b.p, K, b.stride, left < width ? left : width,
                       nullptr});
    }
  }

  // Columns [begin, end) of one job.
  void run(const RowSum<T>& job, Int row, Int K, Int begin, Int end) const {
    for (Int column = begin; column < end; column += block_columns) {
      const Int N = end - column < block_columns ? end - column : block_columns;
      columns(job, row, K, column, N);
      if (!job.product_count) continue;
      Rows<const T> a = {job.a + row * job.a_stride + column, job.a_stride};
      if (!reads_a(job)) pack_a(job, row, K, column, N), a = {packed_a, 0};
      const T* panels = packed_b;
      for (int i = 0; i < job.product_count; ++i) {
        multiply(job.products[i], a, panels, row || job.adds, row, K, column, N);
        panels += packed_size<V>(K, job.products[i].M);
      }
    }
  }

  void run() const {
    const Int rows = jobs[0].rows;
    for (Int row = 0; row < rows; row += block_rows) {
      const Int K = rows - row < block_rows ? rows - row : block_rows;
      if (jobs[0].product_count) pack_b(row, K);
      Int before = 0;
      for (int i = 0; i < count; before += jobs[i++].N) {
        const Int begin = first > before ? first - before : 0, end = last - before < jobs[i].N ? last - before : jobs[i].N;
        if (begin < end) run(jobs[i], row, K, begin, end);
      }
    }
  }
};

// Elements of scratch that a thread needs for a job.
template <class V> Int sums_scratch(const RowSum<typename V::Scalar>& job) {
  if (!job.product_count) return 0;
  Int size = block_rows * block_columns;
  for (int i = 0; i < job.product_count; ++i) size += packed_size<V>(block_rows, job.products[i].M);
  return size;
}

template <class V>
void run_sums(const RowSum<typename V::Scalar>* jobs, int count, Int first, Int last, typename V::Scalar* scratch) {
  if (first < last)
    Sums<V>{jobs, count, first, last, scratch, scratch + (sums_scratch<V>(jobs[0]) - block_rows * block_columns)}.run();
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
