"""Emitters of the operations that go element by element: one for each op of the engine's table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from elman.engine.program.program import Node, Value, refs
from elman.onnx.graph import Handle, Scope

__all__ = ["POINTWISE", "Emitter", "operand"]

Emitter = Callable[[Scope, Node], list[Handle]]
_SMALL = (torch.bool, torch.int8, torch.int16, torch.uint8)


def operand(scope: Scope, arg: Any, dtype: torch.dtype) -> Handle:
    """A tensor or a number of a node in this dtype."""
    if isinstance(arg, Value):
        return scope.get(arg) if arg.dtype == dtype else scope.cast(scope.get(arg), dtype)
    return scope.constant(arg, dtype)


def common(node: Node) -> torch.dtype:
    """The dtype in which an operation is carried out: that of its tensors, and of the result where it is a float."""
    dtypes = [v.dtype for v in refs(node.args)]
    dtype = dtypes[0]
    for other in dtypes[1:]:
        dtype = torch.promote_types(dtype, other)
    numbers = [a for a in node.args if isinstance(a, float)]
    out = node.outs[0].dtype
    return (
        out
        if (out.is_floating_point and not dtype.is_floating_point)
        or (numbers and not dtype.is_floating_point and out != torch.bool)
        else dtype
    )


def _emitter(
    build: Callable[..., Handle], arity: int = 1, *, boolean: bool = False, wide: bool = False
) -> Emitter:
    """An emitter from a function of a scope and operands of one dtype. boolean: the result is one. wide: ONNX has the
    operation for no booleans and small integers; it is carried out on int32."""

    def emit(scope: Scope, node: Node) -> list[Handle]:
        dtype = common(node)
        inner = torch.int32 if wide and dtype in _SMALL else dtype
        out = build(scope, *[operand(scope, a, inner) for a in node.args[:arity]])
        made = torch.bool if boolean else inner
        wanted = node.outs[0].dtype
        return [out if made == wanted else scope.cast(out, wanted)]

    return emit


def _one(kind: str, **options: Any) -> Emitter:
    return _emitter(lambda s, a: s.op(kind, a), **options)


def _two(kind: str, **options: Any) -> Emitter:
    return _emitter(lambda s, a, b: s.op(kind, a, b), 2, **options)


def _float(build: Callable[[Scope, Callable[[float], Handle], Handle], Handle]) -> Emitter:
    """A function of one float. `build` gets a maker of numbers of its dtype too."""

    def emit(scope: Scope, node: Node) -> list[Handle]:
        dtype = node.outs[0].dtype
        return [build(scope, lambda n: scope.constant(n, dtype), operand(scope, node.args[0], dtype))]

    return emit


def _floats(build: Callable[[Scope, Callable[[float], Handle], Handle, Handle], Handle]) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        dtype = node.outs[0].dtype
        a, b = (operand(scope, arg, dtype) for arg in node.args[:2])
        return [build(scope, lambda n: scope.constant(n, dtype), a, b)]

    return emit


# ---- arithmetic


def _sum(kind: str) -> Emitter:
    """a + alpha b, a - alpha b."""

    def emit(scope: Scope, node: Node) -> list[Handle]:
        out = node.outs[0].dtype
        dtype = torch.int32 if out in _SMALL else out
        a, b = (operand(scope, arg, dtype) for arg in node.args[:2])
        alpha = node.args[2] if len(node.args) > 2 else node.kwargs.get("alpha", 1)
        b = b if alpha == 1 else scope.op("Mul", b, scope.constant(alpha, dtype))
        made = scope.op(kind, a, b)
        return [made if dtype == out else scope.cast(made, out)]

    return emit


def _quotient(scope: Scope, node: Node) -> list[Handle]:
    """A true quotient, or one rounded to zero or down."""
    mode = node.kwargs.get("rounding_mode")
    if node.op == "floor_divide.default":
        mode = "floor"
    dtype = node.outs[0].dtype
    a, b = (operand(scope, arg, dtype) for arg in node.args[:2])
    if not dtype.is_floating_point:
        if mode == "floor":
            return [scope.op("Div", scope.op("Sub", a, _remainder(scope, dtype, a, b)), b)]
        return [scope.op("Div", a, b)]
    out = scope.op("Div", a, b)
    if mode == "floor":
        return [scope.op("Floor", out)]
    return [out if mode is None else _trunc(scope, lambda n: scope.constant(n, dtype), out)]


def _remainder(scope: Scope, dtype: torch.dtype, a: Handle, b: Handle) -> Handle:
    """a - b floor(a / b): the sign of b."""
    if not dtype.is_floating_point:
        return scope.op("Mod", a, b)
    zero = scope.constant(0, dtype)
    m = scope.op("Mod", a, b, fmod=1)
    differs = scope.op("Xor", scope.op("Less", m, zero), scope.op("Less", b, zero))
    wrong = scope.op("And", differs, scope.op("Not", scope.op("Equal", m, zero)))
    return scope.op("Where", wrong, scope.op("Add", m, b), m)


def _modulo(fmod: bool) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        dtype = node.outs[0].dtype
        a, b = (operand(scope, arg, dtype) for arg in node.args[:2])
        return [scope.op("Mod", a, b, fmod=1) if fmod else _remainder(scope, dtype, a, b)]

    return emit


def _trunc(scope: Scope, number: Callable[[float], Handle], x: Handle) -> Handle:
    return scope.op("Where", scope.op("Less", x, number(0)), scope.op("Ceil", x), scope.op("Floor", x))


def _whole(kind: str) -> Emitter:
    """floor, ceil, round: integers stay as they are."""

    def emit(scope: Scope, node: Node) -> list[Handle]:
        x = scope.get(node.args[0])
        return [scope.op(kind if node.outs[0].dtype.is_floating_point else "Identity", x)]

    return emit


def _hypot(scope: Scope, number: Callable[[float], Handle], a: Handle, b: Handle) -> Handle:
    a, b = scope.op("Abs", a), scope.op("Abs", b)
    large, small = scope.op("Max", a, b), scope.op("Min", a, b)
    safe = scope.op("Where", scope.op("Equal", large, number(0)), number(1), large)
    part = scope.op("Div", small, safe)
    return scope.op("Mul", large, scope.op("Sqrt", scope.op("Add", scope.op("Mul", part, part), number(1))))


def _atan2(scope: Scope, number: Callable[[float], Handle], y: Handle, x: Handle) -> Handle:
    """The angle of (x, y); beside torch's, -0 counts as 0."""
    zero = number(0)
    on_axis = scope.op("Equal", x, zero)
    part = scope.op("Atan", scope.op("Div", y, scope.op("Where", on_axis, number(1), x)))
    up = scope.op("GreaterOrEqual", y, zero)
    turn = scope.op("Where", up, number(math.pi), number(-math.pi))
    left = scope.op("Where", scope.op("Less", x, zero), scope.op("Add", part, turn), part)
    half = scope.op("Mul", scope.op("Sign", y), number(math.pi / 2))
    return scope.op("Where", on_axis, half, left)


