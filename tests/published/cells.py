"""Published cells as a user writes them from the paper: plain modules, no thought of the engine.

Those that the registry of the battery has already (GRU-D, IndRNN, SRU, minGRU, sLSTM, LRU, ...) are not here again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from battery.cells_simple import H, I
from battery.registry import Case

M, S = 4, 5
Pair = tuple[Tensor, Tensor]


class LiGRU(nn.Module):
    """Light GRU (Ravanelli 2018) with layer norm in the place of batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 2 * H, bias=False), nn.Linear(H, 2 * H, bias=False)
        self.norm = nn.LayerNorm(2 * H)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.uniform_(self.norm.bias, -0.5, 0.5)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z, a = (self.norm(self.w(x)) + self.u(h)).chunk(2, dim=1)
        z = torch.sigmoid(z)
        return z * h + (1 - z) * F.relu(a)


class PhasedLSTM(nn.Module):
    """Phased LSTM (Neil 2016): a gate that opens for a part of a learned period, by the time stamp of each event."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I, H)
        self.tau = nn.Parameter(torch.rand(H) * 3 + 1)
        self.shift = nn.Parameter(torch.rand(H))
        self.r_on, self.leak = 0.3, 0.01

    def forward(self, x: Pair, state: Pair) -> tuple[Tensor, Pair]:
        value, time = x
        h, c = state
        phi = torch.fmod(time - self.shift, self.tau).abs() / self.tau
        rising, falling = 2 * phi / self.r_on, 2 - 2 * phi / self.r_on
        k = torch.where(phi < self.r_on / 2, rising, torch.where(phi < self.r_on, falling, self.leak * phi))
        h_new, c_new = self.cell(value, (h, c))
        h, c = k * h_new + (1 - k) * h, k * c_new + (1 - k) * c
        return h, (h, c)


class Clockwork(nn.Module):
    """Clockwork RNN (Koutnik 2014): blocks of units tick at their own periods; the step number comes with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 6), nn.Linear(6, 6, bias=False)
        self.register_buffer("periods", torch.tensor([1.0, 1.0, 2.0, 2.0, 4.0, 4.0]))
        block = torch.arange(6) // 2
        self.register_buffer(
            "slower", (block.unsqueeze(0) >= block.unsqueeze(1)).to(torch.get_default_dtype())
        )

    def forward(self, x: Pair, h: Tensor) -> tuple[Tensor, Tensor]:
        value, step = x
        new = torch.tanh(self.w(value) + F.linear(h, self.u.weight * self.slower))
        ticks = (step % self.periods == 0).to(h.dtype)
        h = ticks * new + (1 - ticks) * h
        return h, h


