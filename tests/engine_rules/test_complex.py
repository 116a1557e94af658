"""Complex numbers in a step: pairs of real ones on the core, equal to torch's own in the plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman.engine import EngineError, EngineWarning, Scan
from elman.engine.call.loop import plain_loop
from elman.engine.tracing.complexes import EACH
from elman.engine.tracing.complexes import RULES as KNOWN
from elman.nn import Recurrent
from nn.by_hand import FAST

H, B, T = 4, 3, 4

# One rule each: z (B, H) complex, r (B, H) real, w a complex vector (H,), m a complex matrix (H, H).
RULES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "add": lambda z, r, w, m: z + w + r + 2 + (1 - 0.5j) + torch.add(z, r, alpha=0.5),
    "radd": lambda z, r, w, m: 0.5j + r * z + (0.25 + z) + (r + z),
    "sub": lambda z, r, w, m: z - r - w - 0.5j - 1.0,
    "subtract": lambda z, r, w, m: torch.subtract(r, z),
    "rsub": lambda z, r, w, m: (r - z) + (1 - z) + (2j - z) + (1 - w),
    "mul": lambda z, r, w, m: z * r * w * 0.5 + torch.mul(w, z) * 1j,
    "multiply": lambda z, r, w, m: torch.multiply(z, w),
    "rmul": lambda z, r, w, m: 2 * z + (1 + 2j) * z + r * (w * 1j),
    "div": lambda z, r, w, m: z / (2 + r.abs()) + z / (w + 3) + z / (1 + 2j) + z / 4,
    "divide": lambda z, r, w, m: torch.divide(z, w + 3),
    "true_divide": lambda z, r, w, m: torch.true_divide(z, w + 3),
    "rdiv": lambda z, r, w, m: 1 / (w + 3) * z,
    "rtruediv": lambda z, r, w, m: (1 + 1j) / (z + 5) + r / (z + 5),
    "truediv": lambda z, r, w, m: z / w,
    "reciprocal": lambda z, r, w, m: (z + 5).reciprocal() * z,
    "neg": lambda z, r, w, m: -z + torch.neg(w),
    "negative": lambda z, r, w, m: torch.negative(z),
    "pow": lambda z, r, w, m: (
        z**2
        + w**3 * z
        + (z + 5) ** -2
        + z**0
        + z**1.0
        + z**1.5
        + (z + 5) ** w
        + z ** r.abs()
        + (z + 5) ** (0.5 - 1j)
        + z**17
        + (r.abs() + 1) ** z
    ),
    "rpow": lambda z, r, w, m: 2 ** (0.3 * z) + (0.5 + 1j) ** r,
    "sin": lambda z, r, w, m: torch.sin(0.5 * z) + w.sin(),
    "cos": lambda z, r, w, m: torch.cos(0.5 * z) + w.cos(),
    "tan": lambda z, r, w, m: torch.tan(0.5 * z + 0.5j) + (w + 1j).tan(),
    "sinh": lambda z, r, w, m: torch.sinh(0.5 * z) + w.sinh(),
    "cosh": lambda z, r, w, m: torch.cosh(0.5 * z) + w.cosh(),
    "tanh": lambda z, r, w, m: torch.tanh(0.5 * z + 0.5) + (w + 1).tanh(),
    "sqrt": lambda z, r, w, m: (z + 0.1).sqrt() + torch.sqrt(w),
    "rsqrt": lambda z, r, w, m: (z + 5).rsqrt() + torch.rsqrt(w),
    "log2": lambda z, r, w, m: torch.log2(z + 5),
    "log10": lambda z, r, w, m: torch.log10(z + 5),
    "square": lambda z, r, w, m: z.square() + torch.square(w),
    "eq": lambda z, r, w, m: torch.where(z == z, z, w) * torch.where(w == 0, 1.0, 2.0),
    "ne": lambda z, r, w, m: torch.where(z != w, z, w),
    "abs": lambda z, r, w, m: z * (z.abs() + abs(w)),
    "absolute": lambda z, r, w, m: torch.absolute(z) * w,
    "angle": lambda z, r, w, m: z * torch.angle(z + 5),
    "conj": lambda z, r, w, m: z.conj() * w + z * w.conj() + r.conj() * z,
    "conj_physical": lambda z, r, w, m: torch.conj_physical(z),
    "sgn": lambda z, r, w, m: z.sgn() * r + w.sgn(),
    "exp": lambda z, r, w, m: torch.exp(0.3 * z) + (1j * r).exp() * z,
    "log": lambda z, r, w, m: torch.log(z + 5),
    "polar": lambda z, r, w, m: torch.polar(r.abs(), r) * z,
    "complex": lambda z, r, w, m: torch.complex(r, z.real) * w,
    "real": lambda z, r, w, m: torch.real(z) * w + z.real + w.real,
    "imag": lambda z, r, w, m: torch.imag(z) * w + 1j * z.imag + w.imag,
    "view_as_real": lambda z, r, w, m: z * torch.view_as_real(z).sum(-1) + torch.view_as_real(w).sum(-1),
    "view_as_complex": lambda z, r, w, m: torch.view_as_complex(torch.stack([r, z.real], -1)) + w,
    "matmul": lambda z, r, w, m: (
        z @ m + r.to(m.dtype) @ m + z @ m.mT + z @ m.mH + torch.matmul(z.real, m.real)
    ),
    "rmatmul": lambda z, r, w, m: (r.to(m.dtype) @ m) * (z @ w)[:, None],
    "mm": lambda z, r, w, m: torch.mm(z, m.T),
    "bmm": lambda z, r, w, m: torch.bmm(z[:, None], m.expand(z.shape[0], H, H))[:, 0],
    "mv": lambda z, r, w, m: torch.mv(m, w) * z,
    "linear": lambda z, r, w, m: nn.functional.linear(z, m, w) + nn.functional.linear(z, m.H),
    "einsum": lambda z, r, w, m: torch.einsum("bh,hk->bk", z, m) + torch.einsum("bh,h,bh->bh", z, w, r),
    "stack": lambda z, r, w, m: torch.stack([z, z * w, r], 1).sum(1),
    "cat": lambda z, r, w, m: torch.cat([z, r * w, r], -1)[:, 2 : 2 + H],
    "concat": lambda z, r, w, m: torch.concat([z, z * 1j], -1)[:, 1 : 1 + H],
    "where": lambda z, r, w, m: torch.where(r > 0, z, w) + torch.where(r > 0, z, 0.0),
    "to": lambda z, r, w, m: r.to(w.dtype) * z + z.to(w.dtype) + r.to(w),
    "type": lambda z, r, w, m: r.type(torch.complex128) * z,
    "cfloat": lambda z, r, w, m: z,  # of other precision: below
    "cdouble": lambda z, r, w, m: r.cdouble() * z,
    "zeros": lambda z, r, w, m: z + torch.zeros(H, dtype=torch.complex128),
    "ones": lambda z, r, w, m: z * torch.ones(H, dtype=z.dtype),
    "zeros_like": lambda z, r, w, m: z + torch.zeros_like(z) + torch.zeros_like(r, dtype=z.dtype),
    "ones_like": lambda z, r, w, m: z * torch.ones_like(w),
    "new_zeros": lambda z, r, w, m: torch.cat([z, z.new_zeros(z.shape[0], 1)], -1)[:, 1:],
    "new_ones": lambda z, r, w, m: z + w.new_ones(H),
    "fft_fft": lambda z, r, w, m: torch.fft.fft(z) + torch.fft.fft(r, norm="ortho") + torch.fft.fft(w),
    "fft_ifft": lambda z, r, w, m: torch.fft.ifft(z) + torch.fft.ifft(z, norm="forward"),
    "fft_rfft": lambda z, r, w, m: torch.cat([torch.fft.rfft(r), z], -1)[:, :H],
    "fft_irfft": lambda z, r, w, m: (
        z * (torch.fft.irfft(z[:, :3]) + torch.fft.irfft(z[:, 1:], n=4, norm="ortho"))
    ),
    "unsqueeze": lambda z, r, w, m: z.unsqueeze(1).squeeze(1) * w.unsqueeze(0),
    "squeeze": lambda z, r, w, m: z[:, None].squeeze(1),
    "view": lambda z, r, w, m: z.view(-1, 2, 2).flip(-1).reshape(-1, H),
    "reshape": lambda z, r, w, m: z.reshape(-1, 2, 2).permute(0, 2, 1).flatten(1),
    "flatten": lambda z, r, w, m: z.unflatten(1, (2, 2)).flatten(1),
    "unflatten": lambda z, r, w, m: z.unflatten(1, (2, 2)).transpose(1, 2).flatten(1),
    "permute": lambda z, r, w, m: z @ m.permute(1, 0),
    "transpose": lambda z, r, w, m: z @ m.transpose(0, 1),
    "t": lambda z, r, w, m: z @ m.t(),
    "expand": lambda z, r, w, m: z[:, :1].expand(-1, H) * w,
    "narrow": lambda z, r, w, m: z.narrow(1, 1, 1) * z,
    "select": lambda z, r, w, m: z.select(1, 0)[:, None] * w,
    "chunk": lambda z, r, w, m: torch.cat(z.chunk(2, -1)[::-1], -1),
    "split": lambda z, r, w, m: torch.cat(z.split([1, 3], -1)[::-1], -1),
    "unbind": lambda z, r, w, m: torch.stack(z.unbind(1)[::-1], 1),
    "roll": lambda z, r, w, m: z.roll(1, -1) + torch.roll(w, 1),
    "flip": lambda z, r, w, m: z.flip(-1),
    "contiguous": lambda z, r, w, m: z.contiguous() * w.contiguous(),
    "clone": lambda z, r, w, m: z.clone() * w.clone(),
    "detach": lambda z, r, w, m: z * z.detach(),
    "sum": lambda z, r, w, m: z * z.sum(-1, keepdim=True) + w.sum(),
    "mean": lambda z, r, w, m: z * z.mean(-1, keepdim=True),
    "index_select": lambda z, r, w, m: z * w.index_select(0, torch.tensor([1, 0, 3, 2])),
    "repeat": lambda z, r, w, m: z[:, :2].repeat(1, 2),
    "movedim": lambda z, r, w, m: z.unflatten(1, (2, 2)).movedim(1, 2).flatten(1),
    "swapaxes": lambda z, r, w, m: z.unflatten(1, (2, 2)).swapaxes(1, 2).flatten(1),
    "getitem": lambda z, r, w, m: z[:, [1, 0, 3, 2]] * w[..., :1] + m[0],
    "resolve_conj": lambda z, r, w, m: z.conj().resolve_conj(),
}


class Ruled(nn.Module):
    """z' = f(.7 z, x, w, m), bounded; y holds both parts and the length."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        super().__init__()
        self.rule = rule
        self.w = nn.Parameter(torch.randn(H, dtype=torch.complex128))
        self.m = nn.Parameter(torch.randn(H, H, dtype=torch.complex128) * 0.3)

    def forward(self, x: Tensor, z: Any) -> tuple[Any, Any]:
        z = self.rule(0.7 * z, x, self.w, self.m)
        after = z / (1 + z.abs())
        return torch.cat([after.real, after.imag, z.abs()], -1), after


