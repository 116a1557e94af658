// exp, expm1, log, log1p, tanh, sigmoid, softplus: at most 2 ulp in float32 and float64 for every argument (the
// tests measure it), infinities, NaN, signed zeros and subnormal results included. No branches: lanes never differ.
#pragma once

#include "coefficients.h"
#include "vec.h"

namespace elman::ELMAN_ISA_NAMESPACE {

template <class T> struct Format;
template <> struct Format<float> {
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float to_integer = 0x1.8p23f;        // adding it leaves the rounded integer in the low bits
  static constexpr float exp_low = -104, exp_high = 89;  // beyond these e^x is 0 and infinity
  static constexpr float expm1_low = -18, tiny = 0x1p-26f;
  static constexpr float smallest_normal = 0x1p-126f, subnormal_scale = 0x1p25f, subnormal_exponent = 25;
};
template <> struct Format<double> {
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double to_integer = 0x1.8p52;
  static constexpr double exp_low = -746, exp_high = 710;
  static constexpr double expm1_low = -38, tiny = 0x1p-55;
  static constexpr double smallest_normal = 0x1p-1022, subnormal_scale = 0x1p54, subnormal_exponent = 54;
};

template <class V, int n> ELMAN_INLINE V polynomial(V x, const typename V::Scalar (&c)[n]) {
  V sum = V::splat(c[0]);
#pragma GCC unroll 16
  for (int i = 1; i < n; ++i) sum = fma(sum, x, V::splat(c[i]));
  return sum;
}

template <class V> ELMAN_INLINE typename V::Mask splat_bits(typename V::Bit x) { return x - typename V::Mask{}; }

// 2^k for exponents in the normal range.
template <class V> ELMAN_INLINE V power_of_two(typename V::Mask k) {
  using F = Format<typename V::Scalar>;
  return V::from_bits((k + F::bias) << F::mantissa);
}

// x * 2^k, rounded once; k is given both as floating point and as an integer.
template <class V> ELMAN_INLINE V scaled(V x, V, typename V::Mask k) {
  const typename V::Mask half = k >> 1;
  return x * power_of_two<V>(half) * power_of_two<V>(k - half);
}
#if defined(__AVX512F__)
ELMAN_INLINE Float scaled(Float x, Float k, Float::Mask) { return {_mm512_scalef_ps(x.v, k.v)}; }
ELMAN_INLINE Double scaled(Double x, Double k, Double::Mask) { return {_mm512_scalef_pd(x.v, k.v)}; }
#endif

template <class V> ELMAN_INLINE V clamped(V x, typename V::Scalar low, typename V::Scalar high) {
  x = select(x < V::splat(low), V::splat(low), x);  // NaN passes
  return select(x > V::splat(high), V::splat(high), x);
}

// x = k ln 2 + r with whole k and |r| <= ln(2)/2; remainder = e^r - 1.
template <class V> struct ExpParts {
  V whole;
  typename V::Mask k;
  V remainder;
};

template <class V> ELMAN_INLINE ExpParts<V> exp_parts(V x) {
  using T = typename V::Scalar;
  using C = Coefficients<T>;
  const V shift = V::splat(Format<T>::to_integer);
  const V shifted = fma(x, V::splat(C::log2_e), shift);
  const V whole = shifted - shift;
  V r = fma(whole, V::splat(-C::ln2_high), x);
  r = fma(whole, V::splat(-C::ln2_low), r);
  const V remainder = fma(r * r, polynomial(r, C::exp), r);
  return {whole, shifted.bits() - shift.bits(), remainder};
}

template <class V> ELMAN_INLINE V exp(V x) {
  using F = Format<typename V::Scalar>;
  const ExpParts<V> parts = exp_parts(clamped(x, F::exp_low, F::exp_high));
  return scaled(parts.remainder + V::splat(1), parts.whole, parts.k);
}

// e^x - 1 for x <= 0 (and NaN): (e^r - 1) 2^k + (2^k - 1).
template <class V> ELMAN_INLINE V expm1_of_negative(V x) {
  using F = Format<typename V::Scalar>;
  x = select(x < V::splat(F::expm1_low), V::splat(F::expm1_low), x);
  const ExpParts<V> parts = exp_parts(x);
  const V scale = power_of_two<V>(parts.k);
  return fma(parts.remainder, scale, scale - V::splat(1));
}

template <class V> ELMAN_INLINE V expm1(V x) {
  using F = Format<typename V::Scalar>;
  const ExpParts<V> parts = exp_parts(clamped(x, F::expm1_low, F::exp_high));
  // Half of everything, so that 2^k does not overflow before the result does.
  const V half_scale = power_of_two<V>(parts.k - 1);
  const V half = fma(parts.remainder, half_scale, half_scale - V::splat(typename V::Scalar(0.5)));
  return select(magnitude(x) < V::splat(F::tiny), x, half + half);
}

// tanh |x| = -u / (2 + u) with u = e^(-2|x|) - 1
template <class V> ELMAN_INLINE V tanh(V x) {
  const V size = magnitude(x);
  const V u = expm1_of_negative(size * V::splat(-2));
  return with_sign_of(u / (V::splat(-2) - u), x);
}

// 1 / (1 + e^-x), as e^x / (1 + e^x) for x < 0: nothing overflows.
template <class V> ELMAN_INLINE V sigmoid(V x) {
  const V e = exp(-magnitude(x));
  return select(x < V::splat(0), e, V::splat(1)) / (V::splat(1) + e);
}

// x = 2^k m, 1/sqrt(2) <= m < sqrt(2), for positive x (subnormal too)
template <class V> struct LogParts {
  V k;
  V m;
};

template <class V> ELMAN_INLINE LogParts<V> log_parts(V x) {
  using T = typename V::Scalar;
  using F = Format<T>;
  using Mask = typename V::Mask;
  const Mask subnormal = x < V::splat(F::smallest_normal);
  x = select(subnormal, x * V::splat(F::subnormal_scale), x);
  const Mask half_root = V::splat(T(0.70710678118654752440)).bits();
  const Mask offset = (x.bits() - half_root) >> F::mantissa;
  const V m = V::from_bits(x.bits() - (offset << F::mantissa));
  const V magic = V::splat(F::to_integer);
  const V k = V::from_bits(magic.bits() + offset) - magic;  // whole number -> floating point
  return {k - select(subnormal, V::splat(F::subnormal_exponent), V::splat(0)), m};
}

// log m + k ln 2:  f = m-1, s = f/(2+f), log m = f - (f^2/2 - s (f^2/2 + z L(z)))
template <class V> ELMAN_INLINE V log_finite(V x) {
  using C = Coefficients<typename V::Scalar>;
  const LogParts<V> parts = log_parts(x);
  const V f = parts.m - V::splat(1);
  const V s = f / (f + V::splat(2));
  const V z = s * s;
  const V half_square = V::splat(typename V::Scalar(0.5)) * f * f;
  const V tail = fma(s, half_square + z * polynomial(z, C::log), parts.k * V::splat(C::ln2_low));
  return fma(parts.k, V::splat(C::ln2_high), f - (half_square - tail));
}

template <class V> ELMAN_INLINE V infinity() { return V::splat(typename V::Scalar(__builtin_inff())); }
template <class V> ELMAN_INLINE V not_a_number() { return V::splat(typename V::Scalar(__builtin_nanf(""))); }

template <class V> ELMAN_INLINE V log(V x) {
  V y = select(x < infinity<V>(), log_finite(x), x);  // infinity and NaN are their own logarithms
  y = select(x == V::splat(0), -infinity<V>(), y);
  return select(x < V::splat(0), not_a_number<V>(), y);
}

// log u + (x - (u-1))/u with u = 1 + x rounded
template <class V> ELMAN_INLINE V log1p(V x) {
  const V u = V::splat(1) + x;
  const V y = log(u) + (x - (u - V::splat(1))) / u;
  const typename V::Mask ordinary = (u > V::splat(0)) & (u < infinity<V>());
  const V edges = select(ordinary, y, log(u));
  return select(magnitude(x) < V::splat(Format<typename V::Scalar>::tiny), x, edges);
}

// log(1 + e^x), and x itself from 20 on, as torch has it
template <class V> ELMAN_INLINE V softplus(V x) {
  return select(x > V::splat(20), x, log1p(exp(x)));
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
