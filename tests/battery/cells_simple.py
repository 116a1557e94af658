"""Cells of the battery without gates: Elman and its relatives, oscillators, clockworks, reservoirs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

I, H = 5, 7


class Cell(nn.Module):
    """A cell with a plain attribute that its equations read: changing it afterwards must be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = 1.0


class Elman(Cell):
    """h_t = f(W x_t + U h_{t-1} + b), torch-style: only the state comes back."""

    def __init__(self, f: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.w, self.u, self.f = nn.Linear(I, H), nn.Linear(H, H, bias=False), f

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.f(self.w(x) * self.gain + self.u(h))


class ElmanRaw(Cell):
    """Raw parameters used from the right, as textbooks write it; y_t is what f is applied to."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(I, H) / 3)
        self.U = nn.Parameter(torch.randn(H, H) / 3)
        self.b = nn.Parameter(torch.randn(H))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = x @ self.W + torch.addmm(self.b, h, self.U)
        return a, torch.tanh(self.gain * a)


class ElmanColumns(Cell):
    """Column vectors, one product with a matrix per row: matmul(U, h[..., None])."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(H, I) / 3)
        self.U = nn.Parameter(torch.randn(H, H) / 3)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.matmul(self.W, x.unsqueeze(-1)) + torch.matmul(self.U, h.unsqueeze(-1))
        h = torch.tanh(a.squeeze(-1) * self.gain)
        return h, h


class ElmanCat(Cell):
    """One Linear over cat(x, h)."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(I + H, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.lin(torch.cat((x, h), dim=1)) * self.gain)
        return h, h


class ElmanOutput(Cell):
    """An output layer of two linear maps and a log-softmax: all of it trailing."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.mid, self.out = Elman(), nn.Linear(H, 11), nn.Linear(11, 3)

    def forward(self, x: Tensor, h: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        h = self.cell(x, h)
        o = self.out(F.relu(self.mid(h)) * self.gain)
        return (F.log_softmax(o, -1), o), h


class Residual(Cell):
    """y_t = h_t + P x_t: a trailing part that reads the input as well."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.p = Elman(), nn.Linear(I, H, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return self.gain * h + self.p(x), h


class Deep(Cell):
    """Transition through a small network with layer norm (Pascanu 2013, DT-RNN)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(I + H, 11), nn.LayerNorm(11), nn.GELU(), nn.Linear(11, H), nn.Tanh()
        )

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.net(torch.cat((x * self.gain, h), -1))
        return h, h


class IndRNN(Cell):
    """h_t = relu(W x_t + u * h_{t-1})."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, H), nn.Parameter(torch.rand(H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.relu(self.w(x) * self.gain + self.u * h)


class Reservoir(Cell):
    """Leaky echo state network: fixed matrices in buffers, a trained readout."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("W", torch.randn(H, I) / 2)
        self.register_buffer("U", torch.randn(H, H) / 4)
        self.out = nn.Linear(H, 3)
        self.gain = 0.3

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = (1 - self.gain) * h + self.gain * torch.tanh(F.linear(x, self.W) + F.linear(h, self.U))
        return self.out(h), h


class AntiSymmetric(Cell):
    """h_t = h_{t-1} + eps tanh((A - A^T - g I) h_{t-1} + V x_t): the recurrent matrix is computed from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.A, self.v = nn.Parameter(torch.randn(H, H) / 3), nn.Linear(I, H)
        self.gain = 0.1

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        U = self.A - self.A.t() - self.gain * torch.eye(H, dtype=self.A.dtype)
        return h + 0.2 * torch.tanh(h @ U + self.v(x))


class CoRNN(Cell):
    """coRNN (Rusch and Mishra 2021): two coupled states."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.uz = nn.Linear(I, H), nn.Linear(H, H), nn.Linear(H, H, bias=False)
        self.gain = 0.4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, z = state
        z = z + self.gain * (torch.tanh(self.w(x) + self.u(y) + self.uz(z)) - 0.8 * y - 1.1 * z)
        y = y + self.gain * z
        return y, (y, z)


class LEM(Cell):
    """Long expressive memory (Rusch 2022): two states and two time constants per step."""

    def __init__(self) -> None:
        super().__init__()
        self.x_part, self.y_part, self.z_part = nn.Linear(I, 4 * H), nn.Linear(H, 3 * H), nn.Linear(H, H)
        self.gain = 0.9

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, z = state
        x1, x2, xz, xy = self.x_part(x).chunk(4, 1)
        y1, y2, yz = self.y_part(y).chunk(3, 1)
        dt1, dt2 = self.gain * torch.sigmoid(x1 + y1), self.gain * torch.sigmoid(x2 + y2)
        z = (1 - dt1) * z + dt1 * torch.tanh(yz + xz)
        y = (1 - dt2) * y + dt2 * torch.tanh(self.z_part(z) + xy)
        return y, (y, z)


class Clockwork(Cell):
    """Clockwork RNN (Koutnik 2014): masks in buffers, an integer clock in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.U = nn.Linear(I, H), nn.Parameter(torch.randn(H, H) / 3)
        self.register_buffer("mask", torch.triu(torch.ones(H, H)))
        self.register_buffer("period", torch.tensor([1, 1, 2, 2, 4, 4, 8]))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, clock = state
        new = torch.tanh(self.gain * self.w(x) + h @ (self.U * self.mask))
        ticks = clock.unsqueeze(-1).remainder(self.period) == 0
        h = torch.where(ticks, new, h)
        return h, (h, clock + 1)


class Highway(Cell):
    """Recurrent highway network (Zilly 2017): three micro-steps in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(I, 2 * H)
        self.r = nn.ModuleList([nn.Linear(H, 2 * H) for _ in range(3)])

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        for depth, r in enumerate(self.r):
            a = r(s) + (self.gain * self.w(x) if depth == 0 else 0)
            h, t = a.chunk(2, -1)
            t = torch.sigmoid(t)
            s = torch.tanh(h) * t + s * (1 - t)
        return s


class RungeKutta(Cell):
    """A neural ODE between observations: one classical Runge-Kutta step with a step size from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(H, 11), nn.Tanh(), nn.Linear(11, H))
        self.w = nn.Linear(I, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        dt = F.softplus(x[:, :1]) * 0.3 * self.gain
        k1 = self.f(h)
        k2 = self.f(h + dt / 2 * k1)
        k3 = self.f(h + dt / 2 * k2)
        k4 = self.f(h + dt * k3)
        h = h + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        h = torch.tanh(h + self.w(x))
        return h, h


class SecondOrder(Cell):
    """A bilinear transition (Giles 1992): h_i = tanh(sum_jk W_ijk h_j x_k)."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(H, H, I) / 5), nn.Parameter(torch.zeros(H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.gain * torch.einsum("ijk,bj,bk->bi", self.W, h, x) + self.b)


class Delay(Cell):
    """A delay line of three inputs in the state, read by a filter."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3 * I, 2)

    def forward(self, x: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
        line = torch.cat((x.unsqueeze(1) * self.gain, line[:, :-1]), dim=1)
        return self.out(line.flatten(1)), line


class BlockDiagonal(Cell):
    """Heads with own recurrent matrices: einsum over a view of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.U = nn.Linear(I, 6), nn.Parameter(torch.randn(3, 2, 2) / 2)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        heads = h.view(-1, 3, 2)
        a = torch.einsum("bnk,nkm->bnm", heads, self.U).reshape(-1, 6)
        h = torch.tanh(self.gain * self.w(x) + a)
        return h, h


class Tied(Cell):
    """One matrix under two names and one module at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(H, H), nn.Linear(H, H)
        self.second = self.first
        self.out.weight = self.first.weight
        self.w = nn.Linear(I, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.w(x) + self.gain * self.second(torch.tanh(self.first(h))))
        return self.out(h), h


class Parametrized(Cell):
    """Weight norm on both matrices; the recurrent one is also masked by a plain tensor attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.utils.parametrizations.weight_norm(nn.Linear(I, H))
        self.u = nn.utils.parametrizations.weight_norm(nn.Linear(H, H))
        self.mask = (torch.rand(H) > 0.3).to(torch.get_default_dtype())

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.gain * self.w(x) + self.u(h) * self.mask)


