"""Which nodes of a section become one instruction together, and which values are made where another wants them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

import torch

from elman.engine.backends.views import row_shape
from elman.engine.ops import OPS
from elman.engine.program import Node, Section, Value

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
    the node's other term. means: node -> (instruction, the sum or the product that it reduces, its numbers). chained:
    node -> (instruction, the product of two that it uses, which argument that is). Nodes are named by their `id`; those
    that another carries out are in `swallowed`."""

    def __init__(
        self, section: Section, made_by: Mapping[Value, Node], uses: Counter[Value], stores: Container[Value],
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self.made_by, self.uses, self.stores, self.dtype = made_by, uses, stores, dtype
        self.placed: dict[Value, tuple[Value, int]] = {}
        self.started: dict[int, Node] = {}
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
            self._mean(node)
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
        plain = v.dtype == self.dtype and id(maker) not in self.swallowed and id(maker) not in self.started
        return maker if plain else None

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

    def _chain(self, node: Node) -> None:
        """A product of two and the one operation that uses it become one instruction."""
        native = _native(node)
        done = id(node) in self.started or id(node) in self.swallowed or id(node) in self.means
        if native is None or node.kwargs or done:
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
        if not maker.op.startswith("mul.") or id(maker) in self.swallowed or not self._free(product):
            return False
        if product.dtype != self.dtype:
            return False
        if node.op.startswith("sum."):
            whole = all(isinstance(a, Value) and a.shape == product.shape for a in maker.args)
            return whole and [d % len(product.shape) for d in node.args[1]] == [len(product.shape) - 1]
        return out.dtype == product.dtype and row_shape(out) == row_shape(product)
