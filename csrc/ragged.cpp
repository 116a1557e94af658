#include "ragged.h"

#include <algorithm>
#include <numeric>

#include "reader.h"

namespace elman {

Ragged::Ragged(Int T, Int B, bool reverse, const Int* lengths, const unsigned char* mask, const unsigned char* reset)
    : T(T), B(B), reverse(reverse) {
  if (T < 1 || B < 1 || T > largest || B > largest) refuse("T = " + text(T) + ", B = " + text(B) + ", expected 1 or more");
  const auto size = [](Int count) { return std::size_t(count); };
  std::vector<Int> counts(size(B), T);
  for (Int b = 0; lengths && b < B; ++b) {
    if (lengths[b] < 0 || lengths[b] > T) refuse("a length is " + text(lengths[b]) + ", expected 0.." + text(T));
    counts[size(b)] = lengths[b];
  }
  std::vector<Int> times;  // [T, B]: of the k-th step that a row takes; empty: k
  if (mask) {
    times.resize(size(T * B));
    std::vector<Int> taken(size(B), 0);
    for (Int t = 0; t < T; ++t)
      for (Int b = 0; b < B; ++b)
        if (mask[t * B + b] && t < counts[size(b)]) times[size(taken[size(b)]++ * B + b)] = t;
    counts = taken;
  }
  order.resize(size(B));
  std::iota(order.begin(), order.end(), Int(0));
  std::stable_sort(order.begin(), order.end(), [&](Int a, Int b) { return counts[size(a)] > counts[size(b)]; });
  steps = counts[size(order[0])], waits = counts[size(order.back())] == 0, is_whole = counts[size(order.back())] == T;
  rows = std::accumulate(counts.begin(), counts.end(), Int(0));
  offsets.reserve(size(steps) + 1), index.reserve(size(rows));
  offsets.push_back(0);
  Int active = B;
  for (Int k = 0; k < steps; ++k) {
    while (counts[size(order[size(active - 1)])] <= k) --active;
    for (Int r = 0; r < active; ++r) {
      const Int b = order[size(r)];
      index.push_back((times.empty() ? k : times[size(k * B + b)]) * B + b);
    }
    offsets.push_back(Int(index.size()));
  }
  if (reset) mark(reset, counts, times);
  if (!is_whole) find_holes();
}

void Ragged::mark(const unsigned char* reset, const std::vector<Int>& counts, const std::vector<Int>& times) {
  flags.assign(std::size_t(rows), 0);
  for (Int r = 0; r < B; ++r) {
    const Int b = order[std::size_t(r)], count = counts[std::size_t(b)];
    Int t = 0;
    for (Int k = 0; k < count; ++k) {
      const Int last = times.empty() ? k : times[std::size_t(k * B + b)];
      bool back = false;
      for (; t <= last; ++t) back = back || reset[t * B + b];
      const Int at = reverse ? k - 1 : k;
      if (back && at >= 0) flags[std::size_t(offsets[std::size_t(at)] + r)] = 1;
    }
  }
}

void Ragged::find_holes() {
  std::vector<unsigned char> taken(std::size_t(T * B), 0);
  for (Int place : index) taken[std::size_t(place)] = 1;
  for (Int i = 0, begin; i < T * B;) {
    if (taken[std::size_t(i)]) { ++i; continue; }
    for (begin = i; i < T * B && !taken[std::size_t(i)];) ++i;
    holes.push_back({begin, i});
  }
}

}  // namespace elman
