"""A tagger run one step at a time: what a language model writes with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from elman.nn.dropout import SequenceDropout
from elman.nn.embedding import Embedding
from elman.nn.networks.network import Network
from elman.nn.networks.whole import WholeStep
from elman.nn.recurrent import Recurrent
from elman.nn.stack import Stack

__all__ = ["TaggerStream"]

Given = Sequence[int] | Tensor


class TaggerStream:
    """What `tagger.stream()` gives: logits `(B, K)` = stream(x_t), the state carried from call to call.

        e_t = embedding(x_t)              one row of the table a token
        s_t = recurrent(e_t, s_{t−1})     packed weights, the state in the core
        o_t = head(norm(s_t))             logits `(B, K)`

    RNN, LSTM and GRU of elman.nn and what is behind them are one program of the core, where it can carry out all of it
    (see `elman.nn.networks.whole`); else the layers are streamed by themselves.

    x_t: B tokens, as a list of integers or a tensor `(B,)`; features `(B, F)` where the network reads features.
    There are no gradients, and no dropout: ValueError for a network in training mode. What changes in the network's
    parameters is seen at the next step, as `elman.nn.Stack.stream` says. Layers of other libraries, and a network on
    another device than the CPU, are called with a sequence of one step.

    The logits are those of `Tagger.step`, up to the rounding of the output layer's sums.
    """

    def __init__(self, network: Network, state: Any = None, *, batch: int = 1) -> None:
        if network.training:
            raise ValueError("the network is in training mode; call eval() before stream()")
        self._network, self.batch = network, batch
        device = network.head.weight.device
        self._device: torch.device | None = None if device.type == "cpu" else device
        start = network.initial_state(batch) if state is None else state
        layers: Any = network.recurrent
        # Streams of elman.nn's layers are of the core; others, and other devices, have their layers called.
        core = isinstance(layers, Stack) and self._device is None
        self._axis = 0 if isinstance(layers, Recurrent) else 1
        self._begin = start
        self._embedding = network.embedding
        self._readout = [part for part in _readout(network) if not _does_nothing(part)]
        plain = core and not _is_watched(*self._readout)
        whole = WholeStep.stream(network, start, batch) if plain else None
        if whole is not None:
            self._readout = []
        self._recurrent: Any = whole
        if whole is None:
            self._recurrent = layers.stream(start) if core else _Called(layers, start, self._axis)
        self._quick = _Quick.of(network.embedding, self._readout) if self._device is None else None

    def __call__(self, x: Given) -> Tensor:
        """The logits after the next step, `(B, K)`, in memory of their own, on the CPU."""
        if len(x) != self.batch:
            raise ValueError(f"{len(x)} rows of x were given to a stream of {self.batch}")
        if self._quick is not None and self.batch == 1 and not isinstance(x, Tensor):
            return self._quick.read_out(self._recurrent(self._quick.row(x[0])))
        with torch.no_grad():
            given = torch.as_tensor(x, device=self._device)
            n = self._recurrent(self._embedding(given.unsqueeze(0))[0])
            for part in self._readout:
                n = part(n)
            logits: Tensor = n if self._device is None else n.cpu()
            return logits

    @property
    def path(self) -> str:
        """How a step runs: as `Stream.path`, "whole" where it is one call of the core; "called" of other layers."""
        if isinstance(self._recurrent, _Called):
            return "called"
        whole = isinstance(self._recurrent._layer, WholeStep)
        return f"{self._recurrent.path}, whole" if whole else str(self._recurrent.path)

    @property
    def state(self) -> Any:
        """The state now, as `Tagger.forward` returns it (a copy)."""
        return self._recurrent.state

    def pick(self, rows: Sequence[int]) -> TaggerStream:
        """A stream of these rows in that order, with repeats; this one stays as it is."""
        chosen = torch.tensor(rows, dtype=torch.long, device=self._device)
        state, begin = (
            tree_map(lambda leaf: leaf.index_select(self._axis, chosen), given)
            for given in (self.state, self._begin)
        )
        found = TaggerStream(self._network, begin, batch=len(rows))
        found._recurrent.state = state
        return found

    def copy(self) -> TaggerStream:
        """A second stream from here on."""
        return self.pick(range(self.batch))

    def reset(self, rows: Tensor | None = None) -> None:
        """Back to the state that the stream began with: all rows, or those where `rows`, bool `(B,)`, is true."""
        self._recurrent.reset(rows)

    def __repr__(self) -> str:
        return f"TaggerStream({type(self._network).__name__}, batch={self.batch})"


class _Called:
    """Any layers as a stream: each step is a call with a sequence of one. axis: of the rows, in the state's leaves."""

    def __init__(self, layers: nn.Module, state: Any, axis: int) -> None:
        self._layers, self._begin, self._axis = layers, state, axis
        self.state = state

    def __call__(self, x: Tensor) -> Tensor:
        y, self.state = self._layers(x.unsqueeze(0), self.state)
        first: Tensor = y[0]
        return first

    def reset(self, rows: Tensor | None = None) -> None:
        def begun(now: Tensor, begin: Tensor) -> Tensor:
            shape = [-1 if axis == self._axis else 1 for axis in range(now.dim())]
            return begin if rows is None else torch.where(rows.to(now.device).view(shape), begin, now)

        self.state = tree_map(begun, self.state, self._begin)


