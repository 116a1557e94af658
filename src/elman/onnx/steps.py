"""A step over sequences as a model of its own: states go in and come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from elman.engine import Scan
from elman.engine.printing import Forward, folded, forward_of, live, without_static
from elman.engine.program.program import Program, Value
from elman.engine.structure import unflatten
from elman.onnx.graph import OPSET, Handle, Scope, array_of, tensor_type
from elman.onnx.unfold import Call, Results, unfold

__all__ = ["IR_VERSION", "StepModel", "names_of"]

IR_VERSION = 10
_STEPS, _ROWS = ("T", "B"), ("B",)
_OUTPUTS = ("y", "final", "all")  # how the names of outputs begin


def names_of(tree: Any, name: str) -> list[str]:
    """A name for each tensor of a structure: `state` for one alone, else `state_h`, `state_0_1`."""

    def word(key: Any) -> str:
        return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))

    return ["_".join([name, *map(word, path)]) for path, _ in pytree.tree_flatten_with_path(tree)[0]]


@dataclass(frozen=True, slots=True)
class StepModel:
    """How a step becomes a model: which options of a call are inputs of it, and which results are outputs.

    Inputs: `x`, `state`, with `reset` also `initial_state`, `context`, `lengths`, `reset`; outputs: `y`, `final_state`
    and, where wanted, `all_state`. Where there are several tensors, each name has more behind it.
    """

    scan: Scan
    lengths: bool = False
    reset: bool = False
    reverse: bool = False
    return_states: bool = False

    def build(self, x: Any, state: Any, context: Any = None) -> ir.Model:
        """The model for inputs like these, leaves `(T, B, ...)` and `(B, ...)`, of any T and B. EngineError where there
        is none."""
        forward = forward_of(self.scan, x, state, context)
        given = self._roles(x, state, context)
        scope = Scope("elman/")
        taken = {str(v.name) for values in given.values() for v in values}
        stored = _stored(scope, forward, self.scan.owner, taken)
        call = Call(
            given["x"], given["state"], given["initial_state"], given["context"],
            lengths=next(iter(given["lengths"]), None), reset=next(iter(given["reset"]), None), reverse=self.reverse,
            history=self.return_states,
        )  # fmt: skip
        results = unfold(scope, without_static(forward.program), call)
        outputs = self._outputs(scope, forward, state, results)
        inputs = [v for values in given.values() for v in values]
        graph = ir.Graph(
            inputs, outputs, nodes=scope.nodes, initializers=stored, opset_imports={"": OPSET}, name="elman"
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="elman")

    def inputs(self, x: Any, state: Any, context: Any = None) -> list[Handle]:
        """The inputs of the model, in order."""
        return [v for values in self._roles(x, state, context).values() for v in values]

    def _roles(self, x: Any, state: Any, context: Any) -> dict[str, list[Handle]]:
        return {
            "x": _inputs("x", x, _STEPS),
            "state": _inputs("state", state, _ROWS),
            "initial_state": _inputs("initial_state", state, _ROWS) if self.reset else [],
            "context": _inputs("context", () if context is None else context, _ROWS),
            "lengths": [_placed("lengths", torch.int64, _ROWS)] if self.lengths else [],
            "reset": [_placed("reset", torch.bool, _STEPS)] if self.reset else [],
        }

    def _outputs(self, scope: Scope, forward: Forward, state: Any, results: Results) -> list[Handle]:
        program = forward.program
        y_names = names_of(unflatten(list(range(len(program.y))), forward.y_spec), "y")
        s_names = names_of(state, "state")
        outputs = [_output(scope, *row, _STEPS) for row in zip(y_names, results.y, program.y, strict=True)]
        finals = zip(s_names, results.final, program.s, strict=True)
        outputs += [_output(scope, f"final_{name}", h, v, _ROWS) for name, h, v in finals]
        if self.return_states:
            states = zip(s_names, results.states, program.s, strict=True)
            outputs += [_output(scope, f"all_{name}", h, v, _STEPS) for name, h, v in states]
        return outputs


def _placed(name: str, dtype: torch.dtype, axes: Sequence[str], more: Sequence[int] = ()) -> ir.Value:
    return ir.Value(name=name, type=tensor_type(dtype), shape=ir.Shape([*axes, *more]))


def _inputs(role: str, tree: Any, axes: Sequence[str]) -> list[Handle]:
    leaves = pytree.tree_leaves(tree)
    return [
        _placed(name, t.dtype, axes, t.shape[len(axes) :])
        for name, t in zip(names_of(tree, role), leaves, strict=True)
    ]


def _output(scope: Scope, name: str, h: Handle, v: Value, axes: Sequence[str]) -> Handle:
    out = scope.op("Identity", h)
    out.name, out.type = name, tensor_type(v.dtype)
    out.shape = ir.Shape([*axes, *[n for n in v.shape[1:] if isinstance(n, int)]])
    return out


def _stored(scope: Scope, forward: Forward, owner: nn.Module | None, taken: set[str]) -> list[Handle]:
    """What the step reads, and what follows from that alone, as initializers under the module's own names, but for
    those that are taken."""
    program = forward.program
    env = folded(program, forward.tensors)
    called = _own_names(program, forward.tensors, owner)
    needed = live(program)
    read = {v.name for name in ("context", "hoisted", "loop", "trailing") for v in needed.reads(name)}
    read |= {v.name for v in (*program.ns, *program.y)}
    stored = []
    for name, t in env.items():
        if name in read:
            numbers = array_of(t)
            label = called.get(name, f"elman/made_{name}")
            numbers.name = f"elman/{label}" if label in taken or label.split("_")[0] in _OUTPUTS else label
            scope.values[name] = ir.Value(
                name=numbers.name, type=ir.TensorType(numbers.dtype), shape=ir.Shape(list(t.shape)), const_value=numbers
            )  # fmt: skip
            stored.append(scope.values[name])
    return stored


def _own_names(program: Program, tensors: Sequence[Tensor], owner: nn.Module | None) -> dict[str, str]:
    known: dict[int, str] = {}
    if owner is not None:
        known = {id(t): name for name, t in [*owner.named_parameters(), *owner.named_buffers()]}
    return {v.name: known[id(t)] for v, t in zip(program.p, tensors, strict=True) if id(t) in known}
