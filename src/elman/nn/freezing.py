"""A layer that is asked for answers alone: its weights packed once."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from elman.engine import Caller, PackedScan, Scan

__all__ = ["Frozen"]


class Packable(Protocol):
    """What a layer has for its calls to be answered from packed weights; a `Stack` has it."""

    batch_first: bool
    residual: bool
    training: bool

    def scans(self) -> tuple[Scan, ...]:
        """The scan of each layer and direction."""

    def call_on(self, scans: Any, *args: Any, **options: Any) -> Any:
        """A call with others in the place of the scans."""

    def modules(self) -> Any:
        """The layer and all within."""

    def _starts_at_zero(self) -> bool: ...

    def _lone_state(self) -> tuple[int, ...] | None: ...


class Frozen(Caller):
    """What `layer.freeze()` gives: called as the layer is, forward alone, with the weights packed once.

    It answers bit for bit what the layer in eval mode does, a short call in a fraction of the time. There are no
    gradients: a call on tensors that want one, in training mode, or `train()` is a RuntimeError. Calls with lengths, a
    mask, resets or all states, and steps that the core does not run whole, take the layer's own way, without gradients
    (`explain` says so).

    Weights are packed at the first call of each kind: batch size, dtype, direction. A parameter that changes afterwards
    is read anew at the next call: another tensor in its place, `p.data = t`, and every change that torch counts (an
    optimizer's step, `load_state_dict`, what is done in place). What torch does not count (`p.data.mul_(2)`) is seen by
    comparing values, some at each call: at once where most of a parameter's numbers change, else after `period` calls
    at the latest. All else that the layer reads (options, hooks, another cell) is read at the first call and by
    `read()`.
    """

    def __init__(self, layer: Packable) -> None:
        super().__init__()
        self._layer = layer
        self._check_mode()
        self._scans = [PackedScan(scan) for scan in layer.scans()]

    def _call(self, *args: Any, **options: Any) -> Any:
        """A call that the core does not answer by itself."""
        self._check_mode()
        if torch.is_grad_enabled() and any(
            isinstance(t, Tensor) and t.requires_grad for t in tree_leaves((args, options))
        ):
            raise RuntimeError(
                f"{self._name}: an input wants a gradient, and a frozen layer is forward only; call the layer itself, "
                f"or detach the input"
            )
        scans = self._layer.scans()
        if len(scans) != len(self._scans) or any(
            a is not b.scan for a, b in zip(scans, self._scans, strict=True)
        ):
            self._scans = [PackedScan(scan) for scan in scans]
        with torch.no_grad():
            result = self._layer.call_on(self._scans, *args, **options)
        self._shorten(result)
        return result

    def _shorten(self, result: Any) -> None:
        """Let the core answer the next call by itself, where it is the same in all but its steps and numbers."""
        self.steps = None
        ahead = self._layer._lone_state()
        packed = self._scans[0].last
        if ahead is None or packed is None:
            return
        zeros, layer = self._layer._starts_at_zero(), vars(self._layer)
        places = [(layer, "_box")] if "_box" in layer else []
        self.steps = packed.answer_as(
            type(result), self._layer.batch_first, ahead, zeros, self._layer.modules(), places
        )

    def _check_mode(self) -> None:
        if self._layer.training:
            raise RuntimeError(
                f"{self._name}: the layer is in training mode, and a frozen one is forward only; call eval() on the "
                f"layer"
            )

    @property
    def _name(self) -> str:
        return f"{type(self._layer).__name__}.freeze()"

    def train(self, mode: bool = True) -> Frozen:
        """RuntimeError: a frozen layer is forward only."""
        if mode:
            raise RuntimeError(
                f"{self._name}: a frozen layer is forward only; train the layer, and it sees the change"
            )
        return self

    def eval(self) -> Frozen:
        """Nothing to do."""
        return self

    def read(self) -> None:
        """Read anew all that the layer reads: parameters, buffers, attributes, hooks."""
        self.steps = None
        for scan in self._scans:
            scan.read()

    @property
    def period(self) -> int | None:
        """The most calls until a change of one number is seen that only its value tells. None before any."""
        periods = [scan.last.core.period for scan in self._scans if scan.last is not None]
        return max(periods, default=None)

    def explain(self) -> str:
        """How the last call ran that was another than the one before it, for each layer and direction."""
        ran = [
            "packed weights" if not scan.reason else f"as the layer itself: {scan.reason}"
            for scan in self._scans
        ]
        return "\n".join(ran)

    # ---- copies

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        return Frozen(copy.deepcopy(self._layer, memo))

    def __copy__(self) -> Frozen:
        return Frozen(self._layer)

    def __reduce__(self) -> Any:
        raise TypeError("a frozen layer cannot be pickled; keep the layer, and freeze it again")

    def __repr__(self) -> str:
        return f"Frozen({type(self._layer).__name__})"
