"""The gates of one step of any cell: what a sigmoid made, under the name that the cell's own code gives it.

Two observers sit around a step. A dispatch mode sees each operation and keeps what the sigmoids and tanhs give; a
profile function looks at the local variables of each function that returns, and where one of them is such a tensor, or
a part of it (`i, f, o = a.sigmoid().chunk(3, -1)`), its name is the gate's. So a cell of one's own is looked into like
one of ours, and nothing is computed a second time by other code that could differ from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["StepValues", "observed"]

Kind = Literal["gate", "candidate"]
Place = tuple[int, int, tuple[int, ...], tuple[int, ...]]
aten = torch.ops.aten
# From 0 to 1, and from −1 to 1.
KINDS: dict[Any, Kind] = {
    aten.sigmoid.default: "gate",
    aten.sigmoid_.default: "gate",
    aten.hardsigmoid.default: "gate",
    aten.hardsigmoid_.default: "gate",
    aten.tanh.default: "candidate",
    aten.tanh_.default: "candidate",
}
# 1 − gate: what is subtracted stands first in `rsub(gate, 1)` and second in `sub(1, gate)`.
COMPLEMENTS: dict[Any, tuple[int, int]] = {aten.rsub.Scalar: (0, 1), aten.sub.Tensor: (1, 0)}
TORCH = str(Path(torch.__file__).parent)


class StepValues(NamedTuple):
    """Tensors `(B, ...)` of one step by their names: gates from 0 to 1, candidates (named tanhs) from −1 to 1."""

    gates: dict[str, Tensor]
    candidates: dict[str, Tensor]


class _Made:
    """What an activation gave: kept, so that its memory goes to no other tensor.

    named_only: not shown where the cell's code has no name for it.
    """

    __slots__ = ("kind", "named_only", "value")

    def __init__(self, value: Tensor, kind: Kind, named_only: bool) -> None:
        self.value, self.kind, self.named_only = value, kind, named_only


class _Operations(TorchDispatchMode):
    """Keeps what the activations of a step give, by the memory that it lies in."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: dict[int, list[_Made]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch asks, and would else import its whole compiler to keep it away: ten seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        kind = KINDS.get(func)
        if kind is not None:
            self._keep(out, kind, kind == "candidate")
        elif func in COMPLEMENTS and self._is_complement(func, args):
            self._keep(out, "gate", True)
        return out

    def _is_complement(self, func: Any, args: Sequence[Any]) -> bool:
        gate, one = (args[place] for place in COMPLEMENTS[func])
        known = self.made.get(memory_of(gate), []) if isinstance(gate, Tensor) else []
        is_one = (
            one.numel() == 1 and float(one) == 1.0 if isinstance(one, Tensor) and one.dim() == 0 else one == 1
        )
        return bool(known) and known[0].kind == "gate" and not isinstance(one, bool) and bool(is_one)

    def _keep(self, value: Tensor, kind: Kind, named_only: bool) -> None:
        self.made.setdefault(memory_of(value), []).append(_Made(value, kind, named_only))


def memory_of(value: Tensor) -> int:
    """Where the memory of a tensor begins, the same for its views."""
    return value.untyped_storage().data_ptr()


def place_of(value: Tensor) -> Place:
    """Where a tensor lies, different for different views."""
    return memory_of(value), int(value.storage_offset()), tuple(value.shape), tuple(value.stride())


class _Names:
    """Looks at the local variables of functions that return, innermost first."""

    def __init__(self, made: Mapping[int, list[_Made]]) -> None:
        self.made = made
        # A function's own variables go before its arguments: those have a name where they were made.
        self.own: dict[Place, tuple[str, Tensor]] = {}
        self.given: dict[Place, tuple[str, Tensor]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "return" or code.co_filename.startswith(TORCH) or code.co_filename == __file__:
            return
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for name, value in frame.f_locals.items():
            known = isinstance(value, Tensor) and value.numel() and memory_of(value) in self.made
            if known and name != "_":
                table = self.given if name in arguments else self.own
                table.setdefault(place_of(value), (name, value.detach().clone()))

    def found(self) -> dict[Place, tuple[str, Tensor]]:
        """A name for each place that has one."""
        return {**self.given, **self.own}


@contextmanager
def observed(into: Callable[[_Names, Mapping[int, list[_Made]]], None]) -> Iterator[None]:
    """While it lasts, what the activations give is kept, with its names; at the end it goes into `into`."""
    operations = _Operations()
    names = _Names(operations.made)
    before = sys.getprofile()
    with operations:
        sys.setprofile(names)
        try:
            yield
        finally:
            sys.setprofile(before)
    into(names, operations.made)


def values_of(
    names: _Names, made: Mapping[int, list[_Made]], rows: int, results: Sequence[Tensor]
) -> StepValues:
    """The gates and candidates of a step of so many rows. results: its outputs and states, which are neither."""
    states = {memory_of(value) for value in results if value.numel()}
    found: dict[Kind, dict[str, Tensor]] = {"gate": {}, "candidate": {}}
    by_memory: dict[int, list[tuple[Place, str, Tensor]]] = {}
    for place, (name, value) in names.found().items():
        by_memory.setdefault(place[0], []).append((place, name, value))
    for memory, kept in made.items():
        if memory in states:
            continue
        named = _parts(by_memory.get(memory, []))
        if not named:
            # The cell's code has no name for it, so it goes by its number.
            named = [("", one.value.detach()) for one in kept if not one.named_only]
        into = found[kept[0].kind]
        for name, value in named:
            if value.dim() and value.shape[0] == rows:
                into[_free(name, into)] = value.flatten(1)
    return StepValues(found["gate"], found["candidate"])


def _parts(named: list[tuple[Place, str, Tensor]]) -> list[tuple[str, Tensor]]:
    """The named tensors of one memory by their place, without a whole whose parts have names too."""
    largest = max((value.numel() for *_, value in named), default=0)
    parts = [entry for entry in named if entry[2].numel() < largest]
    chosen = parts if sum(value.numel() for *_, value in parts) >= largest else named
    return [(name, value) for place, name, value in sorted(chosen, key=lambda entry: entry[0][1])]


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, with a number behind it where it is taken; of no name, `gate 1` and so on."""
    if name and name not in taken:
        return name
    stem, number = (name, 2) if name else ("gate", 1)
    while f"{stem} {number}" in taken:
        number += 1
    return f"{stem} {number}"


def step_values(
    step: Callable[..., Any], arguments: Sequence[Any], leaves: Callable[[Any], list[Any]]
) -> tuple[Any, StepValues]:
    """`step(*arguments)` and its gates. leaves: the tensors of a structure."""
    seen: list[tuple[_Names, Mapping[int, list[_Made]]]] = []
    with observed(lambda names, made: seen.append((names, made))):
        out = step(*arguments)
    results = [leaf for leaf in leaves(out) if isinstance(leaf, Tensor)]
    rows = results[0].shape[0] if results and results[0].dim() else 0
    return out, values_of(*seen[0], rows, results)