def _copysign(scope: Scope, number: Callable[[float], Handle], a: Handle, b: Handle) -> Handle:
    negative_zero = scope.op("Less", scope.op("Reciprocal", b), number(0))
    negative = scope.op("Or", scope.op("Less", b, number(0)), negative_zero)
    size = scope.op("Abs", a)
    return scope.op("Where", negative, scope.op("Neg", size), size)


def _clamp(scope: Scope, node: Node) -> list[Handle]:
    """Between two numbers or tensors, each of which may be left out."""
    dtype = node.outs[0].dtype
    low, high = ([*node.args[1:3], None, None])[:2]
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    inner = torch.int32 if dtype in _SMALL else dtype
    out = operand(scope, node.args[0], inner)
    out = out if low is None else scope.op("Max", out, operand(scope, low, inner))
    out = out if high is None else scope.op("Min", out, operand(scope, high, inner))
    return [out if inner == dtype else scope.cast(out, dtype)]


def _power(scope: Scope, node: Node) -> list[Handle]:
    dtype = node.outs[0].dtype
    a, b = (operand(scope, arg, dtype) for arg in node.args[:2])
    if node.args[1] == 2 and not isinstance(node.args[1], Value):
        return [scope.op("Mul", a, a)]
    return [scope.op("Pow", a, b)]


def _shift(scope: Scope, node: Node) -> list[Handle]:
    dtype = node.outs[0].dtype
    a, b = (operand(scope, arg, dtype) for arg in node.args[:2])
    return [scope.op("Mul", a, scope.op("Pow", scope.constant(2, dtype), b))]


# ---- bits and booleans


