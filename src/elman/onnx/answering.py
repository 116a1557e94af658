"""A network whose calls its file answers: so whatever measures the network measures the file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from elman.engine.errors import EngineError
from elman.nn import SequenceClassifier
from elman.nn.networks.network import Network, NetworkOutput
from elman.onnx.files import session
from elman.onnx.steps import names_of

__all__ = ["answered_by"]


@contextmanager
def answered_by(network: Network, path: str | os.PathLike[str]) -> Iterator[None]:
    """Within, `network(...)` is what onnxruntime gives for its file, which `elman.onnx.export` wrote, on one thread."""
    network.__dict__["forward"] = _Forward(network, path)
    try:
        yield
    finally:
        del network.__dict__["forward"]


class _Forward:
    """The calls of a `Tagger` and of a `SequenceClassifier`."""

    def __init__(self, network: Network, path: str | os.PathLike[str]) -> None:
        self.network = network
        self.names, self.run = session(path)
        self.signature = inspect.signature(type(network).forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor | NetworkOutput:
        given = dict(self.signature.bind(self.network, *args, **kwargs).arguments)
        x, lengths, state, reset = (given.get(name) for name in ("x", "lengths", "state", "reset"))
        assert isinstance(x, Tensor)
        if not x.shape[1]:
            # onnxruntime ends the process at a loop over no rows.
            raise EngineError(
                f"a file answers one row or more, and x has none: its shape is {tuple(x.shape)}"
            )
        if state is None and self._states():
            state = self.network.initial_state(x.shape[1])
        if reset is None or not bool(reset.any()):
            logits, state = self._once(x, lengths, state)
        elif lengths is not None:
            raise EngineError("a file takes no resets beside lengths")
        else:
            logits, state = self._in_pieces(x, state, reset)
        return logits if isinstance(self.network, SequenceClassifier) else NetworkOutput(logits, state)

    def _states(self) -> list[str]:
        return [name for name in self.names if name == "state" or name.startswith("state_")]

    def _once(self, x: Tensor, lengths: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        feed: dict[str, Tensor] = {"x": x}
        if "lengths" in self.names:
            feed["lengths"] = torch.full((x.shape[1],), len(x)) if lengths is None else lengths.long()
        elif lengths is not None:
            raise EngineError("the file takes no lengths: write it with lengths=True")
        leaves, spec = pytree.tree_flatten(state)
        if self._states():
            feed |= dict(zip(names_of(state, "state"), leaves, strict=True))
        logits, *ends = self._fed(feed)
        return logits, pytree.tree_unflatten(ends, spec) if ends else state

    def _fed(self, feed: Mapping[str, Tensor]) -> list[Tensor]:
        return [torch.as_tensor(a) for a in self.run({n: t.detach().cpu().numpy() for n, t in feed.items()})]

    def _in_pieces(self, x: Tensor, state: Any, reset: Tensor) -> tuple[Tensor, Any]:
        """From reset to reset: before a step with one its rows go back to the start."""
        cuts = sorted({0, *torch.nonzero(reset.any(1)).flatten().tolist(), len(x)})
        start, found = self.network.initial_state(x.shape[1]), []
        for first, last in pairwise(cuts):
            anew = reset[first]
            state = pytree.tree_map(
                lambda own, begin, anew=anew: torch.where(anew.view(1, -1, 1), begin, own), state, start
            )
            logits, state = self._once(x[first:last], None, state)
            found.append(logits)
        return torch.cat(found), state
