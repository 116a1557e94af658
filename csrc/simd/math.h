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
  static constexpr float expm1_low = -18, tanh_is_one = 9.5f, tiny = 0x1p-26f, splitter = 0x1p12f + 1;
  static constexpr float smallest_normal = 0x1p-126f, subnormal_scale = 0x1p25f, subnormal_exponent = 25;
};
template <> struct Format<double> {
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double to_integer = 0x1.8p52;
  static constexpr double exp_low = -746, exp_high = 710;
  static constexpr double expm1_low = -38, tanh_is_one = 19.5, tiny = 0x1p-55, splitter = 0x1p27 + 1;
  static constexpr double smallest_normal = 0x1p-1022, subnormal_scale = 0x1p54, subnormal_exponent = 54;
};

template <class V, int n> ELMAN_INLINE V polynomial(V x, const typename V::Scalar (&c)[n]) {
  V sum = V::splat(c[0]);
#pragma GCC unroll 16
  for (int i = 1; i < n; ++i) sum = fma(sum, x, V::splat(c[i]));
  return sum;
}

// 2^k for exponents in the normal range.
template <class V> ELMAN_INLINE V power_of_two(typename V::Mask k) {
  using F = Format<typename V::Scalar>;
  return V::from_bits(shifted_up<V>(plus<V>(k, all<V>(F::bias)), F::mantissa));
}

// x * 2^k, rounded once; k is given both as floating point and as an integer.
template <class V> ELMAN_INLINE V scaled(V x, V, typename V::Mask k) {
  const typename V::Mask half = k >> 1;
  return x * power_of_two<V>(half) * power_of_two<V>(minus<V>(k, half));
}
#if defined(__AVX512F__)
ELMAN_INLINE Float scaled(Float x, Float k, Float::Mask) { return {_mm512_scalef_ps(x.v, k.v)}; }
ELMAN_INLINE Double scaled(Double x, Double k, Double::Mask) { return {_mm512_scalef_pd(x.v, k.v)}; }
#endif

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
  return {whole, minus<V>(shifted.bits(), shift.bits()), remainder};
}

// e^x for x that is not above exp_high
template <class V> ELMAN_INLINE V exp_of_bounded(V x) {
  using F = Format<typename V::Scalar>;
  const ExpParts<V> parts = exp_parts(at_least(x, V::splat(F::exp_low)));
  return scaled(parts.remainder + V::splat(1), parts.whole, parts.k);
}

template <class V> ELMAN_INLINE V exp(V x) {
  using F = Format<typename V::Scalar>;
  return exp_of_bounded(at_most(x, V::splat(F::exp_high)));
}

template <class V> ELMAN_INLINE V expm1(V x) {
  using F = Format<typename V::Scalar>;
  const ExpParts<V> parts = exp_parts(at_least(at_most(x, V::splat(F::exp_high)), V::splat(F::expm1_low)));
  // Half of everything, so that 2^k does not overflow before the result does.
  const V half_scale = power_of_two<V>(minus<V>(parts.k, all<V>(1)));
  const V half = fma(parts.remainder, half_scale, half_scale - V::splat(typename V::Scalar(0.5)));
  return select(magnitude(x) < V::splat(F::tiny), x, half + half);
}

// a*b + c where the sum cancels: what is left of the product's rounding counts.
template <class V> ELMAN_INLINE V residual(V a, V b, V c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return fma(a, b, c);
#else
  const V splitter = V::splat(Format<typename V::Scalar>::splitter);  // halves of a and b multiply exactly (Dekker 1971)
  const V a_high = a * splitter - (a * splitter - a), b_high = b * splitter - (b * splitter - b);
  const V a_low = a - a_high, b_low = b - b_high, product = a * b;
  const V rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
  return (product + c) + rest;
#endif
}

// tanh |x| = -u / (2 + u) with u = e^(-2|x|) - 1 = (e^r - 1) 2^k + (2^k - 1). Near 1 the errors of u and of 2 + u count
// twice; both are known exactly, and one Newton step with them takes the quotient to about 1 ulp.
template <class V> ELMAN_INLINE V tanh(V x) {
  const V size = magnitude(x), limit = V::splat(Format<typename V::Scalar>::tanh_is_one);
  const ExpParts<V> parts = exp_parts(at_most(size, limit) * V::splat(-2));
  const V scale = power_of_two<V>(parts.k);
  const V small = parts.remainder * scale, large = scale - V::splat(1);
  const V u = large + small, u_rest = small - (u - large);
  const V bottom = u + V::splat(2), bottom_rest = (u - (bottom - V::splat(2))) + u_rest;
  const V inverse = V::splat(1) / bottom;
  const V quotient = u * inverse;
  const V left = residual(-quotient, bottom, u) + fma(-quotient, bottom_rest, u_rest);
  return with_sign_of(fma(left, inverse, quotient), x);
}

// 1 / (1 + e^-x), as e^x / (1 + e^x) for x < 0: nothing overflows. The rounding of 1 + e and of the quotient are
// taken back by one Newton step, so that only the error of e is left.
template <class V> ELMAN_INLINE V sigmoid(V x) {
  const V one = V::splat(1), e = exp_of_bounded(-magnitude(x));
  const V top = select(x < V::splat(0), e, one);
  const V bottom = one + e, bottom_rest = e - (bottom - one);
  const V inverse = one / bottom;
  const V quotient = top * inverse;
  const V left = fma(-quotient, bottom_rest, residual(-quotient, bottom, top));
  return fma(left, inverse, quotient);
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
  const Mask offset = minus<V>(x.bits(), half_root) >> F::mantissa;
  const V m = V::from_bits(minus<V>(x.bits(), shifted_up<V>(offset, F::mantissa)));
  const V magic = V::splat(F::to_integer);
  const V k = V::from_bits(plus<V>(magic.bits(), offset)) - magic;  // whole number -> floating point
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
