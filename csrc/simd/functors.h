// One functor per elementwise row of the op table, on whole vectors. Booleans are 0 and 1 of the number type.
// NaN goes where torch lets it go: through maximum, minimum, clamp and relu; sign(NaN) is 0.
#pragma once

#include <math.h>

#include "math.h"

namespace elman::ELMAN_ISA_NAMESPACE::functor {

template <class V> ELMAN_INLINE V truth(typename V::Mask mask) { return select(mask, V::splat(1), V::splat(0)); }
template <class V> ELMAN_INLINE V one() { return V::splat(1); }
template <class V> ELMAN_INLINE typename V::Mask holds(V x) { return x != V::splat(0); }
template <class V> ELMAN_INLINE V larger(V a, V b) { return select((a > b) | (a != a), a, b); }
template <class V> ELMAN_INLINE V smaller(V a, V b) { return select((a < b) | (a != a), a, b); }

// The C library's function, lane by lane (its float forms are at most 1 ulp off).
#define ELMAN_LIBRARY(name)                                  \
  ELMAN_INLINE float library_##name(float x) { return ::name##f(x); } \
  ELMAN_INLINE double library_##name(double x) { return ::name(x); }
ELMAN_LIBRARY(sin)
ELMAN_LIBRARY(cos)
ELMAN_LIBRARY(erf)
#undef ELMAN_LIBRARY
ELMAN_INLINE float library_pow(float x, float y) { return ::powf(x, y); }
ELMAN_INLINE double library_pow(double x, double y) { return ::pow(x, y); }

#define ELMAN_UNARY(name, expression)                                           \
  struct name {                                                                 \
    template <class V> static ELMAN_INLINE V apply(V a) { return expression; } \
  };
#define ELMAN_BINARY(name, expression)                                               \
  struct name {                                                                      \
    template <class V> static ELMAN_INLINE V apply(V a, V b) { return expression; } \
  };
#define ELMAN_TERNARY(name, expression)                                                   \
  struct name {                                                                           \
    template <class V> static ELMAN_INLINE V apply(V a, V b, V c) { return expression; } \
  };

namespace isa = elman::ELMAN_ISA_NAMESPACE;

ELMAN_UNARY(copy, a)
ELMAN_UNARY(neg, -a)
ELMAN_UNARY(abs, isa::magnitude(a))
ELMAN_UNARY(exp, isa::exp(a))
ELMAN_UNARY(log, isa::log(a))
ELMAN_UNARY(log1p, isa::log1p(a))
ELMAN_UNARY(expm1, isa::expm1(a))
ELMAN_UNARY(sqrt, isa::sqrt(a))
ELMAN_UNARY(rsqrt, one<V>() / isa::sqrt(a))
ELMAN_UNARY(reciprocal, one<V>() / a)
ELMAN_UNARY(square, a* a)
ELMAN_UNARY(tanh, isa::tanh(a))
ELMAN_UNARY(sigmoid, isa::sigmoid(a))
ELMAN_UNARY(relu, select(a < V::splat(0), V::splat(0), a))
ELMAN_UNARY(sin, by_lane(a, [](auto x) { return library_sin(x); }))
ELMAN_UNARY(cos, by_lane(a, [](auto x) { return library_cos(x); }))
ELMAN_UNARY(erf, by_lane(a, [](auto x) { return library_erf(x); }))
ELMAN_UNARY(sign, truth<V>(a > V::splat(0)) - truth<V>(a < V::splat(0)))
ELMAN_UNARY(floor, isa::floor(a))
ELMAN_UNARY(ceil, isa::ceil(a))
ELMAN_UNARY(round, isa::round_even(a))
ELMAN_UNARY(softplus, isa::softplus(a))
ELMAN_UNARY(logical_not, truth<V>(a == V::splat(0)))

ELMAN_BINARY(add, a + b)
ELMAN_BINARY(sub, a - b)
ELMAN_BINARY(mul, a* b)
ELMAN_BINARY(div, a / b)
ELMAN_BINARY(pow, by_lane(a, b, [](auto x, auto y) { return library_pow(x, y); }))
ELMAN_BINARY(maximum, select(b != b, b, larger(a, b)))
ELMAN_BINARY(minimum, select(b != b, b, smaller(a, b)))
ELMAN_BINARY(lt, truth<V>(a < b))
ELMAN_BINARY(le, truth<V>(a <= b))
ELMAN_BINARY(gt, truth<V>(a > b))
ELMAN_BINARY(ge, truth<V>(a >= b))
ELMAN_BINARY(eq, truth<V>(a == b))
ELMAN_BINARY(ne, truth<V>(a != b))
ELMAN_BINARY(logical_and, truth<V>(holds(a) & holds(b)))
ELMAN_BINARY(logical_or, truth<V>(holds(a) | holds(b)))
ELMAN_BINARY(tanh_backward, a*(one<V>() - b * b))
ELMAN_BINARY(sigmoid_backward, a*(one<V>() - b) * b)
ELMAN_BINARY(threshold_backward0, select(b <= V::splat(0), V::splat(0), a))

ELMAN_TERNARY(where, select(holds(a), b, c))
// A product and what becomes of it: a b + c, a b - c, c - a b, a b c, and a b handed back through tanh or sigmoid, of
// which c is the value; and (a - b) c.
ELMAN_TERNARY(fma, isa::fma(a, b, c))
ELMAN_TERNARY(mul_sub, isa::fma(a, b, -c))
ELMAN_TERNARY(sub_mul, isa::fma(-a, b, c))
ELMAN_TERNARY(mul_mul, a* b* c)
ELMAN_TERNARY(mul_tanh_backward, tanh_backward::apply(a* b, c))
ELMAN_TERNARY(mul_sigmoid_backward, sigmoid_backward::apply(a* b, c))
ELMAN_TERNARY(sub_scaled, (a - b) * c)
ELMAN_TERNARY(clamp, minimum::apply(maximum::apply(a, b), c))

#undef ELMAN_UNARY
#undef ELMAN_BINARY
#undef ELMAN_TERNARY

}  // namespace elman::ELMAN_ISA_NAMESPACE::functor
