"""One torch operation at a time, in the input part, in the loop and in the output part: right, and fast unless said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from battery.cells_simple import H
from battery.probes import CALLS, Net, Probe, assert_probe

Unary = Callable[[Tensor], Tensor]


def _heads(t: Tensor, a: Tensor) -> Tensor:
    """`t` as H features of each row, cut or repeated."""
    flat = t.flatten(1)
    return torch.cat([flat, flat, a], 1)[:, :H]


# (B, H) -> (B, H), rows apart. Each is used on values between about -2 and 2.
FAST: dict[str, Unary] = {
    "abs": torch.abs,
    "add_scalar": lambda a: 2 + a + 1.5,
    "addcdiv": lambda a: torch.addcdiv(a, a, a.abs() + 1, value=0.5),
    "addcmul": lambda a: torch.addcmul(a, a, a, value=0.5),
    "amax": lambda a: a - a.amax(1, keepdim=True),
    "attention": lambda a: _heads(
        F.scaled_dot_product_attention(*[a[:, None, :6].reshape(-1, 1, 2, 3)] * 3), a
    ),
    "attention_causal": lambda a: _heads(
        F.scaled_dot_product_attention(
            a[:, :6].view(-1, 2, 3, 1), a[:, 1:].view(-1, 2, 3, 1), a[:, :6].view(-1, 2, 3, 1), is_causal=True
        ),
        a,
    ),
    "attention_masked": lambda a: _heads(
        F.scaled_dot_product_attention(
            a[:, :6].view(-1, 1, 2, 3),
            a[:, 1:].view(-1, 1, 2, 3),
            a[:, :6].view(-1, 1, 2, 3),
            attn_mask=torch.tensor([[True, False], [False, False]]),
            scale=0.7,
        ),
        a,
    ),
    "amin": lambda a: a - a.amin(-1, keepdim=True),
    "atan": torch.atan,
    "ceil": lambda a: a + torch.ceil(a),
    "celu": F.celu,
    "chunk_uneven": lambda a: torch.cat(a.chunk(3, 1)[::-1], 1),
    "clamp": lambda a: a.clamp(-0.5, 0.7),
    "clamp_min": lambda a: a.clamp(min=0.1),
    "clamp_max": lambda a: a.clamp(max=0.1),
    "clamp_tensor": lambda a: torch.clamp(a, min=-a.abs(), max=a * 0 + 0.3),
    "contiguous": lambda a: a.t().contiguous().t().contiguous(),
    "cos": torch.cos,
    "cosh": torch.cosh,
    "cumprod": lambda a: torch.cumprod(torch.sigmoid(a), 1),
    "cumsum": lambda a: torch.cumsum(a, -1),
    "div_scalar": lambda a: a / 3,
    "div_floor": lambda a: a + torch.div(a, 0.3, rounding_mode="floor"),
    "div_trunc": lambda a: a + torch.div(a, 0.3, rounding_mode="trunc"),
    "einsum_outer": lambda a: torch.einsum("bi,bj->bij", a, a).sum(1),
    "elu": F.elu,
    "eq_ne": lambda a: torch.where((a == a) & (a != 0.5), a, -a),
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expand": lambda a: a.unsqueeze(2).expand(-1, -1, 3).sum(2),
    "expm1": torch.expm1,
    "flatten": lambda a: a.view(-1, 1, H).flatten(1),
    "flip": lambda a: a.flip(1),
    "flip_both": lambda a: torch.cat([a[:, :6].view(-1, 2, 3).flip(1, 2).flatten(1), a[:, 6:]], 1),
    "flip_reduced": lambda a: a * a[:, :6].view(-1, 3, 2).flip(2).cumsum(2).prod(1).sum(1, keepdim=True),
    "flip_product": lambda a: _heads(a[:, :6].view(-1, 2, 3).flip(2) @ a[:, :6].view(-1, 3, 2).flip(1, 2), a),
    "floor": lambda a: a - torch.floor(a),
    "fmod": lambda a: torch.fmod(a, 0.7),
    "frac": torch.frac,
    "ge_le": lambda a: torch.where((a >= -0.3) & (a <= 0.4), a, a * a),
    "gelu": F.gelu,
    "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
    "glu": lambda a: F.glu(torch.cat([a, a.flip(1)], 1)),
    "group_norm": lambda a: F.group_norm(a, 1),
    "group_norm_affine": lambda a: torch.cat(
        [
            F.group_norm(
                a[:, :6], 3, torch.linspace(0.5, 2, 6, dtype=a.dtype), torch.linspace(-1, 1, 6, dtype=a.dtype)
            ),
            a[:, 6:],
        ],
        1,
    ),
    "group_norm_places": lambda a: _heads(F.group_norm(a[:, :6].view(-1, 2, 3), 2, eps=0.1), a),
    "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "huber_like": lambda a: torch.where(a.abs() < 0.5, 0.5 * a * a, 0.5 * (a.abs() - 0.25)),
    "leaky_relu": lambda a: F.leaky_relu(a, 0.2),
    "lerp": lambda a: torch.lerp(a, a * a, 0.3),
    "lerp_tensor": lambda a: torch.lerp(a, a * a, torch.sigmoid(a)),
    "layer_norm": lambda a: F.layer_norm(a, (H,)),
    "log": lambda a: torch.log(a.abs() + 0.5),
    "log1p": lambda a: torch.log1p(a.abs()),
    "log2": lambda a: torch.log2(a.abs() + 0.5),
    "log_softmax": lambda a: F.log_softmax(a, 1),
    "logaddexp": lambda a: torch.logaddexp(a, -a),
    "logical": lambda a: a * torch.logical_xor(a > 0, torch.logical_not(a.abs() > 0.5)).to(a.dtype),
    "logsigmoid": F.logsigmoid,
    "logsumexp": lambda a: a - torch.logsumexp(a, 1, keepdim=True),
    "masked_fill": lambda a: a.masked_fill(a > 0.3, 0.25),
    "max_dim": lambda a: a - a.max(1, keepdim=True).values,
    "min_dim": lambda a: a - a.min(1, keepdim=True)[0],
    "maximum": lambda a: torch.maximum(a, -a * 0.5),
    "minimum": lambda a: torch.minimum(a, a * a),
    "mean": lambda a: a - a.mean(1, keepdim=True),
    "mish": F.mish,
    "movedim": lambda a: a.view(-1, H, 1).movedim(1, 2).squeeze(1),
    "mul_bool": lambda a: a * (a > 0),
    "narrow": lambda a: torch.cat([a.narrow(1, 3, 4), a.narrow(1, 0, 3)], 1),
    "neg": torch.neg,
    "norm": lambda a: a / (a.norm(dim=1, keepdim=True) + 0.1),
    "norm_1": lambda a: a / (a.norm(p=1, dim=1, keepdim=True) + 0.1),
    "norm_inf": lambda a: a / (a.norm(p=float("inf"), dim=1, keepdim=True) + 0.1),
    "normalize": lambda a: F.normalize(a, dim=-1),
    "one_minus": lambda a: 1 - a,
    "pad": lambda a: F.pad(a[:, 1:], (0, 1), value=0.5),
    "permute": lambda a: a.view(-1, H, 1).permute(0, 2, 1).reshape(-1, H),
    "pow_2": lambda a: a**2,
    "pow_3": lambda a: a.pow(3),
    "pow_half": lambda a: (a.abs() + 0.1) ** 0.5,
    "pow_minus": lambda a: (a.abs() + 0.5) ** -1.5,
    "pow_tensor": lambda a: (a.abs() + 0.5) ** a,
    "pow_of_number": lambda a: 2.0**a,
    "prod": lambda a: a * (1 + 0.1 * torch.sigmoid(a)).prod(1, keepdim=True),
    "reciprocal": lambda a: 1 / (a.abs() + 0.5),
    "relu": torch.relu,
    "relu6": F.relu6,
    "remainder": lambda a: torch.remainder(a, 0.7),
    "reshape": lambda a: a.reshape(a.size(0), H, 1).reshape(a.size(0), -1),
    "rms_norm": lambda a: F.rms_norm(a, (H,)),
    "roll": lambda a: a.roll(2, 1),
    "round": lambda a: a + torch.round(a * 2),
    "rsqrt": lambda a: torch.rsqrt(a * a + 0.1),
    "rsub": lambda a: torch.rsub(a, 2, alpha=0.5),
    "select_stack": lambda a: torch.stack([a[:, (3 * k) % H] for k in range(H)], 1),
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "sign": lambda a: a * torch.sign(a) + torch.sgn(a),
    "silu": F.silu,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "slice_step": lambda a: torch.cat([a[:, ::2], a[:, 1::2]], 1),
    "slice_negative": lambda a: torch.cat([a[:, -2:], a[:, :-2]], 1),
    "softmax": lambda a: F.softmax(a, 1),
    "softmax_heads": lambda a: (
        F.softmax(a[:, :6].view(-1, 3, 2), 1).flatten(1).repeat_interleave(2, 1)[:, :H]
    ),
    "softmin": lambda a: F.softmin(a, dim=-1),
    "softplus": F.softplus,
    "softplus_beta": lambda a: F.softplus(a, beta=3, threshold=2),
    "softshrink": lambda a: F.softshrink(a, 0.3),
    "softsign": F.softsign,
    "split": lambda a: torch.cat(a.split([2, 1, 4], 1)[::-1], -1),
    "sqrt": lambda a: torch.sqrt(a.abs() + 0.1),
    "square": torch.square,
    "std": lambda a: a / (a.std(1, keepdim=True) + 0.1),
    "sub_alpha": lambda a: torch.sub(a, a * a, alpha=0.3),
    "sum": lambda a: a + a.sum(1, keepdim=True),
    "sum_all_but_rows": lambda a: a + a.view(-1, H, 1).sum((1, 2)).unsqueeze(1),
    "tan": lambda a: torch.tan(a * 0.3),
    "tanh": torch.tanh,
    "tanhshrink": F.tanhshrink,
    "threshold": lambda a: F.threshold(a, 0.1, -0.2),
    "to_and_back": lambda a: a + (a > 0).to(torch.int64).to(a.dtype),
    "transpose": lambda a: a.unsqueeze(1).transpose(1, 2).squeeze(2),
    "trunc": lambda a: a - torch.trunc(a * 2),
    "type_as": lambda a: a * (a < 0).type_as(a),
    "unflatten": lambda a: torch.cat([a[:, :6].unflatten(1, (2, 3)).sum(1), a[:, 3:]], 1),
    "unsqueeze": lambda a: (a.unsqueeze(1) * a.unsqueeze(2)).mean(2),
    "var": lambda a: a * a.var(1, keepdim=True, unbiased=False),
    "where_scalar": lambda a: torch.where(a > 0, a, 0.01),
    "xlogy": lambda a: torch.xlogy(a, a.abs() + 0.5),
    "zeros_like": lambda a: torch.zeros_like(a) + torch.ones_like(a) * a + torch.full_like(a, 0.25),
    "conv1d": lambda a: F.conv1d(
        a.unsqueeze(1), torch.tensor([[[0.2, 0.5, -0.3]]], dtype=a.dtype), padding=1
    ).squeeze(1),
    "isnan": lambda a: torch.where(torch.isnan(a) | torch.isinf(a), torch.zeros_like(a), a),
    "index_list": lambda a: a[:, [3, 1, 0, 0, 6, 5, 4]],
    "index_select": lambda a: a.index_select(1, torch.tensor([3, 1, 0, 0, 6, 5, 4])),
    "repeat": lambda a: a.repeat(1, 2)[:, :H],
    "tril": lambda a: torch.tril(a.unsqueeze(2) * a.unsqueeze(1)).sum(2),
    "nan_to_num": lambda a: torch.nan_to_num(a / (a - a + 1)),
    "convolution": lambda a: F.conv1d(
        a.unsqueeze(1),
        torch.tensor([[[0.2, 0.5, -0.3]]], dtype=a.dtype),
        torch.tensor([0.1], dtype=a.dtype),
        padding=1,
    ).squeeze(1),
    "bool_of_bools": lambda a: a * ((a > 0.1) & (a < 1) | (a < -0.5) ^ (a > -1)),
    "finite": lambda a: torch.where(torch.isfinite(a / (a > -5)) & ~torch.isinf(a), a, 0.0),
    "log10": lambda a: torch.log10(a.abs() + 0.5),
    "triu": lambda a: torch.triu(a.unsqueeze(2) * a.unsqueeze(1), 1).sum(2),
    "repeat_places": lambda a: a.unsqueeze(1).repeat(1, 3, 1).sum(1),
}

# Right by whichever path.
ANY: dict[str, Unary] = {
    "argmax_one_hot": lambda a: a + F.one_hot(a.argmax(1), H).to(a.dtype),
    "argsort": lambda a: a + a.argsort(1).to(a.dtype),
    "avg_pool": lambda a: F.avg_pool1d(a.unsqueeze(1), 3, 1, 1).squeeze(1),
    "bucketize": lambda a: (
        a + torch.bucketize(a.detach(), torch.tensor([-1.0, 0.0, 1.0], dtype=a.dtype)).to(a.dtype)
    ),
    "bmm_self": lambda a: torch.bmm(a.unsqueeze(2), a.unsqueeze(1)).softmax(-1).sum(1),
    "cdist": lambda a: a * torch.cdist(a.unsqueeze(1), a.unsqueeze(1) * 0.5 + 1).squeeze(1),
    "complex_product": lambda a: (
        torch.view_as_real(torch.view_as_complex(a[:, :6].contiguous().view(-1, 3, 2)) ** 2)
        .flatten(1)
        .repeat(1, 2)[:, :H]
    ),
    "cosine_similarity": lambda a: a * F.cosine_similarity(a, a.flip(1), dim=1).unsqueeze(1),
    "count_nonzero": lambda a: a + torch.count_nonzero(a > 0, 1).unsqueeze(1),
    "cross": lambda a: torch.cat([torch.linalg.cross(a[:, :3], a[:, 3:6]), a[:, 3:]], 1),
    "cummax": lambda a: torch.cummax(a, 1).values,
    "diag_embed": lambda a: torch.diag_embed(a).sum(1),
    "diff": lambda a: torch.cat([a[:, :1], a.diff(dim=1)], 1),
    "embedding_of_itself": lambda a: a + F.embedding(a.argmax(1), torch.eye(H, dtype=a.dtype)),
    "fft": lambda a: torch.fft.rfft(a, dim=1).abs().repeat(1, 2)[:, :H],
    "gather": lambda a: a.gather(1, a.argsort(1)),
    "gather_constant": lambda a: a.gather(1, torch.tensor([[3, 1, 0, 2, 6, 5, 4]]).expand(a.size(0), -1)),
    "hypot": lambda a: torch.hypot(a, a + 1),
    "index_mask": lambda a: torch.cat([a[:, torch.arange(H) % 2 == 0], a[:, torch.arange(H) % 2 == 1]], 1),
    "inner_loop": lambda a: torch.stack([a[:, k] * (k + 1) for k in range(H)], 1),
    "int_arithmetic": lambda a: a + ((a * 7).long() % 3 - 1).to(a.dtype),
    "kthvalue": lambda a: a - a.kthvalue(3, 1, keepdim=True).values,
    "lgamma": lambda a: torch.lgamma(a.abs() + 1),
    "matrix_power_row": lambda a: torch.matmul(a.unsqueeze(1), a.unsqueeze(2)).squeeze(2) * a,
    "max_pool": lambda a: F.max_pool1d(a.unsqueeze(1), 3, 1, 1).squeeze(1),
    "median": lambda a: a - a.median(1, keepdim=True).values,
    "one_hot_mask": lambda a: a * (torch.arange(H) == a.argmin(1, keepdim=True)),
    "outer_trace": lambda a: a * torch.einsum("bi,bi->b", a, a)[:, None],
    "put_in_place": lambda a: torch.zeros_like(a).scatter(1, a.argmax(1, keepdim=True), 1.0) * a,
    "quantile": lambda a: a - torch.quantile(a, 0.5, dim=1, keepdim=True),
    "renorm": lambda a: a / a.norm(dim=-1, keepdim=True).clamp(min=1.0),
    "repeat_interleave": lambda a: a.repeat_interleave(2, 1)[:, :H],
    "rot90": lambda a: torch.rot90(a.view(-1, 1, H), 2, (1, 2)).flatten(1),
    "scatter_add": lambda a: torch.zeros_like(a).scatter_add(
        1, torch.zeros(a.size(0), H, dtype=torch.long), a
    ),
    "searchsorted": lambda a: (
        a + torch.searchsorted(torch.linspace(-1, 1, 5, dtype=a.dtype), a.detach()).to(a.dtype)
    ),
    "single_inside": lambda a: a.float().double() * 0.5,
    "sort": lambda a: a.sort(1, descending=True).values,
    "stack_views": lambda a: torch.stack((a, -a), 2).flatten(1)[:, :H],
    "take_along_dim": lambda a: torch.take_along_dim(a, a.argsort(1), 1),
    "tensordot": lambda a: torch.tensordot(a, torch.eye(H, dtype=a.dtype) * 0.5, dims=1),
    "topk": lambda a: torch.cat([a.topk(3, 1).values, a[:, 3:]], 1),
    "topk_mask": lambda a: a * (a >= a.topk(3, 1).values[:, -1:]),
    "unfold": lambda a: a.unfold(1, 3, 2).sum(2).repeat(1, 3)[:, :H],
    "view_of_view": lambda a: a.view(-1).view(-1, H).view(a.shape),
    "view_as_complex_phase": lambda a: torch.angle(torch.complex(a, a + 1)),
}


def _body(f: Unary) -> Callable[..., Any]:
    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        hoisted = f(self.w(x))
        h = torch.tanh(hoisted * 0.3 + 0.5 * f(self.u(h) * 0.7))
        return f(self.v(h)), h

    return body


def _of_a_parameter(f: Unary) -> Callable[..., Any]:
    """Its gradient is linear in a sum over all rows and steps."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) * 0.3 + 0.5 * self.u(h) * f((self.p - 1).view(1, H)))
        return h, h

    return body