def spectral() -> Elman:
    """Spectral norm, in eval: the power iteration stands still."""
    cell = Elman()
    nn.utils.parametrizations.spectral_norm(cell.u)
    return cell.eval()


def orthogonal() -> Elman:
    """An orthogonal recurrent matrix through `parametrizations.orthogonal` (the Cayley map)."""
    cell = Elman()
    nn.utils.parametrizations.orthogonal(cell.u, orthogonal_map="cayley")
    return cell


class EmbeddingCell(Cell):
    """Integer input: a table row, then an Elman step."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.u = nn.Embedding(9, H), nn.Linear(H, H)

    def forward(self, token: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.table(token) * self.gain + self.u(h))


class ConvCell(Cell):
    """A state of rank 3, moved by a convolution over features (circular padding)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.conv = nn.Linear(I, H), nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.conv(h) + self.gain * self.w(x).unsqueeze(1))
        return h.sum(1), h


class BatchNormElman(Cell):
    """Batch norm of the input part, in eval: constants."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.bn, self.u = nn.Linear(I, H, bias=False), nn.BatchNorm1d(H), nn.Linear(H, H)
        nn.init.uniform_(self.bn.running_mean, -1, 1)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)
        self.eval()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.relu(self.bn(self.w(x)) * self.gain + self.u(h))


class Lipschitz(Cell):
    """Scaling by the row's own norm, a maximum over features and a running maximum in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, H), nn.Linear(H, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, top = state
        h = F.normalize(self.gain * self.w(x) + self.u(h), dim=-1)
        top = torch.maximum(top, h.amax(-1))
        return h / (1 + top.unsqueeze(-1).abs()), (h, top)