class AttentionLSTM(nn.Module):
    """A decoder (Luong 2015) with input feeding: general attention over a memory of S places, some of them padding."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I + H, H)
        self.key, self.out = nn.Linear(M, H, bias=False), nn.Linear(H + M, H)

    def forward(self, x: Tensor, state: tuple[Tensor, ...], context: Any) -> tuple[Any, tuple[Tensor, ...]]:
        memory, mask = context
        h, c, fed = state
        h, c = self.cell(torch.cat((x, fed), dim=-1), (h, c))
        scores = torch.bmm(self.key(memory), h.unsqueeze(-1)).squeeze(-1)
        weights = F.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
        read = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
        fed = torch.tanh(self.out(torch.cat((h, read), dim=-1)))
        return (fed, weights), (h, c, fed)


class MultiHeadReader(nn.Module):
    """A GRU that reads a memory by two heads of scaled dot-product attention (Vaswani 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I + 6, H)
        self.q, self.k, self.v = nn.Linear(H, 6), nn.Linear(M, 6), nn.Linear(M, 6)

    def forward(self, x: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        B = x.shape[0]
        q = self.q(h).view(B, 2, 1, 3)
        k = self.k(memory).view(B, S, 2, 3).transpose(1, 2)
        v = self.v(memory).view(B, S, 2, 3).transpose(1, 2)
        weights = torch.softmax(q @ k.transpose(-2, -1) / 3**0.5, dim=-1)
        read = (weights @ v).transpose(1, 2).reshape(B, 6)
        h = self.cell(torch.cat([x, read], 1), h)
        return h, h


class EulerODE(nn.Module):
    """ODE-RNN (Rubanova 2019): the state moves by four Euler steps over the gap, then by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(H, 9), nn.Tanh(), nn.Linear(9, H))
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Pair, h: Tensor) -> tuple[Tensor, Tensor]:
        value, gap = x
        for _ in range(4):
            h = h + gap / 4 * self.f(h)
        h = self.cell(value, h)
        return h, h


class GRUODE(nn.Module):
    """GRU-ODE (De Brouwer 2019): dh/dt = (1 - z)(n - h), two midpoint steps between observations."""

    def __init__(self) -> None:
        super().__init__()
        self.zr, self.n = nn.Linear(H + I, 2 * H), nn.Linear(H + I, H)

    def slope(self, h: Tensor, x: Tensor) -> Tensor:
        z, r = torch.sigmoid(self.zr(torch.cat((h, x), -1))).split(H, -1)
        return (1 - z) * (torch.tanh(self.n(torch.cat((r * h, x), -1))) - h)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        for _ in range(2):
            h = h + 0.5 * self.slope(h + 0.25 * self.slope(h, x), x)
        return h


class ClosedForm(nn.Module):
    """CfC (Hasani 2022): a gate in closed form of the time since the last observation."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(I + H, 9), nn.SiLU(), nn.Linear(9, 9), nn.Mish())
        self.ff1, self.ff2, self.a, self.b = (nn.Linear(9, H) for _ in range(4))

    def forward(self, x: Pair, h: Tensor) -> tuple[Tensor, Tensor]:
        value, gap = x
        z = self.backbone(torch.cat((value, h), 1))
        gate = torch.sigmoid(self.a(z) * gap + self.b(z))
        h = torch.tanh(self.ff1(z)) * (1.0 - gate) + gate * torch.tanh(self.ff2(z))
        return h, h


class LiquidTime(nn.Module):
    """LTC (Hasani 2021): conductances of synapses (H, H), six semi-implicit steps."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.mu, self.sigma = (nn.Parameter(torch.rand(H, H) + 0.5) for _ in range(3))
        self.reversal = nn.Parameter(torch.rand(H, H) * 2 - 1)
        self.leak, self.rest, self.capacity = (nn.Parameter(torch.rand(H) + 0.5) for _ in range(3))
        self.sensory = nn.Linear(I, H)

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        given = self.sensory(x)
        w, leak, capacity = F.softplus(self.w), F.softplus(self.leak), F.softplus(self.capacity) * 6
        for _ in range(6):
            active = w * torch.sigmoid(self.sigma * (v.unsqueeze(-1) - self.mu))
            current = (active * self.reversal).sum(1) + given
            v = (capacity * v + leak * self.rest + current) / (capacity + leak + active.sum(1) + 1e-8)
        return v, v


class SLSTMHeads(nn.Module):
    """sLSTM (Beck 2024) with heads: block-diagonal recurrence, normalizer, max-stabilizer, group norm of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(I, 4 * 6)
        self.r = nn.Parameter(torch.randn(4, 2, 3, 3) / 2)
        self.norm = nn.GroupNorm(2, 6)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c, n, m = state
        recurrent = torch.einsum("bhd,ghde->bghe", h.view(-1, 2, 3), self.r).flatten(2)
        z, i, f, o = (self.w(x).view(-1, 4, 6) + recurrent).unbind(1)
        log_f = -F.softplus(-f)
        m_new = torch.maximum(log_f + m, i)
        i, f = torch.exp(i - m_new), torch.exp(log_f + m - m_new)
        c, n = f * c + i * torch.tanh(z), f * n + i
        h = torch.sigmoid(o) * (c / n)
        return self.norm(h), (h, c, n, m_new)


class MinLSTM(nn.Module):
    """minLSTM (Feng 2024), gates that sum to one."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.i, self.n = nn.Linear(I, H), nn.Linear(I, H), nn.Linear(I, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f, i = torch.sigmoid(self.f(x)), torch.sigmoid(self.i(x))
        n = self.n(x)
        n = torch.where(n >= 0, n + 0.5, torch.sigmoid(n))
        h = f / (f + i) * h + i / (f + i) * n
        return h, h


class Mogrifier(nn.Module):
    """Mogrifier LSTM (Melis 2020): input and state scale each other in four rounds before the step."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.ModuleList([nn.Linear(H, I) for _ in range(2)])
        self.r = nn.ModuleList([nn.Linear(I, H) for _ in range(2)])
        self.cell = nn.LSTMCell(I, H)

    def forward(self, x: Tensor, state: Pair) -> Pair:
        h, c = state
        for q, r in zip(self.q, self.r, strict=True):
            x = 2 * torch.sigmoid(q(h)) * x
            h = 2 * torch.sigmoid(r(x)) * h
        return self.cell(x, (h, c))


class OrderedNeurons(nn.Module):
    """ON-LSTM (Shen 2019): master gates by a cumulative sum of a softmax, one for each chunk of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, 4 * 6 + 2 * 3), nn.Linear(6, 4 * 6 + 2 * 3)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        a = self.w(x) + self.u(h)
        master_f, master_i = a[:, :6].chunk(2, 1)
        master_f = F.softmax(master_f, -1).cumsum(-1).unsqueeze(-1)
        master_i = 1 - F.softmax(master_i, -1).cumsum(-1).unsqueeze(-1)
        o, n, i, f = a[:, 6:].view(-1, 12, 2).chunk(4, 1)
        o, n, i, f = o.sigmoid(), n.tanh(), i.sigmoid(), f.sigmoid()
        both = master_f * master_i
        f, i = f * both + (master_f - both), i * both + (master_i - both)
        c = f * c + i * n
        h = (o * torch.tanh(c)).view(-1, 6)
        return h, (h, c)


class Nested(nn.Module):
    """Nested LSTM (Moniz 2018): the sum in the cell state is itself an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner = nn.Linear(I + H, 4 * H), nn.LSTMCell(H, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Pair]) -> tuple[Tensor, tuple[Tensor, Pair]]:
        h, (c, cc) = state
        i, f, o, g = self.outer(torch.cat([x, h], 1)).chunk(4, 1)
        c, cc = self.inner(torch.sigmoid(i) * torch.tanh(g), (torch.sigmoid(f) * c, cc))
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, (c, cc))


