"""The cells of `benchmarks.cells` as one writes them in jax: a step under `jax.lax.scan`, with the parameters by
torch's names and in torch's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

import elman.nn
from benchmarks import cells
from benchmarks.grid.network import Written
from benchmarks.grid.optional import package

# Parameters and buffers by name, the inputs of a step, the state, the context -> (y_t, next state).
JaxStep = Callable[
    [Mapping[str, Any], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]], tuple[Any, tuple[Any, ...]]
]


def _dense(p: Mapping[str, Any], name: str, x: Any) -> Any:
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def _norm(p: Mapping[str, Any], name: str, x: Any) -> Any:
    jax = package("jax")
    deviation = x - x.mean(-1, keepdims=True)
    rstd = jax.lax.rsqrt((deviation * deviation).mean(-1, keepdims=True) + 1e-5)
    return deviation * rstd * p[f"{name}.weight"] + p[f"{name}.bias"]


def _split(a: Any, parts: int) -> list[Any]:
    split: list[Any] = package("jax.numpy").split(a, parts, axis=-1)
    return split


def _lstm(gates: Iterable[Any], c: Any, norm: Callable[[Any], Any] = lambda c: c) -> tuple[Any, Any]:
    """The next h and c from the arguments of i, f, g, o."""
    jax = package("jax")
    i, f, g, o = gates
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.numpy.tanh(g)
    return jax.nn.sigmoid(o) * jax.numpy.tanh(norm(c)), c


def layer_norm(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`cells.LayerNormLSTMCell`."""
    h, c = state
    a = _norm(p, "input_norm", _dense(p, "input", inputs[0])) + _norm(
        p, "recurrent_norm", _dense(p, "recurrent", h)
    )
    h, c = _lstm(_split(a, 4), c, lambda c: _norm(p, "cell_norm", c))
    return h, (h, c)


def recurrent_dropout(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`cells.RecurrentDropoutLSTMCell`."""
    h, c = _lstm(
        _split(_dense(p, "input", inputs[0]) + _dense(p, "recurrent", state[0] * context[0]), 4), state[1]
    )
    return h, (h, c)


def zoneout(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`cells.ZoneoutLSTMCell`."""
    x, keep_h, keep_c = inputs
    h, c = state
    new_h, new_c = _lstm(_split(_dense(p, "input", x) + _dense(p, "recurrent", h), 4), c)
    h, c = new_h + keep_h * (h - new_h), new_c + keep_c * (c - new_c)
    return h, (h, c)


def peephole(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`cells.PeepholeLSTMCell`."""
    jax = package("jax")
    h, c = state
    i, f, g, o = _split(_dense(p, "input", inputs[0]) + _dense(p, "recurrent", h), 4)
    i, f = jax.nn.sigmoid(i + p["peep_i"] * c), jax.nn.sigmoid(f + p["peep_f"] * c)
    c = f * c + i * jax.numpy.tanh(g)
    h = jax.nn.sigmoid(o + p["peep_o"] * c) * jax.numpy.tanh(c)
    return h, (h, c)


def li_gru(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`cells.LiGRUCell`."""
    jax = package("jax")
    (h,) = state
    z, a = _split(_norm(p, "norm", _dense(p, "input", inputs[0])) + _dense(p, "recurrent", h), 2)
    z = jax.nn.sigmoid(z)
    h = z * h + (1 - z) * jax.nn.relu(a)
    return h, (h,)


def gru_d(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`elman.nn.GRUDCell`."""
    jax = package("jax")
    jnp = jax.numpy
    x, seen, since = inputs
    h, last = state
    H2 = 2 * h.shape[-1]
    decay_x = jnp.exp(-jax.nn.relu(p["weight_decay_x"] * since + p["bias_decay_x"]))
    decay_h = jnp.exp(-jax.nn.relu(since @ p["weight_decay_h"].T + p["bias_decay_h"]))
    last = seen * x + (1 - seen) * last
    filled = seen * x + (1 - seen) * (decay_x * last + (1 - decay_x) * p["mean"])
    h = decay_h * h
    a = jnp.concatenate((filled, seen), axis=-1) @ p["weight_ih"].T + p["bias_ih"]
    r, z = _split(jax.nn.sigmoid(a[..., :H2] + h @ p["weight_hh"][:H2].T), 2)
    n = jnp.tanh(a[..., H2:] + (r * h) @ p["weight_hh"][H2:].T)
    h = (1 - z) * h + z * n
    return h, (h, last)


def separate_gates(p: Any, inputs: Any, state: Any, context: Any) -> Any:
    """`cells.SeparateGatesLSTMCell`."""
    h, c = state
    h, c = _lstm((_dense(p, f"x{gate}", inputs[0]) + _dense(p, f"h{gate}", h) for gate in "ifgo"), c)
    return h, (h, c)


STEPS: dict[type[nn.Module], JaxStep] = {
    cells.LayerNormLSTMCell: layer_norm,
    cells.RecurrentDropoutLSTMCell: recurrent_dropout,
    cells.ZoneoutLSTMCell: zoneout,
    cells.PeepholeLSTMCell: peephole,
    cells.LiGRUCell: li_gru,
    elman.nn.GRUDCell: gru_d,
    cells.SeparateGatesLSTMCell: separate_gates,
}


def scanned(written: Written) -> Callable[[Any, Any], Any]:
    """The cell over x `(T, B, I)` as a function of its parameters and x. KeyError for a cell that is not here."""
    jax = package("jax")
    step = STEPS[type(written.cell)]
    to_jax = jax.numpy.asarray
    extra = tuple(to_jax(t.numpy()) for t in written.extra)
    context = tuple(to_jax(t.numpy()) for t in written.context)
    buffers = {name: to_jax(t.numpy()) for name, t in written.cell.named_buffers()}

    def forward(parameters: Any, x: Any) -> Any:
        everything = {**buffers, **parameters}
        start = tuple(jax.numpy.zeros((x.shape[1], size)) for size in written.state_sizes)

        def one(state: Any, inputs: Any) -> Any:
            y, state = step(everything, inputs, state, context)
            return state, y

        return jax.lax.scan(one, start, (x, *extra))[1]

    return forward
