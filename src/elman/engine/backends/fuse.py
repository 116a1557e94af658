"""Which nodes of a section become one instruction together, and which values are made where another wants them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

import torch

from elman.engine.backends.views import row_shape
from elman.engine.program.ops import OPS
from elman.engine.program.program import Node, Section, Value, refs

__all__ = ["Fusions"]

# (instruction, which of its sources is a product) -> the instruction for both.
CHAINS = {
    ("add", 0): "fma", ("add", 1): "fma", ("sub", 0): "mul_sub", ("sub", 1): "sub_mul", ("mul", 0): "mul_mul",
    ("mul", 1): "mul_mul", ("tanh_backward", 0): "mul_tanh_backward", ("sigmoid_backward", 0): "mul_sigmoid_backward",
    ("reduce_sum", 0): "reduce_dot",
}  # fmt: skip
_DIVISIONS = ("div.Tensor", "div.Scalar")
_MADE_IN_PLACE = ("elementwise", "clamp", "threshold_backward", "masked_fill", "mm")


def _native(node: Node) -> tuple[str, str] | None:
    return OPS[node.op].native if node.op in OPS else None


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


class Fusions:
    """placed: value -> (the join it is a part of, where it begins there). started: node -> the product that starts from
    the node's other term. norms: node -> (instruction, its sources, its numbers). means: node -> (instruction, the sum
    or the product that it reduces, its numbers). chained: node -> (instruction, the product of two that it uses, which
    argument that is). Nodes are named by their `id`; those that another carries out are in `swallowed`."""

    def __init__(
        self, section: Section, made_by: Mapping[Value, Node], uses: Counter[Value], stores: Container[Value],
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self.made_by, self.uses, self.stores, self.dtype = made_by, uses, stores, dtype
        self.placed: dict[Value, tuple[Value, int]] = {}
        self.started: dict[int, Node] = {}
        self.norms: dict[int, tuple[str, list[Any], list[float]]] = {}
        self.chained: dict[int, tuple[str, Node, int]] = {}
        self.means: dict[int, tuple[str, Node, list[float]]] = {}
        self.swallowed: set[int] = set()
        for node in section.nodes:
            if node.op == "cat.default":
                self._join(node)
        for node in section.nodes:
            if node.op == "add.Tensor":
                self._start(node)
        for node in reversed(section.nodes):
            self._norm_backward(node)
        for node in reversed(section.nodes):
            self._mean(node)
        self._deviations(section)
        for node in reversed(section.nodes):
            self._chain(node)

    def _join(self, node: Node) -> None:
        """What is joined by a cat is made in its place."""
        out = node.outs[0]
        dim = (node.args[1] if len(node.args) > 1 else 0) % len(out.shape)
        if math.prod(row_shape(out)[:dim]) != 1:
            return
        start = 0
        for part in node.args[0]:
            if self._can_be_placed(part, out):
                self.placed[part] = (out, start)
            start += math.prod(row_shape(part))

    def _can_be_placed(self, part: Value, out: Value) -> bool:
        maker = self.made_by.get(part)
        if maker is None or part in self.stores or part in self.placed or part.dtype != out.dtype:
            return False
        native = _native(maker)
        return native is not None and native[0] in _MADE_IN_PLACE

    def _start(self, node: Node) -> None:
        """A sum of a matrix product and something else becomes a product that starts from it."""
        out = node.outs[0]
        for product, other in (node.args[::-1], node.args):
            maker = self.made_by.get(product) if isinstance(product, Value) else None
            if maker is None or not isinstance(other, Value) or not self._starts(maker, product, other, out):
                continue
            self.started[id(node)] = maker
            self.swallowed.add(id(maker))
            return

    def _free(self, product: Value) -> bool:
        """Whether nothing but its one use wants a value."""
        return self.uses[product] == 1 and product not in self.stores and product not in self.placed

    def _starts(self, maker: Node, product: Value, other: Value, out: Value) -> bool:
        if maker.op != "mm.default" or id(maker) in self.swallowed or not self._free(product):
            return False
        if product.shape != out.shape or product.factor != 1:
            return False
        whole = math.prod(row_shape(other)) == math.prod(row_shape(out))
        return whole and other.dtype == out.dtype and maker.args[0].axis == 0 and other is not product

    def _made_alone(self, v: Any, *ops: str) -> Node | None:
        """The node that makes a value for one use only, if it is of one of these kinds."""
        maker = self.made_by.get(v) if isinstance(v, Value) else None
        if maker is None or maker.op not in ops or maker.kwargs or not self._free(maker.outs[0]):
            return None
        return maker if v.dtype == self.dtype and not self._is_taken(maker) else None

    def _is_taken(self, node: Node) -> bool:
        return any(id(node) in held for held in (self.swallowed, self.started, self.means, self.norms))

    def _mean(self, node: Node) -> None:
        """A sum that is divided by a number, and what a norm goes on to make of it."""
        if id(node) in self.swallowed or node.kwargs or node.outs[0].dtype != self.dtype:
            return
        gone, division, numbers = [], node, []
        if node.op == "rsqrt.default":
            more = self._made_alone(node.args[0], "add.Tensor", "add.Scalar")
            found = self._made_alone(more.args[0], *_DIVISIONS) if more and _is_number(more.args[1]) else None
            if more is None or found is None:
                return
            gone, division, numbers = [more, found], found, [float(more.args[1])]
        if division.op not in _DIVISIONS or not _is_number(division.args[1]):
            return
        total = self._made_alone(division.args[0], "sum.dim_IntList")
        if total is None or total.args[0].dtype != self.dtype or total.args[0].axis in total.args[1]:
            return
        product = self._made_alone(total.args[0], "mul.Tensor")
        if product is not None and self._may_chain(product, total):
            name, gone, of = "dot_rstd" if numbers else "dot_mean", [*gone, total, product], product
        elif not numbers:
            name, gone, of = "reduce_mean", [total], total
        else:
            return
        self.means[id(node)] = name, of, [float(division.args[1]), *numbers]
        self.swallowed.update(map(id, gone))

    def _mean_of(self, v: Any) -> tuple[Node, Node, float] | None:
        """(division, sum, n) of a sum over the last axis, divided by a number and used once."""
        division = self._made_alone(v, *_DIVISIONS)
        total = self._made_alone(division.args[0], "sum.dim_IntList") if division else None
        if (
            division is None
            or total is None
            or not _is_number(division.args[1])
            or total.args[0].dtype != self.dtype
        ):
            return None
        of, out = total.args[0], total.outs[0]
        last = len(of.shape) - 1
        kept = len(out.shape) == len(of.shape)  # with a size of 1
        if not kept or of.axis == last or [d % len(of.shape) for d in total.args[1]] != [last]:
            return None
        return division, total, float(division.args[1])

    def _norm_backward(self, node: Node) -> None:
        """(g - mean(g) - y mean(g y)) r, as a norm hands back."""
        if node.op != "mul.Tensor" or node.kwargs or node.outs[0].dtype != self.dtype:
            return
        for outer, r in (node.args, node.args[::-1]):
            second = self._made_alone(outer, "sub.Tensor")
            first = self._made_alone(second.args[0], "sub.Tensor") if second else None
            product = self._made_alone(second.args[1], "mul.Tensor") if second else None
            if first is None or second is None or product is None:
                continue
            g, mean = first.args[0], self._mean_of(first.args[1])
            for y, slope in (product.args, product.args[::-1]):
                found = self._mean_of(slope)
                inner = self._made_alone(found[1].args[0], "mul.Tensor") if found else None
                if (
                    mean is None
                    or found is None
                    or inner is None
                    or mean[1].args[0] is not g
                    or mean[2] != found[2]
                ):
                    continue
                if not (set(inner.args) == {g, y} and self._are_lines((g, y, node.outs[0]), r)):
                    continue
                if mean[2] != row_shape(g)[-1]:
                    continue
                self.norms[id(node)] = "norm_backward", [*self._gained(g), y, r], []
                self.swallowed.update(map(id, (first, second, product, inner, *mean[:2], *found[:2])))
                return

    def _gained(self, g: Value) -> tuple[Any, Any]:
        """What a norm's incoming gradient is the product of: itself and 1, or a value and a gain of its last axis."""
        maker = self.made_by.get(g)
        if maker is None or maker.op != "mul.Tensor" or maker.kwargs or self._is_taken(maker):
            return g, 1.0
        kept = self.uses[g] != 3 or g in self.stores or g in self.placed
        for whole, gain in (maker.args, maker.args[::-1]):
            if (
                kept
                or not isinstance(gain, Value)
                or gain.dtype != self.dtype
                or not self._are_lines((g, whole), None)
            ):
                continue
            shape = row_shape(gain)
            if shape and shape[-1] == row_shape(g)[-1] == math.prod(shape):
                self.swallowed.add(id(maker))
                return whole, gain
        return g, 1.0

    def _are_lines(self, whole: tuple[Any, ...], single: Any) -> bool:
        """Whether these have one shape, and this, if it is anything, one number for each of their lines."""
        some = whole if single is None else (*whole, single)
        if not all(isinstance(v, Value) and v.dtype == self.dtype for v in some):
            return False
        same = all(v.shape == whole[0].shape and v.axis == 0 for v in whole)
        return same and (single is None or row_shape(single) == (*row_shape(whole[0])[:-1], 1))

    def _deviations(self, section: Section) -> None:
        """1 / sqrt(mean((x - m)^2) + e) and (x - m) times that, without x - m."""
        users: dict[Value, list[Node]] = {}
        for node in section.nodes:
            for v in set(refs(node)):
                users.setdefault(v, []).append(node)
        for node in section.nodes:
            name, product, numbers = self.means.get(id(node), ("", node, []))
            if name != "dot_rstd" or product.args[0] is not product.args[1]:
                continue
            d = product.args[0]
            maker = self.made_by.get(d)
            others = [user for user in users[d] if user is not product]
            if maker is None or maker.op != "sub.Tensor" or maker.kwargs or self._is_taken(maker):
                continue
            kept = self.uses[d] != 3 or d in self.stores or d in self.placed or len(others) != 1
            if (
                kept
                or not self._are_lines((maker.args[0], d), maker.args[1])
                or not self._is_scaled(others[0], d, node)
            ):
                continue
            self.norms[id(node)] = "deviation_rstd", list(maker.args), numbers
            self.norms[id(others[0])] = "sub_scaled", [*maker.args, node.outs[0]], []
            self.swallowed.add(id(maker))

    def _is_scaled(self, node: Node, d: Value, rstd: Node) -> bool:
        plain = node.op == "mul.Tensor" and not node.kwargs and not self._is_taken(node)
        return plain and set(node.args) == {d, rstd.outs[0]}

    def _chain(self, node: Node) -> None:
        """A product of two and the one operation that uses it become one instruction."""
        native = _native(node)
        if native is None or node.kwargs or self._is_taken(node):
            return
        for place, arg in enumerate(node.args[:2]):
            name = CHAINS.get((native[1], place))
            maker = self.made_by.get(arg) if isinstance(arg, Value) else None
            if name is not None and maker is not None and self._may_chain(maker, node):
                self.chained[id(node)] = name, maker, place
                self.swallowed.add(id(maker))
                return

    def _may_chain(self, maker: Node, node: Node) -> bool:
        product, out = maker.outs[0], node.outs[0]
        if not maker.op.startswith("mul.") or self._is_taken(maker) or not self._free(product):
            return False
        if product.dtype != self.dtype:
            return False
        if node.op.startswith("sum."):
            whole = all(isinstance(a, Value) and a.shape == product.shape for a in maker.args)
            return whole and [d % len(product.shape) for d in node.args[1]] == [len(product.shape) - 1]
        return out.dtype == product.dtype and row_shape(out) == row_shape(product)
