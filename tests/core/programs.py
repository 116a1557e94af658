"""Random sound programs, and random memory for them.

Values stay within a known bound, so that rounding cannot grow; operations with a jump (floor, comparisons) are only
applied to values that are exact, so that a rounding cannot flip them.
"""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from tests.core.assembly import CARRY, CTX, IN, OUT, REG, SOURCES, VEC, Assembly, Memory, Place

SMOOTH = {1: ["copy", "neg", "abs", "tanh", "sigmoid", "relu", "sin", "cos", "erf", "square"]}
SMOOTH[2] = ["add", "sub", "mul", "maximum", "minimum", "tanh_backward", "sigmoid_backward"]
SMOOTH[3] = ["fma", "clamp", "mul_sub", "sub_mul", "mul_mul", "mul_tanh_backward", "mul_sigmoid_backward"]
# Of positive arguments: applied to a square and a half.
POSITIVE = ["log", "sqrt", "rsqrt", "reciprocal", "log1p", "expm1", "exp", "softplus"]
NUMBERS = {"reduce_mean": 1, "dot_mean": 1, "dot_rstd": 2}  # the last sources of a reduction
JUMPS = {1: ["sign", "floor", "ceil", "round", "logical_not"]}
JUMPS[2] = ["lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or"]
LARGEST = 6.0


@dataclass
class Value:
    place: Place
    bound: float
    exact: bool = False


