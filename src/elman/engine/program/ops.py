"""The op table: one row for each operation that a Program may hold.

A row says which arguments may hold a size of `R` rows, the rule that follows the batch axis (and refuses what
mixes rows),
whether the operation is cheap enough to be computed again rather than stored, in which way it is linear (sums over rows
may only pass through linear operations), and which kind of native instruction carries it out (None: the
reference does).

An operation's name is that of its aten overload; `elman.*` are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch

from elman.engine.errors import LACKING, NotSupported
from elman.engine.program.draws import BY_CHANCES, BY_SHAPE, BY_SIZES
from elman.engine.program.program import Node, Rows, Size, Value, refs

__all__ = ["OPS", "Op", "check_rows", "is_cheap", "is_integer", "is_pointwise", "is_random"]

Rule = Callable[[Node], None]


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table. linear: "" | "joint" (in all terms together) | "one" (in each alone) | "first"
    (in the first). `terms`: the arguments that are the terms of a joint one; others choose among them or place them.
    `only_if`: what else must hold of a node that is to be linear."""

    name: str
    rule: Rule
    native: tuple[str, str] | None = None
    sizes: tuple[int, ...] = ()
    cheap: bool = False
    linear: str = ""
    terms: tuple[int, ...] = (0, 1)
    random: bool = False
    only_if: Callable[[Node], bool] | None = None

    def is_linear(self, node: Node) -> bool:
        """Whether this node of the operation is linear in the way that `linear` says."""
        return bool(self.linear) and (self.only_if is None or self.only_if(node))


# ---- the rules of the batch axis


def _mixes(node: Node, what: str, hint: str = "") -> NotSupported:
    return NotSupported(
        f"{node.op} {what}", op=node.op, hint=hint or "write the step row by row, without the batch axis"
    )


def _axis_from_right(v: Value) -> int:
    axis = v.axis
    return -1 if axis is None else len(v.shape) - axis


def _pointwise(node: Node) -> None:
    """Rows line up, from the right, as broadcasting lines them up."""
    out = node.outs[0]
    for v in refs(node):
        if v.axis is None:
            continue
        if _axis_from_right(v) != _axis_from_right(out) or v.factor != out.factor:
            raise _mixes(node, "combines rows with other rows")


def _dims(node: Node, position: int, ndim: int) -> list[int]:
    dims = node.args[position] if len(node.args) > position else None
    if isinstance(dims, int):
        dims = [dims]
    if not dims:
        return list(range(ndim))
    return [d % ndim if ndim else 0 for d in dims]


def _reduce(node: Node) -> None:
    """Over features: row by row. Over the rows: a sum that adds up over the steps (only a sum may)."""
    v: Value = node.args[0]
    if v.axis is None or v.axis not in _dims(node, 1, len(v.shape)):
        return
    if node.op not in ("sum.dim_IntList", "sum.default"):
        raise _mixes(node, "reduces over the batch")
    node.outs[0].summed = True


def _argument_dim(position: int, default: int = 0) -> Rule:
    """Along one dimension, which must not be the batch; other row arguments keep the batch axis where it is."""

    def rule(node: Node) -> None:
        v = next(refs(node.args[0]))
        dim = node.args[position] if len(node.args) > position else node.kwargs.get("dim", default)
        axes = {u.axis for u in refs(node) if u.axis is not None}
        if not axes:
            return
        if len(axes) > 1 or len({u.factor for u in refs(node) if u.axis is not None}) > 1:
            raise _mixes(node, "combines rows with other rows")
        dims = dim if isinstance(dim, list) else [dim]
        if v.axis is None or not dims or any(d % len(v.shape) in axes for d in dims):
            raise _mixes(node, "works along the batch")
        if any(o.axis != v.axis for o in node.outs):
            raise _mixes(node, "moves the batch axis")

    return rule


def _cat(node: Node) -> None:
    values = list(refs(node.args[0]))
    dim = node.args[1] if len(node.args) > 1 else 0
    if all(v.axis is None for v in values):
        return
    if len({(v.axis, v.factor) for v in values}) > 1 or dim % len(values[0].shape) == values[0].axis:
        raise _mixes(node, "joins along the batch")


