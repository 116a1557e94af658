"""checkpoint_every: chunks of k steps, computed again in the backward, beside the whole call and the plain loop."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partialmethod
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from battery import checks
from battery.cells_gated import GatesLSTM
from battery.cells_simple import Elman, H, I
from battery.registry import BY_NAME, FEW, Case
from battery.running import CORE, Run
from elman.engine import EngineError, Scan, ScanResult
from elman.engine.call import checkpoint
from elman.nn import GRU, LSTM, RNN, Recurrent
from tolerances import assert_near

# One cell of each kind: two states, context, several x, four states, integer input, integer state, the plain loop.
KINDS = ["lstm_gates", "attention_additive", "gru_d", "slstm", "embedding", "clockwork", "batch_norm_eval"]
QUICK = [
    checks.assert_right_soon,
    checks.assert_gradient_of_each_part,
    checks.assert_without_grad,
    checks.assert_autocast,
    checks.assert_frozen_then_thawed,
    checks.assert_gradcheck,
    checks.assert_no_rows,
    checks.assert_changes_before_backward,
    checks.assert_second_derivative,
    checks.assert_forward_mode,
    checks.assert_grad_accumulates,
    checks.assert_module_untouched,
]


def _chunked(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setattr(Scan, "__call__", partialmethod(Scan.__call__, checkpoint_every=every))


@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize("name", KINDS)
def test_every_call(name: str, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths, resets, directions, one row, one step: values and all gradients are the oracle's."""
    _chunked(monkeypatch, every)
    checks.assert_right(BY_NAME[name], None)


