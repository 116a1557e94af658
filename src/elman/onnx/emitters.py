"""The table: for each operation of the engine how it is said in ONNX, or why it cannot be.

`EMITTERS` and `REASONS` together name every op of `elman.engine.program.ops`; a test walks that table.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

from elman.engine.program.execute import operation
from elman.engine.program.program import Node, Rows, Size, Value
from elman.onnx.graph import Handle, Refused, Scope
from elman.onnx.pointwise import POINTWISE, Emitter, operand

__all__ = ["EMITTERS", "REASONS", "emit"]

_MOST_FACTORS = 256  # of a product that is written out, term by term


def emit(scope: Scope, node: Node) -> None:
    """Write a node down; its results are values of the scope from then on. Raises Refused where ONNX has no word."""
    emitter = EMITTERS.get(node.op)
    if emitter is None:
        reason = REASONS.get(node.op, "ONNX has no such operation")
        raise Refused(
            f"{node.op} cannot be exported: {reason}{f' (in {node.source})' if node.source else ''}"
        )
    for v, made in zip(node.outs, emitter(scope, node), strict=True):
        scope.values[v.name] = made


def _argument(node: Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _axis(dim: int, v: Value) -> int:
    return dim % len(v.shape) if v.shape else 0


# ---- shapes


def _view(scope: Scope, node: Node) -> list[Handle]:
    return [scope.reshape(scope.get(node.args[0]), node.outs[0].shape)]


def _permute(scope: Scope, node: Node) -> list[Handle]:
    v = node.args[0]
    return [scope.op("Transpose", scope.get(v), perm=[_axis(d, v) for d in node.args[1]])]


def _expand(scope: Scope, node: Node) -> list[Handle]:
    """A size that is there already is asked for as 1, which ONNX's Expand leaves alone."""
    v, out = node.args[0], node.outs[0]
    before: list[Size] = [*[1] * (len(out.shape) - len(v.shape)), *v.shape]
    wanted = [1 if str(a) == str(n) else n for a, n in zip(before, out.shape, strict=True)]
    return [scope.op("Expand", scope.get(v), scope.size(wanted))]


def _slice(scope: Scope, node: Node) -> list[Handle]:
    v, out = node.args[0], node.outs[0]
    dim = _axis(_argument(node, 1, "dim", 0), v)
    if isinstance(v.shape[dim], Rows) and v.shape == out.shape:
        return [scope.get(v)]
    start, end = _argument(node, 2, "start", None), _argument(node, 3, "end", None)
    end = sys.maxsize if end is None or isinstance(end, Rows) else end
    numbers = [start or 0, end, dim, _argument(node, 4, "step", 1)]
    return [scope.op("Slice", scope.get(v), *[scope.constant([n]) for n in numbers])]


def _select(scope: Scope, node: Node) -> list[Handle]:
    v, dim, index = node.args
    return [scope.op("Gather", scope.get(v), scope.constant(index), axis=_axis(dim, v))]


def _cat(scope: Scope, node: Node) -> list[Handle]:
    out = node.outs[0]
    parts = [v for v in node.args[0] if v.shape != (0,)]  # torch passes these by
    if len(parts) == 1:
        return [scope.get(parts[0])]
    dim = _axis(_argument(node, 1, "dim", 0), out)
    return [scope.op("Concat", *[operand(scope, v, out.dtype) for v in parts], axis=dim)]


def _places(node: Node, position: int, size: int) -> tuple[list[int], bool]:
    """Which places along a dimension of this size a slice or a selection means, and whether it is a selection."""
    if node.op.startswith("select"):
        return [node.args[position] % size], True
    start, end, step = ([*node.args[position : position + 3], None, None, None])[:3]
    start = node.kwargs.get("start", start)
    end = node.kwargs.get("end", end)
    step = node.kwargs.get("step", step)
    return list(range(size))[slice(start, None if end is None else int(end), step or 1)], False