def _bits(boolean: str, integer: str) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        dtype = node.outs[0].dtype
        kind = boolean if dtype == torch.bool else integer
        return [
            scope.op(
                kind, *[operand(scope, arg, dtype) for arg in node.args[: 1 if kind.endswith("Not") else 2]]
            )
        ]

    return emit


def _logic(kind: str) -> Emitter:
    def emit(scope: Scope, node: Node) -> list[Handle]:
        args = node.args[: 1 if kind == "Not" else 2]
        return [scope.op(kind, *[operand(scope, arg, torch.bool) for arg in args])]

    return emit


def _finite(scope: Scope, x: Handle) -> Handle:
    return scope.op("Not", scope.op("Or", scope.op("IsNaN", x), scope.op("IsInf", x)))


def _unequal(scope: Scope, a: Handle, b: Handle) -> Handle:
    return scope.op("Not", scope.op("Equal", a, b))


def _where(scope: Scope, node: Node) -> list[Handle]:
    dtype = node.outs[0].dtype
    condition = operand(scope, node.args[0], torch.bool)
    yes, no = (operand(scope, arg, dtype) for arg in node.args[1:3])
    return [scope.where(condition, yes, no, dtype)]


def _masked_fill(scope: Scope, node: Node) -> list[Handle]:
    """Rows broadcast from the right, which `Where` does too."""
    dtype = node.outs[0].dtype
    x, mask, number = node.args[:3]
    return [
        scope.where(
            operand(scope, mask, torch.bool), operand(scope, number, dtype), operand(scope, x, dtype), dtype
        )
    ]


def _convert(scope: Scope, node: Node) -> list[Handle]:
    return [operand(scope, node.args[0], node.outs[0].dtype)]


# ---- functions


def _log1p(scope: Scope, number: Callable[[float], Handle], x: Handle) -> Handle:
    """log(1 + x), right for small x too: x log(u) / (u - 1) with u = 1 + x as it is rounded."""
    u = scope.op("Add", x, number(1))
    same = scope.op("Equal", u, number(1))
    below = scope.op("Sub", u, number(1))
    large = scope.op("Greater", x, number(1e4))  # where u - 1 is x, and both may be infinite
    safe = scope.op("Where", scope.op("Or", same, large), number(1), below)
    part = scope.op("Where", large, number(1), x)
    exact = scope.op("Div", scope.op("Mul", scope.op("Log", u), part), safe)
    return scope.op("Where", same, x, exact)


def _expm1(scope: Scope, number: Callable[[float], Handle], x: Handle) -> Handle:
    """exp(x) - 1, right for small x too: 2 t / (1 - t) with t = tanh(x / 2)."""
    small = scope.op("Less", scope.op("Abs", x), number(0.5))
    t = scope.op("Tanh", scope.op("Mul", scope.op("Where", small, x, number(0)), number(0.5)))
    near = scope.op("Div", scope.op("Add", t, t), scope.op("Sub", number(1), t))
    return scope.op("Where", small, near, scope.op("Sub", scope.op("Exp", x), number(1)))


def _logaddexp(scope: Scope, number: Callable[[float], Handle], a: Handle, b: Handle) -> Handle:
    equal = scope.op("Equal", a, b)  # infinities too
    apart = scope.op("Abs", scope.op("Sub", a, b))
    apart = scope.op("Where", equal, number(0), apart)
    return scope.op(
        "Add", scope.op("Max", a, b), _log1p(scope, number, scope.op("Exp", scope.op("Neg", apart)))
    )


def _tanh_backward(scope: Scope, number: Callable[[float], Handle], g: Handle, y: Handle) -> Handle:
    return scope.op("Mul", g, scope.op("Sub", number(1), scope.op("Mul", y, y)))


def _sigmoid_backward(scope: Scope, number: Callable[[float], Handle], g: Handle, y: Handle) -> Handle:
    return scope.op("Mul", scope.op("Mul", g, scope.op("Sub", number(1), y)), y)


def _threshold_backward(scope: Scope, node: Node) -> list[Handle]:
    dtype = node.outs[0].dtype
    g, x = (operand(scope, arg, dtype) for arg in node.args[:2])
    there = scope.op("Greater", x, scope.constant(node.args[2], dtype))
    return [scope.op("Where", there, g, scope.constant(0, dtype))]


def _times(kind: str, factor: float) -> Emitter:
    return _float(lambda s, number, x: s.op("Mul", s.op(kind, x), number(factor)))


