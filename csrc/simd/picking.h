// Picking and placing by indices, and orders. An index is a number in the row's own memory: what is no place of the line
// gives NaN, and is placed nowhere.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "elementwise.h"

namespace elman::ELMAN_ISA_NAMESPACE {

template <class T> ELMAN_INLINE bool is_place(T index, Int n) { return index >= 0 && index < T(n); }

// Where the largest (or smallest) element is: the first of equal ones, the first NaN before all others.
// size = (outer, reduced, inner); the destination is contiguous (outer, inner)
template <class T, bool largest> struct Extremum {
  static void run(const Bound<T>& b, T* const* at, Int rows) {
    for (Int r = 0; r < rows; ++r)
      for (Int o = 0; o < b.size[0]; ++o)
        for (Int i = 0; i < b.size[2]; ++i) {
          const T* src = at[1] + r * b.row[1] + o * b.stride[1][0] + i * b.stride[1][2];
          T best = src[0];
          Int found = 0;
          for (Int k = 1; k < b.size[1] && best == best; ++k) {
            const T x = src[k * b.stride[1][1]];
            if (x != x || (largest ? x > best : x < best)) best = x, found = k;
          }
          at[0][r * b.row[0] + o * b.stride[0][0] + i] = T(found);
        }
  }
};

// size = (outer, n, inner): dst[o, i] = src[o, index[o, i], i]
template <class T> void run_gather(const Bound<T>& b, T* const* at, Int rows) {
  for (Int r = 0; r < rows; ++r)
    for (Int o = 0; o < b.size[0]; ++o) {
      T* dst = at[0] + r * b.row[0] + o * b.stride[0][0];
      const T* src = at[1] + r * b.row[1] + o * b.stride[1][0];
      const T* index = at[2] + r * b.row[2] + o * b.stride[2][0];
      for (Int i = 0; i < b.size[2]; ++i) {
        const T k = index[i * b.stride[2][2]];
        dst[i] = is_place(k, b.size[1]) ? src[Int(k) * b.stride[1][1] + i * b.stride[1][2]]
                                        : std::numeric_limits<T>::quiet_NaN();
      }
    }
}

// size = (outer, k, n): dst[o, :] = base[o, :], then for each j in order dst[o, index[o, j]] = (or +=) values[o, j]
template <class T, bool adds> struct Scatter {
  static void run(const Bound<T>& b, T* const* at, Int rows) {
    for (Int r = 0; r < rows; ++r)
      for (Int o = 0; o < b.size[0]; ++o) {
        const auto begin = [&](int operand) { return at[operand] + r * b.row[operand] + o * b.stride[operand][0]; };
        T* dst = at[0] + r * b.row[0] + o * b.stride[0][0];
        const T *base = begin(1), *values = begin(2), *index = begin(3);
        for (Int i = 0; i < b.size[2]; ++i) dst[i] = base[i * b.stride[1][2]];
        for (Int j = 0; j < b.size[1]; ++j) {
          const T k = index[j * b.stride[3][1]], value = values[j * b.stride[2][1]];
          if (!is_place(k, b.size[2])) continue;
          if (adds) dst[Int(k)] += value;
          else dst[Int(k)] = value;
        }
      }
  }
};

template <class T> using Placed = std::pair<T, Int>;

// NaN counts as larger than all numbers.
template <class T> ELMAN_INLINE bool is_above(const Placed<T>& a, const Placed<T>& b) {
  return (a.first != a.first && b.first == b.first) || a.first > b.first;
}
template <class T> ELMAN_INLINE bool is_below(const Placed<T>& a, const Placed<T>& b) {
  return (a.first == a.first && b.first != b.first) || a.first < b.first;
}

// The places of a line in order, equal elements as they stand. size = (outer, 1, n); the second source is 1 for the
// largest first, else 0.
template <class T> void run_order(const Bound<T>& b, T* const* at, Int rows) {
  std::vector<Placed<T>> line(b.size[2]);
  for (Int r = 0; r < rows; ++r)
    for (Int o = 0; o < b.size[0]; ++o) {
      const T* src = at[1] + r * b.row[1] + o * b.stride[1][0];
      for (Int i = 0; i < b.size[2]; ++i) line[i] = {src[i * b.stride[1][2]], i};
      std::stable_sort(line.begin(), line.end(), *at[2] != 0 ? is_above<T> : is_below<T>);
      for (Int i = 0; i < b.size[2]; ++i) at[0][r * b.row[0] + o * b.stride[0][0] + i] = T(line[i].second);
    }
}

// The places of the k largest (second source 1) or smallest (0) elements. Of equal ones those that torch takes: the same
// algorithms on the same pairs. size = (outer, n, k); the third source is 1 where they are to be in order.
template <class T> void run_top(const Bound<T>& b, T* const* at, Int rows) {
  const Int n = b.size[1], k = b.size[2];
  std::vector<Placed<T>> line(n);
  const auto before = *at[2] != 0 ? is_above<T> : is_below<T>;
  for (Int r = 0; r < rows; ++r)
    for (Int o = 0; o < b.size[0]; ++o) {
      const T* src = at[1] + r * b.row[1] + o * b.stride[1][0];
      for (Int i = 0; i < n; ++i) line[i] = {src[i * b.stride[1][1]], i};
      if (k * 64 <= n) std::partial_sort(line.begin(), line.begin() + k, line.end(), before);
      else {
        std::nth_element(line.begin(), line.begin() + k - 1, line.end(), before);
        if (*at[3] != 0) std::sort(line.begin(), line.begin() + k - 1, before);
      }
      for (Int i = 0; i < k; ++i) at[0][r * b.row[0] + o * b.stride[0][0] + i] = T(line[i].second);
    }
}

}  // namespace elman::ELMAN_ISA_NAMESPACE