def _map(
    scope: Scope, joined: Handle, places: Sequence[int], dim: int, size: int, fallback: Sequence[int]
) -> Handle:
    """Along `dim`: at each of `places` what stands behind the fallback, in order; else what `fallback` says."""
    numbers = list(fallback)
    offset = 0 if len(set(fallback)) == 1 else size
    for i, place in enumerate(places):
        numbers[place] = offset + i
    return scope.op("Gather", joined, scope.constant(numbers), axis=dim)


def _zero_behind(scope: Scope, g: Handle, rank: int, dim: int, dtype: torch.dtype) -> Handle:
    """One more place along `dim`, of zeros."""
    pads = [0] * (2 * rank)
    pads[rank + dim] = 1
    return scope.op("Pad", g, scope.constant(pads), scope.constant(0, dtype))


def _embed(scope: Scope, node: Node) -> list[Handle]:
    """slice_backward, select_backward: (gradient, sizes, dim, ...)."""
    g, out = node.args[0], node.outs[0]
    dim = _axis(node.args[2], out)
    size = out.shape[dim]
    if isinstance(size, Rows):
        return [scope.get(g)]
    places, alone = _places(node, 3, size)
    given = scope.get(g)
    given = scope.op("Unsqueeze", given, scope.constant([dim])) if alone else given
    joined = _zero_behind(scope, given, len(out.shape), dim, out.dtype)
    return [_map(scope, joined, places, dim, size, [len(places)] * size)]


def _scatter_slice(scope: Scope, node: Node) -> list[Handle]:
    """slice_scatter, select_scatter: (self, source, dim, ...)."""
    v, source, out = node.args[0], node.args[1], node.outs[0]
    dim = _axis(_argument(node, 2, "dim", 0), out)
    size = out.shape[dim]
    given = operand(scope, source, out.dtype)
    if isinstance(size, Rows) or (node.op.startswith("slice") and source.shape == out.shape):
        return [given]
    places, alone = _places(node, 3, size)
    given = scope.op("Unsqueeze", given, scope.constant([dim])) if alone else given
    if len(places) == size:
        return [given]
    joined = scope.op("Concat", operand(scope, v, out.dtype), given, axis=dim)
    return [_map(scope, joined, places, dim, size, range(size))]