class _Seen:
    """A parameter without its gradient; what is made of it anew is made where it is another one, or lies elsewhere."""

    def __init__(self, module: nn.Module, name: str, *, split: bool = False) -> None:
        self._parameters, self._name, self._split = module._parameters, name, split
        self._parameter: Tensor | None = None
        self._place = 0
        self._made: Any = None

    def __call__(self) -> Any:
        now = self._parameters[self._name]
        assert now is not None
        if now is not self._parameter or now.data_ptr() != self._place:
            self._parameter, self._place = now, now.data_ptr()
            self._made = now.detach().split(1) if self._split else now.detach()
        return self._made


class _Quick:
    """One row's way through a table and a dense layer, past the calls of their modules, which take longer than it."""

    def __init__(self, embedding: nn.Module, parts: Sequence[nn.Module], head: nn.Module | None) -> None:
        self._table = _Seen(embedding, "weight", split=True)
        self._parts = parts
        self._dense = None if head is None else (_Seen(head, "weight"), _Seen(head, "bias"))

    @classmethod
    def of(cls, embedding: nn.Module, readout: Sequence[nn.Module]) -> _Quick | None:
        """The way of a network, if a token's vector is a row of the table, and its last part, if any, dense."""
        plain = type(embedding) is Embedding and embedding.subwords is None and _does_nothing(embedding.norm)
        if not plain or _is_watched(embedding):
            return None
        if not readout:
            return cls(embedding, (), None)
        *parts, head = readout
        dense = type(head) is nn.Linear and head._parameters["bias"] is not None
        return cls(embedding, parts, head) if dense and not _is_watched(head) else None

    def row(self, token: int) -> Tensor:
        """e_t `(1, I)`, where the table holds it."""
        table = self._table()
        if token < 0:
            raise IndexError(f"token {token} is below 0")
        found: Tensor = table[token]
        return found

    def read_out(self, s: Tensor) -> Tensor:
        """o_t `(1, K)` of s_t `(1, H)`; what it is given, where nothing is left to be done."""
        if self._dense is None:
            return s
        weight, bias = self._dense
        if self._parts:
            with torch.no_grad():
                for part in self._parts:
                    s = part(s)
        return torch.addmv(bias(), weight(), s.view(-1)).unsqueeze(0)


def _readout(network: Network) -> list[nn.Module]:
    """What turns y_t into logits, one module after the other."""
    hidden = [] if network.dense is None else [network.dense, network.nonlinearity, network.dropout]
    return [network.norm, network.dropout, *hidden, network.head]


def _does_nothing(part: nn.Module) -> bool:
    """Whether a module in eval mode gives back what it is given."""
    return isinstance(part, nn.Identity | nn.Dropout | SequenceDropout) and not _is_watched(part)


def _is_watched(*parts: nn.Module) -> bool:
    """Whether somebody looks on when one of the modules is called."""
    return any(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts)
