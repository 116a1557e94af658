"""A layer run one step at a time, as its input comes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from elman.engine import Scan, Stepper
from elman.nn.layout import Sequences, lay_out

__all__ = ["Stream"]


class Streamed(Protocol):
    """What a layer has for its steps to be run one by one; a `Stack` has it."""

    training: bool
    batch_first: bool
    residual: bool
    _equal_widths: tuple[bool, ...]

    @property
    def num_directions(self) -> int:
        """1 or 2."""

    def scans(self) -> tuple[Scan, ...]:
        """The scan of each layer."""

    def _draws(self) -> bool: ...

    def _check_input(self, x: Any) -> Any: ...

    def _starts(self, given: Any, sequences: Sequences, name: str) -> list[Any]: ...

    def _states_out(self, states: list[Any], sequences: Sequences) -> Any: ...


class Stream:
    """What `layer.stream()` gives: `y_t = stream(x_t)`, the state carried from call to call.

    x_t: `(B, I)`, or `(I,)` for one sequence without a batch axis; its leaves where a cell takes several tensors. The
    first one fixes shape and dtype. y_t `(B, H)` or `(H,)`, a tensor of its own at each call. The outputs and the state
    are those of the layer over the whole sequence; on the core they are equal bit for bit.

    There are no gradients, and the parameters are read at the first step: a stream does not see later changes. The
    state lies in the core's memory; `state` copies it out, in the structure that the layer itself returns and takes.
    """

    def __init__(self, layer: Streamed, state: Any = None, *, context: Any = None) -> None:
        if layer.num_directions > 1 or getattr(layer, "reverse", False):
            raise ValueError(
                f"{type(layer).__name__}: a direction that begins at the last step needs the whole sequence; a stream "
                f"has one step at a time"
            )
        if layer.training and layer._draws():
            raise ValueError(
                f"{type(layer).__name__} is in training mode, and draws random numbers then (dropout or zoneout); "
                f"call eval() before stream()"
            )
        self._layer, self._given, self._context = layer, state, context
        self._steppers: list[Stepper] = []
        self._only: Stepper | None = None  # where a step is one stepper and nothing else
        self._sequences: Sequences | None = None
        self._starts: list[Any] = []

    def __call__(self, x: Any) -> Any:
        """The next step."""
        if self._only is not None:
            return self._only(x)
        if not self._steppers:
            return self._first(x)
        y = x
        for k, stepper in enumerate(self._steppers):
            y = self._through(k, stepper, y)
        return y

    def _through(self, k: int, stepper: Stepper, x: Any) -> Any:
        y = stepper(x)
        return y + x if self._layer.residual and self._layer._equal_widths[k] else y

    @torch.no_grad()
    def _first(self, x: Any) -> Any:
        layer = self._layer
        leaves = tree_leaves(x)
        if not leaves or not all(isinstance(v, Tensor) for v in leaves):
            raise TypeError(
                f"{type(layer).__name__}: x_t is {type(x).__name__}; expected tensors (B, I) or (I,)"
            )
        batched = layer._check_input(tree_map(lambda v: v.unsqueeze(0), x))
        batched = batched if isinstance(batched, bool) else leaves[0].dim() > 1
        laid = tree_map(lambda v: v.unsqueeze(1 if layer.batch_first and batched else 0), x)
        sequences = lay_out(laid, lengths=None, reset=None, batch_first=layer.batch_first, batched=batched)
        self._sequences = sequences
        self._starts = layer._starts(self._given, sequences, "hx" if self._given is not None else "the state")
        context = None if self._context is None else sequences.rows_in(self._context)
        inputs = tree_map(lambda v: v[0], sequences.x)
        steppers = []
        y = x
        for k, (scan, start) in enumerate(zip(layer.scans(), self._starts, strict=True)):
            steppers.append(Stepper(scan, inputs, start, context, flat=not batched))
            y = self._through(k, steppers[-1], y)
            inputs = y if batched else tree_map(lambda v: v.unsqueeze(0), y)
        self._steppers = steppers
        if len(steppers) == 1 and not layer.residual:
            self._only = steppers[0]
        return y

    @property
    def path(self) -> str | None:
        """How the steps run: "native", "reference" or "loop"; joined by "+" where layers differ. None before any."""
        return "+".join(dict.fromkeys(str(s.path) for s in self._steppers)) or None

    @property
    def state(self) -> Any:
        """The state now, as the layer would return it (a copy); before the first step, what the stream was given."""
        if self._sequences is None:
            return self._given
        return self._layer._states_out([s.state for s in self._steppers], self._sequences)

    @state.setter
    def state(self, value: Any) -> None:
        if self._sequences is None:
            self._given = value
            return
        states = self._layer._starts(value, self._sequences, "hx")
        for stepper, state in zip(self._steppers, states, strict=True):
            stepper.state = state

    def reset(self) -> None:
        """Back to the state that the stream began with."""
        for stepper, state in zip(self._steppers, self._starts, strict=True):
            stepper.state = state

    def __repr__(self) -> str:
        return f"Stream({type(self._layer).__name__}, path={self.path!r})"
