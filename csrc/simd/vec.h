// One vector type for every instruction set, the scalar being N = 1. Arithmetic is GCC's vector extension; what it
// lacks (fused multiply-add, square root, rounding, partial loads) has an intrinsic where there is one, else a loop
// over the lanes. A partial vector runs the same instructions as a full one: a result never depends on its position.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#include "../plan.h"

#define ELMAN_INLINE inline __attribute__((always_inline))

namespace elman::ELMAN_ISA_NAMESPACE {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

template <class T> struct BitsOf;
template <> struct BitsOf<float> {
  using type = int32_t;
  using whole = uint32_t;
};
template <> struct BitsOf<double> {
  using type = int64_t;
  using whole = uint64_t;
};

template <class T, int lanes = vector_bytes / int(sizeof(T))> struct Vec {
  static constexpr int N = lanes;
  using Scalar = T;
  using Bit = typename BitsOf<T>::type;
  typedef T Raw __attribute__((vector_size(sizeof(T) * lanes)));
  typedef Bit Mask __attribute__((vector_size(sizeof(T) * lanes)));
  typedef typename BitsOf<T>::whole Whole __attribute__((vector_size(sizeof(T) * lanes)));
  typedef T Loose __attribute__((vector_size(sizeof(T) * lanes), aligned(sizeof(T)), may_alias));

  Raw v;

  static ELMAN_INLINE Vec splat(T x) { return {x - Raw{}}; }
  static ELMAN_INLINE Vec load(const T* p) { return {*reinterpret_cast<const Loose*>(p)}; }
  ELMAN_INLINE void store(T* p) const { *reinterpret_cast<Loose*>(p) = v; }

  friend ELMAN_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend ELMAN_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend ELMAN_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend ELMAN_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  friend ELMAN_INLINE Vec operator-(Vec a) { return {-a.v}; }
  friend ELMAN_INLINE Mask operator<(Vec a, Vec b) { return a.v < b.v; }
  friend ELMAN_INLINE Mask operator<=(Vec a, Vec b) { return a.v <= b.v; }
  friend ELMAN_INLINE Mask operator>(Vec a, Vec b) { return a.v > b.v; }
  friend ELMAN_INLINE Mask operator>=(Vec a, Vec b) { return a.v >= b.v; }
  friend ELMAN_INLINE Mask operator==(Vec a, Vec b) { return a.v == b.v; }
  friend ELMAN_INLINE Mask operator!=(Vec a, Vec b) { return a.v != b.v; }

  ELMAN_INLINE Mask bits() const { return (Mask)v; }
  static ELMAN_INLINE Vec from_bits(Mask m) { return {(Raw)m}; }
};

// Arithmetic on the bits of numbers wraps round: those of NaN and infinity lead anywhere.
template <class V> ELMAN_INLINE typename V::Mask plus(typename V::Mask a, typename V::Mask b) {
  return (typename V::Mask)((typename V::Whole)a + (typename V::Whole)b);
}
template <class V> ELMAN_INLINE typename V::Mask minus(typename V::Mask a, typename V::Mask b) {
  return (typename V::Mask)((typename V::Whole)a - (typename V::Whole)b);
}
template <class V> ELMAN_INLINE typename V::Mask shifted_up(typename V::Mask a, int places) {
  return (typename V::Mask)((typename V::Whole)a << places);
}
template <class V> ELMAN_INLINE typename V::Mask all(typename V::Bit x) { return x - typename V::Mask{}; }

template <class V> ELMAN_INLINE V select(typename V::Mask mask, V a, V b) { return {mask ? a.v : b.v}; }

// The larger, the smaller of x and a bound that is not NaN; a NaN x stays.
template <class V> ELMAN_INLINE V at_least(V x, V bound) { return select(x < bound, bound, x); }
template <class V> ELMAN_INLINE V at_most(V x, V bound) { return select(x > bound, bound, x); }

// The sign bit of every lane, and nothing else.
template <class V> ELMAN_INLINE typename V::Mask sign_bit() { return V::splat(typename V::Scalar(-0.0)).bits(); }
template <class V> ELMAN_INLINE V magnitude(V x) { return V::from_bits(x.bits() & ~sign_bit<V>()); }
template <class V> ELMAN_INLINE V with_sign_of(V x, V sign) {
  return V::from_bits((x.bits() & ~sign_bit<V>()) | (sign.bits() & sign_bit<V>()));
}

template <class V, class F> ELMAN_INLINE V by_lane(V x, F f) {
  for (int i = 0; i < V::N; ++i) x.v[i] = f(x.v[i]);
  return x;
}
template <class V, class F> ELMAN_INLINE V by_lane(V x, V y, F f) {
  for (int i = 0; i < V::N; ++i) x.v[i] = f(x.v[i], y.v[i]);
  return x;
}

ELMAN_INLINE float scalar_fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
ELMAN_INLINE double scalar_fma(double a, double b, double c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// a*b + c, rounded once where the instruction set has it (the portable x86 build rounds twice: everywhere the same).
template <class T, int N> ELMAN_INLINE Vec<T, N> fma(Vec<T, N> a, Vec<T, N> b, Vec<T, N> c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  for (int i = 0; i < N; ++i) c.v[i] = scalar_fma(a.v[i], b.v[i], c.v[i]);
  return c;
#else
  return a * b + c;
#endif
}
template <class V> ELMAN_INLINE V sqrt(V x) {
  return by_lane(x, [](auto e) { return decltype(e)(sizeof(e) == 4 ? __builtin_sqrtf(float(e)) : __builtin_sqrt(e)); });
}
template <class V> ELMAN_INLINE V floor(V x) {
  return by_lane(x, [](auto e) { return decltype(e)(__builtin_floor(e)); });
}
template <class V> ELMAN_INLINE V ceil(V x) {
  return by_lane(x, [](auto e) { return decltype(e)(__builtin_ceil(e)); });
}
template <class V> ELMAN_INLINE V round_even(V x) {
  return by_lane(x, [](auto e) { return decltype(e)(__builtin_nearbyint(e)); });
}

// The first n < N elements; the other lanes are zero, and their memory is not touched.
template <class T, int N> ELMAN_INLINE Vec<T, N> load_first(const T* p, Int n) {
  Vec<T, N> x{};
  for (int i = 0; i < N; ++i)
    if (i < n) x.v[i] = p[i];
  return x;
}
template <class T, int N> ELMAN_INLINE void store_first(Vec<T, N> x, T* p, Int n) {
  for (int i = 0; i < N; ++i)
    if (i < n) p[i] = x.v[i];
}

#if defined(__AVX512F__)
using Float = Vec<float, 16>;
using Double = Vec<double, 8>;
ELMAN_INLINE Float fma(Float a, Float b, Float c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
ELMAN_INLINE Double fma(Double a, Double b, Double c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
ELMAN_INLINE Float sqrt(Float x) { return {_mm512_sqrt_ps(x.v)}; }
ELMAN_INLINE Double sqrt(Double x) { return {_mm512_sqrt_pd(x.v)}; }
// max and min give their second argument if one is NaN.
ELMAN_INLINE Float at_least(Float x, Float bound) { return {_mm512_max_ps(bound.v, x.v)}; }
ELMAN_INLINE Double at_least(Double x, Double bound) { return {_mm512_max_pd(bound.v, x.v)}; }
ELMAN_INLINE Float at_most(Float x, Float bound) { return {_mm512_min_ps(bound.v, x.v)}; }
ELMAN_INLINE Double at_most(Double x, Double bound) { return {_mm512_min_pd(bound.v, x.v)}; }
#define ELMAN_ROUNDING(name, mode)                                                                     \
  ELMAN_INLINE Float name(Float x) { return {_mm512_roundscale_ps(x.v, (mode) | _MM_FROUND_NO_EXC)}; } \
  ELMAN_INLINE Double name(Double x) { return {_mm512_roundscale_pd(x.v, (mode) | _MM_FROUND_NO_EXC)}; }
template <> ELMAN_INLINE Float load_first<float, 16>(const float* p, Int n) {
  return {_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p)};
}
template <> ELMAN_INLINE Double load_first<double, 8>(const double* p, Int n) {
  return {_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p)};
}
ELMAN_INLINE void store_first(Float x, float* p, Int n) { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), x.v); }
ELMAN_INLINE void store_first(Double x, double* p, Int n) { _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), x.v); }
#elif defined(__AVX2__)
using Float = Vec<float, 8>;
using Double = Vec<double, 4>;
ELMAN_INLINE Float fma(Float a, Float b, Float c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
ELMAN_INLINE Double fma(Double a, Double b, Double c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
ELMAN_INLINE Float sqrt(Float x) { return {_mm256_sqrt_ps(x.v)}; }
ELMAN_INLINE Double sqrt(Double x) { return {_mm256_sqrt_pd(x.v)}; }
ELMAN_INLINE Float at_least(Float x, Float bound) { return {_mm256_max_ps(bound.v, x.v)}; }
ELMAN_INLINE Double at_least(Double x, Double bound) { return {_mm256_max_pd(bound.v, x.v)}; }
ELMAN_INLINE Float at_most(Float x, Float bound) { return {_mm256_min_ps(bound.v, x.v)}; }
ELMAN_INLINE Double at_most(Double x, Double bound) { return {_mm256_min_pd(bound.v, x.v)}; }
#define ELMAN_ROUNDING(name, mode)                                                                  \
  ELMAN_INLINE Float name(Float x) { return {_mm256_round_ps(x.v, (mode) | _MM_FROUND_NO_EXC)}; }   \
  ELMAN_INLINE Double name(Double x) { return {_mm256_round_pd(x.v, (mode) | _MM_FROUND_NO_EXC)}; }
ELMAN_INLINE __m256i first_floats(Int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
ELMAN_INLINE __m256i first_doubles(Int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
template <> ELMAN_INLINE Float load_first<float, 8>(const float* p, Int n) {
  return {_mm256_maskload_ps(p, first_floats(n))};
}
template <> ELMAN_INLINE Double load_first<double, 4>(const double* p, Int n) {
  return {_mm256_maskload_pd(p, first_doubles(n))};
}
ELMAN_INLINE void store_first(Float x, float* p, Int n) { _mm256_maskstore_ps(p, first_floats(n), x.v); }
ELMAN_INLINE void store_first(Double x, double* p, Int n) { _mm256_maskstore_pd(p, first_doubles(n), x.v); }
#elif defined(__aarch64__)
using Float = Vec<float, 4>;
using Double = Vec<double, 2>;
ELMAN_INLINE Float fma(Float a, Float b, Float c) {
  return {(Float::Raw)vfmaq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v)};
}
ELMAN_INLINE Double fma(Double a, Double b, Double c) {
  return {(Double::Raw)vfmaq_f64((float64x2_t)c.v, (float64x2_t)a.v, (float64x2_t)b.v)};
}
#elif defined(__wasm_simd128__)
using Float = Vec<float, 4>;
using Double = Vec<double, 2>;
// Rounded once or twice, as the processor likes: `residual` counts on neither.
#if defined(__wasm_relaxed_simd__)
#if __has_builtin(__builtin_wasm_relaxed_madd_f32x4)
ELMAN_INLINE Float fma(Float a, Float b, Float c) { return {__builtin_wasm_relaxed_madd_f32x4(a.v, b.v, c.v)}; }
ELMAN_INLINE Double fma(Double a, Double b, Double c) { return {__builtin_wasm_relaxed_madd_f64x2(a.v, b.v, c.v)}; }
#else  // its name, and its number in the module, from before the standard: see wasm/opcodes.py
ELMAN_INLINE Float fma(Float a, Float b, Float c) { return {__builtin_wasm_fma_f32x4(a.v, b.v, c.v)}; }
ELMAN_INLINE Double fma(Double a, Double b, Double c) { return {__builtin_wasm_fma_f64x2(a.v, b.v, c.v)}; }
#endif
#endif
#define ELMAN_WASM(name, wide, narrow)                                                  \
  ELMAN_INLINE Float name(Float x) { return {(Float::Raw)wide((v128_t)x.v)}; }      \
  ELMAN_INLINE Double name(Double x) { return {(Double::Raw)narrow((v128_t)x.v)}; }
ELMAN_WASM(sqrt, wasm_f32x4_sqrt, wasm_f64x2_sqrt)
ELMAN_WASM(floor, wasm_f32x4_floor, wasm_f64x2_floor)
ELMAN_WASM(ceil, wasm_f32x4_ceil, wasm_f64x2_ceil)
ELMAN_WASM(round_even, wasm_f32x4_nearest, wasm_f64x2_nearest)
#undef ELMAN_WASM
#endif

#if defined(ELMAN_ROUNDING)
ELMAN_ROUNDING(floor, _MM_FROUND_TO_NEG_INF)
ELMAN_ROUNDING(ceil, _MM_FROUND_TO_POS_INF)
ELMAN_ROUNDING(round_even, _MM_FROUND_TO_NEAREST_INT)
#undef ELMAN_ROUNDING
#endif

template <class V> ELMAN_INLINE V load_first(const typename V::Scalar* p, Int n) {
  return load_first<typename V::Scalar, V::N>(p, n);
}
// The same for n <= N.
template <class V> ELMAN_INLINE V load_up_to(const typename V::Scalar* p, Int n) {
  return n == V::N ? V::load(p) : load_first<V>(p, n);
}
template <class V> ELMAN_INLINE void store_up_to(V x, typename V::Scalar* p, Int n) {
  if (n == V::N) x.store(p);
  else store_first(x, p, n);
}

// n <= N elements that are `stride` apart; the other lanes are zero, and left alone.
template <class V> ELMAN_INLINE V gather(const typename V::Scalar* p, Int stride, Int n) {
  V x{};
  for (Int i = 0; i < n; ++i) x.v[i] = p[i * stride];
  return x;
}

template <class V> ELMAN_INLINE void scatter(V x, typename V::Scalar* p, Int stride, Int n) {
  for (Int i = 0; i < n; ++i) p[i * stride] = x.v[i];
}

template <class V> struct Halves {
  Vec<typename V::Scalar, V::N / 2> low, high;
};
template <class V> ELMAN_INLINE Halves<V> split(V x) {
  using Half = Vec<typename V::Scalar, V::N / 2>;
  typename V::Scalar lane[V::N];
  x.store(lane);
  return {Half::load(lane), Half::load(lane + Half::N)};
}
#if defined(__AVX512F__)
template <> ELMAN_INLINE Halves<Float> split(Float x) {
  return {{(Vec<float, 8>::Raw)_mm512_castps512_ps256(x.v)}, {(Vec<float, 8>::Raw)_mm512_extractf32x8_ps(x.v, 1)}};
}
template <> ELMAN_INLINE Halves<Double> split(Double x) {
  return {{(Vec<double, 4>::Raw)_mm512_castpd512_pd256(x.v)}, {(Vec<double, 4>::Raw)_mm512_extractf64x4_pd(x.v, 1)}};
}
#endif
#if defined(__AVX2__)
template <> ELMAN_INLINE Halves<Vec<float, 8>> split(Vec<float, 8> x) {
  return {{(Vec<float, 4>::Raw)_mm256_castps256_ps128(x.v)}, {(Vec<float, 4>::Raw)_mm256_extractf128_ps(x.v, 1)}};
}
template <> ELMAN_INLINE Halves<Vec<double, 4>> split(Vec<double, 4> x) {
  return {{(Vec<double, 2>::Raw)_mm256_castpd256_pd128(x.v)}, {(Vec<double, 2>::Raw)_mm256_extractf128_pd(x.v, 1)}};
}
#endif

// Lanes 0, N, 1, N+1, .. of (a, b) in the first result, the upper halves in the second.
template <class V> struct Interleaved {
  V low, high;
};
#if defined(__clang__)
// Its shuffle wants the lanes one by one.
template <class V> ELMAN_INLINE Interleaved<V> interleave(V a, V b) {
  static_assert(V::N == 1 || V::N == 2 || V::N == 4, "vectors of 16 bytes");
  if constexpr (V::N == 1) return {a, b};
  else if constexpr (V::N == 2) return {{__builtin_shufflevector(a.v, b.v, 0, 2)}, {__builtin_shufflevector(a.v, b.v, 1, 3)}};
  else return {{__builtin_shufflevector(a.v, b.v, 0, 4, 1, 5)}, {__builtin_shufflevector(a.v, b.v, 2, 6, 3, 7)}};
}
#else
template <class V, class Mask = typename V::Mask> ELMAN_INLINE Interleaved<V> interleave(V a, V b) {
  Mask low, high;
  for (int i = 0; i < V::N; ++i) {
    low[i] = i / 2 + (i % 2) * V::N;
    high[i] = low[i] + V::N / 2;
  }
  return {{__builtin_shuffle(a.v, b.v, low)}, {__builtin_shuffle(a.v, b.v, high)}};
}
#endif

// The square of N vectors, turned: a perfect shuffle of all lanes, log2(N) times.
template <class V> ELMAN_INLINE void transpose(V (&row)[V::N]) {
#pragma GCC unroll 16
  for (int done = 1; done < V::N; done *= 2) {
    V next[V::N];
#pragma GCC unroll 16
    for (int i = 0; i < V::N / 2; ++i) {
      const Interleaved<V> pair = interleave(row[i], row[i + V::N / 2]);
      next[2 * i] = pair.low;
      next[2 * i + 1] = pair.high;
    }
#pragma GCC unroll 16
    for (int i = 0; i < V::N; ++i) row[i] = next[i];
  }
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
