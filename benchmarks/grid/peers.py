"""What Elman is held against: each peer makes its side of a case, or has no such cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.grid.compiled import compiled_loop, compiled_step
from benchmarks.grid.flax import flax_side, scan_side
from benchmarks.grid.network import Layer, Mode, Network
from benchmarks.grid.onnx import onnx_side
from benchmarks.grid.sides import side
from benchmarks.pairing import Side


class Limits(NamedTuple):
    """Threads for libraries that must be told, and how long one compilation may take."""

    threads: int
    compile_seconds: float


Peer = Callable[[Network, Mode, Limits], Side | None]


def rival(name: str) -> Peer:
    """Another layer in torch that the network brings along."""

    def make(network: Network, mode: Mode, limits: Limits) -> Side | None:
        return side(network.rivals[name], network.x, mode) if name in network.rivals else None

    return make


def loop(network: Network, mode: Mode, limits: Limits) -> Side | None:
    """The Python loop over the same step."""
    layer = Layer("Python loop", lambda x: network.unfold(network.steps, x), network.ours.parameters)
    return side(layer, network.x, mode)


def step_compiled(network: Network, mode: Mode, limits: Limits) -> Side | None:
    """The Python loop over the compiled step."""
    return compiled_step(network, mode, limits.compile_seconds)


def loop_compiled(network: Network, mode: Mode, limits: Limits) -> Side | None:
    """The whole loop compiled."""
    return compiled_loop(network, mode, limits.compile_seconds)


def flax(network: Network, mode: Mode, limits: Limits) -> Side | None:
    """flax for what torch.nn has too, and jax's scan over the same step for what a user has written."""
    if network.stock is not None:
        return flax_side(network.stock, network.x, mode, limits.threads)
    if network.written is not None:
        return scan_side(network.written, network.x, mode, limits.threads)
    return None


def onnxruntime(network: Network, mode: Mode, limits: Limits) -> Side | None:
    """onnxruntime, for what torch.nn has too; it has no backward."""
    if network.stock is None or mode == "training":
        return None
    return onnx_side(network.stock, network.x, limits.threads)


PEERS: dict[str, Peer] = {
    "torch.nn": rival("torch.nn"),
    "elman.nn.LSTM": rival("elman.nn.LSTM"),
    "loop": loop,
    "compiled-step": step_compiled,
    "compiled-loop": loop_compiled,
    "flax": flax,
    "onnxruntime": onnxruntime,
}