@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("check", QUICK)
def test_checks(check: Callable[..., None], backend: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every cell must do, in chunks of two, on the fast path and on the plain loop."""
    _chunked(monkeypatch, 2)
    check(BY_NAME["gru_original"], backend)


@pytest.mark.slow
@pytest.mark.parametrize("check", [checks.assert_right_soon, *checks.QUICK, *checks.SLOW])
@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_battery(case: Case, check: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    if check.__name__.removeprefix("assert_") in case.without:
        pytest.skip("not defined for this cell")
    _chunked(monkeypatch, 2)
    check(case, None)


# ---- equal to the bit


def _options(T: int, B: int) -> list[dict[str, Any]]:
    lengths = torch.tensor([T, 0, 5, 3])[:B]
    reset = torch.rand(T, B) < 0.3
    return [
        {},
        {"lengths": lengths},
        {"reset": reset},
        {"lengths": lengths, "reset": reset, "return_states": True},
    ]


@pytest.mark.skipif(not CORE, reason="the core is not built")
@pytest.mark.parametrize(
    ("kind", "dtype"), [(RNN, torch.float64), (GRU, torch.float32), (LSTM, torch.float32)]
)
def test_same_bits_forward(kind: type[LSTM], dtype: torch.dtype) -> None:
    """On the core the chunks are the whole, with gradients and without."""
    layer = kind(I, 33, num_layers=2, bidirectional=True, dtype=dtype)
    x = torch.randn(11, 4, I, dtype=dtype)
    for options in _options(11, 4):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                layer.checkpoint_every = None
                whole = torch.utils._pytree.tree_leaves(layer(x, **options))
                layer.checkpoint_every = 4
                chunks = torch.utils._pytree.tree_leaves(layer(x, **options))
            assert layer.path == "native"
            for a, b in zip(chunks, whole, strict=True):
                assert torch.equal(a, b)
                assert a.requires_grad == b.requires_grad


# ---- what is kept


def _kept_bytes(run: Callable[[], Any]) -> int:
    """What the graph of a call keeps for its backward."""
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        alive = run()
    del alive
    return sum(kept.values())


@pytest.mark.parametrize("backend", [None, "reference"])
def test_kept_between_forward_and_backward(backend: str | None) -> None:
    """x, parameters, and one state for every k steps."""
    T, B, k = 400, 3, 20
    cell, x = GatesLSTM().float(), torch.randn(T, B, I, requires_grad=True)
    scan, state = Scan(cell, backend=backend), (torch.zeros(B, H), torch.zeros(B, H))
    parameters = sum(4 * p.numel() for p in cell.parameters())
    states = (T // k + 2) * 2 * 4 * B * H
    most = 4 * x.numel() + parameters + states
    assert _kept_bytes(lambda: scan(x, state, checkpoint_every=k)) <= most
    assert _kept_bytes(lambda: scan(x, state)) > 2 * most


@pytest.mark.parametrize("grad", [True, False])
def test_never_more_than_a_chunk_at_once(grad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    run_plan = checkpoint.run_plan

    def seen(step: Any, plan: Any, p: Any, given: Any) -> ScanResult:
        steps.append(given.T)
        return run_plan(step, plan, p, given)

    scan, x = Scan(Elman().float()), torch.randn(23, 2, I, requires_grad=grad)
    with torch.set_grad_enabled(grad):
        scan(x, torch.zeros(2, H), checkpoint_every=5)  # the first call is verified, in small chunks
        monkeypatch.setattr(checkpoint, "run_plan", seen)
        y = scan(x, torch.zeros(2, H), checkpoint_every=5).y
    assert steps == [5, 5, 5, 5, 3]
    if grad:
        y.sum().backward()
        assert steps[5:] == [3, 5, 5, 5, 5]


def test_skips_what_no_row_reaches() -> None:
    """Only padding behind the longest row: zeros, no gradient, and NaN in it stays there."""
    x = torch.randn(20, 2, I)
    x[6:] = torch.nan
    x.requires_grad_()
    for reverse in (False, True):
        y = Scan(Elman().float())(
            x, torch.zeros(2, H), lengths=torch.tensor([6, 2]), reverse=reverse, checkpoint_every=4
        ).y
        assert y[6:].eq(0).all()
        (g,) = torch.autograd.grad(y.sum(), x)
        assert g.isfinite().all()
        assert g[6:].eq(0).all()
        assert g[:2].ne(0).all()


# ---- random numbers and other things that happen once


class Noisy(nn.Module):
    """h' = (h / 2 + x p) m, y is the factor m that was drawn, and h'."""

    def __init__(self, draw: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.draw, self.p = draw, nn.Parameter(torch.ones(H))

    def forward(self, x: Tensor, h: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        factor = self.draw(torch.ones_like(h)) * torch.ones_like(h)
        h = (0.5 * h + x * self.p) * factor
        return (factor, h), h


DRAWS: dict[str, Callable[[Tensor], Any]] = {
    "dropout": lambda ones: F.dropout(ones, 0.25),
    "randn": torch.randn_like,
    "item": lambda ones: float(torch.rand(())),
    "python": lambda ones: random.random(),
    "numpy": lambda ones: np.random.rand(),
}


@pytest.mark.filterwarnings("ignore::elman.engine.EngineWarning")
@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_replayed(name: str, backend: str | None) -> None:
    """The gradient is that of the very factors that were drawn; the generators go on as if nothing had been."""
    cell = Noisy(DRAWS[name])
    x, h0 = torch.randn(10, 3, H, requires_grad=True), torch.randn(3, H, requires_grad=True)
    (factor, hs), final, _ = Scan(cell, backend=backend)(x, h0, checkpoint_every=3)
    assert len({tuple(f.flatten().tolist()) for f in factor.detach()}) == 10, "the same draw at two steps"
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    found = torch.autograd.grad(hs.sin().sum() + final.sum(), [x, h0, cell.p])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())

    h, steps = h0, []
    for t in range(10):
        h = (0.5 * h + x[t] * cell.p) * factor[t].detach()
        steps.append(h)
    expected = torch.autograd.grad(torch.stack(steps).sin().sum() + h.sum(), [x, h0, cell.p])
    for a, e in zip(found, expected, strict=True):
        assert_near(a, e, gradient=True)


def test_draws_are_those_of_the_chunks() -> None:
    """One seed draws the same as the chunks called one by one."""
    scan, x, h = Scan(Noisy(DRAWS["dropout"])), torch.randn(10, 3, H), torch.zeros(3, H)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.manual_seed(3)
            whole = scan(x, h, checkpoint_every=4)
            torch.manual_seed(3)
            state, parts = h, []
            for chunk in x.split(4):
                y, state, _ = scan(chunk, state)
                parts.append(y[0])
        assert torch.equal(whole.y[0], torch.cat(parts))


class Counting(nn.Module):
    """h' = tanh(x + h) scaled by how many steps there have been."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.steps += 1
        return torch.tanh(x + h) / self.steps


class OwnGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h) * float(torch.rand((), generator=self.generator))


