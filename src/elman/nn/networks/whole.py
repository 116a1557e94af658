"""A step of all layers of a network, with what is read out behind them, as one step of the engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.engine import EngineError, Scan
from elman.nn.layout import Sequences
from elman.nn.networks.network import Network
from elman.nn.stack import Stack
from elman.nn.stock import StockLayer
from elman.nn.streaming import Stream

__all__ = ["WholeStep"]


class WholeStep:
    """The layers of a network above each other and its readout, as `Stream` takes a layer: o_t = stream(e_t).

    One program is traced from all of it, so that a step is one call of the core. It is kept with the network, for the
    next stream of it.
    """

    watched_by_identity = (
        True  # it is kept in the network's attributes, and is no part of what the network computes
    )
    batch_first = residual = False
    num_directions = 1
    _equal_widths: tuple[bool, ...] = ()

    def __init__(self, network: Network, layers: Stack) -> None:
        self.network, self.layers = network, layers
        self._whole = Scan(self.step, owner=network, fallback="error")

    @classmethod
    def of(cls, network: Network) -> WholeStep:
        """That of a network."""
        kept: WholeStep | None = network.__dict__.get("_whole_step")
        layers: Any = network.recurrent
        if kept is None or kept.network is not network or kept.layers is not layers:
            kept = network.__dict__["_whole_step"] = cls(network, layers)
        return kept

    @property
    def training(self) -> bool:
        """The network's mode."""
        return self.network.training

    def step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """e_t and the layers' states -> o_t and the next states."""
        layers, following = self.layers, []
        for k, (scan, state) in enumerate(zip(layers.scans(), states, strict=True)):
            y, after = scan.step(x, state)
            x = y + x if layers.residual and layers._equal_widths[k] else y
            following.append(after)
        return self.network._read_out(x, None), tuple(following)

    @classmethod
    def stream(cls, network: Network, state: Any, batch: int) -> Stream | None:
        """A stream from a state in the layers' structure; None where it would not be one call of the core.

        Only of RNN, LSTM and GRU of elman.nn: the step of any cell may give its state alone.
        """
        layers: Any = network.recurrent
        if not isinstance(layers, StockLayer) or layers.num_directions > 1:
            return None
        stream = Stream(cls.of(network), state)
        try:
            stream(torch.zeros(batch, layers.input_size, dtype=network.head.weight.dtype))
        except EngineError:
            return None
        if stream.path != "native":
            return None
        stream.reset()
        return stream

    def scans(self) -> tuple[Scan, ...]:
        """The one scan."""
        return (self._whole,)

    def _draws(self) -> bool:
        return False

    def _starts_at_zero(self) -> bool:
        return self.layers._starts_at_zero()

    def _check_input(self, x: Any) -> Any:
        return self.layers._check_input(x)

    def _starts(self, given: Any, sequences: Sequences, name: str) -> list[Any]:
        return [tuple(self.layers._starts(given, sequences, name))]

    def _states_out(self, states: list[Any], sequences: Sequences) -> Any:
        return self.layers._states_out(list(states[0]), sequences)
