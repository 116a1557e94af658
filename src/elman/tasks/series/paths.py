"""Step by step: the network is fed with its own samples, and many paths make a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.data.series import Frame
from elman.tasks.series.panel import Codec, Numbers, static_features
from elman.tasks.series.settings import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from elman.nn import Forecaster

__all__ = ["known_ahead", "path_quantiles", "sample_paths"]

Floats = npt.NDArray[np.float64]
# Rows that go on side by side, and the seed of all draws: the same rows get the same paths.
AT_ONCE, SEED = 4096, 0


def path_quantiles(
    model: Forecaster,
    codec: Codec,
    frame: Frame,
    numbers: Numbers,
    config: Config,
    rows: npt.NDArray[np.int64],
) -> Floats:
    """Quantiles of the paths after some rows of a frame, scaled, `(N, h, M, Q)`."""
    found = np.zeros((len(rows), codec.horizon, codec.targets, 19))
    together = max(1, AT_ONCE // config.model.paths)
    states = _states(model, codec, numbers, rows)
    unit = codec.scale(frame.name).deviation[: codec.targets]
    for first in range(0, len(rows), together):
        own = rows[first : first + together]
        known = np.stack([known_ahead(codec, frame, int(row), numbers) for row in own])
        begun = [next(states) for _ in own]
        paths = sample_paths(model, codec, begun, known, unit, config.model.paths)
        found[first : first + len(own)] = quantiles_of(paths)
    return found


def quantiles_of(paths: Floats) -> Floats:
    """Of paths `(N, S, h, M)`: `(N, h, M, Q)`."""
    from elman.nn import LEVELS

    return np.asarray(np.moveaxis(np.quantile(paths, LEVELS, axis=1), 0, -1))


def _states(model: Forecaster, codec: Codec, numbers: Numbers, rows: npt.NDArray[np.int64]) -> Any:
    """The state and the outlook behind each of some ascending rows."""
    import torch

    device = model.head.weight.device
    arrays = [torch.tensor(array, dtype=torch.float32, device=device).unsqueeze(1) for array in numbers]
    from elman.tasks.series.learning import ahead_of

    model.eval()
    state, at = None, 0
    for row in rows.tolist():
        with torch.no_grad():
            while at <= row:
                # The last row by itself: its outlook is what the paths begin with.
                end = row if at < row else row + 1
                x, since, known, ahead = (array[at:end] for array in arrays)
                found = model(x, since, known, ahead_of(model, ahead), state)
                state, at = found.state, end
        yield state, found


def sample_paths(
    model: Forecaster, codec: Codec, begun: Sequence[Any], known: Floats, unit: Floats, count: int
) -> Floats:
    """Paths `(N, S, h, M)`, scaled, that go on from N states; known `(N, h, K)`: what is known with each row ahead.

    begun: the state behind a row, and the `Forecasts` of that row.
    """
    import torch

    N = len(begun)
    device = model.head.weight.device
    generator = torch.Generator().manual_seed(SEED)
    loc, shape = (
        torch.cat([getattr(one[1], name)[-1:] for one in begun], dim=1).repeat_interleave(count, dim=1)
        for name in ("loc", "shape")
    )
    state = _joined(model, [one[0] for one in begun], count)
    units = torch.tensor(unit, dtype=torch.float32, device=device).unsqueeze(0)
    ahead = torch.tensor(known, dtype=torch.float32, device=device).repeat_interleave(count, dim=0)
    drawn: list[Tensor] = []
    M, C, F = codec.targets, codec.channels, len(codec.layout.future)
    # Where in `known` the values lie that are known ahead: those of the next row go to the output layer.
    at = len(codec.calendar)
    with torch.no_grad():
        for k in range(codec.horizon):
            prospect = model.prospect(loc[0], shape[0], units)
            one = model.outlook.sample(prospect, generator)
            drawn.append(one)
            if k + 1 == codec.horizon:
                break
            x = torch.full((1, N * count, C), torch.nan, device=device)
            x[0, :, :M] = one
            since = torch.full_like(x, 1.0)
            since[..., M:] = 1.0 + k
            following = ahead[None, :, k + 1, at : at + F] if F else None
            found = model(x, since, ahead[None, :, k], following, state)
            loc, shape, state = found.loc, found.shape, found.state
    paths = torch.stack(drawn, dim=1).unflatten(0, (N, count))
    return np.asarray(paths.double().cpu().numpy())


def _joined(model: Forecaster, states: Sequence[Any], count: int) -> Any:
    """States of one row each as one state, each row `count` times."""
    import torch

    window = torch.cat([state.window for state in states]).repeat_interleave(count, dim=0)
    layers = []
    for place, layer in enumerate(model.recurrent):
        leaves = [_leaves(state.recurrent[place]) for state in states]
        axis = _row_axis(layer)
        joined = [
            torch.cat(column, dim=axis).repeat_interleave(count, dim=axis)
            for column in zip(*leaves, strict=True)
        ]
        layers.append(_like(states[0].recurrent[place], joined))
    return states[0]._replace(window=window, recurrent=tuple(layers))


def _row_axis(layer: torch.nn.Module) -> int:
    """Where the rows lie in a layer's state: behind the layers in torch's form, first in the cells' own."""
    from torch import nn

    return 1 if isinstance(layer, nn.RNNBase) else 0


def _leaves(tree: Any) -> list[Any]:
    from torch.utils._pytree import tree_leaves

    return list(tree_leaves(tree))


def _like(tree: Any, leaves: Sequence[Any]) -> Any:
    from torch.utils._pytree import tree_structure, tree_unflatten

    return tree_unflatten(list(leaves), tree_structure(tree))


def known_ahead(codec: Codec, frame: Frame, row: int, numbers: Numbers) -> Floats:
    """What goes in with each row ahead `(h, K)`: it speaks of the row after that one."""
    from elman.data.series.stamps import calendar

    h, K = codec.horizon, codec.known
    own = numbers.known[row + 1 : row + 1 + h]
    if len(own) == h:
        return own
    # Behind the end of the frame: the calendar goes on, what is static stays, what else is known ahead is at its mean.
    found = np.zeros((h, K))
    found[: len(own)] = own
    times = np.array(
        [frame.step.after(float(frame.times[-1]), row + 2 + k - (len(frame) - 1)) for k in range(len(own), h)]
    )
    width = len(codec.calendar)
    if width:
        found[len(own) :, :width] = calendar(times, frame.step, frame.clock)[1]
    static = static_features(frame.static, codec, h - len(own))
    if static.shape[1]:
        at = width + len(codec.layout.future)
        found[len(own) :, at : at + static.shape[1]] = static
    return found