def _slice(node: Node) -> None:
    v: Value = node.args[0]
    dim = (node.args[1] if len(node.args) > 1 else 0) % max(len(v.shape), 1)
    if v.axis is not None and dim == v.axis and node.outs[0].shape != v.shape:
        raise _mixes(node, "takes some rows of the batch")
    if v.axis is not None and dim == v.axis and len(node.args) > 4 and node.args[4] != 1:
        raise _mixes(node, "takes some rows of the batch")


def _select(node: Node) -> None:
    v: Value = node.args[0]
    if v.axis is not None and node.args[1] % len(v.shape) == v.axis:
        raise _mixes(node, "takes one row of the batch")


def _embed(node: Node) -> None:
    """slice_backward, select_backward: (gradient, sizes, dim, ...); the rows stay rows."""
    out = node.outs[0]
    if out.axis is not None and node.args[2] % len(out.shape) == out.axis:
        raise _mixes(node, "takes some rows of the batch")


def _scatter(node: Node) -> None:
    """slice_scatter, select_scatter: (self, source, dim, ...)."""
    v, source = node.args[0], node.args[1]
    out = node.outs[0]
    dim = (node.args[2] if len(node.args) > 2 else 0) % len(out.shape)
    whole = node.op == "slice_scatter.default" and source.shape == out.shape
    if out.axis is not None and dim == out.axis and not whole:
        raise _mixes(node, "writes some rows of the batch")
    if out.axis is not None and v.axis is None:
        raise _mixes(node, "writes rows into a tensor without rows")


def _product_of(sizes: Sequence[Size]) -> int:
    return math.prod(n for n in sizes if isinstance(n, int))


def _view(node: Node) -> None:
    """What lies before the batch axis keeps its size, so each row's elements stay its own."""
    v, out = node.args[0], node.outs[0]
    if v.axis is None and out.axis is None:
        return
    if v.axis is None or out.axis is None:
        raise _mixes(node, "folds the batch into the features")
    if _product_of(v.shape[: v.axis]) != _product_of(out.shape[: out.axis]):
        raise _mixes(node, "folds the batch into the features")
    if v.axis > 0 and v.factor != out.factor and _product_of(v.shape[: v.axis]) != 1:
        raise _mixes(node, "folds the batch into the features")


def _expand(node: Node) -> None:
    v, out = node.args[0], node.outs[0]
    if v.axis is not None and (_axis_from_right(v) != _axis_from_right(out) or v.factor != out.factor):
        raise _mixes(node, "repeats the rows of the batch")


def _mm(node: Node) -> None:
    a, b = node.args[0], node.args[1]
    out = node.outs[0]
    if a.axis == len(a.shape) - 1 and b.axis == 0 and a.factor == b.factor:
        out.summed = True
        return
    if a.axis is not None and b.axis is not None:
        raise _mixes(node, "multiplies rows with other rows")
    if (a.axis == len(a.shape) - 1 and a.axis is not None) or b.axis == 0:
        raise _mixes(node, "sums over the batch")


def _bmm(node: Node) -> None:
    a, b = node.args[0], node.args[1]
    out = node.outs[0]
    if a.axis == 0 and b.axis == 0 and a.factor == b.factor:
        return
    if a.axis == 2 and b.axis == 1 and a.factor == b.factor:
        out.summed = True
        return
    if (a.axis == 1 and b.axis is None) or (a.axis is None and b.axis == 2):
        return
    if a.axis is not None or b.axis is not None:
        raise _mixes(node, "multiplies rows with other rows")


def _mv(node: Node) -> None:
    a, b = node.args[0], node.args[1]
    if a.axis == len(a.shape) - 1 and b.axis == 0 and a.factor == b.factor:
        node.outs[0].summed = True
    elif not (b.axis is None and a.axis in (None, 0) and (a.axis is None or len(a.shape) == 2)):
        raise _mixes(node, "multiplies rows with other rows")


def _free(node: Node) -> None:
    """Nothing to refuse."""


def _no_rows(node: Node) -> None:
    """Numbers along the batch (arange, eye): only without rows."""
    if any(o.axis is not None for o in node.outs):
        raise _mixes(node, "numbers the rows of the batch")