@dataclass
class Builder:
    """Appends random instructions; `values` are the places that may be read."""

    draw: st.DrawFn
    width: int
    assembly: Assembly = field(default_factory=Assembly)
    values: list[Value] = field(default_factory=list)

    def pick(self, condition=lambda value: True) -> Value:
        return self.draw(st.sampled_from([value for value in self.values if condition(value)]))

    def add(self, place: Place, bound: float) -> Value:
        value = Value(place, bound)
        if bound > LARGEST:
            value = Value(self.assembly.apply("tanh", place), 1.0)
        self.values.append(value)
        return value

    def slice(self, value: Value) -> Place:
        """The whole place, or one scalar of it to be repeated."""
        if self.draw(st.integers(0, 5)) == 0:
            at = self.draw(st.integers(0, value.place.size - 1))
            return value.place[at : at + 1]
        return value.place

    def target(self, size: int) -> Place:
        """A fresh register or output, possibly inside a wider one."""
        space = self.draw(st.sampled_from([REG, REG, REG, OUT]))
        before, after = self.draw(st.sampled_from([(0, 0), (0, 3), (2, 0), (1, 1)]))
        place = self.assembly.array(space, before + size + after)
        return place[before : before + size]

    def elementwise(self):
        sources = self.draw(st.integers(1, 3))
        op = self.draw(st.sampled_from(SMOOTH[sources]))
        values = [self.pick() for _ in range(sources)]
        places = [self.slice(value) for value in values]
        to = self.target(self.width)
        self.assembly.apply(op, *places, to=to)
        bounds = [max(value.bound, 1.0) for value in values]
        # Outside |y| <= 1 the backward formulas are cubic.
        grown = (
            np.prod(bounds[:-1]) * (1 + bounds[-1] ** 2)
            if op.endswith("_backward")
            else np.prod(bounds) + sum(bounds)
        )
        self.add(to, {"tanh": 1, "sigmoid": 1, "sin": 1, "cos": 1, "erf": 1}.get(op, float(grown)))

    def positive(self):
        op, half = self.draw(st.sampled_from(POSITIVE)), self.assembly.const(0.5)
        squared = self.assembly.apply("square", self.assembly.apply("tanh", self.pick().place))
        self.assembly.apply(op, self.assembly.apply("add", squared, half), to=(to := self.target(self.width)))
        self.add(to, 5.0)

    def choice(self):
        """where(a jump of exact values, x, y)."""
        sources = self.draw(st.integers(1, 2))
        op = self.draw(st.sampled_from(JUMPS[sources]))
        exact = [self.pick(lambda value: value.exact) for _ in range(sources)]
        jump = self.assembly.apply(op, *(value.place for value in exact))
        self.add(jump, max(value.bound for value in exact) + 1)
        x, y = self.pick(), self.pick()
        to = self.target(self.width)
        self.assembly.apply("where", jump, self.slice(x), self.slice(y), to=to)
        self.add(to, max(x.bound, y.bound))

    def reduce(self):
        op = self.draw(
            st.sampled_from(
                [
                    "reduce_sum",
                    "reduce_max",
                    "reduce_min",
                    "reduce_prod",
                    "reduce_dot",
                    "deviation_rstd",
                    *NUMBERS,
                ]
            )
        )
        value = self.pick(lambda value: value.bound <= 2)
        sizes = self.factors(3)
        outer, reduced, inner = sizes
        small = self.assembly.apply("mul", value.place, self.assembly.const(1.0 / max(reduced, 2)))
        to = self.assembly.array(REG, outer * inner)
        strides = (reduced * inner, inner, 1)
        numbers = [2.0, 0.5][: 2 if op == "deviation_rstd" else NUMBERS.get(op, 0)]
        sources = [(small, strides)] * (SOURCES[op] - len(numbers))
        if op == "deviation_rstd":  # from the first of those that are summed
            sources[1] = (small, (strides[0], 0, strides[2]))
        constants = [(self.assembly.const(number), (0, 0, 0)) for number in numbers]
        self.assembly.reduce(op, sizes, to, *sources, *constants)
        spread = self.assembly.array(REG, self.width)
        each = [(outer, reduced, inner), spread, (reduced * inner, inner, 1), to, (inner, 0, 1)]
        self.assembly.permute(*each)
        self.add(spread, 2.0)

    def factors(self, count: int) -> tuple[int, ...]:
        left, sizes = self.width, []
        for _ in range(count - 1):
            sizes.append(self.draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
            left //= sizes[-1]
        return (*sizes, left)

    def permute(self):
        value = self.pick()
        sizes = self.factors(self.draw(st.integers(1, 5)))
        strides = np.cumprod([1, *sizes[:0:-1]])[::-1].tolist()
        order = self.draw(st.permutations(range(len(sizes))))
        moved = [sizes[i] for i in order]
        to = self.target(self.width)
        to_strides = np.cumprod([1, *moved[:0:-1]])[::-1].tolist()
        self.assembly.permute(moved, to, to_strides, value.place, [strides[i] for i in order])
        self.add(to, value.bound)

    def cumsum(self):
        value = self.pick(lambda value: value.bound <= 2)
        small = self.assembly.apply("mul", value.place, self.assembly.const(1.0 / self.width))
        outer, inner = self.factors(2)
        to = self.target(self.width)
        along = self.draw(st.sampled_from([(inner, 1), (1, outer)]))
        self.assembly.strided("cumsum", outer, inner, (to, *along), (small, *along))
        self.add(to, 2.0)

    def norm_backward(self):
        g, y = (self.pick(lambda value: value.bound <= 2) for _ in range(2))
        outer, inner = self.factors(2)
        gain, r = (self.pick(lambda value: value.bound <= 2).place for _ in range(2))
        gains = self.draw(st.sampled_from([(gain, 0, 1), (gain, 1, 0), (self.assembly.const(0.5), 0, 0)]))
        to, far = self.target(self.width), self.draw(st.booleans())
        along = (1, outer) if far else (inner, 1)
        g, y = (g.place, *along), (y.place, *along)
        self.assembly.strided("norm_backward", outer, inner, (to, *along), g, gains, y, (r, 1, 0))
        self.add(to, 4 * (2 + 2 + 2 * 4))

    def rowmm(self):
        left, right = (self.pick(lambda value: value.bound <= 2) for _ in range(2))
        batch, m, k = self.factors(3)
        n = self.draw(st.integers(1, max(1, self.width // (batch * k))))
        to = self.assembly.array(REG, batch * m * n)
        scaled = self.assembly.apply("mul", left.place, self.assembly.const(1.0 / k))
        turned = self.draw(st.booleans())
        strides = (k * n, 1, k) if turned else (k * n, n, 1)
        self.assembly.rowmm((batch, m, k, n), to, scaled, (m * k, k, 1), right.place, strides)
        back = self.assembly.array(REG, self.width)
        rows = -(-self.width // to.size)
        assert rows * to.size >= self.width
        self.assembly.permute((self.width,), back, (1,), to, (0,) if to.size < self.width else (1,))
        self.add(back, 4.0)

    def gemm(self):
        K, N = self.draw(st.integers(1, self.width)), self.width
        value = self.pick(lambda value: value.bound <= 2)
        at = self.draw(st.integers(0, self.width - K))
        init = self.draw(st.none() | st.sampled_from(self.values))
        to = self.target(N)
        weight = self.assembly.weight(K, N)
        self.assembly.gemm(weight, value.place[at : at + K], init=init.place if init else None, to=to)
        if self.draw(st.booleans()):
            self.assembly.gemm(weight, value.place[at : at + K], init=to, to=to)
        self.add(to, 4.0 + (init.bound if init else 0))

    def in_place(self):
        value = self.pick(lambda value: value.place.space in {REG, OUT} and not value.exact)
        self.assembly.apply("sigmoid", value.place, to=value.place)
        for other in self.values:
            if other.place.space == value.place.space and other.place.index == value.place.index:
                other.bound = max(other.bound, 1.0)

    def finish(self):
        """Commits: from a bounded value, from another carry, or none."""
        carries = [value for value in self.values if value.place.space == CARRY]
        for carry in carries:
            kind = self.draw(st.sampled_from(["new", "new", "carry", "none"]))
            if kind == "carry":
                self.assembly.commit(carry.place, self.draw(st.sampled_from(carries)).place)
            elif kind == "new":
                self.assembly.commit(carry.place, self.assembly.apply("tanh", self.pick().place))


@st.composite
def assemblies(draw) -> Assembly:
    """IN, CTX, VEC within 1 and exact; up to three carries within 1."""
    builder = Builder(draw, draw(st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33, 64, 70])))
    for space, least in ((IN, 1), (CTX, 0), (VEC, 0), (CARRY, 0)):
        for _ in range(draw(st.integers(least, 2 + (space == CARRY)))):
            place = builder.assembly.array(space, builder.width)
            builder.values.append(Value(place, 1.0, exact=space != CARRY))
    steps = [builder.elementwise, builder.elementwise, builder.positive, builder.choice, builder.reduce,
             builder.permute, builder.cumsum, builder.norm_backward, builder.rowmm, builder.gemm,
             builder.gemm]  # fmt: skip
    builder.elementwise()
    for _ in range(draw(st.integers(0, 9))):
        draw(st.sampled_from([*steps, builder.in_place]))()
    builder.finish()
    return builder.assembly


def descending_lengths(rng: np.random.Generator, T: int, B: int) -> np.ndarray:
    """Offsets of B rows, the longest first; some may have no step at all."""
    lengths = np.sort(rng.integers(0, T + 1, B))[::-1]
    lengths[0] = T
    active = (lengths[None, :] > np.arange(T)[:, None]).sum(1)
    return np.concatenate([[0], np.cumsum(active)]).astype(np.int64)


def memory_for(
    assembly: Assembly, T: int, B: int, *, dtype: str, ragged: bool, reset_mode: int, seed: int
) -> Memory:
    rng = np.random.default_rng(seed)
    offsets = descending_lengths(rng, T, B) if ragged else None
    rows = int(offsets[-1]) if ragged else T * B

    def uniform(*shape):
        # Quarters are exact in either dtype, and meet one another in comparisons.
        values = np.where(
            rng.random(shape) < 0.3, np.round(rng.uniform(-4, 4, shape)) / 4, rng.uniform(-1, 1, shape)
        )
        return values.astype(np.float32).astype(dtype)

    def strided(width):
        gap = int(rng.integers(0, 3))
        return uniform(rows, width + gap)[:, :width]

    widths = assembly.widths
    weights = [
        (uniform(N, K).T if rng.random() < 0.5 else uniform(K, N)) / np.asarray(K, dtype)
        for K, N in assembly.nweights
    ]
    return Memory(
        T,
        B,
        [strided(width) for width in widths[IN]],
        [uniform(B, width) for width in widths[CTX]],
        [uniform(width) for width in widths[VEC]],
        [np.full((rows, width), np.nan, dtype) for width in widths[OUT]],
        [uniform(B, width) for width in widths[CARRY]],
        weights,
        offsets,
        (rng.random(rows) < 0.3).astype(np.uint8) if reset_mode else None,
        reset_mode,
        [uniform(B, width) for width in widths[CARRY]] if reset_mode else [],
    )
