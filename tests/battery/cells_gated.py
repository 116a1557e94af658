"""Gated cells of the battery: the LSTM and GRU families in the forms that users write them in."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from battery.cells_simple import Cell, H, I

Pair = tuple[Tensor, Tensor]


class GatesLSTM(Cell):
    """LSTM, two Linear modules per gate."""

    def __init__(self) -> None:
        super().__init__()
        for gate in "ifgo":
            self.add_module(f"w{gate}", nn.Linear(I, H))
            self.add_module(f"u{gate}", nn.Linear(H, H, bias=False))

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i = torch.sigmoid(self.wi(x) + self.ui(h))
        f = torch.sigmoid(self.wf(x) + self.uf(h))
        g = torch.tanh(self.gain * self.wg(x) + self.ug(h))
        o = torch.sigmoid(self.wo(x) + self.uo(h))
        c = f * c + i * g
        h = o * torch.tanh(c)
        return h, (h, c)


class CatGatesLSTM(Cell):
    """LSTM, one Linear over cat(h, x) per gate, in a ModuleDict."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.ModuleDict({k: nn.Linear(H + I, H) for k in "ifgo"})

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        z = torch.cat([h, x * self.gain], dim=-1)
        i, f, o = (self.gate[k](z).sigmoid() for k in "ifo")
        c = c.mul(f) + i * self.gate["g"](z).tanh()
        h = c.tanh() * o
        return h, (h, c)


class CatLSTM(Cell):
    """LSTM, one Linear over cat(x, h), split by `split`."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(I + H, 4 * H)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i, f, g, o = self.lin(torch.cat((x * self.gain, h), 1)).split(H, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class ChunkLSTM(Cell):
    """LSTM with F.linear over raw parameters and chunk; torch-style return."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = (
            nn.Parameter(torch.randn(4 * H, I) / 3),
            nn.Parameter(torch.randn(4 * H, H) / 3),
        )
        self.bias_ih, self.bias_hh = nn.Parameter(torch.randn(4 * H)), nn.Parameter(torch.randn(4 * H))

    def forward(self, x: Tensor, state: Pair) -> Pair:
        h, c = state
        gates = (
            F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh) * self.gain
        )
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class SliceLSTM(Cell):
    """LSTM with one sigmoid over three gates at once, by a view and unbind, and in-place arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        a = self.w(x) * self.gain
        a += self.u(h)
        gates = torch.sigmoid(a[:, : 3 * H]).view(-1, 3, H)
        i, f, o = gates.unbind(1)
        c = torch.addcmul(f * c, i, torch.tanh(a[:, 3 * H :]))
        h = o * torch.tanh(c)
        return h, (h, c)


class LayerNormLSTM(Cell):
    """LSTM with layer norm on both parts of the gates and on the cell state (Ba 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 4 * H, bias=False), nn.Linear(H, 4 * H)
        self.nx, self.nh, self.nc = nn.LayerNorm(4 * H), nn.LayerNorm(4 * H), nn.LayerNorm(H)
        for p in (*self.nx.parameters(), *self.nh.parameters(), *self.nc.parameters()):
            nn.init.uniform_(p, 0.3, 1.2)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i, f, g, o = (self.nx(self.w(x)) + self.gain * self.nh(self.u(h))).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.nc(c))
        return h, (h, c)