class LegendreMemory(nn.Module):
    """LMU (Voelker 2019): a linear memory with fixed matrices and a nonlinear state beside it."""

    def __init__(self) -> None:
        super().__init__()
        q = torch.arange(M, dtype=torch.get_default_dtype())
        r = (2 * q + 1).unsqueeze(1) / 8
        i, j = torch.meshgrid(q, q, indexing="ij")
        self.register_buffer("A", torch.matrix_exp(r * torch.where(i < j, -1.0, (-1.0) ** (i - j + 1))))
        self.register_buffer("B", r.squeeze(1) * (-1.0) ** q)
        self.ex, self.eh, self.em = nn.Linear(I, 1, bias=False), nn.Linear(H, 1, bias=False), nn.Linear(M, 1)
        self.w = nn.Linear(I + H + M, H)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, m = state
        u = self.ex(x) + self.eh(h) + self.em(m)
        m = m @ self.A.T + u * self.B
        h = torch.tanh(self.w(torch.cat((x, h, m), dim=-1)))
        return h, (h, m)


class RWKV(nn.Module):
    """RWKV-4's time mixing (Peng 2023): a weighted average with a running maximum, and the input of the step before."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.k, self.v = (nn.Linear(I, H, bias=False) for _ in range(3))
        self.mix = nn.Parameter(torch.rand(3, I))
        self.decay, self.first = nn.Parameter(torch.rand(H)), nn.Parameter(torch.rand(H))
        self.out = nn.Linear(H, I)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        last, num, den, top = state
        xr, xk, xv = (x * m + last * (1 - m) for m in self.mix)
        r, k, v = torch.sigmoid(self.r(xr)), self.k(xk), self.v(xv)
        q = torch.maximum(top, self.first + k)
        e1, e2 = torch.exp(top - q), torch.exp(self.first + k - q)
        y = self.out(r * (e1 * num + e2 * v) / (e1 * den + e2))
        w = top - torch.exp(self.decay)
        q = torch.maximum(w, k)
        e1, e2 = torch.exp(w - q), torch.exp(k - q)
        return y, (x, e1 * num + e2 * v, e1 * den + e2, q)


class Retention(nn.Module):
    """RetNet's recurrent form (Sun 2023): two heads of matrix memories with fixed decays, group norm, swish gate."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.g = (nn.Linear(I, 6) for _ in range(4))
        self.register_buffer("decay", 1 - 2.0 ** torch.tensor([-2.0, -3.0]))
        self.norm = nn.GroupNorm(2, 6, affine=False)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = (f(x).view(-1, 2, 3) for f in (self.q, self.k, self.v))
        memory = self.decay.view(1, 2, 1, 1) * memory + k.unsqueeze(-1) * v.unsqueeze(-2)
        y = torch.einsum("bhk,bhkv->bhv", q, memory).reshape(-1, 6)
        return F.silu(self.g(x)) * self.norm(y), memory


