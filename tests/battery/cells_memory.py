"""Cells of the battery with a memory: attention over a context, matrix states, stacks, spikes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from battery.cells_simple import Cell, H, I

M, S = 3, 4


class AttentionGRU(Cell):
    """A decoder that reads a memory: context is (memory (B, S, M), mask (B, S)); additive scores, masked softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(H, 6), nn.Linear(M, 6, bias=False), nn.Linear(6, 1)
        self.gru = nn.GRUCell(I + M, H)

    def forward(
        self, x: Tensor, h: Tensor, context: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        memory, mask = context
        score = self.v(torch.tanh(self.q(h).unsqueeze(1) * self.gain + self.k(memory))).squeeze(-1)
        a = F.softmax(score.masked_fill(~mask, -math.inf), dim=-1)
        read = torch.bmm(a.unsqueeze(1), memory).squeeze(1)
        h = self.gru(torch.cat([x, read], -1), h)
        return (h, a), h


class DotAttention(Cell):
    """Dot attention over the context by matmul; the attention vector is fed back (Luong 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out, self.cell = nn.Linear(H, M, bias=False), nn.Linear(H + M, H), nn.LSTMCell(I + H, H)

    def forward(self, x: Tensor, state: Any, memory: Tensor) -> Any:
        h, c, fed = state
        h, c = self.cell(torch.cat([x, fed], 1), (h, c))
        score = torch.matmul(memory, self.q(h).unsqueeze(-1)).squeeze(-1) * self.gain
        read = (F.softmax(score, 1).unsqueeze(-1) * memory).sum(1)
        fed = torch.tanh(self.out(torch.cat([h, read], 1)))
        return fed, (h, c, fed)


class Conditioned(Cell):
    """A context vector per row that only meets the input: hoisted with it."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.c, self.u = nn.Linear(I, H), nn.Linear(M, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor, context: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        h = torch.tanh(
            self.w(x) * torch.sigmoid(self.c(context["speaker"])) * self.gain + self.u(h) * context["scale"]
        )
        return h, h


