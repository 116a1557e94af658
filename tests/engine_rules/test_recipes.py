"""A plain call in one go gives the same bits as part by part; a second call goes the short way where it is the same."""

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman.engine
import elman.nn
from benchmarks.cells import LayerNormLSTMCell
from elman import _core
from elman.engine.call import quick, run

T, B, I, H = 5, 3, 4, 6


class ByHand(nn.Module):
    """Gates as a user writes them: a Linear each for x and for h."""

    def __init__(self, input_size: int, hidden_size: int, gates: str = "ifgo") -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.x = nn.ModuleDict({g: nn.Linear(input_size, hidden_size) for g in gates})
        self.h = nn.ModuleDict({g: nn.Linear(hidden_size, hidden_size) for g in gates})

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(batch, self.hidden_size, device=device, dtype=dtype)
        return zeros, zeros.clone()

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        i, f, g, o = (self.x[k](x) + self.h[k](h) for k in "ifgo")
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class OnTheRight(nn.Module):
    """Matrices as `x @ W`, one for each gate, not as Linear has them."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.w = nn.ParameterList([torch.randn(input_size, hidden_size) for _ in range(3)])
        self.u = nn.ParameterList([torch.randn(hidden_size, hidden_size) / 3 for _ in range(3)])
        self.b = nn.ParameterList([torch.randn(hidden_size) for _ in range(3)])

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        i, f, n = (x @ w + h @ u + b for w, u, b in zip(self.w, self.u, self.b, strict=True))
        h = torch.sigmoid(f) * h + torch.sigmoid(i) * torch.tanh(n)
        return h, h


class Conditioned(nn.Module):
    """A context that meets a matrix, and one step of it all rows."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size)
        self.c = nn.Linear(input_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.x(x * context) + self.h(h) + self.c(context))
        return h, h