def leaves_of(result: Any) -> list[Tensor]:
    y, state = result[0], result[1]
    return [y, *(state if isinstance(state, tuple) else (state,))]


def assert_as_the_loop(step: nn.Module, x: Tensor, state: Any, **options: Any) -> None:
    scan = Scan(step, fallback="error")
    given = [x, *(state if isinstance(state, tuple) else (state,)), *step.parameters()]
    for _ in range(2):
        got = leaves_of(scan(x, state, **options))
    assert scan.path == FAST, scan.explain()
    expected = leaves_of(plain_loop(step, x, state, **options))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    weights = [torch.randn_like(v) for v in expected]

    def gradients(outs: list[Tensor]) -> list[Any]:
        loss = sum((o * w.conj()).real.sum() for o, w in zip(outs, weights, strict=True))
        return list(torch.autograd.grad(loss, given, allow_unused=True))

    for a, b in zip(gradients(got), gradients(expected), strict=True):
        torch.testing.assert_close(
            a, torch.zeros_like(a) if b is None and a is not None else b, rtol=1e-8, atol=1e-8
        )


def start(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128).requires_grad_()


def test_each_rule_has_a_case() -> None:
    """And the other way around."""
    assert set(RULES) == {*KNOWN, *EACH}


@pytest.mark.parametrize("name", sorted(RULES))
def test_rules(name: str) -> None:
    """Values, states and all gradients are those of torch's complex numbers."""
    torch.manual_seed(len(name))
    x = torch.randn(T, B, H, dtype=torch.float64, requires_grad=True)
    assert_as_the_loop(Ruled(RULES[name]), x, start(B, H))


