"""What a layer returns may be written in place: the values and all gradients are those of writing in a copy."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_leaves, tree_map

import elman.nn as en
from tolerances import assert_near

DOUBLE = torch.float64
T, B, I, H = 5, 3, 2, 4


def write_marks(v: Tensor) -> None:
    v[v > 0.1] = 0.25


def drop(v: Tensor) -> None:
    torch.manual_seed(5)
    nn.Dropout(0.5, inplace=True)(v)


def write_in_a_view(v: Tensor) -> None:
    v[0, :1].mul_(3)


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "a mask": write_marks, "mul": lambda v: v.mul_(v.detach() + 2), "relu": F.relu_, "dropout": drop,
    "a view": write_in_a_view, "zero": lambda v: v.zero_(), "copy": lambda v: v.copy_(v.flip(0) * 2),
}  # fmt: skip


class Blend(nn.Module):
    """y is the old state beside the new one; the state is a tuple."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.output_size = hidden_size, hidden_size
        self.map = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Any:
        return tuple(torch.zeros(batch, self.hidden_size, device=device, dtype=dtype) for _ in range(2))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, m = state
        h = torch.tanh(self.map(torch.cat((x, h), 1))) + 0.3 * m
        return h, (h, 0.5 * m + h)


class Noisy(Blend):
    def forward(self, x: Tensor, state: Any) -> Any:
        h, m = state
        h = torch.tanh(self.map(torch.cat((x, h), 1))) * (1 + torch.rand_like(h))
        return h, (h, 0.5 * m + h)


def layer_of(kind: str, **options: Any) -> Any:
    if kind in ("Blend", "Noisy"):
        options.pop("layer_norm", None)
        return en.Recurrent({"Blend": Blend, "Noisy": Noisy}[kind], I, H, **options).double()
    return getattr(en, kind)(I, H, dtype=DOUBLE, **options)


def results(layer: Any, x: Tensor, call: dict[str, Any], packed: bool) -> list[Tensor]:
    """Every tensor that a call returns."""
    torch.manual_seed(1)
    given = pack_padded_sequence(x, torch.tensor([T, 3, 1]), layer.batch_first) if packed else x
    out = layer(given, **call)
    return tree_leaves([part.data if isinstance(part, PackedSequence) else part for part in out])


def measure(layer: Any, x: Tensor, call: dict[str, Any], packed: bool, write: Any, on_copies: bool) -> Any:
    """Values after writing, and gradients; results are written one after the other."""
    x = x.clone().requires_grad_()
    found = results(layer, x, call, packed)
    if on_copies:
        found = [v.clone() for v in found]
    for v in found:
        write(v)
    total = sum((v * torch.cos(torch.arange(v.numel()).reshape(v.shape))).sum() for v in found)
    wanted = [x, *layer.parameters()]
    grads = torch.autograd.grad(total, wanted, allow_unused=True, retain_graph=True)
    again = torch.autograd.grad(total, wanted, allow_unused=True)
    for a, b in zip(grads, again, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    return found, grads


@settings(max_examples=16)
@given(
    kind=st.sampled_from(("RNN", "LSTM", "GRU", "Blend", "Noisy")),
    write=st.sampled_from(sorted(WRITES)),
    backend=st.sampled_from((None, "reference", "loop")),
    num_layers=st.sampled_from((1, 1, 2)),
    bidirectional=st.sampled_from((False, False, True)),
    batch_first=st.booleans(),
    layer_norm=st.booleans(),
    residual=st.booleans(),
    checkpoint_every=st.sampled_from((None, None, 2, T)),
    extras=st.sets(st.sampled_from(("lengths", "reset", "return_states"))),
    packed=st.booleans(),
)
def test_results_may_be_written(
    kind: str, write: str, backend: str | None, num_layers: int, bidirectional: bool, batch_first: bool,
    layer_norm: bool, residual: bool, checkpoint_every: int | None, extras: set[str], packed: bool,
) -> None:  # fmt: skip
    options: dict[str, Any] = {"layer_norm": "separate"} if layer_norm and kind in ("LSTM", "GRU") else {}
    torch.manual_seed(0)
    layer = layer_of(
        kind, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first, backend=backend,
        residual=residual and num_layers > 1 and not bidirectional, checkpoint_every=checkpoint_every, **options,
    )  # fmt: skip
    x = torch.randn(*((B, T) if batch_first else (T, B)), I, dtype=DOUBLE)
    reset = torch.rand(x.shape[:2]) < 0.3
    call = {
        "lengths": torch.tensor([T, 0, 2]) if "lengths" in extras and not packed else None,
        "reset": reset if "reset" in extras else None,
        "return_states": "return_states" in extras,
    }
    values, grads = measure(layer, x, call, packed, WRITES[write], on_copies=False)
    wanted, wanted_grads = measure(layer, x, call, packed, WRITES[write], on_copies=True)
    for a, b in zip(values, wanted, strict=True):
        assert_near(a, b, what="a result")
    for a, b in zip(grads, wanted_grads, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_near(a, b, gradient=True, what="a gradient")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "Blend", "Noisy"])
