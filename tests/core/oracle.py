"""The slow, obvious interpreter of the core's code: numpy, one row and one instruction at a time."""

import numpy as np
import torch

from tests.core.assembly import CARRY, CONST, CTX, IN, OPCODE, OUT, REG, SOURCES, VEC, Assembly, Memory

NAMES = {opcode: name for name, opcode in OPCODE.items()}


def truth(x):
    return x.astype(float)


def through_torch(function):
    """torch says what the elementwise operations mean; float64 makes them exact enough for a reference."""

    def apply(*sources):
        shape = np.broadcast_shapes(*(source.shape for source in sources))
        tensors = [torch.from_numpy(np.broadcast_to(source, shape).copy()) for source in sources]
        return function(*tensors).numpy()

    return apply


def norm_backward(g, gain, y, r):
    g = g * gain
    mean, slope = g.mean(1, keepdims=True), (g * y).mean(1, keepdims=True)
    return (g - mean - y * slope) * r


def placed(base, values, places, *, adds):
    """(outer, k, n) each: a base for each line, with a value for each of its places."""
    out = base[:, 0].copy()
    for o, j in np.ndindex(*values.shape[:2]):
        k = int(places[o, j, 0])
        out[o, k] = values[o, j, 0] + (out[o, k] if adds else 0)
    return out


MEANING = {
    "copy": lambda a: a,
    "neg": lambda a: -a,
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "reciprocal": lambda a: 1 / a,
    "square": lambda a: a * a,
    "tanh": np.tanh,
    "sigmoid": through_torch(torch.sigmoid),
    "relu": through_torch(torch.relu),
    "sin": np.sin,
    "cos": np.cos,
    "erf": through_torch(torch.erf),
    "sign": through_torch(torch.sign),
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "softplus": through_torch(torch.nn.functional.softplus),
    "logical_not": lambda a: truth(a == 0),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "lt": lambda a, b: truth(a < b),
    "le": lambda a, b: truth(a <= b),
    "gt": lambda a, b: truth(a > b),
    "ge": lambda a, b: truth(a >= b),
    "eq": lambda a, b: truth(a == b),
    "ne": lambda a, b: truth(a != b),
    "logical_and": lambda a, b: truth((a != 0) & (b != 0)),
    "logical_or": lambda a, b: truth((a != 0) | (b != 0)),
    "tanh_backward": lambda g, y: g * (1 - y * y),
    "sigmoid_backward": lambda g, y: g * (1 - y) * y,
    "threshold_backward0": lambda g, x: np.where(x <= 0, 0, g),
    "where": lambda c, a, b: np.where(c != 0, a, b),
    "fma": lambda a, b, c: a * b + c,
    "mul_sub": lambda a, b, c: a * b - c,
    "sub_mul": lambda a, b, c: c - a * b,
    "mul_mul": lambda a, b, c: a * b * c,
    "mul_tanh_backward": lambda a, b, y: a * b * (1 - y * y),
    "mul_sigmoid_backward": lambda a, b, y: a * b * (1 - y) * y,
    "clamp": through_torch(torch.clamp),
    "reduce_sum": lambda a: a.sum(1),
    "reduce_max": lambda a: a.max(1),
    "reduce_min": lambda a: a.min(1),
    "reduce_prod": lambda a: a.prod(1),
    "reduce_dot": lambda a, b: (a * b).sum(1),
    "reduce_mean": lambda a, n: a.sum(1) / n[:, 0],
    "dot_mean": lambda a, b, n: (a * b).sum(1) / n[:, 0],
    "dot_rstd": lambda a, b, n, e: 1 / np.sqrt((a * b).sum(1) / n[:, 0] + e[:, 0]),
    "deviation_rstd": lambda a, m, n, e: 1 / np.sqrt(((a - m) ** 2).sum(1) / n[:, 0] + e[:, 0]),
    "place_of_max": lambda a: a.argmax(1),
    "place_of_min": lambda a: a.argmin(1),
    "gather": lambda a, k: np.take_along_axis(a, k[:, :1].astype(int), 1)[:, 0],
    "scatter": lambda base, v, k: placed(base, v, k, adds=False),
    "scatter_add": lambda base, v, k: placed(base, v, k, adds=True),
    "order": lambda a, down: np.argsort(-a[:, 0] if down.flat[0] else a[:, 0], axis=1, kind="stable"),
    "top": lambda a, largest, in_order: np.argsort(
        -a[:, :, 0] if largest.flat[0] else a[:, :, 0], axis=1, kind="stable"
    )[:, : a.shape[2]],
    "sub_scaled": lambda a, b, c: (a - b) * c,
    "norm_backward": norm_backward,
    "cumsum": lambda a: np.cumsum(a, axis=1),
    "permute": lambda a: a,
}