@pytest.mark.parametrize("seed", range(12))
def test_rules_one_after_the_other(seed: int) -> None:
    """Three drawn rules in one step, with drawn options of a call."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    names = [sorted(RULES)[int(torch.randint(len(RULES), (), generator=g))] for _ in range(3)]

    def rule(z: Any, r: Any, w: Any, m: Any) -> Any:
        for name in names:
            z = RULES[name](z, r, w, m)
            z = z / (1 + z.abs())
        return z

    options: list[dict[str, Any]] = [
        {}, {"lengths": torch.tensor([4, 2, 3])}, {"reset": torch.rand(T, B, generator=g) < 0.4}, {"reverse": True},
    ]  # fmt: skip
    x = torch.randn(T, B, H, dtype=torch.float64, requires_grad=True)
    assert_as_the_loop(Ruled(rule), x, start(B, H), **options[seed % 4])


class LRU(nn.Module):
    """Orvieto et al. (2023), eq. 7 and 8, complex in and out where x is."""

    def __init__(self, I: int = 3) -> None:
        super().__init__()
        self.hidden_size = H
        self.nu, self.theta = nn.Parameter(torch.randn(H).double()), nn.Parameter(torch.rand(H).double())
        self.B = nn.Parameter(torch.randn(H, I, dtype=torch.complex128))
        self.C = nn.Parameter(torch.randn(I, H, dtype=torch.complex128))

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Tensor:
        return torch.zeros(batch, H, dtype=torch.complex128)

    def forward(self, x: Any, h: Any) -> tuple[Any, Any]:
        decay = torch.exp(-torch.exp(self.nu) + 1j * torch.exp(self.theta))
        h = decay * h + torch.sqrt(1 - decay.abs() ** 2) * (x.to(self.B.dtype) @ self.B.T)
        return (h @ self.C.T).real, h


class Unitary(nn.Module):
    """Arjovsky, Shah and Bengio (2016), eq. 6 to 8."""

    def __init__(self, I: int = 3) -> None:
        super().__init__()
        self.turns = nn.Parameter(torch.rand(3, H).double() * 6)
        self.mirrors = nn.Parameter(torch.randn(2, H, dtype=torch.complex128))
        self.V = nn.Parameter(torch.randn(H, I, dtype=torch.complex128))
        self.b = nn.Parameter(torch.randn(H).double() * 0.1)
        self.register_buffer("order", torch.randperm(H))

    def turned(self, h: Any, k: int) -> Any:
        return h * torch.exp(1j * self.turns[k])

    def mirrored(self, h: Any, k: int) -> Any:
        v = self.mirrors[k]
        return h - 2 / (v.abs() ** 2).sum() * (h @ v.conj()).unsqueeze(-1) * v

    def forward(self, x: Any, h: Any) -> tuple[Any, Any]:
        h = self.mirrored(torch.fft.fft(self.turned(h, 0), norm="ortho"), 0)
        h = self.turned(h[:, self.order], 1)
        h = self.turned(self.mirrored(torch.fft.ifft(h, norm="ortho"), 1), 2)
        z = h + x.to(self.V.dtype) @ self.V.T
        h = torch.relu(z.abs() + self.b) * z / (z.abs() + 1e-5)
        return torch.view_as_real(h).flatten(1), h


class S4D(nn.Module):
    """Gu et al. (2022), S4D-Lin with a zero-order hold; the state is (B, I, N)."""

    def __init__(self, I: int = 3) -> None:
        super().__init__()
        self.dt = nn.Parameter(torch.randn(I).double() * 0.1 - 1)
        self.decay = nn.Parameter(torch.randn(I, H).double() * 0.1)
        self.turn = nn.Parameter(math.pi * torch.arange(H).double().repeat(I, 1))
        self.C = nn.Parameter(torch.randn(I, H, 2).double())
        self.D = nn.Parameter(torch.randn(I).double())

    def forward(self, x: Any, h: Any) -> tuple[Any, Any]:
        A = -torch.exp(self.decay) + 1j * self.turn
        held = torch.exp(A * self.dt.exp()[:, None])
        h = held * h + (held - 1) / A * x[..., None]
        y = 2 * torch.einsum("bhn,hn->bh", h, torch.view_as_complex(self.C)).real + self.D * x
        return y, h


@pytest.mark.parametrize("options", [{}, {"lengths": torch.tensor([4, 2, 0])}, {"reverse": True}], ids=str)
@pytest.mark.parametrize("kind", [LRU, Unitary, S4D])
def test_published_cells_are_native(kind: type[nn.Module], options: dict[str, Any]) -> None:
    """Values and all gradients."""
    torch.manual_seed(1)
    x = torch.randn(T, B, 3, dtype=torch.float64, requires_grad=True)
    assert_as_the_loop(kind(), x, start(B, 3, H) if kind is S4D else start(B, H), **options)


def test_a_layer_with_all_its_options() -> None:
    """States of all steps, chunks, complex x and y."""
    torch.manual_seed(2)
    cell = LRU()
    layer = Recurrent(cell, fallback="error")
    x = torch.randn(T, B, 3, dtype=torch.complex128, requires_grad=True)
    y, final, states = layer(x, return_states=True)
    expected = plain_loop(cell, x, cell.initial_state(B, None, None), return_states=True)
    torch.testing.assert_close([y, final, states], list(expected))
    chunked = Recurrent(cell, checkpoint_every=2, fallback="error")(x)
    torch.testing.assert_close([*chunked], [y, final])
    grads = [
        torch.autograd.grad(v.square().sum(), [x, *cell.parameters()]) for v in (y, chunked.y, expected.y)
    ]
    torch.testing.assert_close([grads[0], grads[1]], [grads[2], grads[2]])
    assert torch.autograd.gradcheck(lambda v: layer(v).y, x)


def test_zero_has_the_gradient_zero_and_large_numbers_stay_finite() -> None:
    """|z| and z/|z| at 0; |z| and 1/z where the squares are no floats."""

    class Sizes(nn.Module):
        def forward(self, x: Any, z: Any) -> tuple[Any, Any]:
            return torch.stack([z.abs(), z.sgn().real, (1 / (z + (z.abs() == 0))).abs()], -1), z * 0.5

    x = torch.zeros(2, 2, 1, dtype=torch.float64)
    zero = torch.zeros(2, 1, dtype=torch.complex128, requires_grad=True)
    assert_as_the_loop(Sizes(), x.requires_grad_(), zero)
    large = torch.tensor([[3e200 + 4e200j], [1e-200 - 1e-200j]], dtype=torch.complex128)
    y = Scan(Sizes(), fallback="error")(x, large).y
    torch.testing.assert_close(y[0, :, 0, 0].tolist(), [5e200, 2**0.5 * 1e-200])


def test_the_gradient_of_a_quotient_by_a_small_number() -> None:
    """The square of the divisor is no float; two quotients are."""

    class Quotient(nn.Module):
        def forward(self, x: Any, z: Any) -> tuple[Any, Any]:
            return (z * 1e-15) / x, z

    x = torch.full((1, 1, 1), 1e-20 + 1e-20j, dtype=torch.complex64, requires_grad=True)
    z = torch.full((1, 1), 1 + 2j, dtype=torch.complex64)
    ours, theirs = (
        torch.autograd.grad(torch.view_as_real(y).sum(), x)[0]
        for y in (Scan(Quotient(), fallback="error")(x, z).y, plain_loop(Quotient(), x, z).y)
    )
    torch.testing.assert_close(ours, theirs)


ENDS = [0.0, -0.0, 1.0, -2.5, math.inf, -math.inf, math.nan, 1e-30, 1e30, 1e-200, -1e200]
EDGES: dict[str, Callable[[Any, Any], Any]] = {
    "quotient": lambda z, w: w / z,
    "reciprocal": lambda z, w: z.reciprocal() * w,
    "a real factor": lambda z, w: z * 2.5,
    "a real factor before": lambda z, w: 0.5 * z,
    "a real tensor": lambda z, w: z * w.abs(),
    "a real divisor": lambda z, w: z / 2.5,
    "a real divisor of each": lambda z, w: z / w.abs(),
    "the negative": lambda z, w: -z,
    "powers": lambda z, w: z**-1,
    "length": lambda z, w: torch.stack([z.abs(), z.abs().sqrt()], -1),
    "exponential": lambda z, w: torch.exp(z),
    "logarithm": lambda z, w: torch.log(z),
    "angle": lambda z, w: torch.angle(z),
    "root": lambda z, w: torch.sqrt(z),
    "fraction": lambda z, w: z**1.25,
    "nothing": lambda z, w: z**0,
    "sine": lambda z, w: torch.sin(z),
    "cosine": lambda z, w: torch.cos(z),
    "tangent": lambda z, w: torch.tanh(z),
}
FINITE = {"fraction", "sine", "cosine", "tangent"}  # infinities have rules of their own in C99


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64], ids=str)
@pytest.mark.parametrize("name", sorted(EDGES))
def test_at_zero_infinity_and_the_ends_of_the_range(name: str, dtype: torch.dtype) -> None:
    """Values as torch has them at each pair of parts, and gradients where these are ordinary numbers."""

    class Edge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1 + 2j], dtype=dtype))

        def forward(self, x: Any, z: Any) -> tuple[Any, Any]:
            found = EDGES[name](x, self.w)
            return found, z

    parts = torch.tensor(ENDS, dtype=torch.float64)
    grid = torch.complex(*torch.meshgrid(parts, parts, indexing="ij")).to(dtype).reshape(1, -1, 1)
    if name in FINITE:
        grid = grid[:, torch.view_as_real(grid).isfinite().all(-1).flatten()]
    cell, z = Edge(), torch.zeros(grid.shape[1], 1, dtype=dtype)
    scan, first = Scan(cell, fallback="error"), torch.randn(1, grid.shape[1], 1, dtype=dtype)
    scan(first, z)  # ordinary numbers first: what is verified then is used for these
    x, same = grid.clone().requires_grad_(), grid.clone().requires_grad_()
    got, expected = scan(x, z).y, plain_loop(cell, same, z).y
    assert_alike(got.detach(), expected.detach())
    weights = torch.randn_like(expected)
    grads = [
        torch.autograd.grad((y * weights.conj()).real.sum(), v)[0] for y, v in ((got, x), (expected, same))
    ]
    plain = torch.isin(torch.view_as_real(grid), torch.tensor([0.0, 1.0, -2.5]).to(grid.real.dtype)).all(-1)
    plain &= grid != 0
    assert_alike(*(g[plain] for g in grads))


def assert_alike(got: Tensor, expected: Tensor) -> None:
    """Equal to rounding, part by part; what is infinite or NaN is so in both."""
    one, other = (torch.view_as_real(t) if t.is_complex() else t for t in (got, expected))
    tolerance = 1e-4 if one.dtype == torch.float32 else 1e-9
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_single_precision() -> None:
    """complex64 stays complex64."""
    cell = LRU()
    for p in cell.parameters():
        p.data = p.data.to(torch.complex64 if p.is_complex() else torch.float32)
    state = torch.zeros(B, H, dtype=torch.complex64)
    x = torch.randn(T, B, 3)
    scan = Scan(cell, fallback="error")
    y, final, _ = scan(x, state)
    expected = plain_loop(cell, x, state)
    assert (y.dtype, final.dtype) == (torch.float32, torch.complex64)
    torch.testing.assert_close([y, final], [expected.y, expected.state], rtol=1e-4, atol=1e-5)


def test_changed_parameters_are_seen() -> None:
    """A complex parameter that is written between two calls."""
    torch.manual_seed(3)
    cell, x = LRU(), torch.randn(T, B, 3, dtype=torch.float64)
    layer = Recurrent(cell, fallback="error")
    layer(x)
    with torch.no_grad():
        cell.C.mul_(1j)
    torch.testing.assert_close(layer(x).y, plain_loop(cell, x, cell.initial_state(B, None, None)).y)


def test_without_a_rule_the_loop_answers() -> None:
    """Named, with what is native; and an error where that was asked for."""

    class Sinus(nn.Module):
        def forward(self, x: Any, z: Any) -> tuple[Any, Any]:
            z = torch.asinh(z + x)
            return z.real, z

    x, z = torch.randn(T, B, H), torch.zeros(B, H, dtype=torch.complex64)
    with pytest.warns(EngineWarning, match="asinh of complex numbers"):
        got = Scan(Sinus())(x, z)
    torch.testing.assert_close(got.y, plain_loop(Sinus(), x, z).y)
    with pytest.raises(EngineError, match=r"\.real and \.imag"):
        Scan(Sinus(), fallback="error")(x, z)


def test_a_real_start_of_a_complex_state_is_told() -> None:
    """The loop's own promotion answers; the message says what to give."""

    class Turning(nn.Module):
        def forward(self, x: Any, z: Any) -> tuple[Any, Any]:
            z = z * 1j + x
            return z.real, z

    h = torch.zeros(B, H)
    for x in (torch.randn(T, B, H), torch.randn(T, B, H, dtype=torch.complex64)):
        with pytest.warns(EngineWarning, match="complex numbers of a real state"):
            got = Scan(Turning())(x, h)
        torch.testing.assert_close(got.y, plain_loop(Turning(), x, h).y)
        with pytest.raises(EngineError, match="complex numbers of a real state"):
            Scan(Turning(), fallback="error")(x, h)


def test_a_parameter_that_becomes_a_view_which_conjugates() -> None:
    """Its numbers are read as they are, not as they lie in memory; so are those of x that negate."""
    torch.manual_seed(4)
    cell, x = LRU(), torch.randn(T, B, 3, dtype=torch.float64)
    layer, start = Recurrent(cell, fallback="error"), cell.initial_state(B, None, None)
    layer(x)
    for p in cell.parameters():
        if p.is_complex():
            p.data = p.data.conj()
    assert cell.C.is_conj()
    x = torch.randn(T, B, 3, dtype=torch.complex128).conj().imag
    assert x.is_neg()
    y, expected = layer(x).y, plain_loop(cell, x, start).y
    assert layer.path == FAST
    torch.testing.assert_close(y, expected)
    grads = [torch.autograd.grad(v.square().sum(), list(cell.parameters())) for v in (y, expected)]
    torch.testing.assert_close(*grads)