def _pad(scope: Scope, node: Node) -> list[Handle]:
    v, pads = node.args[0], node.args[1]
    number = _argument(node, 2, "value", 0)
    rank = len(v.shape)
    both = [0] * (2 * rank)
    for i in range(len(pads) // 2):
        both[rank - 1 - i], both[2 * rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    inner = torch.int32 if v.dtype == torch.bool else v.dtype
    made = scope.op("Pad", operand(scope, v, inner), scope.constant(both), scope.constant(number, inner))
    return [made if inner == v.dtype else scope.cast(made, v.dtype)]


def _repeat(scope: Scope, node: Node) -> list[Handle]:
    v, counts = node.args[0], node.args[1]
    given = scope.reshape(scope.get(v), [*[1] * (len(counts) - len(v.shape)), *v.shape])
    return [scope.op("Tile", given, scope.constant(list(counts)))]


def _flip(scope: Scope, node: Node) -> list[Handle]:
    v = node.args[0]
    dims = [_axis(d, v) for d in node.args[1]]
    n = len(dims)
    if not n:
        return [scope.get(v)]
    numbers = ([-1] * n, [-sys.maxsize] * n, dims, [-1] * n)
    return [scope.op("Slice", scope.get(v), *[scope.constant(list(row)) for row in numbers])]


def _triangle(upper: int) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        shift = scope.constant(_argument(node, 1, "diagonal", 0))
        return [scope.op("Trilu", scope.get(node.args[0]), shift, upper=upper)]

    return emit


def _diagonal_places(node: Node, at: int, whole: Value) -> tuple[list[int], list[int], int, int]:
    """(axes with the two dimensions last, flat places of the diagonal among them, their sizes)."""
    offset, one, two = [*node.args[at:], *(0, 0, 1)[len(node.args) - at :]][:3]
    one, two = _axis(one, whole), _axis(two, whole)
    m, n = whole.shape[one], whole.shape[two]
    assert isinstance(m, int)
    assert isinstance(n, int)
    places = torch.arange(m * n).reshape(m, n).diagonal(offset).tolist()
    return [*[d for d in range(len(whole.shape)) if d not in (one, two)], one, two], places, m, n


def _diagonal(scope: Scope, node: Node) -> list[Handle]:
    v = node.args[0]
    axes, places, m, n = _diagonal_places(node, 1, v)
    moved = scope.op("Transpose", scope.get(v), perm=axes)
    flat = scope.reshape(moved, [*[v.shape[d] for d in axes[:-2]], m * n])
    return [scope.op("Gather", flat, scope.constant(places), axis=len(axes) - 2)]


def _diagonal_backward(scope: Scope, node: Node) -> list[Handle]:
    g, out = node.args[0], node.outs[0]
    axes, places, m, n = _diagonal_places(node, 2, out)
    last = len(axes) - 2
    joined = _zero_behind(scope, scope.get(g), last + 1, last, out.dtype)
    flat = _map(scope, joined, places, last, m * n, [len(places)] * (m * n))
    moved = scope.reshape(flat, [*[out.shape[d] for d in axes[:-2]], m, n])
    return [scope.op("Transpose", moved, perm=[axes.index(d) for d in range(len(axes))])]


def _unfold(scope: Scope, node: Node) -> list[Handle]:
    """Windows along a dimension, each in a new last one."""
    v, dim, size, step = node.args[0], _axis(node.args[1], node.args[0]), node.args[2], node.args[3]
    whole = v.shape[dim]
    assert isinstance(whole, int)
    index = torch.arange(whole).unfold(0, size, step)
    rank = len(v.shape) + 1
    picked = scope.op("Gather", scope.get(v), scope.constant(index), axis=dim)
    axes = [*[d for d in range(rank) if d != dim + 1], dim + 1]
    return [scope.op("Transpose", picked, perm=axes)]


# ---- products


def _product(scope: Scope, node: Node) -> list[Handle]:
    return [scope.op("MatMul", *[operand(scope, v, node.outs[0].dtype) for v in node.args[:2]])]


def _convolution(scope: Scope, node: Node) -> list[Handle]:
    x, w, b, stride, padding, dilation, transposed, output_padding, groups = node.args
    options = {
        "strides": list(stride), "pads": [*padding, *padding], "dilations": list(dilation), "group": groups,
    }  # fmt: skip
    given = [scope.get(v) for v in (x, w, b) if v is not None]
    if transposed:
        return [scope.op("ConvTranspose", *given, **options, output_padding=list(output_padding))]
    return [scope.op("Conv", *given, **options)]


# ---- reductions


def _dims(v: Value, dims: Any) -> list[int]:
    dims = [dims] if isinstance(dims, int) else dims
    return [_axis(d, v) for d in dims] if dims else list(range(len(v.shape)))


def _reduce(kind: str, dtype: torch.dtype | None = None, keep: int = 2) -> Emitter:
    """A reduction over (x, dims, keepdim). dtype: in which it is done; where None that of the result, int32 for
    booleans."""

    def emit(scope: Scope, node: Node) -> list[Handle]:
        v, out = node.args[0], node.outs[0].dtype
        inner = dtype or (torch.int32 if out == torch.bool else out)
        given = operand(scope, v, inner)
        if dtype is not None and v.dtype != torch.bool:
            given = scope.cast(operand(scope, v, torch.bool), inner)
        dims = _dims(v, _argument(node, 1, "dim", None))
        keepdim = int(bool(_argument(node, keep, "keepdim", False)))
        made = given if not v.shape else scope.op(kind, given, scope.constant(dims), keepdims=keepdim)
        return [made if inner == out else scope.cast(made, out)]

    return emit


def _norm(scope: Scope, node: Node) -> list[Handle]:
    v, dtype = node.args[0], node.outs[0].dtype
    power = _argument(node, 1, "ord", 2)
    keep = int(bool(_argument(node, 3, "keepdim", False)))
    axes = scope.constant(_dims(v, _argument(node, 2, "dim", None)))
    x = operand(scope, v, dtype)
    if power in (1, 2):
        return [scope.op("ReduceL2" if power == 2 else "ReduceL1", x, axes, keepdims=keep)]
    size = scope.op("Abs", x)
    if math.isinf(power):
        return [scope.op("ReduceMax" if power > 0 else "ReduceMin", size, axes, keepdims=keep)]
    if power == 0:
        there = scope.cast(scope.op("Greater", size, scope.constant(0, dtype)), dtype)
        return [scope.op("ReduceSum", there, axes, keepdims=keep)]
    total = scope.op("ReduceSum", scope.op("Pow", size, scope.constant(power, dtype)), axes, keepdims=keep)
    return [scope.op("Pow", total, scope.constant(1 / power, dtype))]


def _logsumexp(scope: Scope, node: Node) -> list[Handle]:
    """The largest is taken out first; infinities are left in."""
    v, dtype = node.args[0], node.outs[0].dtype
    keep = bool(_argument(node, 2, "keepdim", False))
    axes = scope.constant(_dims(v, node.args[1]))
    x = operand(scope, v, dtype)
    top = scope.op("ReduceMax", x, axes, keepdims=1)
    top = scope.op("Where", scope.op("IsInf", top), scope.constant(0, dtype), top)
    total = scope.op("ReduceSum", scope.op("Exp", scope.op("Sub", x, top)), axes, keepdims=1)
    made = scope.op("Add", scope.op("Log", total), top)
    return [made if keep else scope.op("Squeeze", made, axes)]


def _place(kind: str) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        v, dim = node.args[0], _argument(node, 1, "dim", None)
        x = operand(scope, v, torch.int32 if v.dtype == torch.bool else v.dtype)
        if dim is None:
            x, dim = scope.reshape(x, [-1]), 0
            return [scope.op("Squeeze", scope.op(kind, x, axis=0, keepdims=1), scope.constant([0]))]
        keep = int(bool(_argument(node, 2, "keepdim", False)))
        return [scope.op(kind, x, axis=_axis(dim, v), keepdims=keep)]

    return emit


def _extreme(value: str, place: str) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        v = node.args[0]
        dim, keep = _axis(node.args[1], v), int(bool(_argument(node, 2, "keepdim", False)))
        made = scope.op(value, scope.get(v), scope.constant([dim]), keepdims=keep)
        return [made, scope.op(place, scope.get(v), axis=dim, keepdims=keep)]

    return emit


def _cumsum(scope: Scope, node: Node) -> list[Handle]:
    v, dtype = node.args[0], node.outs[0].dtype
    return [scope.op("CumSum", operand(scope, v, dtype), scope.constant(_axis(node.args[1], v)))]


def _cumprod(scope: Scope, node: Node) -> list[Handle]:
    """ONNX has no such operation: the products one after the other."""
    v, dtype = node.args[0], node.outs[0].dtype
    dim = _axis(node.args[1], v)
    size = v.shape[dim]
    if isinstance(size, Rows) or size > _MOST_FACTORS:
        raise Refused(f"{node.op} over {size} factors cannot be exported: ONNX has no running product")
    x = operand(scope, v, dtype)
    parts = [scope.op("Gather", x, scope.constant([i]), axis=dim) for i in range(size)]
    for i in range(1, size):
        parts[i] = scope.op("Mul", parts[i - 1], parts[i])
    return [scope.op("Concat", *parts, axis=dim)]


def _ordered(scope: Scope, node: Node) -> list[Handle]:
    """sort, topk: of equal elements the first one first, as ONNX's TopK says."""
    v = node.args[0]
    if node.op == "topk.default":
        k, dim = node.args[1], _axis(_argument(node, 2, "dim", -1), v)
        largest = bool(_argument(node, 3, "largest", True))
    else:
        at = 2 if node.op == "sort.stable" else 1
        dim = node.args[at] if len(node.args) > at else node.kwargs.get("dim", -1)
        largest = bool(_argument(node, at + 1, "descending", False))
        dim = _axis(dim, v)
        k = v.shape[dim]
    inner = torch.int32 if v.dtype == torch.bool else v.dtype
    given = operand(scope, v, inner)
    values, places = scope.ops(
        "TopK", [given, scope.constant([k])], 2, axis=dim, largest=int(largest), sorted=1
    )
    return [values if inner == v.dtype else scope.cast(values, v.dtype), places]


# ---- places


def _gather(scope: Scope, node: Node) -> list[Handle]:
    v, dim, index = node.args[:3]
    return [scope.op("GatherElements", scope.get(v), scope.get(index), axis=_axis(dim, v))]


def _scatter(scope: Scope, node: Node) -> list[Handle]:
    """scatter, scatter_add: (self, dim, index, source)."""
    v, dim, index, source = node.args[:4]
    dtype = node.outs[0].dtype
    given = operand(scope, source, dtype)
    if not isinstance(source, Value):
        given = scope.op("Expand", given, scope.op("Shape", scope.get(index)))
    else:
        for axis, (n, wanted) in enumerate(zip(source.shape, index.shape, strict=True)):
            if str(n) != str(wanted):
                ends = [scope.constant([i]) for i in (0, wanted, axis)]
                given = scope.op("Slice", given, *ends)
    return [_into(scope, node, operand(scope, v, dtype), scope.get(index), given, _axis(dim, v))]


def _into(scope: Scope, node: Node, v: Handle, index: Handle, given: Handle, dim: int) -> Handle:
    adds = {"reduction": "add"} if "add" in node.op else {}
    return scope.op("ScatterElements", v, index, given, axis=dim, **adds)


def _index_select(scope: Scope, node: Node) -> list[Handle]:
    v, dim, index = node.args[:3]
    return [scope.op("Gather", scope.get(v), scope.get(index), axis=_axis(dim, v))]


def _index_add(scope: Scope, node: Node) -> list[Handle]:
    v, dim, index, source = node.args[:4]
    dtype, dim = node.outs[0].dtype, _axis(dim, v)
    given = operand(scope, source, dtype)
    alpha = node.kwargs.get("alpha", 1)
    given = given if alpha == 1 else scope.op("Mul", given, scope.constant(alpha, dtype))
    shape: list[Size] = [1] * len(source.shape)
    shape[dim] = source.shape[dim]
    places = scope.op("Expand", scope.reshape(scope.get(index), shape), scope.op("Shape", given))
    return [_into(scope, node, operand(scope, v, dtype), places, given, dim)]


def _index(scope: Scope, node: Node) -> list[Handle]:
    v, indices = node.args[0], node.args[1]
    given = [(d, i) for d, i in enumerate(indices) if i is not None]
    if len(given) != 1 or given[0][1].dtype == torch.bool:
        raise Refused("index.Tensor by several indices or by a mask cannot be exported; use gather or where")
    dim, index = given[0]
    return [scope.op("Gather", scope.get(v), scope.get(index), axis=dim)]


def _embedding(scope: Scope, node: Node) -> list[Handle]:
    return [scope.op("Gather", scope.get(node.args[0]), scope.get(node.args[1]), axis=0)]


# ---- values out of nothing


def _full(scope: Scope, node: Node) -> list[Handle]:
    sizes, number = node.args[0], node.args[1]
    out = node.outs[0]
    if not out.shape:
        return [scope.constant(number, out.dtype)]
    one = scope.constant(number, out.dtype)
    return [scope.op("Expand", one, scope.size(sizes or out.shape))]


def _constant(scope: Scope, node: Node) -> list[Handle]:
    numbers, shape, dtype = node.args[:3]
    return [scope.constant(torch.tensor(numbers, dtype=dtype).reshape(shape), dtype)]


def _computed(scope: Scope, node: Node) -> list[Handle]:
    """Numbers that are the same at each call."""
    return [scope.constant(operation(node.op)(*node.args, **node.kwargs), node.outs[0].dtype)]


_ALIKE: dict[str, Emitter] = {
    "elman.view": _view,
    "permute.default": _permute,
    "expand.default": _expand,
    "slice.Tensor": _slice,
    "select.int": _select,
    "cat.default": _cat,
    "slice_backward.default": _embed,
    "select_backward.default": _embed,
    "slice_scatter.default": _scatter_slice,
    "select_scatter.default": _scatter_slice,
    "constant_pad_nd.default": _pad,
    "repeat.default": _repeat,
    "flip.default": _flip,
    "tril.default": _triangle(0),
    "triu.default": _triangle(1),
    "diagonal.default": _diagonal,
    "diagonal_backward.default": _diagonal_backward,
    "unfold.default": _unfold,
    "mm.default": _product,
    "bmm.default": _product,
    "mv.default": _product,
    "dot.default": _product,
    "convolution.default": _convolution,
    "sum.dim_IntList": _reduce("ReduceSum"),
    "sum.default": _reduce("ReduceSum"),
    "amax.default": _reduce("ReduceMax"),
    "amin.default": _reduce("ReduceMin"),
    "prod.dim_int": _reduce("ReduceProd"),
    "any.dim": _reduce("ReduceMax", torch.int32),
    "any.dims": _reduce("ReduceMax", torch.int32),
    "all.dim": _reduce("ReduceMin", torch.int32),
    "linalg_vector_norm.default": _norm,
    "logsumexp.default": _logsumexp,
    "argmax.default": _place("ArgMax"),
    "argmin.default": _place("ArgMin"),
    "max.dim": _extreme("ReduceMax", "ArgMax"),
    "min.dim": _extreme("ReduceMin", "ArgMin"),
    "cumsum.default": _cumsum,
    "cumprod.default": _cumprod,
    "sort.default": _ordered,
    "sort.stable": _ordered,
    "topk.default": _ordered,
    "gather.default": _gather,
    "scatter.src": _scatter,
    "scatter.value": _scatter,
    "scatter_add.default": _scatter,
    "index_select.default": _index_select,
    "index_add.default": _index_add,
    "index.Tensor": _index,
    "embedding.default": _embedding,
    "full.default": _full,
    "elman.constant": _constant,
    **dict.fromkeys(
        ("arange.default", "arange.start", "arange.start_step", "linspace.default", "eye.default", "eye.m"),
        _computed,
    ),
}

EMITTERS: dict[str, Emitter] = POINTWISE | _ALIKE

_DRAWS = "it draws random numbers, and a file answers alike each time; call eval() on the module first"
_NO_FUNCTION = "ONNX has no such function"
_GRADIENT = "it sums a gradient over rows, which no forward does"
_STATIC = "it belongs to parameters alone, and its result is what stands in the file"

REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("erfinv.default", "lgamma.default", "digamma.default", "polygamma.default", "i0.default",
         "special_i1.default"),
        _NO_FUNCTION,
    ),
    **dict.fromkeys(("convolution_backward.default", "embedding_dense_backward.default"), _GRADIENT),
    **dict.fromkeys(
        ("rand.default", "randn.default", "rand_like.default", "randn_like.default", "bernoulli.default",
         "bernoulli.p", "uniform.default", "normal_functional.default", "exponential.default"),
        _DRAWS,
    ),
    **dict.fromkeys(("_weight_norm_interface.default", "_weight_norm_interface_backward.default"), _STATIC),
}  # fmt: skip