class Minimal(nn.Module):
    """Two gates by hand, of which only one looks back; the output is one of its own."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.f = nn.Linear(input_size + hidden_size, hidden_size)
        self.n = nn.Linear(input_size, hidden_size)
        self.out = nn.Linear(hidden_size, 2)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f = torch.sigmoid(self.f(torch.cat((x, h), 1)))
        h = f * h + (1 - f) * torch.tanh(self.n(x))
        return self.out(h), h


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: elman.nn.RNN(I, H),
    "gru": lambda: elman.nn.GRU(I, H),
    "lstm": lambda: elman.nn.LSTM(I, H),
    "peephole": lambda: elman.nn.LSTM(I, H, peephole=True, coupled=True),
    "layer norm": lambda: elman.nn.LSTM(I, H, layer_norm="separate"),
    "two ways": lambda: elman.nn.LSTM(I, H, num_layers=2, bidirectional=True, proj_size=3),
    "learned start": lambda: elman.nn.GRU(I, H, learn_initial_state=True),
    "by hand": lambda: elman.nn.Recurrent(ByHand(I, H)),
    "on the right": lambda: elman.nn.Recurrent(OnTheRight(I, H)),
    "minimal": lambda: elman.nn.Recurrent(Minimal(I, H)),
    "layer norm by hand": lambda: elman.nn.Recurrent(LayerNormLSTMCell(I, H)),
    "backwards": lambda: elman.nn.Recurrent(ByHand(I, H), reverse=True),
    "masks": lambda: elman.nn.LSTM(I, H, recurrent_dropout=0.4),
}


def inputs(batch: int = B, steps: int = T, width: int = I) -> Tensor:
    return torch.randn(steps, batch, width, generator=torch.Generator().manual_seed(5)).requires_grad_()


def results(layer: nn.Module, x: Tensor, **options: Any) -> list[Tensor]:
    torch.manual_seed(2)  # masks
    y, state = layer(x, **options)
    leaves = [y, *(state if isinstance(state, tuple) else (state,))]
    if not y.requires_grad:
        return leaves
    weights = [torch.cos(torch.arange(v.numel())).reshape(v.shape).to(v.dtype) for v in leaves]
    wanted = [t for t in (x, *layer.parameters()) if t.requires_grad]
    return [*leaves, *torch.autograd.grad(leaves, wanted, weights, allow_unused=True)]


def assert_same_bits(a: list[Tensor], b: list[Tensor]) -> None:
    for i, (p, q) in enumerate(zip(a, b, strict=True)):
        assert (p is None) == (q is None), i
        assert p is None or torch.equal(p, q), i


def plans(layer: nn.Module) -> list[Any]:
    return [p for scan in layer.scans() for e in scan._entries for p in e.plans.values()]


@pytest.mark.parametrize("wanted", [True, False], ids=["with dx", "without dx"])
@pytest.mark.parametrize("name", LAYERS)
def test_same_bits_as_part_by_part(name: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer, x = LAYERS[name](), inputs().requires_grad_(wanted)
    at_once = [results(layer, x), results(layer, x)]
    assert plans(layer)
    assert all(p.recipes.get((False, False)) for p in plans(layer))
    with torch.no_grad():
        forward = results(layer, x)
    monkeypatch.setattr(run, "in_one_go", lambda *_: None)
    monkeypatch.setattr(quick, "in_one_go", lambda *_: None)
    for scan in layer.scans():
        scan._forget()
    in_parts = results(layer, x)
    assert all(not p.recipes for p in plans(layer))
    assert_same_bits(at_once[0], in_parts)
    assert_same_bits(at_once[1], in_parts)
    assert_same_bits(forward, in_parts[: len(forward)])


def test_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer, x = elman.nn.Recurrent(Conditioned(I, H)), inputs()
    context = torch.randn(B, I, requires_grad=True)

    def both() -> list[Tensor]:
        y = layer(x, context=context)[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, context, *layer.parameters()])]

    found = [both(), both()]
    assert plans(layer)[0].recipes[False, False] is not None
    monkeypatch.setattr(run, "in_one_go", lambda *_: None)
    monkeypatch.setattr(quick, "in_one_go", lambda *_: None)
    layer.scans()[0]._forget()
    in_parts = both()
    assert_same_bits(found[0], in_parts)
    assert_same_bits(found[1], in_parts)


def test_gates_by_hand_become_one_product() -> None:
    layer = elman.nn.Recurrent(ByHand(I, H))
    results(layer, inputs())
    sections = plans(layer)[0].program.sections
    products = {name: sum(n.op == "mm.default" for n in section.nodes) for name, section in sections.items()}
    assert products["hoisted"] == products["loop"] == products["loop_back"] == 1
    assert products["post"] == 3  # the gradient of x, and one sum for each of the two joined matrices
    assert len(sections["loop"].ins) == 4  # the joined gates, the joined matrix, h and c


@pytest.mark.parametrize("kind", [ByHand, OnTheRight, Minimal])
def test_joined_gates_equal_the_loop(kind: type[nn.Module]) -> None:
    torch.manual_seed(3)
    layer, x = elman.nn.Recurrent(kind(I, H)).double(), inputs().detach().double().requires_grad_()
    joined = results(layer, x)
    assert layer.path == "native"
    layer.backend = "loop"
    for a, b in zip(joined, results(layer, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_frozen_gate_gets_no_gradient() -> None:
    layer = elman.nn.Recurrent(ByHand(I, H))
    layer.cell.x["f"].weight.requires_grad_(False)
    y = layer(inputs())[0]
    y.sum().backward()
    assert layer.path == "native"
    assert layer.cell.x["f"].weight.grad is None
    grads = {n: p.grad.clone() for n, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    layer.backend = "loop"
    layer(inputs())[0].sum().backward()
    for n, p in layer.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(grads[n], p.grad)


def scale(layer: Any) -> None:
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)


def swap(layer: Any) -> None:
    layer.weight_ih_l0 = nn.Parameter(torch.randn(4 * H, I))


def point(layer: Any) -> None:
    layer.bias_ih_l0.data = torch.randn(4 * H)


def freeze(layer: Any) -> None:
    layer.weight_ih_l0.requires_grad_(False)


def double(layer: Any) -> None:
    layer.double()


CHANGES: dict[str, tuple[Callable[[Any], None], Callable[[], Tensor], Callable[[], Any]]] = {
    "nothing": (lambda _: None, inputs, nullcontext),
    "a value": (scale, inputs, nullcontext),
    "a parameter": (swap, inputs, nullcontext),
    "what a parameter points to": (point, inputs, nullcontext),
    "what has a gradient": (freeze, inputs, nullcontext),
    "the type": (double, lambda: inputs().detach().double().requires_grad_(), nullcontext),
    "the batch": (lambda _: None, lambda: inputs(batch=7), nullcontext),
    "the steps": (lambda _: None, lambda: inputs(steps=2), nullcontext),
    "the gradient of x": (lambda _: None, lambda: inputs().detach(), nullcontext),
    "the mode": (lambda _: None, inputs, torch.no_grad),
    "the layout": (
        lambda _: None,
        lambda: inputs(B, T).transpose(0, 1).contiguous().transpose(0, 1),
        nullcontext,
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_second_call_sees_what_changed(what: str) -> None:
    torch.manual_seed(1)
    layer = elman.nn.LSTM(I, H)
    for _ in range(3):
        results(layer, inputs())
    change, make, mode = CHANGES[what]
    change(layer)
    with mode():
        got = [results(layer, make()), results(layer, make())]
        fresh = elman.nn.LSTM(I, H).to(layer.weight_hh_l0.dtype)
        fresh.load_state_dict(layer.state_dict())
        for p, q in zip(fresh.parameters(), layer.parameters(), strict=True):
            p.requires_grad_(q.requires_grad)
        expected = results(fresh, make())
    assert_same_bits(got[0], expected)
    assert_same_bits(got[1], expected)


def test_a_second_call_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = elman.nn.LSTM(I, H)
    results(layer, inputs())

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the long way")

    monkeypatch.setattr("elman.engine.scan.gather", never)
    results(layer, inputs())
    with pytest.raises(AssertionError, match="the long way"):
        results(layer, inputs(batch=B + 1))


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "by hand"])
def test_the_core_watches_all_that_a_layer_depends_on(name: str) -> None:
    layer = LAYERS[name]()
    results(layer, inputs())
    guard = layer.scans()[0]._entries[0].guard
    assert guard.places
    assert all(place.in_core for place in guard.places)


def test_the_environment_is_asked_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = elman.nn.LSTM(I, H)
    for _ in range(2):
        results(layer, inputs())
    monkeypatch.setenv("ELMAN_BACKEND", "loop")
    results(layer, inputs())
    assert layer.path == "loop"
    monkeypatch.delenv("ELMAN_BACKEND")
    results(layer, inputs())
    assert layer.path == "native"


def test_second_derivatives_after_the_short_way() -> None:
    layer = elman.nn.GRU(I, H).double()
    x = inputs().detach().double().requires_grad_()
    for _ in range(2):
        layer(x)
    assert torch.autograd.gradgradcheck(lambda v: layer(v)[0], (x[:2, :1].detach().requires_grad_(),))


def test_a_gradient_that_nobody_wants_is_not_missed() -> None:
    layer, x = elman.nn.LSTM(I, H), inputs()
    _, (_, c) = layer(x)
    alone = torch.autograd.grad(c.sum(), x)[0]
    layer.backend = "loop"
    _, (_, c) = layer(x)
    torch.testing.assert_close(alone, torch.autograd.grad(c.sum(), x)[0])


def test_layers_are_collected() -> None:
    layer = elman.nn.LSTM(I, H)
    for _ in range(3):
        results(layer, inputs())
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_two_threads_at_once() -> None:
    layer = elman.nn.LSTM(I, 32)
    x = inputs(steps=50)
    expected = results(layer, x)
    found: list[list[Tensor]] = []

    def work() -> None:
        found.extend(results(layer, x) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 40
    for some in found:
        assert_same_bits(some, expected)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 3, T])
@pytest.mark.parametrize("reverse", [False, True])
def test_one_length_for_all_rows(batch: int, length: int, reverse: bool) -> None:
    torch.manual_seed(4)
    cell = ByHand(I, H).double()
    x = torch.randn(T, batch, I, dtype=torch.float64)
    x[length:] = torch.nan
    x.requires_grad_()
    reset = torch.rand(T, batch) < 0.4
    lengths = torch.full((batch,), length)
    found = []
    for backend in (None, "loop"):
        layer = elman.nn.Recurrent(cell, reverse=reverse, backend=backend)
        for flags in (None, reset):
            y, (h, c), (hs, cs) = layer(x, lengths=lengths, reset=flags, return_states=True)
            assert layer.path == (backend or "native")
            grads = torch.autograd.grad(y.sum() + (h * c).sum() + (hs * cs).sum(), [x, *cell.parameters()])
            found.append([y, h, c, hs, cs, *grads])
    for a, b in zip([*found[0], *found[1]], [*found[2], *found[3]], strict=True):
        torch.testing.assert_close(a, b)
    assert bool((found[0][0][length:] == 0).all())
    assert bool((found[0][5][length:] == 0).all())


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([6, 6, 6]), "expected 0 to 5"),
        (torch.tensor([2, 2]), r"integers of shape \(3,\)"),
        (torch.tensor([2.0, 2.0, 2.0]), "expected integers"),
        (torch.tensor([True, True, True]), "expected integers"),
        (torch.tensor([-1, -1, -1]), "expected 0 to 5"),
    ],
)
def test_wrong_lengths_are_refused(lengths: Tensor, message: str) -> None:
    cell = ByHand(I, H)
    with pytest.raises(elman.engine.EngineError, match=message):
        elman.engine.Scan(cell)(inputs(), cell.initial_state(B), lengths=lengths)


# ---- the core's own


TABLE: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


def by_table(x: Tensor, h: Tensor) -> Tensor:
    return TABLE["tanh"](x + h)


def test_a_table_of_functions() -> None:
    scan, x = elman.engine.Scan(by_table), inputs()
    for _ in range(2):
        torch.testing.assert_close(scan(x, torch.zeros(B, I)).y[0], torch.tanh(x[0]))
    before = TABLE["tanh"]
    try:
        TABLE["tanh"] = torch.sigmoid
        torch.testing.assert_close(scan(x, torch.zeros(B, I)).y[0], torch.sigmoid(x[0]))
        assert scan.path == "native"
    finally:
        TABLE["tanh"] = before
    torch.testing.assert_close(scan(x, torch.zeros(B, I)).y[0], torch.tanh(x[0]))


def doubling() -> _core.Kernel:
    add = _core.OPS["add"][0]
    return _core.Kernel(
        "float32",
        [[], [4], [], [], [4], []],
        [],
        [[add, 1, 4, 4, 0, 0, 4, 1, 1, 0, 0, 4, 1, 1, 0, 0, 4, 1]],
        [],
        [],
    )


KERNEL = ("kernel", doubling, True, 0, False, [(0, 0)], [], [], [(1, 0)], [], [], [])
WRONG: dict[str, tuple[list[Any], list[Any], int]] = {
    "another width": ([(0, 2, 5, [5]), (3, 2, 4, [4])], [KERNEL], -1),
    "no such array": ([(0, 2, 4, [4])], [KERNEL], -1),
    "written though given": ([(0, 2, 4, [4]), (0, 2, 4, [4])], [KERNEL], -1),
    "a history": ([(0, 3, 4, [4]), (3, 2, 4, [4])], [KERNEL], -1),
    "other sizes": ([(0, 2, 4, [4]), (3, 2, 4, [3])], [KERNEL], -1),
    "no block": ([(3, 2, 4, [4])], [], 0),
    "a join that is too long": ([(0, 0, 4, [4]), (3, 0, 6, [6])], [("join", 0, 1, 3, False)], -1),
    "columns that are not there": (
        [(0, 2, 4, [4]), (3, 0, 3, [3])],
        [("sums", [(0, 0, 2, 3, [(-1, 0, 1)], [])])],
        -1,
    ),
    "an unknown step": ([], [("wait",)], -1),
    "two loops": (
        [(0, 2, 4, [4]), (3, 2, 4, [4]), (3, 2, 4, [4])],
        [(*KERNEL[:2], False, *KERNEL[3:]), (*KERNEL[:2], False, *KERNEL[3:8], [(2, 0)], [], [], [])],
        -1,
    ),
    "a kernel behind sums": (
        [(0, 2, 4, [4]), (3, 2, 4, [4]), (3, 0, 4, [4])],
        [("sums", [(0, 0, 0, 4, [(-1, 0, 2)], [])]), KERNEL],
        -1,
    ),
    "a start in between": (
        [(0, 2, 4, [4]), (3, 2, 4, [4]), (0, 1, 4, [4])],
        [KERNEL, ("start", 2, 1), KERNEL],
        -1,
    ),
}


WHY = {
    "another width": "has the width 5",
    "no such array": "array 1 of 1",
    "written though given": "would be written",
    "a history": "number of rows",
    "other sizes": "sizes are not its width",
    "no block": "is not given",
    "a join that is too long": "does not fit",
    "columns that are not there": "columns that are not there",
    "an unknown step": "a step is 'wait'",
    "two loops": "two loops",
    "a kernel behind sums": "a kernel behind sums",
    "a start in between": "wanted between two stretches",
}


@pytest.mark.parametrize("what", WRONG)
def test_recipes_that_do_not_fit_are_refused(what: str) -> None:
    arrays, steps, block = WRONG[what]
    made = [(*s[:1], s[1](), *s[2:]) if s[0] == "kernel" else s for s in steps]
    with pytest.raises(ValueError, match=WHY[what]):
        _core.Recipe("float32", arrays, made, block)


def test_a_recipe_of_one_kernel() -> None:
    recipe = _core.Recipe(
        "float32", [(0, 2, 4, [4]), (3, 2, 4, [4])], [(KERNEL[0], doubling(), *KERNEL[2:])], -1
    )
    x = torch.randn(2, 3, 4)
    (out,) = recipe.run(2, 3, False, [x.data_ptr()], 1)
    assert torch.equal(torch.from_dlpack(out), 2 * x)
    with pytest.raises(ValueError, match="addresses"):
        recipe.run(2, 3, False, [], 1)
    with pytest.raises(ValueError, match="expected 1 or more"):
        recipe.run(0, 3, False, [x.data_ptr()], 1)
    with pytest.raises(ValueError, match="null"):
        recipe.run(2, 3, False, [0], 1)
