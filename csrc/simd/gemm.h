// Products with weights packed once per run: dst[r, 0:N] = init[r, 0:N] + a[r, 0:K] W.
//
// A panel holds a few vectors of adjacent columns for all K, [K][columns]; the last panel is narrower, a whole number of
// vectors, zero-padded. A tile is some rows by one panel, or by two panels when rows are few (else too few independent sums
// would be in flight). There are two shapes of tile, wide and tall, and with them of panel; either fills the registers, and
// the one that goes over each panel less often is taken. Every element is one chain of fused multiply-adds,
// init + a[0] W[0] + a[1] W[1] + ..., in that order whatever the tile: it depends on nothing but its own inputs.
#pragma once

#include "vec.h"

namespace elman::ELMAN_ISA_NAMESPACE {

#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int registers = 32, wide_vectors = 4, wide_rows = 6, tall_vectors = 3, tall_rows = 8, pair_rows = 3;
#elif defined(__wasm__)
// One row is what a page steps: eight sums in two panels hide how long an addition takes. And few kinds of tiles, for a page
// is loaded.
inline constexpr int registers = 16, wide_vectors = 4, wide_rows = 2, tall_vectors = 2, tall_rows = 6, pair_rows = 1;
#else
inline constexpr int registers = 16, wide_vectors = 3, wide_rows = 4, tall_vectors = 2, tall_rows = 6, pair_rows = 2;
#endif

inline Int panel_vectors_for(Int rows) {
  const auto tiles = [&](Int height) { return (rows + height - 1) / height; };
  return tiles(tall_rows) < tiles(wide_rows) ? tall_vectors : wide_vectors;
}

// Columns that panel p of N columns takes in memory, of so many if it is whole: a whole number of vectors.
template <class V> ELMAN_INLINE Int panel_width(Int N, Int p, Int columns) {
  const Int left = N - p * columns;
  return left >= columns ? columns : (left + V::N - 1) / V::N * V::N;
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
void pack(typename V::Scalar* panels, const typename V::Scalar* w, Int K, Int N, Int stride_k, Int stride_n, Int columns,
          Int first, Int last) {
  for (Int p = first; p < last; ++p) {
    const Int width = panel_width<V>(N, p, columns), begin = p * columns;
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
    const auto row = [&](int r) __attribute__((always_inline)) { return V::splat(a[over_rows ? r : r * t.a.stride]); };
    const auto column = [&](int v) __attribute__((always_inline)) {
      return V::load(w + (panels > 1 ? (v / vectors) * t.panel_stride : 0) + (v % vectors) * V::N);
    };
    // What one k takes from one side is held; with all sums there must be registers for it, and for one of the other side.
    constexpr bool holds_rows = rows * (panels * vectors + 1) + 1 <= registers;
    const auto multiply = [&]() __attribute__((always_inline)) {
      if constexpr (holds_rows) {
        V left[rows];
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) left[r] = row(r);
#pragma GCC unroll 16
        for (int v = 0; v < panels * vectors; ++v) {
          const V right = column(v);
#pragma GCC unroll 16
          for (int r = 0; r < rows; ++r) sum[r][v] = fma(left[r], right, sum[r][v]);
        }
      } else {
        V right[panels * vectors];
#pragma GCC unroll 16
        for (int v = 0; v < panels * vectors; ++v) right[v] = column(v);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
          const V left = row(r);
#pragma GCC unroll 16
          for (int v = 0; v < panels * vectors; ++v) sum[r][v] = fma(left, right[v], sum[r][v]);
        }
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

template <bool over_rows> constexpr int most_rows(int vectors, int panels) {
  return panels == 2 ? pair_rows : over_rows || vectors > tall_vectors ? wide_rows : tall_rows;
}

template <class V, int vectors, int panels, bool over_rows, int rows = 1> TileRunner<typename V::Scalar> tile_of(Int wanted) {
  if constexpr (rows < most_rows<over_rows>(vectors, panels))
    if (wanted > rows) return tile_of<V, vectors, panels, over_rows, rows + 1>(wanted);
  return Tile<V, rows, vectors, panels, over_rows>::run;
}

template <class V, bool over_rows> TileRunner<typename V::Scalar> choose_tile(Int rows, Int vectors, int panels) {
  if constexpr (!over_rows) if (panels == 2) return tile_of<V, wide_vectors, 2, over_rows>(rows);
  if (vectors == 1) return tile_of<V, 1, 1, over_rows>(rows);
  if (vectors == 2) return tile_of<V, 2, 1, over_rows>(rows);
  if constexpr (wide_vectors > 3) if (vectors == 3) return tile_of<V, 3, 1, over_rows>(rows);
  return tile_of<V, wide_vectors, 1, over_rows>(rows);
}

// Rows dealt into tiles of nearly equal height, against `panels` panels of so many vectors. (Found out once for many panels:
// the divisions take as long as a small tile.)
template <class V, bool over_rows> struct Tiling {
  using T = typename V::Scalar;
  Int tiles, height, higher;  // the first `higher` of them have a row more
  TileRunner<T> tile, higher_tile;

  ELMAN_INLINE Tiling(Int rows, Int vectors, int panels) {
    const Int most = most_rows<over_rows>(int(vectors), panels);
    tiles = rows <= most ? 1 : (rows + most - 1) / most;
    height = tiles == 1 ? rows : rows / tiles;
    higher = rows - tiles * height;
    tile = choose_tile<V, over_rows>(height, vectors, panels);
    higher_tile = higher ? choose_tile<V, over_rows>(height + 1, vectors, panels) : nullptr;
  }

  ELMAN_INLINE void multiply(TileArguments<T> t) const {
    if (tiles == 1) return tile(t);
    for (Int i = 0; i < tiles; ++i) {
      const Int rows = height + (i < higher);
      (i < higher ? higher_tile : tile)(t);
      t.dst.p += rows * t.dst.stride;
      t.a.p += rows * (!over_rows ? t.a.stride : t.a.stride ? 1 : t.K);
      if (t.init.p) t.init.p += rows * t.init.stride;
    }
  }
};

// Bound operands: dst, a[, init].
template <class V> void run_gemm(const Bound<typename V::Scalar>& b, typename V::Scalar* const* at, Int rows) {
  using T = typename V::Scalar;
  const Int K = b.weight->K, N = b.weight->N, columns = b.weight->panel_columns;
  const Rows<T> dst = {at[0], b.row[0]};
  const Rows<const T> init = {b.operands > 2 ? at[2] : nullptr, b.operands > 2 ? b.row[2] : 0};
  // Panels [first, last), `together` at once, of which the last one has so many columns, and so much room for them.
  const auto multiply = [&](Int first, Int last, int together, Int columns_left, Int width) __attribute__((always_inline)) {
    const Tiling<V, false> tiling(rows, width / V::N, together);
    for (Int done = 0; done < last - first; done += together) {
      const Int p = b.ahead->turned ? last - together - done : first + done, n = p * columns;
      tiling.multiply({{dst.p + n, dst.stride}, {init.p ? init.p + n : nullptr, init.stride}, {at[1], b.row[1]},
                       b.weight->panels + n * K, K, columns * K, columns_left, b.ahead});
    }
  };
  const Int whole = b.last_panel * columns <= N ? b.last_panel : b.last_panel - 1;
  Int first = b.first_panel;
  if (rows <= pair_rows && columns == wide_vectors * V::N && first + 2 <= whole) {
    const Int pairs = first + (whole - first) / 2 * 2;
    multiply(first, pairs, 2, columns, columns);
    first = pairs;
  }
  if (first < whole) multiply(first, whole, 1, columns, columns);
  if (first <= whole && whole < b.last_panel) multiply(whole, b.last_panel, 1, N - whole * columns, panel_width<V>(N, whole, columns));
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
