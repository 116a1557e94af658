"""Calls with a mask are found their steps in the core: as the plain loop, verified like all others, and taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from elman.engine import EngineWarning, Scan
from elman.engine.backends import recipe
from elman.engine.call import holes
from elman.nn import LSTM, GRUCell, LayerNormLSTMCell
from tests.tolerances import assert_near

I, H = 3, 5


class Remembering(nn.Module):
    """Its output needs the state before the step, and a context."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = GRUCell(I, H), nn.Linear(2 * H, 4)

    def forward(self, x, h, context):
        new = self.inner(x, h)[1]
        return self.out(torch.cat((new - h, context), 1)), new


CELLS = {"gru": lambda: GRUCell(I, H), "norm": lambda: LayerNormLSTMCell(I, H), "context": Remembering}


def started(name, B):
    one = torch.randn(B, H, requires_grad=True)
    return (one, torch.randn(B, H, requires_grad=True)) if name == "norm" else one


def both(name, cell, scan, T, B, mask, **options):
    """A call and its gradients, on the scan and on the plain loop."""
    state, context = started(name, B), torch.randn(B, H, requires_grad=True) if name == "context" else None
    x = torch.randn(T, B, I)
    x[~mask] = torch.nan
    x.requires_grad_()
    found = []
    for run in (scan, Scan(cell, backend="loop")):
        result = run(x, state, context=context, mask=mask, **options)
        finals = result.state if isinstance(result.state, tuple) else (result.state,)
        starts = state if isinstance(state, tuple) else (state,)
        outs = [result.y, *finals]
        torch.manual_seed(0)
        wanted = [x, *starts, *([] if context is None else [context]), *cell.parameters()]
        grads = torch.autograd.grad(outs, wanted, [torch.randn_like(o) for o in outs], allow_unused=True)
        found.append((outs, grads))
    (a, da), (b, db) = found
    for got, expected in zip(a, b, strict=True):
        assert_near(got, expected, what=name)
    for got, expected in zip(da, db, strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            assert_near(got, expected, gradient=True, what=name)
    assert not a[0].isnan().any()
    assert (a[0][~mask] == 0).all()
    assert (da[0][~mask] == 0).all()


def draw_mask(data, T, B):
    return torch.tensor(data.draw(some.lists(some.booleans(), min_size=T * B, max_size=T * B))).reshape(T, B)


@settings(max_examples=12)
@given(data=some.data())
def test_calls_are_the_loops(data):
    """Several calls on one scan: any holes, rows without a step, lengths beside the mask, either direction."""
    name = data.draw(some.sampled_from(sorted(CELLS)))
    cell, reverse = CELLS[name](), data.draw(some.booleans())
    scan = Scan(cell)
    T, B = data.draw(some.integers(1, 8)), data.draw(some.integers(1, 4))
    for _ in range(3):
        lengths = data.draw(some.none() | some.lists(some.integers(0, T), min_size=B, max_size=B))
        mask = draw_mask(data, T, B)
        if lengths is not None:
            lengths = torch.tensor(lengths)
            mask &= torch.arange(T).unsqueeze(1) < lengths
        both(name, cell, scan, T, B, mask, reverse=reverse, lengths=lengths)


@pytest.fixture
def moves(monkeypatch):
    """How often torch was asked to move steps."""
    asked = []
    right = holes.taken
    monkeypatch.setattr(holes, "taken", lambda *args: asked.append(1) or right(*args))
    return asked


@pytest.mark.parametrize("name", CELLS)
def test_the_second_call_moves_nothing(name, moves):
    cell = CELLS[name]()
    scan = Scan(cell)
    for k in range(4):
        torch.manual_seed(k)
        both(name, cell, scan, 7, 4, torch.rand(7, 4) < 0.6)
    scan_moves = len(moves) - 4  # the loop's own
    assert scan.path == "native"
    assert scan_moves == 1


def test_a_layer_hands_its_mask_on(moves):
    layer = LSTM(I, H, num_layers=2, bidirectional=True, residual=False)
    x = torch.randn(7, 4, I)
    layer(x, mask=torch.rand(7, 4) < 0.6)
    before = len(moves)
    layer(x, mask=torch.rand(7, 4) < 0.6)
    assert len(moves) == before == 4


def test_a_fault_is_found_at_the_first_call(monkeypatch):
    """Holes in other places than the mask's: the plain loop answers."""
    ragged = recipe.ragged_rows

    def wrong(T, B, reverse, lengths, reset, mask=None):
        return ragged(T, B, reverse, lengths, reset, None if mask is None else mask.roll(1, 0))

    monkeypatch.setattr(recipe, "ragged_rows", wrong)
    cell = GRUCell(I, H)
    scan, mask = Scan(cell), torch.tensor([[1, 0], [0, 1], [1, 1], [0, 1]], dtype=torch.bool)
    x, h = torch.randn(4, 2, I), torch.randn(2, H)
    scan(x, h, mask=mask)
    with pytest.warns(EngineWarning, match="verification against the plain loop"):
        got = scan(x, h, mask=mask)
    assert_near(got.y, Scan(cell, backend="loop")(x, h, mask=mask).y)