def test_results_without_gradients_may_be_written(kind: str, mode: Any) -> None:
    for batch_first in (False, True):
        for x in (torch.randn(T, B, I, dtype=DOUBLE), torch.randn(T, I, dtype=DOUBLE)):
            layer = layer_of(kind, batch_first=batch_first).eval()
            if x.dim() == 2 and kind in ("Blend", "Noisy"):
                continue
            with mode():
                found = results(layer, x, {"return_states": True}, packed=False)
            assert not any(v._is_view() for v in found)
            before = [v.clone() for v in found]
            for i, v in enumerate(found):
                if mode is torch.no_grad:
                    factor = torch.full((1,), 2.0, dtype=DOUBLE, requires_grad=True)
                    v.mul_(factor)
                    v.sum().backward()
                    assert_near(factor.grad, before[i].sum().reshape(1))
                else:
                    with mode():
                        v.mul_(2)
                for k, other in enumerate(found):
                    assert_near(other.detach(), before[k] * (2 if k <= i else 1))


def test_a_plain_result_is_no_view_and_is_not_copied() -> None:
    layer = en.GRU(I, H)
    y, _ = layer(torch.randn(T, B, I))
    assert layer.path == "native"
    assert not y._is_view()
    kept = [t.untyped_storage() for t in y.grad_fn.saved_tensors]  # type: ignore[union-attr]
    assert any(0 <= y.data_ptr() - s.data_ptr() < s.nbytes() for s in kept)


def test_parameters_that_change_between_writing_and_the_backward_are_refused() -> None:
    layer = en.LSTM(I, H)
    y, _ = layer(torch.randn(T, B, I))
    y.mul_(2)
    with torch.no_grad():
        layer.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_what_was_written_inside_a_checkpoint_is_computed_again() -> None:
    from torch.utils.checkpoint import checkpoint

    layer, x = en.GRU(I, H, dtype=DOUBLE), torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
    twin = copy.deepcopy(layer)

    def run(of: Any, x: Tensor) -> Tensor:
        return F.relu_(of(x)[0]).pow(2)

    checkpoint(run, layer, x, use_reentrant=False).sum().backward()
    F.relu(twin(x)[0]).pow(2).sum().backward()
    for a, b in zip(layer.parameters(), twin.parameters(), strict=True):
        assert_near(a.grad, b.grad, gradient=True)  # type: ignore[arg-type]


def test_a_written_result_under_create_graph() -> None:
    layer, x = en.GRU(I, H, dtype=DOUBLE), torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)

    def penalty(in_place: bool) -> Tensor:
        y = layer(x)[0]
        y = y.mul_(2) if in_place else y * 2
        (g,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(g.pow(2).sum(), x)[0]

    assert_near(penalty(True), penalty(False), gradient=True)


def test_the_results_of_a_nested_structure_may_be_written() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Any:
            h = torch.tanh(x + h)
            return {"same": h, "again": h, "twice": 2 * h}, h

    x = torch.randn(T, B, H, dtype=DOUBLE, requires_grad=True)
    for backend in (None, "reference", "loop"):
        layer = en.Recurrent(Twice(), backend=backend)
        y, h = layer(x, torch.zeros(B, H, dtype=DOUBLE))
        before = tree_map(torch.clone, y)
        y["same"].zero_()
        assert_near(y["again"], before["again"])
        assert_near(y["twice"], before["twice"])
        y["again"].mul_(2)
        h.zero_()
        (g,) = torch.autograd.grad(sum(v.sum() for v in y.values()), x)
        fresh, _ = layer(x, torch.zeros(B, H, dtype=DOUBLE))
        (wanted,) = torch.autograd.grad((2 * fresh["again"] + fresh["twice"]).sum(), x)
        assert_near(g, wanted, gradient=True)