def _random(node: Node) -> None:
    if node.outs[0].axis is None:
        raise NotSupported(
            f"{node.op} draws one random tensor for the whole batch",
            op=node.op,
            hint="draw for each row of the batch",
        )
    _pointwise(node)


def _pad(node: Node) -> None:
    v: Value = node.args[0]
    if v.axis is None:
        return
    pads = node.args[1]
    place = 2 * (len(v.shape) - 1 - v.axis)
    if any(pads[place : place + 2]):
        raise _mixes(node, "pads the batch")


def _dims_not_batch(node: Node) -> None:
    """flip: (self, dims)."""
    v: Value = node.args[0]
    if v.axis is not None and v.axis in _dims(node, len(node.args) - 1, len(v.shape)):
        raise _mixes(node, "moves the rows of the batch")


def _embedding(node: Node) -> None:
    weight, index = node.args[0], node.args[1]
    if weight.axis is not None:
        raise _mixes(node, "looks rows up in rows")
    if index.axis is not None and index.axis != node.outs[0].axis:
        raise _mixes(node, "moves the batch axis")


def _embedding_backward(node: Node) -> None:
    """(gradient, indices, rows of the table, padding_idx, scale_grad_by_freq)."""
    if not any(v.axis is not None for v in refs(node)):
        return
    if len(node.args) > 4 and node.args[4]:
        raise _mixes(
            node, "divides by how often an index stands in the batch", "leave scale_grad_by_freq out"
        )
    node.outs[0].summed = True


def _diagonal(node: Node) -> None:
    """diagonal: (self, offset, dim1, dim2); diagonal_backward: (gradient, sizes, offset, dim1, dim2)."""
    given, out, at = node.args[0], node.outs[0], 1 if node.op == "diagonal.default" else 2
    whole = given if at == 1 else out
    dims = [*node.args[at:], *(0, 0, 1)[len(node.args) - at :]][1:]
    if whole.axis in [d % len(whole.shape) for d in dims]:
        raise _mixes(node, "takes the diagonal along the batch")
    if given.axis != out.axis:
        raise _mixes(node, "moves the batch axis")


def _index(node: Node) -> None:
    """x[:, index] with an index that has no rows."""
    v, indices = node.args[0], node.args[1]
    rows = [i for i in indices if isinstance(i, Value) and i.axis is not None]
    given = [d for d, i in enumerate(indices) if i is not None]
    if rows or (v.axis is not None and (v.axis in given or len(given) != 1)):
        raise _mixes(node, "picks by an index of rows")


def _convolution(node: Node) -> None:
    x, w = node.args[0], node.args[1]
    if x.axis not in (None, 0) or w.axis is not None:
        raise _mixes(node, "convolves along the batch")


def _convolution_backward(node: Node) -> None:
    g, x, w = node.args[:3]
    if w.axis is not None or g.axis not in (None, 0) or x.axis not in (None, 0):
        raise _mixes(node, "convolves along the batch")
    for (
        out
    ) in node.outs:  # of those that were asked for: the gradient of x has rows, the others are sums over them
        out.summed = g.axis is not None and out.axis is None


def _pads_with_zeros(node: Node) -> bool:
    return len(node.args) < 3 or node.args[2] == 0


def _stays_a_float(node: Node) -> bool:
    return node.outs[0].dtype.is_floating_point


def _linear_only(node: Node) -> None:
    """For fused backward ops on sums (weight norm): no rows at all."""
    if any(v.axis is not None for v in refs(node)):
        raise _mixes(node, "is not known row by row")


# ---- the table


def _elementwise(native: str | None, *names: str, linear: str = "", cheap: bool = False) -> list[Op]:
    return [
        Op(n, _pointwise, ("elementwise", native) if native else None, cheap=cheap, linear=linear)
        for n in names
    ]


