// Products with weights packed once per run: dst[r, 0:N] = init[r, 0:N] + a[r, 0:K] W.
//
// A panel holds 4 vectors (AVX-512; 2 elsewhere) of adjacent columns for all K, [K][columns]; the last panel is narrower, a
// whole number of vectors, zero-padded. A tile is up to `tile_rows` rows by one panel, or by two panels when rows are
// few (else too few independent sums would be in flight). Every element is one chain of fused multiply-adds,
// init + a[0] W[0] + a[1] W[1] + ..., in that order whatever the tile: it depends on nothing but its own inputs.
#pragma once

#include "vec.h"

namespace elman::ELMAN_ISA_NAMESPACE {

#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int panel_vectors = 4, tile_rows = 6, pair_rows = 3;
#else
inline constexpr int panel_vectors = 2, tile_rows = 5, pair_rows = 2;
#endif

template <class V> inline constexpr int panel_columns = panel_vectors * V::N;

// Columns that panel p of N columns takes in memory: a whole number of vectors.
template <class V> ELMAN_INLINE Int panel_width(Int N, Int p) {
  const Int left = N - p * panel_columns<V>;
  return left >= panel_columns<V> ? panel_columns<V> : (left + V::N - 1) / V::N * V::N;
}

template <class V> Int packed_size(Int K, Int N) { return K * ((N + V::N - 1) / V::N * V::N); }

// One vector of columns for all K, from columns that are contiguous in k: squares of N x N, turned in registers. (Column
// by column the reads would be a power of two apart, all in the same few lines of the cache.)
template <class V>
ELMAN_INLINE void pack_turned(typename V::Scalar* out, Int width, const typename V::Scalar* w, Int K, Int stride_n) {
  Int k = 0;
  for (; k + V::N <= K; k += V::N) {
    V square[V::N];
    for (int i = 0; i < V::N; ++i) square[i] = V::load(w + i * stride_n + k);
    transpose(square);
    for (int i = 0; i < V::N; ++i) square[i].store(out + (k + i) * width);
  }
  for (; k < K; ++k) gather<V>(w + k, stride_n, V::N).store(out + k * width);
}

// One vector of `columns` <= N columns for all K; the rest of it is zero.
template <class V>
ELMAN_INLINE void pack_columns(typename V::Scalar* out, Int width, const typename V::Scalar* w, Int K, Int stride_k,
                               Int stride_n, Int columns) {
  if (stride_k == 1 && columns == V::N) return pack_turned<V>(out, width, w, K, stride_n);
  for (Int k = 0; k < K; ++k, out += width, w += stride_k)
    (stride_n == 1 ? load_up_to<V>(w, columns) : gather<V>(w, stride_n, columns)).store(out);
}

template <class V>
void pack(typename V::Scalar* panels, const typename V::Scalar* w, Int K, Int N, Int stride_k, Int stride_n, Int first,
          Int last) {
  for (Int p = first; p < last; ++p) {
    const Int width = panel_width<V>(N, p), begin = p * panel_columns<V>;
    for (Int n = begin; n < begin + width; n += V::N)
      pack_columns<V>(panels + begin * K + (n - begin), width, w + n * stride_n, K, stride_k, stride_n,
                      N - n < V::N ? N - n : V::N);
  }
}

template <class T> struct Rows {
  T* p;
  Int stride;
};

// What a tile needs: the rows' operands and one or two panels of the weight.
template <class T> struct TileArguments {
  Rows<T> dst;
  Rows<const T> init, a;  // init.p may be null
  const T* panel;
  Int K;
  Int panel_stride;  // from one panel to the next; in sums from one k to the next
  Int columns;       // of the last panel, in 1..its width
  Ahead* ahead;      // lines to bring nearer, one for each k; or null
};

// over_rows: a sum over rows (see sums.h). `a` holds the tile's elements side by side for each k, a.stride from one k to
// the next, or packed tile by tile where that is 0; and init is added at the end.
template <class V, int rows, int vectors, int panels, bool over_rows = false> struct Tile {
  using T = typename V::Scalar;
  using Sums = V[rows][panels * vectors];

  static ELMAN_INLINE Int lanes(const TileArguments<T>& t, int v) {
    const Int left = t.columns - (v - (panels - 1) * vectors) * V::N;
    return left < V::N ? left : V::N;
  }

  // What goes in and out, `full` of all columns of its panels: a question of the columns for each vector takes as long as
  // the vector.
  template <bool full> static ELMAN_INLINE void start_from(const TileArguments<T>& t, Sums& sum) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < panels * vectors; ++v) {
        const T* p = t.init.p + r * t.init.stride + v * V::N;
        const V init = full ? V::load(p) : load_up_to<V>(p, lanes(t, v));
        sum[r][v] = over_rows ? init + sum[r][v] : init;
      }
  }
  template <bool full> static ELMAN_INLINE void store(const TileArguments<T>& t, const Sums& sum) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < panels * vectors; ++v) {
        T* p = t.dst.p + r * t.dst.stride + v * V::N;
        if constexpr (full) sum[r][v].store(p);
        else store_up_to(sum[r][v], p, lanes(t, v));
      }
  }
  static ELMAN_INLINE void start_from(const TileArguments<T>& t, Sums& sum, bool full) {
    if (!t.init.p) return;
    if (full) start_from<true>(t, sum);
    else start_from<false>(t, sum);
  }

  static void run(const TileArguments<T>& t) {
    const bool full = t.columns >= vectors * V::N;
    Sums sum;
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < panels * vectors; ++v) sum[r][v] = V::splat(0);
    if constexpr (!over_rows) start_from(t, sum, full);
    const T *a = t.a.p, *w = t.panel;
    const Int a_step = !over_rows ? 1 : t.a.stride ? t.a.stride : rows;
    const Int w_step = over_rows ? t.panel_stride : vectors * V::N;
    const auto multiply = [&]() __attribute__((always_inline)) {
      V left[rows];
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) left[r] = V::splat(a[over_rows ? r : r * t.a.stride]);
#pragma GCC unroll 16
      for (int v = 0; v < panels * vectors; ++v) {
        const V right = V::load(w + (panels > 1 ? (v / vectors) * t.panel_stride : 0) + (v % vectors) * V::N);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) sum[r][v] = fma(left[r], right, sum[r][v]);
      }
      a += a_step, w += w_step;
    };
    Int k = 0;
    if constexpr (!over_rows)
      while (t.ahead && k < t.K) {
        const Ahead::Lines lines = t.ahead->take(t.K - k);
        if (!lines.count) break;
        const Int end = k + lines.count;
        const char* p = lines.begin;
        if (lines.written)
          for (; k < end; ++k, p += Ahead::line) __builtin_prefetch(p, 1, 2), multiply();
        else
          for (; k < end; ++k, p += Ahead::line) __builtin_prefetch(p, 0, 2), multiply();
      }
    for (; k < t.K; ++k) multiply();
    if constexpr (over_rows) start_from(t, sum, full);
    if (full) store<true>(t, sum);
    else store<false>(t, sum);
  }
};

