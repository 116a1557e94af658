"""A layer run one step at a time, as its input comes."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from elman.engine import Caller, Scan, Stepper
from elman.nn.layout import Sequences, lay_out

__all__ = ["Stream"]


class Streamed(Protocol):
    """What a layer has for its steps to be run one by one; a `Stack` has it."""

    batch_first: bool
    residual: bool
    _equal_widths: tuple[bool, ...]

    @property
    def training(self) -> bool:
        """The mode."""

    @property
    def num_directions(self) -> int:
        """1 or 2."""

    def scans(self) -> tuple[Scan, ...]:
        """The scan of each layer."""

    def _draws(self) -> bool: ...

    def _starts_at_zero(self) -> bool: ...

    def _check_input(self, x: Any) -> Any: ...

    def _starts(self, given: Any, sequences: Sequences, name: str) -> list[Any]: ...

    def _states_out(self, states: list[Any], sequences: Sequences) -> Any: ...


class Stream(Caller):
    """What `layer.stream()` gives: `y_t = stream(x_t)`, the state carried from call to call.
    `stream(x_t, reset)` with bool `(B,)`: the rows whose state goes back to where the stream began before the step.

    x_t: `(B, I)`, or `(I,)` for one sequence without a batch axis; its leaves where a cell takes several tensors. The
    first one fixes shape and dtype. y_t `(B, H)` or `(H,)`, a tensor of its own at each call. The outputs and the state
    are those of the layer over the whole sequence; on the core they are equal bit for bit.

    There are no gradients. The state lies in the core's memory; `state` copies it out, in the structure that the layer
    itself returns and takes, and takes one in. `copy()` is a second stream from here on.

    A parameter that changes between two steps is read anew at the next one: another tensor in its place, `p.data = t`,
    and every change that torch counts (an optimizer's step, `load_state_dict`, what is done in place). What torch does
    not count (`p.data.mul_(2)`, numpy or another process on the same memory) is seen by comparing values, some at each
    step: at once where most of a parameter's numbers change, else after `period` steps at the latest. All else that
    the layer reads (attributes, `train` and `eval`, hooks) is read at the first step and by `reset()`.
    """

    def __init__(self, layer: Streamed, state: Any = None, *, context: Any = None) -> None:
        if layer.num_directions > 1 or getattr(layer, "reverse", False):
            raise ValueError(
                f"{type(layer).__name__}: a direction that begins at the last step needs the whole sequence; a stream "
                f"has one step at a time"
            )
        super().__init__()
        _check_mode(layer)
        self._layer, self._given, self._context = layer, _own(state), context
        self._steppers: list[Stepper] = []
        self._only: Stepper | None = None  # where a step is one stepper and nothing else
        self._sequences: Sequences | None = None
        self._example: Any = None
        self._fixed = False  # where it begins is the same at each reset

    def _call(self, x: Any, reset: Tensor | None = None) -> Any:
        """The next step, where it is not one call of the core."""
        if reset is not None and self._steppers:
            self.reset(reset)
        if not self._steppers:
            return self._first(x, reset)
        y = x
        for k, stepper in enumerate(self._steppers):
            y = self._through(k, stepper, y)
        self._shorten()
        return y

    def _shorten(self) -> None:
        """Let the core answer the next call by itself, where a step is one call of it."""
        self.steps = None if self._only is None else self._only.quick

    def _through(self, k: int, stepper: Stepper, x: Any) -> Any:
        y = stepper(x)
        return y + x if self._layer.residual and self._layer._equal_widths[k] else y

    @torch.no_grad()
    def _first(self, x: Any, reset: Tensor | None) -> Any:
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
        if reset is not None:
            self._mask(reset, sequences)
        starts = self._starts(sequences)
        context = None if self._context is None else sequences.rows_in(self._context)
        inputs = tree_map(lambda v: v[0], sequences.x)
        steppers = []
        y = x
        for k, (scan, start) in enumerate(zip(layer.scans(), starts, strict=True)):
            steppers.append(Stepper(scan, inputs, start, context, flat=not batched))
            y = self._through(k, steppers[-1], y)
            inputs = y if batched else tree_map(lambda v: v.unsqueeze(0), y)
        self._steppers, self._sequences, self._example = steppers, sequences, _own(x)
        self._fixed = self._given is not None or layer._starts_at_zero()
        if len(steppers) == 1 and not layer.residual:
            self._only = steppers[0]
        self._shorten()
        return y

    def _starts(self, sequences: Sequences) -> list[Any]:
        """Where the stream began, one state for each layer."""
        name = "hx" if self._given is not None else "the state"
        return self._layer._starts(self._given, sequences, name)

    @property
    def path(self) -> str | None:
        """How the steps run: "native", "reference" or "loop"; joined by "+" where layers differ. None before any."""
        return "+".join(dict.fromkeys(str(s.path) for s in self._steppers)) or None

    @property
    def period(self) -> int | None:
        """The most steps until a change of one number is seen that only its value tells. None before the first."""
        return max((s.period for s in self._steppers), default=None)

    @property
    def state(self) -> Any:
        """The state now, as the layer would return it (a copy); before the first step, what the stream was given."""
        if self._sequences is None:
            return _own(self._given)
        return self._layer._states_out([s.state for s in self._steppers], self._sequences)

    @state.setter
    def state(self, value: Any) -> None:
        if self._sequences is None:
            self._given = _own(value)
            return
        states = self._layer._starts(value, self._sequences, "hx")
        for stepper, state in zip(self._steppers, states, strict=True):
            stepper.state = state

    def reset(self, rows: Tensor | None = None) -> None:
        """Back to the state that the stream began with: all rows, or those where `rows`, bool `(B,)`, is true.

        Without `rows` all that the layer reads is read anew. A start that is learned is what it is now.
        """
        if rows is not None and not bool(self._mask(rows, self._sequences).any()):
            return
        _check_mode(self._layer)
        if self._sequences is None:
            return
        if rows is None:
            for stepper in self._steppers:
                if not stepper.is_current():
                    stepper.read()
        if rows is None and self._fixed and (self._given is not None or self._layer._starts_at_zero()):
            for stepper in self._steppers:
                stepper.begin()
            return
        mask = None if rows is None else rows.reshape(-1)
        with torch.no_grad():
            for stepper, start in zip(self._steppers, self._starts(self._sequences), strict=True):
                stepper.put(start, mask)

    def _mask(self, rows: Any, sequences: Sequences | None) -> Tensor:
        """The rows to be reset; ValueError for what does not say so."""
        shape: tuple[int, ...] = () if sequences is None or not sequences.batched else (sequences.batch,)
        if (
            isinstance(rows, Tensor)
            and rows.dtype == torch.bool
            and (sequences is None or rows.shape == shape)
        ):
            return rows
        what = f"{rows.dtype} {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        wanted = "(B,)" if sequences is None else str(shape)
        raise ValueError(
            f"{type(self._layer).__name__}: reset is {what}; expected a boolean tensor {wanted}, true for the rows "
            f"that begin anew"
        )

    # ---- copies

    def copy(self) -> Stream:
        """A second stream of the same layer, in the same state; from here on each goes its own way."""
        return self._twin(self._layer, self._context)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        return self._twin(copy.deepcopy(self._layer, memo), _own(self._context))

    def _twin(self, layer: Streamed, context: Any) -> Stream:
        twin = Stream(layer, self._given, context=context)
        if self._steppers:
            twin(self._example)
            for other, own in zip(twin._steppers, self._steppers, strict=True):
                other.state = own.state
        return twin

    def __reduce__(self) -> Any:
        raise TypeError(
            "a stream cannot be pickled; keep the layer and stream.state, from which layer.stream(state) goes on"
        )

    def __repr__(self) -> str:
        return f"Stream({type(self._layer).__name__}, path={self.path!r})"


def _own(tree: Any) -> Any:
    """The same tensors in memory of their own, without gradients."""
    return tree_map(lambda t: t.detach().clone() if isinstance(t, Tensor) else t, tree)


def _check_mode(layer: Streamed) -> None:
    if layer.training and layer._draws():
        raise ValueError(
            f"{type(layer).__name__} is in training mode, and draws random numbers then (dropout or zoneout); "
            f"call eval() before stream()"
        )