class FastWeights(Cell):
    """Fast weights (Ba 2016): a matrix state A = l A + e h h^T, read by bmm, with layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.norm = nn.Linear(I, H), nn.Linear(H, H), nn.LayerNorm(H)
        self.gain = 0.5

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, A = state
        A = 0.9 * A + self.gain * torch.bmm(h.unsqueeze(2), h.unsqueeze(1))
        pre = self.w(x) + self.u(h)
        h = torch.relu(pre)
        for _ in range(2):
            h = torch.relu(self.norm(pre + torch.bmm(h.unsqueeze(1), A).squeeze(1)))
        return h, (h, A)


class DeltaNet(Cell):
    """The delta rule on a matrix state: S += beta (v - S k) k^T; y = S q (Schlag 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.beta = nn.Linear(I, 3 * M), nn.Linear(I, 1)

    def forward(self, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.qkv(x).chunk(3, -1)
        k = F.normalize(F.silu(k), dim=-1)
        beta = torch.sigmoid(self.beta(x)) * self.gain
        old = torch.einsum("bij,bj->bi", mem, k)
        mem = mem + torch.einsum("bi,bj->bij", beta * (v - old), k)
        return torch.einsum("bij,bj->bi", mem, q), mem


class MatrixLSTM(Cell):
    """mLSTM (Beck 2024): a matrix memory with exponential gating, scalar gates per row."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.gates = nn.Linear(I, 3 * M), nn.Linear(I, 2)

    def forward(self, x: Tensor, state: Any) -> Any:
        C, n, m = state
        q, k, v = self.qkv(x).chunk(3, -1)
        i, f = self.gates(x).unbind(-1)
        log_f = F.logsigmoid(f)
        m_new = torch.maximum(log_f + m, i)
        i, f = torch.exp(i - m_new), torch.exp(log_f + m - m_new)
        C = f[:, None, None] * C + i[:, None, None] * (v.unsqueeze(2) @ k.unsqueeze(1)) * self.gain
        n = f[:, None] * n + i[:, None] * k
        y = (C @ q.unsqueeze(2)).squeeze(2) / (n * q).sum(-1, keepdim=True).abs().clamp(min=1)
        return y, (C, n, m_new)


class SelectiveScan(Cell):
    """A diagonal state space with input-dependent step (Gu 2023): rank-3 state, elementwise, read by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.log_a, self.dt, self.bc = (
            nn.Parameter(torch.randn(I, M) / 3),
            nn.Linear(I, I),
            nn.Linear(I, 2 * M),
        )

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        dt = F.softplus(self.dt(x)).unsqueeze(-1)
        b, c = self.bc(x).chunk(2, -1)
        h = torch.exp(-dt * self.log_a.exp()) * h + self.gain * dt * b.unsqueeze(1) * x.unsqueeze(-1)
        return (h * c.unsqueeze(1)).sum(-1), h


class ComplexDiagonal(Cell):
    """A linear recurrent unit (Orvieto 2023) over pairs of reals: a rotation and a decay."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.nu = nn.Parameter(torch.rand(H)), nn.Parameter(torch.rand(H))
        self.w, self.out = nn.Linear(I, 2 * H), nn.Linear(2 * H, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        re, im = h.unbind(-1)
        r = torch.exp(-torch.exp(self.nu)) * self.gain
        cos, sin = r * torch.cos(self.theta), r * torch.sin(self.theta)
        u, v = self.w(x).chunk(2, -1)
        h = torch.stack([cos * re - sin * im + u, sin * re + cos * im + v], dim=-1)
        return self.out(h.flatten(1)), h


class NeuralStack(Cell):
    """A continuous stack (Joulin 2015): push, pop and hold mixed by a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.top = nn.Linear(I, H), nn.Linear(H, H), nn.Linear(M, H)
        self.action, self.push = nn.Linear(H, 3), nn.Linear(H, M)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, stack = state
        h = torch.tanh(self.w(x) * self.gain + self.u(h) + self.top(stack[:, 0]))
        a = F.softmax(self.action(h), -1)[:, :, None, None]
        pushed = torch.cat([torch.tanh(self.push(h)).unsqueeze(1), stack[:, :-1]], 1)
        popped = F.pad(stack[:, 1:], (0, 0, 0, 1))
        stack = a[:, 0] * pushed + a[:, 1] * popped + a[:, 2] * stack
        return h, (h, stack)


class TuringMemory(Cell):
    """Content addressing (Graves 2014): cosine similarity over memory slots, erase and add."""

    def __init__(self) -> None:
        super().__init__()
        self.control, self.key, self.add = nn.Linear(I + M, H), nn.Linear(H, M), nn.Linear(H, 2 * M)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        mem, read = state
        h = torch.tanh(self.control(torch.cat([x * self.gain, read], -1)))
        w = F.softmax(F.cosine_similarity(mem, self.key(h).unsqueeze(1), dim=-1) * 3, -1).unsqueeze(-1)
        erase, add = self.add(h).chunk(2, -1)
        mem = mem * (1 - w * torch.sigmoid(erase).unsqueeze(1)) + w * add.unsqueeze(1)
        read = (w * mem).sum(1)
        return read, (mem, read)


class Spike(torch.autograd.Function):
    """A step forward; a triangle backward."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return grad * torch.clamp(1 - v.abs(), min=0)


class LIF(Cell):
    """Leaky integrate-and-fire neurons with a surrogate gradient, reset by subtraction of a detached spike."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, H), nn.Linear(H, H, bias=False)
        self.gain = 0.8

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        v, s = state
        v = self.gain * v + 2 * self.w(x) + self.u(s) - s.detach()
        s = Spike.apply(v - 0.5)
        return s, (v, s)


class Counter(Cell):
    """An integer state that counts and a boolean state that remembers a sign change; both steer a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, H), nn.Linear(H, H)

    def forward(self, x: Tensor, state: Any) -> Any:
        h, count, seen = state
        seen = seen | (x[:, 0] > 0.5)
        h = torch.tanh(self.gain * self.w(x) + self.u(h) / (1 + count.unsqueeze(1)))
        h = torch.where(seen.unsqueeze(1), h, h * 0.5)
        return (h, count), (h, count + seen.long(), seen)


class Nested(Cell):
    """A nested state of tuples and a dict, a y that is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(I + 2, 2), nn.Linear(2 + M, M)

    def forward(self, x: Tensor, state: Any) -> Any:
        (p, (q,)), rest = state
        p = torch.tanh(self.a(torch.cat([x * self.gain, p], 1)))
        q = torch.tanh(self.b(torch.cat([p, q], 1)))
        total = rest["total"] + q.sum(-1)
        return {"q": q, "p": p.mean(-1)}, ((p, (q,)), {"total": total})