_TABLE: list[Op] = [
    # arithmetic
    *_elementwise("add", "add.Tensor", "add.Scalar", linear="joint", cheap=True),
    *_elementwise("sub", "sub.Tensor", "sub.Scalar", linear="joint", cheap=True),
    *_elementwise("mul", "mul.Tensor", "mul.Scalar", linear="one", cheap=True),
    *_elementwise("div", "div.Tensor", "div.Scalar", linear="first"),
    *_elementwise("neg", "neg.default", linear="first", cheap=True),
    *_elementwise("abs", "abs.default", cheap=True),
    *_elementwise("sign", "sign.default", "sgn.default", cheap=True),
    *_elementwise("maximum", "maximum.default", "clamp_min.default", "clamp_min.Tensor", cheap=True),
    *_elementwise("minimum", "minimum.default", "clamp_max.default", "clamp_max.Tensor", cheap=True),
    *_elementwise("relu", "relu.default", cheap=True),
    *_elementwise("floor", "floor.default", cheap=True),
    *_elementwise("ceil", "ceil.default", cheap=True),
    *_elementwise("round", "round.default", cheap=True),
    Op("elman.convert", _pointwise, ("elementwise", "copy"), cheap=True, linear="first", only_if=_stays_a_float),
    *_elementwise(None, "trunc.default", "frac.default", "remainder.Scalar", "remainder.Tensor", "fmod.Scalar",
                  "fmod.Tensor", "hypot.default", "atan2.default", "clamp.Tensor", "bitwise_and.Tensor",
                  "bitwise_or.Tensor", "bitwise_xor.Tensor", "bitwise_and.Scalar", "isnan.default", "isinf.default",
                  "isfinite.default", "floor_divide.default", "div.Tensor_mode", "div.Scalar_mode",
                  "logical_xor.default", "bitwise_left_shift.Tensor", "copysign.Tensor"),
    # functions
    *[op for name in ("exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid", "sin", "cos",
                      "erf") for op in _elementwise(name, f"{name}.default")],
    *_elementwise("pow", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"),
    *_elementwise(None, "tan.default", "asin.default", "acos.default", "atan.default", "sinh.default", "cosh.default",
                  "asinh.default", "acosh.default", "atanh.default", "exp2.default", "log2.default", "log10.default",
                  "erfc.default", "erfinv.default", "lgamma.default", "digamma.default", "polygamma.default",
                  "i0.default", "special_i1.default",
                  "logaddexp.default"),
    *_elementwise("tanh_backward", "tanh_backward.default", linear="first"),
    *_elementwise("sigmoid_backward", "sigmoid_backward.default", linear="first"),
    Op("threshold_backward.default", _pointwise, ("threshold_backward", ""), cheap=True, linear="first"),
    Op("clamp.default", _pointwise, ("clamp", ""), cheap=True),
    # comparisons and choices
    *[op for name in ("lt", "le", "gt", "ge", "eq", "ne")
      for op in _elementwise(name, f"{name}.Tensor", f"{name}.Scalar", cheap=True)],
    *_elementwise("logical_and", "logical_and.default", cheap=True),
    *_elementwise("logical_or", "logical_or.default", cheap=True),
    *_elementwise("logical_not", "logical_not.default", "bitwise_not.default", cheap=True),
    Op("where.self", _pointwise, ("elementwise", "where"), cheap=True, linear="joint", terms=(1, 2)),
    Op("masked_fill.Scalar", _pointwise, ("masked_fill", ""), cheap=True, linear="joint", terms=(0, 2)),
    Op("masked_fill.Tensor", _pointwise, ("masked_fill", ""), cheap=True),
    # shapes
    Op("elman.view", _view, ("reshape", ""), sizes=(1,), cheap=True, linear="first"),
    Op("permute.default", _free, ("permute", ""), cheap=True, linear="first"),
    Op("expand.default", _expand, ("expand", ""), sizes=(1,), cheap=True, linear="first"),
    Op("slice.Tensor", _slice, ("slice", ""), cheap=True, linear="first"),
    Op("select.int", _select, ("select", ""), cheap=True, linear="first"),
    Op("cat.default", _cat, ("cat", ""), cheap=True, linear="joint", terms=(0,)),
    Op("slice_backward.default", _embed, ("slice_backward", ""), sizes=(1,), cheap=True, linear="first"),
    Op("select_backward.default", _embed, ("select_backward", ""), sizes=(1,), cheap=True, linear="first"),
    Op("slice_scatter.default", _scatter, ("slice_scatter", ""), cheap=True, linear="joint"),
    Op("select_scatter.default", _scatter, ("select_scatter", ""), cheap=True, linear="joint"),
    Op("constant_pad_nd.default", _pad, ("pad", ""), linear="first", only_if=_pads_with_zeros),
    Op("repeat.default", _no_rows, linear="first"),
    Op("flip.default", _dims_not_batch, ("flip", ""), cheap=True, linear="first"),
    Op("tril.default", _no_rows, linear="first"),
    Op("triu.default", _no_rows, linear="first"),
    Op("diagonal.default", _diagonal, ("diagonal", ""), linear="first"),
    Op("diagonal_backward.default", _diagonal, ("diagonal_backward", ""), sizes=(1,), linear="first"),
    # products
    Op("mm.default", _mm, ("mm", ""), linear="one"),
    Op("bmm.default", _bmm, ("bmm", ""), linear="one"),
    Op("mv.default", _mv, linear="one"),
    Op("dot.default", _mv, linear="one"),
    Op("convolution.default", _convolution),
    Op("convolution_backward.default", _convolution_backward),
    # reductions
    Op("sum.dim_IntList", _reduce, ("reduce", "reduce_sum"), linear="first"),
    Op("sum.default", _reduce, linear="first"),
    Op("amax.default", _reduce, ("reduce", "reduce_max")),
    Op("amin.default", _reduce, ("reduce", "reduce_min")),
    *[Op(n, _reduce) for n in ("prod.dim_int", "any.dim", "any.dims", "all.dim")],
    Op("linalg_vector_norm.default", _argument_dim(2)),
    Op("logsumexp.default", _argument_dim(1)),
    Op("argmax.default", _reduce, ("place", "place_of_max")),
    Op("argmin.default", _reduce, ("place", "place_of_min")),
    Op("max.dim", _argument_dim(1)),
    Op("min.dim", _argument_dim(1)),
    Op("cumsum.default", _argument_dim(1), ("cumsum", ""), linear="first"),
    Op("cumprod.default", _argument_dim(1)),
    Op("sort.default", _argument_dim(1, -1)),
    Op("sort.stable", _argument_dim(1, -1), ("order", "")),
    Op("topk.default", _argument_dim(2, -1), ("order", "")),
    Op("gather.default", _argument_dim(1), ("gather", ""), linear="first"),
    Op("scatter.src", _argument_dim(1), ("scatter", "scatter"), linear="joint", terms=(0, 3)),
    Op("scatter.value", _argument_dim(1), ("scatter", "scatter")),
    Op("scatter_add.default", _argument_dim(1), ("scatter", "scatter_add"), linear="joint", terms=(0, 3)),
    Op("index_select.default", _argument_dim(1), ("index_select", ""), linear="first"),
    Op("index_add.default", _argument_dim(1), ("index_add", ""), linear="joint", terms=(0, 3)),
    Op("index.Tensor", _index, linear="first"),
    Op("unfold.default", _argument_dim(1), linear="first"),
    Op("embedding.default", _embedding, ("embedding", "")),
    Op("embedding_dense_backward.default", _embedding_backward, linear="first"),
    # values out of nothing
    Op("full.default", _free, ("full", ""), sizes=(0,), cheap=True),
    Op("elman.constant", _free, ("constant", ""), cheap=True),
    *[Op(n, _no_rows, cheap=True) for n in (
        "arange.default", "arange.start", "arange.start_step", "linspace.default", "eye.default", "eye.m")],
    *[Op(n, _random, sizes=(0,), random=True) for n in BY_SIZES],
    *[Op(n, _random, random=True) for n in (*BY_SHAPE, *BY_CHANCES)],
    # sums through fused backward ops
    Op("_weight_norm_interface.default", _linear_only),
    Op("_weight_norm_interface_backward.default", _linear_only, linear="first"),
]  # fmt: skip

OPS: dict[str, Op] = {op.name: op for op in _TABLE}


def check_rows(
    node: Node, linear: Callable[[], bool], zeros: Container[Value] = (), unproved: list[Node] | None = None
) -> None:
    """Follow the batch axis through one node; mark sums over rows. Raises NotSupported where rows are mixed.

    linear: tries out whether the operation is linear in its inputs that are sums over rows, for one not in the table.
    zeros: values that are zero (or no number), whatever comes in. unproved: takes nodes without rows that are not
    linear by themselves in a sum over rows; what is made of them as a whole may be.
    """
    op = OPS.get(node.op)
    if op is None and not any(v.axis is not None for v in (*refs(node), *node.outs)):
        _check_static(node, linear, unproved)
        return
    if op is None:
        raise NotSupported(f"the engine does not have {node.op}", op=node.op, hint=LACKING)
    for out in node.outs:
        if sum(isinstance(n, Rows) for n in out.shape) > 1:
            raise _mixes(node, "combines rows with other rows")
    inputs = list(refs(node))
    if any(v.summed for v in inputs):
        _check_linear(node, op, inputs, zeros, unproved)
    elif any(v.axis is not None for v in inputs) or any(o.axis is not None for o in node.outs):
        op.rule(node)
        if not op.random and any(v.axis is not None for v in inputs):
            _check_kept(node)
    elif op.random:
        op.rule(node)


def _check_static(node: Node, linear: Callable[[], bool], unproved: list[Node] | None) -> None:
    """Without rows anything goes, but for sums over rows, in which it has to be linear."""
    if not any(v.summed for v in refs(node)):
        return
    if not linear():
        _leave_open(node, unproved)
    for out in node.outs:
        out.summed = True


def _check_kept(node: Node) -> None:
    for out in node.outs:
        if out.axis is None and not out.summed and OPS[node.op].rule is not _convolution_backward:
            raise _mixes(node, "loses the batch axis")


def _is_joint(node: Node, op: Op, sums: list[Value], zeros: Container[Value]) -> bool:
    """Whether each term is a sum or zero, and nothing else is a sum."""
    terms = [
        term
        for i in op.terms
        for term in (node.args[i] if isinstance(node.args[i], list) else [node.args[i]])
    ]
    for term in terms:
        if not (term.summed or term in zeros if isinstance(term, Value) else term == 0):
            return False
    return all(v in terms for v in sums)


def _leave_open(node: Node, unproved: list[Node] | None) -> None:
    if unproved is None:
        raise NotSupported(f"{node.op} is not linear in a gradient that adds up over the steps", op=node.op)
    unproved.append(node)


def _check_linear(
    node: Node, op: Op, inputs: list[Value], zeros: Container[Value], unproved: list[Node] | None
) -> None:
    """A sum over rows adds up over the steps; only what is linear in it may follow."""
    sums = [v for v in inputs if v.summed]
    fits = {
        "joint": op.linear == "joint" and _is_joint(node, op, sums, zeros),
        "one": len(sums) == 1,
        "first": len(sums) == 1 and next(refs(node), None) is sums[0],
        "": False,
    }[op.linear]
    rows = any(v.axis is not None for v in (*inputs, *node.outs))
    if unproved is not None and not (rows or (fits and op.is_linear(node)) or is_pointwise(node)):
        _leave_open(node, unproved)  # element by element it may be a threshold, far from all that is tried
    elif not fits or not op.is_linear(node) or rows:
        raise NotSupported(
            f"{node.op} in the backward of the step is not linear in a gradient that adds up over the steps",
            op=node.op,
        )
    for out in node.outs:
        out.summed = True


def is_random(node: Node) -> bool:
    """Whether a node draws random numbers."""
    return node.op in OPS and OPS[node.op].random


def is_cheap(node: Node) -> bool:
    """Whether a node is better done again than stored; not what makes others of integers."""
    if any(is_integer(v.dtype) for v in refs(node)) and not is_integer(node.outs[0].dtype):
        return False
    return node.op in OPS and OPS[node.op].cheap


def is_integer(dtype: torch.dtype) -> bool:
    """Whether numbers of this type are integers (booleans are none)."""
    return not (dtype == torch.bool or dtype.is_floating_point or dtype.is_complex)


def is_pointwise(node: Node) -> bool:
    """Whether a node is element by element, all arguments in one type."""
    return node.op in OPS and OPS[node.op].rule is _pointwise
