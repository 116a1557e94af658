// The table of operations: every instruction of a loop kernel is one row here. Opcodes are the row numbers, and
// Python reads them from `_core.OPS`, so there is no second list anywhere. An elementwise row needs a functor of
// the same name in simd/functors.h (a missing one does not compile).
#pragma once

#include <cstdint>

namespace elman {

// X(name, number of sources)
#define ELMAN_ELEMENTWISE_OPS(X)                                                                                  \
  X(copy, 1) X(neg, 1) X(abs, 1) X(exp, 1) X(log, 1) X(log1p, 1) X(expm1, 1) X(sqrt, 1) X(rsqrt, 1)                \
  X(reciprocal, 1) X(square, 1) X(tanh, 1) X(sigmoid, 1) X(relu, 1) X(sin, 1) X(cos, 1) X(erf, 1) X(sign, 1)       \
  X(floor, 1) X(ceil, 1) X(round, 1) X(softplus, 1) X(logical_not, 1)                                             \
  X(add, 2) X(sub, 2) X(mul, 2) X(div, 2) X(pow, 2) X(maximum, 2) X(minimum, 2)                                    \
  X(lt, 2) X(le, 2) X(gt, 2) X(ge, 2) X(eq, 2) X(ne, 2) X(logical_and, 2) X(logical_or, 2)                         \
  X(tanh_backward, 2) X(sigmoid_backward, 2) X(threshold_backward0, 2)                                            \
  X(where, 3) X(clamp, 3) X(fma, 3) X(mul_sub, 3) X(sub_mul, 3) X(mul_mul, 3)                                      \
  X(mul_tanh_backward, 3) X(mul_sigmoid_backward, 3) X(sub_scaled, 3)

// Four end in numbers: a sum / n, a sum of products / n, 1 / sqrt(a sum of products / n + e), and the same of
// squares of a - m, where m is one number for each sum. The last seven give places of a line or go by them
// (simd/picking.h).
#define ELMAN_REDUCE_OPS(X)                                                                     \
  X(reduce_sum, 1) X(reduce_max, 1) X(reduce_min, 1) X(reduce_prod, 1) X(reduce_dot, 2)         \
  X(reduce_mean, 2) X(dot_mean, 3) X(dot_rstd, 4) X(deviation_rstd, 4)                          \
  X(place_of_max, 1) X(place_of_min, 1) X(gather, 2) X(scatter, 3) X(scatter_add, 3)            \
  X(order, 2) X(top, 3)

// norm_backward: what a norm y = (x - mean(x)) r hands back of g = g' gain: (g - mean(g) - y mean(g y)) r.
#define ELMAN_STRUCTURED_OPS(X) X(cumsum, 1) X(norm_backward, 4) X(permute, 1) X(rowmm, 2) X(gemm, 2)

#define ELMAN_OPS(X) ELMAN_ELEMENTWISE_OPS(X) ELMAN_REDUCE_OPS(X) ELMAN_STRUCTURED_OPS(X)

enum class Op : std::int32_t {
#define ELMAN_ENUMERATE(name, sources) name,
  ELMAN_OPS(ELMAN_ENUMERATE)
#undef ELMAN_ENUMERATE
};

struct OpRow {
  const char* name;
  int sources;
};

inline constexpr OpRow op_table[] = {
#define ELMAN_ROW(name, sources) {#name, sources},
    ELMAN_OPS(ELMAN_ROW)
#undef ELMAN_ROW
};

inline constexpr int op_count = sizeof(op_table) / sizeof(op_table[0]);

inline constexpr bool is_elementwise(Op op) { return op < Op::reduce_sum; }
// Of the form (outer, inner), with two strides an operand.
inline constexpr bool is_by_lines(Op op) { return is_elementwise(op) || op == Op::cumsum || op == Op::norm_backward; }
inline constexpr bool is_reduction(Op op) { return op >= Op::reduce_sum && op < Op::cumsum; }

}  // namespace elman