template <class T> using TileRunner = void (*)(const TileArguments<T>&);

template <class V, int vectors, int panels, bool over_rows> TileRunner<typename V::Scalar> tile_of(Int rows) {
  switch (rows) {
    case 1: return Tile<V, 1, vectors, panels, over_rows>::run;
    case 2: return Tile<V, 2, vectors, panels, over_rows>::run;
    case 3: if constexpr (panels == 1 || pair_rows >= 3) return Tile<V, 3, vectors, panels, over_rows>::run; return nullptr;
    case 4: if constexpr (panels == 1) return Tile<V, 4, vectors, panels, over_rows>::run; return nullptr;
    case 5: if constexpr (panels == 1) return Tile<V, 5, vectors, panels, over_rows>::run; return nullptr;
    default: if constexpr (panels == 1) return Tile<V, tile_rows, vectors, panels, over_rows>::run; return nullptr;
  }
}

template <class V, bool over_rows> TileRunner<typename V::Scalar> choose_tile(Int rows, Int vectors, int panels) {
  if constexpr (!over_rows) if (panels == 2) return tile_of<V, panel_vectors, 2, over_rows>(rows);
  if (vectors == 1) return tile_of<V, 1, 1, over_rows>(rows);
  if constexpr (panel_vectors > 2) {
    if (vectors == 2) return tile_of<V, 2, 1, over_rows>(rows);
    if (vectors == 3) return tile_of<V, 3, 1, over_rows>(rows);
  }
  return tile_of<V, panel_vectors, 1, over_rows>(rows);
}

// All rows against `panels` panels: the rows are dealt into tiles of nearly equal height.
template <class V, bool over_rows>
void multiply_panels(TileArguments<typename V::Scalar> t, Int rows, Int vectors, int panels) {
  const Int tiles = (rows + tile_rows - 1) / tile_rows;
  for (Int i = 0; i < tiles; ++i) {
    const Int height = rows / tiles + (i < rows % tiles);
    choose_tile<V, over_rows>(height, vectors, panels)(t);
    t.dst.p += height * t.dst.stride;
    t.a.p += height * (!over_rows ? t.a.stride : t.a.stride ? 1 : t.K);
    if (t.init.p) t.init.p += height * t.init.stride;
  }
}

// Bound operands: dst, a[, init].
template <class V> void run_gemm(const Bound<typename V::Scalar>& b, typename V::Scalar* const* at, Int rows) {
  using T = typename V::Scalar;
  const Int K = b.weight->K, N = b.weight->N;
  const bool pairs = rows <= pair_rows;
  for (Int p = b.first_panel; p < b.last_panel;) {
    const Int n = p * panel_columns<V>;
    const bool pair = pairs && p + 2 <= b.last_panel && n + 2 * panel_columns<V> <= N;
    const Int width = panel_width<V>(N, p);
    const TileArguments<T> t = {{at[0] + n, b.row[0]},
                                {b.operands > 2 ? at[2] + n : nullptr, b.operands > 2 ? b.row[2] : 0},
                                {at[1], b.row[1]},
                                b.weight->panels + n * K,
                                K,
                                panel_columns<V> * K,
                                pair || N - n > width ? width : N - n,
                                b.ahead};
    multiply_panels<V, false>(t, rows, width / V::N, pair ? 2 : 1);
    p += pair ? 2 : 1;
  }
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
