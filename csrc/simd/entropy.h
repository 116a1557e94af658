// Cross entropy of rows of logits, and its gradient, in the place of the logits (see Entropy in plan.h).
//
// A row is taken in chunks that stay in the first-level cache while their maximum is found and their powers are taken; of a
// chunk e^(z - its maximum) is kept, and `factor` takes it to the row's probabilities: the maximum of a row costs no pass.
#pragma once

#include "math.h"

namespace elman::ELMAN_ISA_NAMESPACE {

// Lanes at n and behind become `other`.
template <class V> ELMAN_INLINE V only_first(V x, Int n, typename V::Scalar other) {
  for (int i = 0; i < V::N; ++i)
    if (i >= n) x.v[i] = other;
  return x;
}

template <class V, class F> ELMAN_INLINE typename V::Scalar over_lanes(V x, F f) {
  typename V::Scalar found = x.v[0];
  for (int i = 1; i < V::N; ++i) found = f(found, typename V::Scalar(x.v[i]));
  return found;
}
template <class V> ELMAN_INLINE typename V::Scalar sum_of(V x) {
  return over_lanes(x, [](auto a, auto b) { return a + b; });
}

struct Yes {
  static constexpr bool value = true;
};
struct No {
  static constexpr bool value = false;
};

template <class T> struct ChunkSums {
  T top;      // the largest logit
  T base;     // what was taken from the logits: top, but 0 where all are -infinity
  T power;    // sum of e^(z - base)
  T lack;     // sum of w (base - z)
  T weights;  // sum of w
};

// Classes [begin, begin + n) of a row. even: with `lack` and `weights`; weighted: w is e.weight, else 1; keeps: powers are stored.
template <class V, bool biased, bool even, bool weighted, bool keeps>
ChunkSums<typename V::Scalar> chunk_of(const Entropy<typename V::Scalar>& e, typename V::Scalar* z, Int begin, Int n) {
  using T = typename V::Scalar;
  constexpr int wide = 4;
  constexpr Int step = wide * V::N;
  const T *bias = e.bias + (biased ? begin : 0), *weight = e.weight + (weighted ? begin : 0);
  const auto logits = [&](Int i) __attribute__((always_inline)) {
    return biased ? V::load(z + i) + V::load(bias + i) : V::load(z + i);
  };
  const auto last_logits = [&](Int i) __attribute__((always_inline)) {
    const V x = load_first<V>(z + i, n - i);
    return biased ? x + load_first<V>(bias + i, n - i) : x;
  };
  const T lowest = -T(__builtin_inff());
  V top[wide];
  for (int j = 0; j < wide; ++j) top[j] = V::splat(lowest);
  Int i = 0;
  for (; i + step <= n; i += step)
#pragma GCC unroll 4
    for (int j = 0; j < wide; ++j) top[j] = at_least(top[j], logits(i + j * V::N));
  for (; i + V::N <= n; i += V::N) top[0] = at_least(top[0], logits(i));
  if (i < n) top[0] = at_least(top[0], only_first(last_logits(i), n - i, lowest));
  for (int j = 1; j < wide; ++j) top[0] = at_least(top[0], top[j]);
  const T most = over_lanes(top[0], [](T a, T b) { return b > a ? b : a; });
  const T base = most > lowest ? most : T(0);
  V power[wide], lack[wide], weights[wide];
  for (int j = 0; j < wide; ++j) power[j] = lack[j] = weights[j] = V::splat(0);
  const V from = V::splat(base);
  const auto take = [&](V x, V w, T* out, int j, Int lanes) __attribute__((always_inline)) {
    const V below = x - from;
    V p = exp_of_bounded(below);
    if (keeps) store_up_to(p, out, lanes);
    if (lanes < V::N) p = only_first(p, lanes, T(0));
    power[j] = power[j] + p;
    if (even) {
      const V missing = weighted ? -(below * w) : -below;
      lack[j] = lack[j] + (lanes < V::N ? only_first(missing, lanes, T(0)) : missing);
    }
    if (even && weighted) weights[j] = weights[j] + w;
  };
  for (i = 0; i + step <= n; i += step)
#pragma GCC unroll 4
    for (int j = 0; j < wide; ++j) {
      const Int k = i + j * V::N;
      take(logits(k), weighted ? V::load(weight + k) : V::splat(1), z + k, j, V::N);
    }
  for (; i + V::N <= n; i += V::N) take(logits(i), weighted ? V::load(weight + i) : V::splat(1), z + i, 0, V::N);
  if (i < n) take(last_logits(i), weighted ? load_first<V>(weight + i, n - i) : V::splat(1), z + i, 0, n - i);
  const auto total = [](V(&x)[wide]) { return sum_of((x[0] + x[1]) + (x[2] + x[3])); };
  return {most, base, total(power), total(lack), even && weighted ? total(weights) : T(n)};
}

template <class V, bool biased, bool even, bool weighted, bool keeps>
void entropy_of_rows(const Entropy<typename V::Scalar>& e, Int first, Int last) {
  using T = typename V::Scalar;
  const Int chunks = (e.classes + entropy_chunk - 1) / entropy_chunk;
  for (Int r = first; r < last; ++r) {
    T* z = e.z + r * e.stride;
    const Int target = e.target[r];
    const T right = z[target] + (biased ? e.bias[target] : T(0));
    T* factor = e.factor + r * chunks;
    T top = -T(__builtin_inff()), power = 0, lack = 0, weights = 0;
    // What is summed so far is relative to `top`, and factor[c] holds the base of a chunk until the row's top is known.
    const auto raised = [](T by) { return T(exp_of_bounded(V::splat(by)).v[0]); };
    for (Int c = 0; c < chunks; ++c) {
      const Int begin = c * entropy_chunk, left = e.classes - begin;
      const ChunkSums<T> own = chunk_of<V, biased, even, weighted, keeps>(e, z + begin, begin, left < entropy_chunk ? left : entropy_chunk);
      const T before = top;
      factor[c] = own.top;
      if (own.top > top) top = own.top;
      if (!(top > -T(__builtin_inff()))) {
        power += own.power, lack += own.lack, weights += own.weights;
        continue;
      }
      const T base = before > -T(__builtin_inff()) ? before : T(0);
      if (even) lack += weights * (top - base) + own.lack + own.weights * (top - own.base);
      weights += own.weights;
      power = (before < top && before > -T(__builtin_inff()) ? power * raised(before - top) : power) +
              (own.top < top ? own.power * raised(own.top - top) : own.power);
    }
    const bool none = !(top > -T(__builtin_inff()));  // all are -infinity, or NaN
    const T whole = none ? power + T(__builtin_nanf("")) : power;
    const T rest = log(V::splat(whole)).v[0];
    e.nll[r] = rest - (right - top);
    if (even) e.even[r] = weights * rest + lack;
    if (keeps)
      for (Int c = 0; c < chunks; ++c) factor[c] = (factor[c] < top ? raised(factor[c] - top) : T(1)) / whole;
  }
}

template <class V> void run_entropy(const Entropy<typename V::Scalar>& e, Int first, Int last) {
  const auto with = [&](auto biased, auto even, auto weighted) {
    if (e.keeps) entropy_of_rows<V, biased.value, even.value, weighted.value, true>(e, first, last);
    else entropy_of_rows<V, biased.value, even.value, weighted.value, false>(e, first, last);
  };
  const auto kinds = [&](auto biased) {
    if (!e.even) with(biased, No{}, No{});
    else if (!e.weight) with(biased, Yes{}, No{});
    else with(biased, Yes{}, Yes{});
  };
  if (e.bias) kinds(Yes{});
  else kinds(No{});
}

template <class V, bool even, bool weighted, bool summed>
void gradient_of_chunk(const EntropyGradient<typename V::Scalar>& g, Int c) {
  using T = typename V::Scalar;
  const Int begin = c * entropy_chunk, left = g.classes - begin, n = left < entropy_chunk ? left : entropy_chunk;
  const Int chunks = (g.classes + entropy_chunk - 1) / entropy_chunk;
  const T* weight = g.weight + (weighted ? begin : 0);
  T* sum = g.sum + (summed ? begin : 0);
  for (Int r = 0; r < g.rows; ++r) {
    T* z = g.z + r * g.stride + begin;
    const V by = V::splat(g.scale[r] * g.factor[r * chunks + c]), less = V::splat(even ? -g.even[r] : T(0));
    const bool adds = g.adds || r;
    const Int target = g.target[r] - begin;
    const bool here = target >= 0 && target < n;
    const auto one = [&](Int i, Int lanes) __attribute__((always_inline)) {
      const V x = load_up_to<V>(z + i, lanes);
      const V y = !even ? x * by : fma(x, by, weighted ? less * load_up_to<V>(weight + i, lanes) : less);
      store_up_to(y, z + i, lanes);
      if (summed) store_up_to(adds ? load_up_to<V>(sum + i, lanes) + y : y, sum + i, lanes);
    };
    Int i = 0;
    for (; i + V::N <= n; i += V::N) one(i, V::N);
    if (i < n) one(i, n - i);
    if (!here) continue;
    z[target] -= g.right[r];
    if (summed) sum[target] -= g.right[r];
  }
}

// Chunks [first, last) of all rows.
template <class V> void run_entropy_gradient(const EntropyGradient<typename V::Scalar>& g, Int first, Int last) {
  const auto with = [&](auto even, auto weighted) {
    for (Int c = first; c < last; ++c)
      if (g.sum) gradient_of_chunk<V, even.value, weighted.value, true>(g, c);
      else gradient_of_chunk<V, even.value, weighted.value, false>(g, c);
  };
  if (!g.even) with(No{}, No{});
  else if (!g.weight) with(Yes{}, No{});
  else with(Yes{}, Yes{});
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
