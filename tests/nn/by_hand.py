"""The layers by hand: one row at a time, one step at a time, one gate at a time; what the tests compare with."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tolerances import assert_near

# What a layer must run on: everything here is inside the rules of the fast path.
FAST = "native" if importlib.util.find_spec("elman._core") is not None else "reference"

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]


def unroll(
    step: Step,
    x: Tensor,
    start: Sequence[Tensor],
    *,
    lengths: Sequence[int] | None = None,
    reset: Tensor | None = None,
    target: Sequence[Tensor] | None = None,
    reverse: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """y `(T, B, O)`, final states `(B, H)` and the states of all steps `(T, B, H)`; each row is run on its own."""
    T, B = x.shape[:2]
    target = [torch.zeros_like(s) for s in start] if target is None else target
    rows = []
    for b in range(B):
        n = T if lengths is None else lengths[b]
        state = tuple(s[b : b + 1] for s in start)
        after: list[Any] = [None] * T
        for t in reversed(range(n)) if reverse else range(n):
            mark = t + 1 if reverse else t
            if reset is not None and mark < n and reset[mark, b]:
                state = tuple(s[b : b + 1] for s in target)
            y, state = step(x[t, b : b + 1], state)
            after[t] = (y, *state)
        rows.append((after, state))
    blank = next((a for after, _ in rows for a in after if a is not None), None)
    if blank is None:
        blank = tuple(
            v.detach() for v in (step(torch.zeros_like(x[0, :1]), tuple(s[:1] for s in start))[0], *start)
        )
        blank = tuple(v[:1] for v in blank)
    steps = [
        torch.stack(
            [
                torch.cat([(r[0][t] or [torch.zeros_like(v) for v in blank])[i] for r in rows])
                for t in range(T)
            ]
        )
        for i in range(len(blank))
    ]
    final = tuple(torch.cat([r[1][i] for r in rows]) for i in range(len(start)))
    return steps[0], final, tuple(steps[1:])


def layer_norm(a: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
    mean = a.mean(-1, keepdim=True)
    variance = ((a - mean) ** 2).mean(-1, keepdim=True)
    return (a - mean) / torch.sqrt(variance + 1e-5) * gain + (0 if bias is None else bias)


def sums(w: Mapping[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    """The sums that go into the gates, by the names that are there."""
    b_ih, b_hh = w.get("bias_ih", torch.zeros(())), w.get("bias_hh", torch.zeros(()))
    from_x, from_h = x @ w["weight_ih"].T, h @ w["weight_hh"].T
    if "gain_sum" in w:
        return layer_norm(from_x + from_h, w["gain_sum"], b_ih) + b_hh
    if "gain_ih" in w:
        return layer_norm(from_x, w["gain_ih"], b_ih) + layer_norm(from_h, w["gain_hh"], b_hh)
    return from_x + b_ih + from_h + b_hh


def sigmoid(a: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-a))


def rnn_step(
    w: Mapping[str, Tensor], f: Callable[[Tensor], Tensor] = torch.tanh, mask_h: Tensor | None = None
) -> Step:
    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = f(sums(w, x, state[0] * (1 if mask_h is None else mask_h)))
        return h, (h,)

    return step


def lstm_step(
    w: Mapping[str, Tensor], coupled: bool = False, mask_h: Tensor | None = None, mask_g: Tensor | None = None
) -> Step:
    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c = state
        H = c.shape[-1]
        a = sums(w, x, h * (1 if mask_h is None else mask_h))
        a = torch.cat((a[:, :H], a[:, :H], a[:, H:]), 1) if coupled else a
        i = sigmoid(a[:, :H] + w.get("weight_ci", 0) * c)
        f = 1 - i if coupled else sigmoid(a[:, H : 2 * H] + w.get("weight_cf", 0) * c)
        g = torch.tanh(a[:, 2 * H : 3 * H]) * (1 if mask_g is None else mask_g)
        c = f * c + i * g
        o = sigmoid(a[:, 3 * H :] + w.get("weight_co", 0) * c)
        seen = layer_norm(c, w["gain_cell"], w.get("bias_cell")) if "gain_cell" in w else c
        h = o * torch.tanh(seen)
        h = h @ w["weight_hr"].T if "weight_hr" in w else h
        return h, (h, c)

    return step


def gru_step(
    w: Mapping[str, Tensor],
    reset_after: bool = True,
    mask_h: Tensor | None = None,
    mask_g: Tensor | None = None,
) -> Step:
    H = w["weight_hh"].shape[1]
    rz, n = slice(0, 2 * H), slice(2 * H, 3 * H)

    def part(name: str, v: Tensor, rows: slice) -> Tensor:
        a = v @ w[f"weight_{name}"][rows].T
        bias = w[f"bias_{name}"][rows] if f"bias_{name}" in w else torch.zeros(())
        return layer_norm(a, w[f"gain_{name}"][rows], bias) if f"gain_{name}" in w else a + bias

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        old = state[0]
        h = old * (1 if mask_h is None else mask_h)
        gates = sigmoid(part("ih", x, rz) + part("hh", h, rz))
        r, z = gates[:, :H], gates[:, H:]
        inner = r * part("hh", h, n) if reset_after else part("hh", r * h, n)
        candidate = torch.tanh(part("ih", x, n) + inner) * (1 if mask_g is None else mask_g)
        new = (1 - z) * candidate + z * old
        return new, (new,)

    return step


def expected_zoneout(step: Step, rates: Sequence[float]) -> Step:
    """Zoneout in eval mode."""

    def zoned(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        _, new = step(x, state)
        mixed = tuple(p * a + (1 - p) * b for p, a, b in zip(rates, state, new, strict=True))
        return mixed[0], mixed

    return zoned


def weights_of(layer: nn.Module, suffix: str) -> dict[str, Tensor]:
    """The parameters of one layer and direction, without the suffix of their names."""
    return {name.removesuffix(suffix): p for name, p in layer.named_parameters() if name.endswith(suffix)}


def leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def assert_same(
    actual: Any,
    expected: Any,
    inputs: Mapping[str, Tensor],
    expected_inputs: Mapping[str, Tensor] | None = None,
) -> None:
    """Equal values, and equal gradients of a random weighted sum of all outputs to each of `inputs`.

    `expected_inputs`: the tensors that `expected` was computed from, where they are others, in the same order.
    """
    a, e = leaves(actual), leaves(expected)
    assert len(a) == len(e)
    for i, (u, v) in enumerate(zip(a, e, strict=True)):
        assert_near(u, v, what=f"output {i}")
    ours = gradients([u for u in a if u.is_floating_point()], inputs)
    theirs = gradients(
        [v for v in e if v.is_floating_point()], inputs if expected_inputs is None else expected_inputs
    )
    for (name, u), v in zip(ours.items(), theirs.values(), strict=True):
        assert_near(u, v, gradient=True, what=f"gradient of {name}")


def gradients(outputs: Sequence[Tensor], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of a fixed random weighted sum of all outputs; zeros where an input has none."""
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(v.shape, generator=generator, dtype=v.dtype) for v in outputs]
    loss = sum((w * v).sum() for w, v in zip(weights, outputs, strict=True))
    wanted = {name: t for name, t in inputs.items() if t.requires_grad}
    if not wanted:
        return {}
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(t) if g is None else g
        for (name, t), g in zip(wanted.items(), grads, strict=True)
    }
