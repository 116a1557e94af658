"""jax and flax as a peer: `flax.linen.RNN` over flax's own cells, and `jax.lax.scan` over a step that a user has
written (`scanned`), jitted, with the weights of the network.

The weights and x are on jax's side before anything is timed, and y and the gradients are taken back afterwards.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.grid.network import Mode, Stock, Written
from benchmarks.grid.optional import package
from benchmarks.grid.scanned import scanned
from benchmarks.grid.sides import y_gradient
from benchmarks.pairing import Answers, Side

CELLS = {"LSTM": "OptimizedLSTMCell", "GRU": "GRUCell", "RNN": "SimpleCell"}
# The gates by flax's letters, in torch's order.
GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": " "}


def flax_side(stock: Stock, x: Tensor, mode: Mode, threads: int) -> Side:
    """The same layer in flax. Raises MissingPackageError."""
    started(threads)
    parameters = {suffix: to_flax(stock, suffix) for suffixes in stock.suffixes() for suffix in suffixes}

    def read(gradients: Any) -> Answers:
        answers: dict[str, Tensor] = {}
        for suffix, tree in gradients.items():
            answers |= from_flax(stock, suffix, tree)
        return answers

    return _side(f"flax {CELLS[stock.kind]}", _forward(stock), parameters, x, mode, read)


def scan_side(written: Written, x: Tensor, mode: Mode, threads: int) -> Side:
    """A user's cell in jax. Raises MissingPackageError."""
    started(threads)
    parameters = {name: _to_jax(value.detach()) for name, value in written.cell.named_parameters()}

    def read(gradients: Any) -> Answers:
        return {name: to_torch(value) for name, value in gradients.items()}

    return _side("jax scan", scanned(written), parameters, x, mode, read)


def _side(
    name: str, forward: Callable[[Any, Any], Any], parameters: Any, x: Tensor, mode: Mode,
    read_gradients: Callable[[Any], Answers],
) -> Side:  # fmt: skip
    jax = package("jax")
    inputs = jax.numpy.asarray(x.numpy())
    if mode == "forward":
        jitted = jax.jit(forward)
        return Side(
            name,
            lambda: jitted(parameters, inputs).block_until_ready(),
            lambda y: {"y": to_torch(y)},
            own_threads=True,
        )

    def both(parameters: Any, x: Any, grad_y: Any) -> Any:
        y, pull = jax.vjp(forward, parameters, x)
        return y, pull(grad_y)

    jitted = jax.jit(both)
    width = jax.eval_shape(forward, parameters, inputs).shape
    grad_y = jax.numpy.asarray(y_gradient(torch.Size(width)).numpy())

    def read(result: Any) -> Answers:
        y, (gradients, grad_x) = result
        return {"y": to_torch(y), "grad x": to_torch(grad_x)} | {
            f"grad {name}": value for name, value in read_gradients(gradients).items()
        }

    return Side(
        name, lambda: jax.block_until_ready(jitted(parameters, inputs, grad_y)), read, own_threads=True
    )


def _forward(stock: Stock) -> Callable[[Any, Any], Any]:
    """The layer as a function of all parameters and x `(T, B, I)`."""
    jnp, linen = package("jax.numpy"), package("flax.linen")
    layers = [
        linen.RNN(
            getattr(linen, CELLS[stock.kind])(stock.hidden_size),
            time_major=True,
            reverse=bool(direction),
            keep_order=True,
        )
        for direction in range(stock.num_directions)
    ]
    lengths = None if stock.lengths is None else jnp.asarray(stock.lengths.numpy())

    def forward(parameters: Any, x: Any) -> Any:
        for suffixes in stock.suffixes():
            outputs = [
                layer.apply(parameters[suffix], x, seq_lengths=lengths)
                for layer, suffix in zip(layers, suffixes, strict=True)
            ]
            x = jnp.concatenate(outputs, axis=-1)
        if lengths is None:
            return x
        return jnp.where((jnp.arange(x.shape[0])[:, None] < lengths)[..., None], x, 0.0)

    return forward


def to_flax(stock: Stock, suffix: str) -> Any:
    """The parameters of one layer and direction as flax has them: one bias where torch has two that are only added."""
    tensors = {name: stock.state[name + suffix] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    gates = GATES[stock.kind]
    rows = {name: value.chunk(len(gates)) for name, value in tensors.items()}
    cell: dict[str, dict[str, Any]] = {}
    for number, letter in enumerate(gates):
        gate = letter.strip()
        W, U, b, b_h = (rows[name][number] for name in tensors)
        cell[f"i{gate}"], cell[f"h{gate}"] = {"kernel": _to_jax(W.t())}, {"kernel": _to_jax(U.t())}
        if stock.kind == "LSTM":
            cell[f"h{gate}"]["bias"] = _to_jax(b + b_h)
        elif stock.kind == "GRU" and gate == "n":
            cell["in"]["bias"], cell["hn"]["bias"] = _to_jax(b), _to_jax(b_h)
        else:
            cell[f"i{gate}"]["bias"] = _to_jax(b + b_h)
    return {"params": {"cell": cell}}


def from_flax(stock: Stock, suffix: str, tree: Mapping[str, Any]) -> Answers:
    """Gradients by torch's names: that of a sum of two biases is the gradient of both."""
    cell = tree["params"]["cell"]
    found: dict[str, list[Tensor]] = {"weight_ih": [], "weight_hh": [], "bias_ih": [], "bias_hh": []}
    for letter in GATES[stock.kind]:
        x, h = cell[f"i{letter.strip()}"], cell[f"h{letter.strip()}"]
        found["weight_ih"].append(to_torch(x["kernel"]).t())
        found["weight_hh"].append(to_torch(h["kernel"]).t())
        found["bias_ih"].append(to_torch(x.get("bias", h.get("bias"))))
        found["bias_hh"].append(to_torch(h.get("bias", x.get("bias"))))
    return {name + suffix: torch.cat(parts) for name, parts in found.items()}


def to_torch(array: Any) -> Tensor:
    """A copy in torch."""
    return torch.from_numpy(np.array(array))


def _to_jax(tensor: Tensor) -> Any:
    return package("jax.numpy").asarray(tensor.contiguous().numpy())


@cache
def started(threads: int) -> Any:
    """jax with so many threads, which it decides when it starts: from the cores that the process may use then."""
    cores = os.sched_getaffinity(0)
    one = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        jax = package("jax")
        package("flax.linen")
        jax.jit(lambda x: x + 1)(jax.numpy.zeros(8)).block_until_ready()
    finally:
        # The threads that jax has made stay as many as they are, but may run wherever the other side's may.
        for thread in [
            threading.get_native_id(),
            *(int(path.name) for path in Path("/proc/self/task").iterdir()),
        ]:
            os.sched_setaffinity(thread, cores)
    return jax