REDUCTIONS = {name for name, code in OPCODE.items() if OPCODE["reduce_sum"] <= code < OPCODE["cumsum"]}


class Words:
    """The integers of one instruction, read in order."""

    def __init__(self, words):
        self.words = list(words)

    def take(self, n):
        taken, self.words = self.words[:n], self.words[n:]
        return taken

    def operand(self, sizes, strides=None):
        """(space, index, which elements): strides are read from the words if not given."""
        space, index, offset = self.take(3)
        strides = self.take(len(sizes)) if strides is None else strides
        grid = np.indices(sizes)
        return space, index, offset + sum(i * stride for i, stride in zip(grid, strides, strict=True))


class Row:
    """All arrays as one row of one step sees them."""

    def __init__(self, assembly: Assembly, memory: Memory, packed: int, row: int):
        self.arrays = {
            REG: [np.full(width, np.nan) for width in assembly.widths[REG]],
            IN: [array[packed].astype(float) for array in memory.ins],
            CTX: [array[row].astype(float) for array in memory.ctx],
            VEC: [array.astype(float) for array in memory.vec],
            OUT: [np.full(width, np.nan) for width in assembly.widths[OUT]],
            CARRY: [array[row].astype(float) for array in memory.carries],
            CONST: [np.array([value]) for value in assembly.consts],
        }

    def read(self, operand):
        space, index, elements = operand
        return self.arrays[space][index][elements]

    def write(self, operand, values):
        space, index, elements = operand
        self.arrays[space][index][elements] = values


def execute(row: Row, instruction, weights):
    words = Words(instruction)
    name = NAMES[words.take(1)[0]]
    if name == "gemm":
        weight, N, K = words.take(3)
        to = words.operand([N], [1])
        has_init = words.take(1)[0]
        init = words.operand([N], [1]) if has_init else words.take(3)
        a = words.operand([K], [1])
        start = row.read(init) if has_init else 0.0
        return row.write(to, start + row.read(a) @ weights[weight].astype(float))
    if name == "rowmm":
        batch, m, k, n = words.take(4)
        to = words.operand([batch, m, n], [m * n, n, 1])
        a, b = words.operand([batch, m, k]), words.operand([batch, k, n])
        return row.write(to, row.read(a) @ row.read(b))
    if name in REDUCTIONS:
        outer, reduced, inner = words.take(3)
        to = words.operand([outer, inner], [inner, 1])
        sources = [words.operand([outer, reduced, inner]) for _ in range(SOURCES[name])]
        return row.write(to, MEANING[name](*(row.read(source) for source in sources)))
    sizes = words.take(words.take(1)[0]) if name == "permute" else words.take(2)
    to = words.operand(sizes)
    sources = [words.operand(sizes) for _ in range(SOURCES[name])]
    return row.write(to, MEANING[name](*(row.read(source) for source in sources)))


def step_row(assembly: Assembly, memory: Memory, packed: int, r: int):
    """One row of one step; `memory` is changed."""
    flagged = memory.reset_mode and memory.reset_flags[packed]
    if flagged and memory.reset_mode == 1:
        for carry, start in zip(memory.carries, memory.resets, strict=True):
            carry[r] = start[r]
    row = Row(assembly, memory, packed, r)
    for instruction in assembly.code:
        execute(row, instruction, memory.weights)
    for array, values in zip(memory.outs, row.arrays[OUT], strict=True):
        array[packed] = values
    new = {}
    for carry, space, index, offset in assembly.commits:
        width = assembly.widths[CARRY][carry]
        source = row.arrays[space][index]
        new[carry] = source[0] if space == CONST else source[offset : offset + width].copy()
    for carry, value in new.items():
        memory.carries[carry][r] = value
    if flagged and memory.reset_mode == 2:
        for carry, total in zip(memory.carries, memory.resets, strict=True):
            total[r] += carry[r]
            carry[r] = 0


def run(assembly: Assembly, memory: Memory, *, reverse: bool = False) -> Memory:
    """What `assembly.run` of the kernel should come to, up to rounding."""
    memory = memory.copy()
    offsets = memory.offsets if memory.offsets is not None else np.arange(memory.T + 1) * memory.B
    times = range(memory.T)
    with np.errstate(all="ignore"):
        for t in reversed(times) if reverse else times:
            for r in range(offsets[t + 1] - offsets[t]):
                step_row(assembly, memory, int(offsets[t]) + r, r)
    return memory