def _check_fraction(scope: Scope, number: Callable[[float], Handle], x: Handle) -> Handle:
    return scope.op("Sub", x, _trunc(scope, number, x))


def _named(emitter: Emitter, *names: str) -> dict[str, Emitter]:
    return dict.fromkeys(names, emitter)


POINTWISE: dict[str, Emitter] = {
    **_named(_sum("Add"), "add.Tensor", "add.Scalar"),
    **_named(_sum("Sub"), "sub.Tensor", "sub.Scalar"),
    **_named(_two("Mul", wide=True), "mul.Tensor", "mul.Scalar"),
    **_named(
        _quotient, "div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode", "floor_divide.default"
    ),
    "neg.default": _one("Neg"),
    "abs.default": _one("Abs"),
    **_named(_one("Sign"), "sign.default", "sgn.default"),
    **_named(_two("Max", wide=True), "maximum.default", "clamp_min.default", "clamp_min.Tensor"),
    **_named(_two("Min", wide=True), "minimum.default", "clamp_max.default", "clamp_max.Tensor"),
    **_named(_clamp, "clamp.default", "clamp.Tensor"),
    "relu.default": _emitter(lambda s, x: s.op("Relu", x), wide=True),
    "floor.default": _whole("Floor"),
    "ceil.default": _whole("Ceil"),
    "round.default": _whole("Round"),
    "elman.convert": _convert,
    "trunc.default": _float(_trunc),
    "frac.default": _float(_check_fraction),
    **_named(_modulo(False), "remainder.Scalar", "remainder.Tensor"),
    **_named(_modulo(True), "fmod.Scalar", "fmod.Tensor"),
    "hypot.default": _floats(_hypot),
    "atan2.default": _floats(_atan2),
    "copysign.Tensor": _floats(_copysign),
    **_named(_bits("And", "BitwiseAnd"), "bitwise_and.Tensor", "bitwise_and.Scalar"),
    "bitwise_or.Tensor": _bits("Or", "BitwiseOr"),
    "bitwise_xor.Tensor": _bits("Xor", "BitwiseXor"),
    "bitwise_left_shift.Tensor": _shift,
    "bitwise_not.default": _bits("Not", "BitwiseNot"),
    "isnan.default": _one("IsNaN", boolean=True),
    "isinf.default": _one("IsInf", boolean=True),
    "isfinite.default": _emitter(_finite, boolean=True),
    **{
        f"{name}.default": _float(lambda s, number, x, kind=kind: s.op(kind, x))  # type: ignore[misc]
        for name, kind in {
            "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "tanh": "Tanh",
            "sigmoid": "Sigmoid", "sin": "Sin", "cos": "Cos", "erf": "Erf", "tan": "Tan", "asin": "Asin",
            "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh",
            "atanh": "Atanh",
        }.items()
    },
    "log1p.default": _float(_log1p),
    "expm1.default": _float(_expm1),
    "rsqrt.default": _float(lambda s, number, x: s.op("Reciprocal", s.op("Sqrt", x))),
    "exp2.default": _float(lambda s, number, x: s.op("Pow", number(2), x)),
    "log2.default": _times("Log", 1 / math.log(2)),
    "log10.default": _times("Log", 1 / math.log(10)),
    "erfc.default": _float(lambda s, number, x: s.op("Sub", number(1), s.op("Erf", x))),
    "logaddexp.default": _floats(_logaddexp),
    **_named(_power, "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"),
    "tanh_backward.default": _floats(_tanh_backward),
    "sigmoid_backward.default": _floats(_sigmoid_backward),
    "threshold_backward.default": _threshold_backward,
    **{
        f"{name}.{overload}": _two(kind, boolean=True, wide=True)
        for name, kind in {"lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}.items()
        for overload in ("Tensor", "Scalar")
    },
    **_named(_two("Equal", boolean=True, wide=True), "eq.Tensor", "eq.Scalar"),
    **_named(_emitter(_unequal, 2, boolean=True, wide=True), "ne.Tensor", "ne.Scalar"),
    "logical_and.default": _logic("And"),
    "logical_or.default": _logic("Or"),
    "logical_xor.default": _logic("Xor"),
    "logical_not.default": _logic("Not"),
    "where.self": _where,
    **_named(_masked_fill, "masked_fill.Scalar", "masked_fill.Tensor"),
}  # fmt: skip