class PeepholeLSTM(Cell):
    """LSTM with peepholes from c_{t-1} to i, f and from c_t to o (Gers 2002)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H, bias=False)
        self.p = nn.Parameter(torch.randn(3, H))

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i, f, g, o = (self.w(x) * self.gain + self.u(h)).chunk(4, 1)
        pi, pf, po = self.p
        i, f = torch.sigmoid(i + pi * c), torch.sigmoid(f + pf * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + po * c)
        h = o * torch.tanh(c)
        return h, (h, c)


class ProjectionLSTM(Cell):
    """LSTM with a projected state: h has 3 features, c has H."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.p = nn.Linear(I, 4 * H), nn.Linear(3, 4 * H), nn.Linear(H, 3, bias=False)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        r, c = state
        i, f, g, o = (self.w(x) + self.gain * self.u(r)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        r = self.p(torch.sigmoid(o) * torch.tanh(c))
        return r, (r, c)


class ZoneoutLSTM(Cell):
    """Zoneout (Krueger 2016) with masks in the input, one for each step: x is (x, mask_h, mask_c), masks boolean."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = CatLSTM()
        self.gain = 0.15

    def forward(self, x: tuple[Tensor, Tensor, Tensor], state: Pair) -> tuple[Tensor, Pair]:
        value, keep_h, keep_c = x
        _, (h, c) = self.lstm(value, state)
        if self.training:
            h, c = torch.where(keep_h, state[0], h), torch.where(keep_c, state[1], c)
        else:
            h, c = (new + self.gain * (old - new) for new, old in zip((h, c), state, strict=True))
        return h, (h, c)


class MultiplicativeLSTM(Cell):
    """mLSTM (Krause 2016): m = (W x) * (U h) drives the gates."""

    def __init__(self) -> None:
        super().__init__()
        self.wm, self.um = nn.Linear(I, H, bias=False), nn.Linear(H, H, bias=False)
        self.w, self.u = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        m = self.gain * self.wm(x) * self.um(h)
        g, i, f, o = (self.w(x) + self.u(m)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = c.tanh() * o.sigmoid()
        return h, (h, c)


class SLSTMState(NamedTuple):
    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


class SLSTM(Cell):
    """sLSTM (Beck 2024): exponential gates, normaliser and stabiliser (a maximum) in a named state."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H, bias=False)

    def forward(self, x: Tensor, s: SLSTMState) -> tuple[Tensor, SLSTMState]:
        z, i, f, o = (self.w(x) * self.gain + self.u(s.h)).chunk(4, -1)
        log_f = F.logsigmoid(f)
        m = torch.maximum(log_f + s.m, i)
        i, f = torch.exp(i - m), torch.exp(log_f + s.m - m)
        c, n = f * s.c + i * torch.tanh(z), f * s.n + i
        h = torch.sigmoid(o) * c / n.abs().clamp(min=1e-2)
        return h, SLSTMState(h, c, n, m)


class GRU(Cell):
    """GRU in torch's form (reset after the product)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        xr, xz, xn = (self.w(x) * self.gain).chunk(3, 1)
        hr, hz, hn = self.u(h).chunk(3, 1)
        r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        n = torch.tanh(xn + r * hn)
        return (1 - z) * n + z * h


class OriginalGRU(Cell):
    """GRU as Cho 2014 wrote it (reset before the product), over cat."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new = nn.Linear(I + H, 2 * H), nn.Linear(I + H, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        r, z = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        n = torch.tanh(self.new(torch.cat([x * self.gain, r * h], -1)))
        h = n + z * (h - n)
        return h, h


class MGU(Cell):
    """Minimal gated unit (Zhou 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.wf, self.uf, self.wh, self.uh = (
            nn.Linear(I, H),
            nn.Linear(H, H),
            nn.Linear(I, H),
            nn.Linear(H, H),
        )

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f = torch.sigmoid(self.wf(x) + self.uf(h))
        h = (1 - f) * h + f * torch.tanh(self.gain * self.wh(x) + self.uh(f * h))
        return h, h


class LiGRU(Cell):
    """Light GRU (Ravanelli 2018): relu, one gate, batch norm on the input part (in eval)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.bn = (
            nn.Linear(I, 2 * H, bias=False),
            nn.Linear(H, 2 * H, bias=False),
            nn.BatchNorm1d(2 * H),
        )
        nn.init.uniform_(self.bn.running_mean, -1, 1)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)
        self.eval()

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a, z = (self.bn(self.w(x)) + self.gain * self.u(h)).chunk(2, 1)
        z = torch.sigmoid(z)
        h = z * h + (1 - z) * torch.relu(a)
        return h, h


class SRU(Cell):
    """Simple recurrent unit (Lei 2018): nothing but elementwise work in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v, self.skip = nn.Linear(I, 3 * H), nn.Parameter(torch.randn(2, H)), nn.Linear(I, H)

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        new, f, r = self.w(x).chunk(3, -1)
        f = torch.sigmoid(f + self.v[0] * c)
        c_new = f * c + (1 - f) * new
        r = torch.sigmoid(r + self.v[1] * c)
        return r * c_new * self.gain + (1 - r) * self.skip(x), c_new


class MinGRU(Cell):
    """minGRU (Feng 2024): h_t = (1 - z) h_{t-1} + z g(W x), gates of the input only."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(I, 2 * H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        new, z = (self.gain * self.w(x)).chunk(2, -1)
        new = torch.where(new >= 0, new + 0.5, torch.sigmoid(new))
        h = torch.lerp(h, new, torch.sigmoid(z))
        return h, h


class HyperLSTM(Cell):
    """A small LSTM scales the gates of a large one (Ha 2016): a nested state."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.main = nn.LSTMCell(H + I, 3), nn.Linear(I + H, 4 * H)
        self.scale = nn.Linear(3, 4 * H)

    def forward(self, x: Tensor, state: tuple[Pair, Pair]) -> tuple[Tensor, tuple[Pair, Pair]]:
        (h, c), inner = state
        inner = self.small(torch.cat([h, x], -1), inner)
        gates = self.main(torch.cat([x, h], -1)) * (1 + self.gain * self.scale(inner[0]))
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, ((h, c), inner)


class TwoLayers(Cell):
    """nn.LSTMCell over nn.GRUCell with a dict of states."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.GRUCell(I, H), nn.LSTMCell(H, 3)

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        low = self.lower(x * self.gain, state["low"])
        h, c = self.upper(low, (state["h"], state["c"]))
        return h, {"c": c, "h": h, "low": low}


class PhasedLSTM(Cell):
    """Phased LSTM (Neil 2016): a time gate from an integer step counter in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = ChunkLSTM()
        self.tau, self.shift = nn.Parameter(torch.rand(H) * 4 + 2), nn.Parameter(torch.rand(H))

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        h, c, step = state
        phase = torch.remainder(step.unsqueeze(-1) - self.shift, self.tau) / self.tau
        k = torch.where(
            phase < 0.3, phase / 0.3, torch.where(phase < 0.6, 2 - phase / 0.3, self.gain * 0.01 * phase)
        )
        h_new, c_new = self.lstm(x, (h, c))
        h, c = k * h_new + (1 - k) * h, k * c_new + (1 - k) * c
        return h, (h, c, step + 1)
