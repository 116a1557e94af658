"""A series to its future: at every step an outlook on the next values."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from elman.nn.cells import GRUDCell
from elman.nn.dropout import dropout_layer
from elman.nn.networks.stacks import recurrent_stack, stack_width, start_of
from elman.nn.outlooks import OUTLOOKS, Outlook, Prospect
from elman.nn.recurrent import Recurrent

__all__ = ["Forecaster", "ForecasterState", "Forecasts", "Gaps", "LaggedMap"]

Gaps = Literal["decay", "mask", "mean", "forward"]
# The steps that a gap has to last for the decays of a GRU-D, as they are drawn, to be felt.
LONG = 8.0
# Where the exponent of the decay of a change starts: 0.05 of it is left in the first step of a gap.
FADED = 3.0


class ForecasterState(NamedTuple):
    """The last values of each channel, gaps filled, NaN before the first, `(B, p, C)`; the state of the layers."""

    window: Tensor
    recurrent: Any


class Forecasts(NamedTuple):
    """loc `(T, B, h M)` and shape `(T, B, h M, P)` of h times M values at each step, see `Prospect`; the state."""

    loc: Tensor
    shape: Tensor
    state: ForecasterState


class LaggedMap(nn.Module):
    """A linear map of the last p values of each target: the network's start and its floor.

        base_k = anchor + Σ_i W_ki (v_{t−i} − anchor) + b_k        k = 1 .. h;  anchor: v_t where `relative`, else 0

    weight `(M, h, p)`, bias `(M, h)`, spread `(M, h)`: the usual error of each. They come from a ridge regression on
    the training data, and are trained with the rest unless `frozen`.
    """

    spread: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, spread: Tensor, *, relative: bool, frozen: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=not frozen)
        self.bias = nn.Parameter(bias.clone(), requires_grad=not frozen)
        self.register_buffer("spread", spread.clone())
        self.relative = relative

    def forward(self, window: Tensor) -> Tensor:
        """Windows `(..., M, p)`, oldest first, to base `(..., h, M)`."""
        anchor = window[..., -1:] if self.relative else torch.zeros_like(window[..., -1:])
        base = torch.einsum("...mp,mhp->...hm", window - anchor, self.weight) + self.bias.T
        return base + anchor.movedim(-1, -2)


class Forecaster(nn.Module):
    r"""One or several channels to an outlook on the next h values of the first M of them, at every step.

        v_t   = x_t − x_last, over `change`, where the map is relative, else x_t; 0 where x_t is missing
        e_t   = [v_t ; u_t]        with gaps "decay" as values, mask and time since for a GRU-D (u_t: always there), the
                                   time since as max(δ_t − 1, 0) / 8: while nothing is missing nothing decays;
                                   "mask": v, mask and time since side by side, for any cell; "mean": v alone;
                                   "forward": the last value that was seen in place of a missing one
        s_t   = recurrent layers of e_t; the first a GRU-D with "decay", what is above it a GRU
        o_t   = V dropout([s_t ; a_t]) + b                    a_t: what is known ahead of the next h steps
        loc_k = LaggedMap(last p values)_k + spread_k o_k     shape_k: the rest of o_t, as the `Outlook` reads it

    All values are scaled. V starts at zero: the untrained network is the linear map. Nothing at step t reads a later
    value, and one step at a time gives what the whole gives.
    """

    change: Tensor

    def __init__(
        self,
        channels: int,
        known: int,
        ahead: int,
        linear: LaggedMap,
        change: Tensor,
        *,
        cell: str = "gru-d",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        gaps: Gaps = "decay",
        outlook: str = "quantiles",
        options: dict[str, Any] | None = None,
        engine: Literal["elman", "torch"] = "elman",
    ) -> None:
        super().__init__()
        self.channels, self.known, self.ahead, self.gaps = channels, known, ahead, gaps
        self.linear = linear
        self.targets, self.horizon, self.lags = linear.weight.shape
        self.register_buffer("change", change.clone())
        inputs = channels + known
        if gaps == "decay":
            self.recurrent = nn.ModuleList([Recurrent(self._cell(inputs, hidden))])
            if layers > 1:
                self.recurrent.append(recurrent_stack("gru", hidden, hidden, layers - 1, dropout=dropout))
        else:
            width = inputs + (2 * channels if gaps == "mask" else 0)
            stack = recurrent_stack(
                cell, width, hidden, layers, dropout=dropout, engine=engine, options=options or {}
            )
            self.recurrent = nn.ModuleList([stack])
        self.dropout = dropout_layer(dropout, sequence=False)
        kind: Any = OUTLOOKS[outlook]
        self.outlook: Outlook = kind(self.horizon * self.targets)
        self.head = nn.Linear(
            stack_width(self.recurrent[-1]) + ahead, self.horizon * self.targets * (1 + self.outlook.count)
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _cell(self, inputs: int, hidden: int) -> GRUDCell:
        """A GRU-D; where changes are read, the one before a gap is not said again: its decay starts near nothing."""
        cell = GRUDCell(inputs, hidden)
        if self.linear.relative and cell.bias_decay_x is not None:
            nn.init.constant_(cell.bias_decay_x, FADED)
        return cell

    def initial_state(self, batch: int) -> ForecasterState:
        """Nothing has been seen."""
        like = self.head.weight
        window = torch.full(
            (batch, self.lags, self.channels), torch.nan, device=like.device, dtype=like.dtype
        )
        return ForecasterState(window, tuple(start_of(layer, batch) for layer in self.recurrent))

    def forward(
        self,
        x: Tensor,
        since: Tensor,
        known: Tensor,
        ahead: Tensor | None = None,
        state: ForecasterState | None = None,
    ) -> Forecasts:
        """x, since `(T, B, C)`, x NaN where missing; known `(T, B, K)`; ahead `(T, B, A)`."""
        T, B, _ = x.shape
        state = self.initial_state(B) if state is None else state
        filled, before = forward_filled(x, state.window[:, -1])
        e = self.inputs(x, filled, before, since, known)
        s, states = e, []
        for layer, start in zip(self.recurrent, state.recurrent, strict=True):
            s, end = layer(s, start)
            states.append(end)
        past = torch.cat((state.window.movedim(1, 0), filled))
        loc, shape = self.read_out(s, past, ahead)
        return Forecasts(loc, shape, ForecasterState(past[T:].movedim(0, 1), tuple(states)))

    def inputs(self, x: Tensor, filled: Tensor, before: Tensor, since: Tensor, known: Tensor) -> Tensor:
        """e `(T, B, I)`: see the class."""
        relative = self.linear.relative
        v = (x - before) / self.change if relative else x
        mask = v.isfinite().to(known.dtype)
        if self.gaps == "forward" and not relative:
            v = filled
        v = torch.nan_to_num(v, nan=0.0)
        if self.gaps == "decay":
            ones, zeros = torch.ones_like(known), torch.zeros_like(known)
            beyond = (since - 1).clamp(min=0) / LONG
            return torch.cat((v, known, mask, ones, beyond, zeros), dim=-1)
        return torch.cat((v, known, mask, torch.log1p(since)) if self.gaps == "mask" else (v, known), dim=-1)

    def read_out(self, s: Tensor, past: Tensor, ahead: Tensor | None) -> tuple[Tensor, Tensor]:
        """loc `(T, B, h M)` and shape `(T, B, h M, P)` from states `(T, B, H)` and values from p before the first."""
        h, M = self.horizon, self.targets
        windows = past[1:, :, :M].unfold(0, self.lags, 1)  # (T, B, M, p)
        base = self.linear(whole_windows(windows))
        features = self.dropout(s) if ahead is None else torch.cat((self.dropout(s), ahead), dim=-1)
        o = self.head(features).unflatten(-1, (h * M, 1 + self.outlook.count))
        loc = base.flatten(-2) + self.spread * o[..., 0]
        return loc, o[..., 1:]

    @property
    def spread(self) -> Tensor:
        """The usual error of each of the h M values, horizon by horizon."""
        return self.linear.spread.T.reshape(-1)

    def prospect(self, loc: Tensor, shape: Tensor, unit: Tensor) -> Prospect:
        """What the outlook reads; unit: `(..., M)`."""
        spread = self.spread
        return Prospect(
            loc, shape, unit.repeat_interleave(1, -1).tile(self.horizon).expand(loc.shape), spread
        )


def forward_filled(x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    """Each value, or the last one before it `(T, B, C)`, and the last one before each step; NaN where there is none.

    carry: the last value before the first step, `(B, C)`.
    """
    T = len(x)
    steps = torch.arange(T, device=x.device).view(T, 1, 1)
    at = torch.where(x.isfinite(), steps, -1).cummax(0).values
    filled = torch.where(at >= 0, x.gather(0, at.clamp(min=0)), carry)
    return filled, torch.cat((carry.unsqueeze(0), filled[:-1]))


def whole_windows(windows: Tensor) -> Tensor:
    """Windows `(..., p)` with what comes before the first value taken for that value; zeros where there is none."""
    lacking = windows.isnan().sum(-1, keepdim=True).clamp(max=windows.shape[-1] - 1)
    first = windows.gather(-1, lacking)
    return torch.nan_to_num(torch.where(windows.isnan(), first, windows), nan=0.0)


def masked_mean(loss: Tensor, seen: Tensor) -> Tensor:
    """The mean of what was seen; 0 where nothing was."""
    total = torch.where(seen, loss, torch.zeros_like(loss)).sum()
    return total / seen.sum().clamp(min=1)