@pytest.mark.parametrize("cell", [Counting, OwnGenerator])
def test_what_cannot_be_repeated_is_an_error(cell: type[nn.Module]) -> None:
    x = torch.randn(6, 2, H, requires_grad=True)
    y = Scan(cell(), backend="loop")(x, torch.zeros(2, H), checkpoint_every=3).y
    with pytest.raises(
        EngineError, match=r"steps 3 to 5, computed again for the backward, gave other values"
    ):
        y.sum().backward()


def test_running_statistics_count_once() -> None:
    """Batch norm in training on the plain loop: statistics as without chunks, gradients too."""
    found = []
    for every in (None, 2):
        torch.manual_seed(0)
        cell = nn.Sequential(nn.Linear(H, H), nn.BatchNorm1d(H))
        x = torch.randn(5, 4, H, requires_grad=True)
        scan = Scan(lambda x, h, cell=cell: torch.tanh(cell(x + h)), owner=cell, backend="loop")
        y = scan(x, torch.zeros(4, H), checkpoint_every=every).y
        grads = torch.autograd.grad(y.sin().sum(), [x, *cell.parameters()])
        found.append([*cell.buffers(), *grads])
    for a, e in zip(*found, strict=True):
        assert_near(a, e, gradient=True)


def test_second_derivative_of_random_steps_is_an_error() -> None:
    x = torch.randn(6, 2, H, requires_grad=True)
    hs = Scan(Noisy(DRAWS["dropout"]))(x, torch.zeros(2, H), checkpoint_every=3).y[1]
    with pytest.raises(EngineError, match="double backward through a step that draws random numbers"):
        torch.autograd.grad(hs.sum(), x, create_graph=True)


def test_gradgradcheck() -> None:
    cell = Elman().double().requires_grad_(False)
    x = torch.randn(4, 2, I, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, H, dtype=torch.float64, requires_grad=True)
    scan = Scan(cell)
    assert torch.autograd.gradgradcheck(lambda x, h: scan(x, h, checkpoint_every=3).y, (x, h), fast_mode=True)


def test_tensors_of_a_graph_outside() -> None:
    """A matrix that was computed before the call has its gradient once, from all chunks."""
    p, x, h = torch.randn(H, H, requires_grad=True), torch.randn(7, 2, H), torch.randn(2, H)
    for backend in (None, "loop"):
        grads = []
        for every in (None, 3):
            U = p.tanh()
            y = Scan(lambda x, h, U=U: torch.tanh(x + h @ U), backend=backend)(x, h, checkpoint_every=every).y
            grads += torch.autograd.grad(y.sin().sum(), p)
        assert_near(*grads, gradient=True)


# ---- layers


def _layers() -> dict[str, Callable[[int | None], nn.Module]]:
    two = {"num_layers": 2, "bidirectional": True}
    return {
        "lstm": lambda k: LSTM(I, H, **two, batch_first=True, checkpoint_every=k),
        "lstm_options": lambda k: LSTM(
            I,
            H,
            **two,
            layer_norm="separate",
            peephole=True,
            proj_size=3,
            learn_initial_state=True,
            checkpoint_every=k,
        ),
        "gru": lambda k: GRU(I, H, **two, merge="sum", recurrent_dropout=0.2, checkpoint_every=k).eval(),
        "rnn": lambda k: RNN(I, [H, 3], residual=False, checkpoint_every=k),
        "recurrent": lambda k: Recurrent(nn.LSTMCell, I, H, **two, zoneout=0.1, checkpoint_every=k).eval(),
        "reverse": lambda k: Recurrent(nn.GRUCell(I, H), reverse=True, checkpoint_every=k),
    }