class SkipGRU(nn.Module):
    """Skip RNN (Campos 2018): whether to update is rounded, its gradient goes straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.p = nn.GRUCell(I, H), nn.Linear(H, 1)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, u = state
        binary = u + (torch.round(u) - u).detach()
        h = binary * self.cell(x, h) + (1 - binary) * h
        delta = torch.sigmoid(self.p(h))
        u = binary * delta + (1 - binary) * (u + torch.minimum(delta, 1 - u))
        return h, (h, u)


class Published(NamedTuple):
    """A cell, where it was published, and its entry."""

    paper: str
    case: Case


def _x(T: int, B: int) -> Tensor:
    return torch.randn(T, B, I)


def _timed(T: int, B: int) -> Pair:
    return torch.randn(T, B, I), torch.rand(T, B, 1)


def _stamped(T: int, B: int) -> Pair:
    return torch.randn(T, B, I), torch.rand(T, B, 1).cumsum(0) * 2


def _numbered(T: int, B: int) -> Pair:
    step = torch.arange(T, dtype=torch.get_default_dtype())
    return torch.randn(T, B, I), step.view(T, 1, 1).repeat(1, B, 1)


def _sizes(*shapes: tuple[int, ...]) -> Callable[[int], Any]:
    def state(B: int) -> Any:
        leaves = tuple(torch.randn(B, *shape) for shape in shapes)
        return leaves if len(leaves) > 1 else leaves[0]

    return state


def _memory(B: int) -> Tensor:
    return torch.randn(B, S, M)


def _padded_memory(B: int) -> tuple[Tensor, Tensor]:
    return _memory(B), torch.arange(S) < torch.randint(1, S + 1, (B, 1))


def _slstm_state(B: int) -> tuple[Tensor, ...]:
    h, c, m = torch.randn(3, B, 6)
    return h, c, torch.rand(B, 6) + 1, m


def _rwkv_state(B: int) -> tuple[Tensor, ...]:
    return torch.randn(B, I), torch.randn(B, H), torch.rand(B, H) + 1, torch.randn(B, H)


def _skip_state(B: int) -> Pair:
    return torch.randn(B, H), torch.rand(B, 1)


# Its norm over three numbers in bfloat16: two orders of the same sums differ by as much as each from single precision.
NO_AUTOCAST = frozenset({"autocast"})
STRAIGHT_THROUGH = frozenset({"gradcheck"})  # the step's own backward is not its derivative

PUBLISHED: list[Published] = [
    Published("arXiv:1803.10225", Case("ligru_layer_norm", LiGRU, _x, _sizes((H,)))),
    Published("arXiv:1610.09513", Case("phased_lstm_of_time", PhasedLSTM, _stamped, _sizes((H,), (H,)))),
    Published("arXiv:1402.3511", Case("clockwork_of_step", Clockwork, _numbered, _sizes((6,)))),
    Published(
        "arXiv:1508.04025",
        Case("lstm_attention", AttentionLSTM, _x, _sizes((H,), (H,), (H,)), _padded_memory),
    ),
    Published("arXiv:1706.03762", Case("gru_two_heads", MultiHeadReader, _x, _sizes((H,)), _memory)),
    Published("arXiv:1907.03907", Case("ode_euler", EulerODE, _timed, _sizes((H,)))),
    Published("arXiv:1905.12374", Case("gru_ode_midpoint", GRUODE, _x, _sizes((H,)))),
    Published("doi:10.1038/s42256-022-00556-7", Case("closed_form", ClosedForm, _timed, _sizes((H,)))),
    Published("arXiv:2006.04439", Case("liquid_time", LiquidTime, _x, _sizes((H,)))),
    Published("arXiv:2405.04517", Case("slstm_heads", SLSTMHeads, _x, _slstm_state)),
    Published("arXiv:2410.01201", Case("min_lstm", MinLSTM, _x, _sizes((H,)))),
    Published("arXiv:1909.01792", Case("mogrifier", Mogrifier, _x, _sizes((H,), (H,)))),
    Published("arXiv:1810.09536", Case("ordered_neurons", OrderedNeurons, _x, _sizes((6,), (3, 2)))),
    Published(
        "arXiv:1801.10308",
        Case("nested_lstm", Nested, _x, lambda B: (_sizes((H,))(B), _sizes((H,), (H,))(B))),
    ),
    Published(
        "NeurIPS 2019, Voelker et al.", Case("legendre_memory", LegendreMemory, _x, _sizes((H,), (M,)))
    ),
    Published("arXiv:2305.13048", Case("rwkv", RWKV, _x, _rwkv_state)),
    Published("arXiv:2307.08621", Case("retention", Retention, _x, _sizes((2, 3, 3)), without=NO_AUTOCAST)),
    Published("arXiv:1708.06834", Case("skip_gru", SkipGRU, _x, _skip_state, without=STRAIGHT_THROUGH)),
]