def _probe(name: str, f: Unary, path: str, body: Callable[[Unary], Callable[..., Any]] = _body) -> Probe:
    return Probe(
        name,
        body(f),
        path,
        "",
        None,
        lambda T, B: torch.randn(T, B, 5),
        lambda B: torch.randn(B, H),
        None,
        CALLS,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("name", FAST)
def test_operation(name: str, backend: str | None) -> None:
    """An operation that users write in cells stays on the fast path."""
    assert_probe(_probe(name, FAST[name], "fast"), backend)


# torch's backward of the first asks whether the gradient is zero; that of the others is not taken apart.
NOT_OF_A_PARAMETER = {"xlogy", "conv1d", "convolution"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAST if name not in NOT_OF_A_PARAMETER])
def test_operation_of_a_parameter(name: str) -> None:
    """An operation that makes a parameter into another (a softplus, a clamp, a split) is fast too."""
    assert_probe(_probe(name, FAST[name], "fast", _of_a_parameter))


@pytest.mark.slow
@pytest.mark.parametrize("name", ANY)
def test_rare_operation(name: str) -> None:
    """Anything else is right."""
    assert_probe(_probe(name, ANY[name], "any"))


@pytest.mark.parametrize(
    "name", ["elu", "softmax", "normalize", "clamp", "cumsum", "select_stack", "std", "where_scalar"]
)
def test_few_operations(name: str) -> None:
    """Some of them at every run."""
    assert_probe(_probe(name, FAST[name], "fast"))
