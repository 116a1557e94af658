"""torch.compile as a peer: of the step, in a Python loop, or of the whole loop."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from benchmarks.grid.network import Layer, Mode, Network
from benchmarks.grid.sides import side
from benchmarks.pairing import Side


class GaveUpError(Exception):
    """A compilation did not end in time."""


class _TimeUp(BaseException):
    """Not an Exception: the compiler catches those and goes on."""


def compiled_step(network: Network, mode: Mode, seconds: float) -> Side:
    """The Python loop with its steps compiled. Raises GaveUpError."""

    def make() -> Callable[[Tensor], Tensor]:
        steps = [torch.compile(step, dynamic=False) for step in network.steps]
        return lambda x: network.unfold(steps, x)

    return _compiled("loop, step compiled", make, network, mode, seconds)


def compiled_loop(network: Network, mode: Mode, seconds: float) -> Side:
    """All T steps compiled as one. Raises GaveUpError."""

    def make() -> Callable[[Tensor], Tensor]:
        def loop(x: Tensor) -> Tensor:
            return network.unfold(network.steps, x)

        compiled: Callable[[Tensor], Tensor] = torch.compile(loop, dynamic=False, fullgraph=True)
        return compiled

    return _compiled("loop compiled", make, network, mode, seconds)


def _compiled(
    name: str, make: Callable[[], Callable[[Tensor], Tensor]], network: Network, mode: Mode, seconds: float
) -> Side:
    torch._dynamo.reset()
    found = side(Layer(name, make(), network.ours.parameters), network.x, mode)
    try:
        with time_limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.run()
    except _TimeUp:
        torch._dynamo.reset()
        raise GaveUpError(f"not compiled after {seconds:g} s") from None
    return found


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise in this thread after so many seconds, be it in Python or while waiting for the C++ compiler."""

    def ring(number: int, frame: FrameType | None) -> Any:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
