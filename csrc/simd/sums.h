// Sums over rows: out[n, m] = sum_r a[r, n] b[r, m] and sum_r a[r, n] [f[r, n]], as gradients of weights are.
//
// Rows are taken in blocks of `block_rows`; within one a sum is a chain of fused multiply-adds from zero, and the
// blocks are added in order: what comes out depends neither on the columns beside nor on the threads, and the rounding
// error grows with the number of blocks, not of rows. Both factors of a product are packed: `a` in tiles of up to
// tile_rows columns, `b` in the panels of gemm.h.
#pragma once

#include "gemm.h"

namespace elman::ELMAN_ISA_NAMESPACE {

inline constexpr Int block_rows = 256;
// Columns of `a` that are packed at once: with a panel of `b` they stay in a second-level cache of 512 KiB.
inline constexpr Int block_columns = 32 * tile_rows;

// out[n] (+)= sum of a[k, n] f[k, n] over K rows, for n in [0, N).
template <class V, bool factor, bool more> ELMAN_INLINE void sum_columns(
    const typename V::Scalar* a, Int a_stride, const typename V::Scalar* f, Int f_stride, Int K, Int columns,
    typename V::Scalar* out) {
  constexpr int wide = 4;
  V sum[wide];
  for (int v = 0; v < wide; ++v) sum[v] = V::splat(0);
  for (Int k = 0; k < K; ++k, a += a_stride, f += f_stride)
    for (int v = 0; v < wide; ++v) {
      if (v * V::N >= columns) break;
      const Int n = columns - v * V::N < V::N ? columns - v * V::N : V::N;
      const V x = load_up_to<V>(a + v * V::N, n);
      if constexpr (factor) sum[v] = fma(x, load_up_to<V>(f + v * V::N, n), sum[v]);
      else sum[v] = sum[v] + x;
    }
  for (int v = 0; v < wide && v * V::N < columns; ++v) {
    const Int n = columns - v * V::N < V::N ? columns - v * V::N : V::N;
    store_up_to(more ? load_up_to<V>(out + v * V::N, n) + sum[v] : sum[v], out + v * V::N, n);
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
  template <bool factor> void columns(const RowSum<T>& job, const SummedColumns<T>& to, Int row, Int K, Int column, Int N) const {
    const Int step = 4 * V::N;
    for (Int n = column; n < column + N; n += step) {
      const Int some = column + N - n < step ? column + N - n : step;
      const T *a = job.a + row * job.a_stride + n, *f = factor ? to.factor + row * to.factor_stride + n : a;
      if (row || job.adds) sum_columns<V, factor, true>(a, job.a_stride, f, to.factor_stride, K, some, to.out + n);
      else sum_columns<V, factor, false>(a, job.a_stride, f, to.factor_stride, K, some, to.out + n);
    }
  }

  // Tile i of columns [column, column + N): its columns side by side for each row. Some rows of all tiles after the other:
  // rows are often a power of two apart, and more of them would not fit into a first-level cache.
  void pack_a(const RowSum<T>& job, Int row, Int K, Int column, Int N) const {
    constexpr Int some = 8;
    const Int tiles = (N + tile_rows - 1) / tile_rows;
    for (Int first = 0; first < K; first += some) {
      const Int last = first + some < K ? first + some : K;
      const T* from = job.a + (row + first) * job.a_stride + column;
      T* to = packed_a;
      for (Int i = 0; i < tiles; ++i) {
        const Int height = N / tiles + (i < N % tiles);
        if (height == tile_rows) copy_rows<tile_rows>(from, job.a_stride, to + first * tile_rows, last - first, height);
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

  void pack_b(Int row, Int K) const {
    const RowSum<T>& job = jobs[0];
    T* to = packed_b;
    for (int i = 0; i < job.product_count; ++i) {
      const SummedProduct<T>& product = job.products[i];
      const Int panels = (product.M + panel_columns<V> - 1) / panel_columns<V>;
      pack<V>(to, product.b + row * product.b_stride, K, product.M, product.b_stride, 1, 0, panels);
      to += packed_size<V>(K, product.M);
    }
  }

  // The packed columns against one product's panels, added to what the blocks before have left.
  void multiply(const SummedProduct<T>& product, const T* panels, bool adds, Int K, Int column, Int N) const {
    for (Int m = 0, p = 0; m < product.M; m = ++p * panel_columns<V>) {
      const Int width = panel_width<V>(product.M, p), left = product.M - m;
      T* out = product.out + column * product.M + m;
      multiply_panels<V, true>({{out, product.M}, {adds ? out : nullptr, product.M}, {packed_a, 1}, panels + m * K, K, 0,
                                left < width ? left : width, nullptr}, N, width / V::N, 1);
    }
  }

  // Columns [begin, end) of one job.
  void run(const RowSum<T>& job, Int row, Int K, Int begin, Int end) const {
    for (Int column = begin; column < end; column += block_columns) {
      const Int N = end - column < block_columns ? end - column : block_columns;
      for (int i = 0; i < job.column_count; ++i)
        if (job.columns[i].factor) columns<true>(job, job.columns[i], row, K, column, N);
        else columns<false>(job, job.columns[i], row, K, column, N);
      if (!job.product_count) continue;
      pack_a(job, row, K, column, N);
      const T* panels = packed_b;
      for (int i = 0; i < job.product_count; ++i) {
        multiply(job.products[i], panels, row || job.adds, K, column, N);
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