@pytest.mark.parametrize("name", _layers())
def test_layers(name: str) -> None:
    """Padded and packed input: the layer with chunks is the layer without, values and all gradients."""
    make = _layers()[name]
    whole, chunks = make(None), make(4)
    chunks.load_state_dict(whole.state_dict())
    assert "checkpoint_every=4" in repr(chunks)
    next(iter(whole.parameters())).requires_grad_(False)
    next(iter(chunks.parameters())).requires_grad_(False)
    sizes = (9, 4, 1)
    axes = (3, 9, I) if getattr(whole, "batch_first", False) else (9, 3, I)
    padded = torch.randn(axes, requires_grad=True)
    rows = [torch.randn(n, I, requires_grad=True) for n in sizes]
    for given in ("padded", "lengths", "packed"):
        found = []
        for layer in (whole, chunks):
            options = {"lengths": torch.tensor([5, 0, 9])} if given == "lengths" else {}
            result = layer(pack_sequence(rows) if given == "packed" else padded, **options)
            y = result.y.data if given == "packed" else result.y
            leaves = [y, *torch.utils._pytree.tree_leaves(result.state)]
            inputs = rows if given == "packed" else [padded]
            trained = [p for p in layer.parameters() if p.requires_grad]
            loss = sum((leaf.sin() * (i + 1)).sum() for i, leaf in enumerate(leaves))
            found.append((leaves, torch.autograd.grad(loss, [*inputs, *trained])))
        for a, e in zip(found[1][0], found[0][0], strict=True):
            assert_near(a, e, what=given)
        for a, e in zip(found[1][1], found[0][1], strict=True):
            assert_near(a, e, gradient=True, what=given)


@pytest.mark.parametrize(("every", "kind", "words"), [
    (0, ValueError, "greater than zero, got 0"), (-3, ValueError, "greater than zero, got -3"),
    (2.0, TypeError, "type int, got: float"), (True, TypeError, "type int, got: bool"),
])  # fmt: skip
def test_layers_refuse(every: Any, kind: type[Exception], words: str) -> None:
    for make in (
        lambda: LSTM(2, 3, checkpoint_every=every),
        lambda: Recurrent(nn.GRUCell(2, 3), checkpoint_every=every),
    ):
        with pytest.raises(kind, match=f"checkpoint_every .*{words}"):
            make()


@pytest.mark.parametrize(("every", "words"), [(0, "checkpoint_every=0; expected at least 1"), (-1, "at least 1"),
                                              (2.5, "is a float"), ("3", "is a str"), (True, "is a bool")])  # fmt: skip
def test_scan_refuses_before_any_work(every: Any, words: str) -> None:
    scan = Scan(lambda x, h: pytest.fail("the step was called"))
    with pytest.raises(EngineError, match=words):
        scan(torch.ones(2, 2, 2), torch.ones(2, 2), checkpoint_every=every)


# ---- transforms and compilers


def test_under_transforms() -> None:
    """vmap over grad: the plain loop answers, in one piece."""
    cell, x, h = Elman().float(), torch.randn(5, 3, I), torch.randn(3, H)
    scan = Run(Scan(cell))

    def loss(x: Tensor, h: Tensor, every: int | None) -> Tensor:
        return scan(x.unsqueeze(1), h.unsqueeze(0), checkpoint_every=every).y.sin().sum()

    found = [torch.func.vmap(torch.func.grad(loss), in_dims=(1, 0, None))(x, h, every) for every in (None, 2)]
    assert_near(found[1], found[0], gradient=True)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning"
)  # torch's own
def test_compilers() -> None:
    """torch.compile breaks its graph there; a full graph, and an export, are refused by name."""
    torch._dynamo.reset()
    layer, x = LSTM(I, H, num_layers=2, checkpoint_every=3), torch.randn(7, 2, I, requires_grad=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="checkpoint_every"):
        torch.compile(layer, backend="eager", fullgraph=True)(x)
    torch._dynamo.reset()
    with pytest.raises(EngineError, match="checkpoint_every"):
        torch.export.export(layer, (x.detach(),), strict=False)
    compiled = torch.compile(nn.Sequential(nn.Linear(I, I), layer), backend="eager")
    y, plain = compiled(x).y, compiled._orig_mod(x).y
    inputs = [x, *layer.parameters()]
    for a, e in zip(
        torch.autograd.grad(y.sum(), inputs), torch.autograd.grad(plain.sum(), inputs), strict=True
    ):
        assert_near(a, e, gradient=True)
    assert layer.path != "loop"
    torch._dynamo.reset()
