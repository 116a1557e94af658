"""A cell that does not say where it starts."""

import pytest
import torch
from torch import Tensor, nn

import elman.nn as en
from elman.engine import EngineWarning

I, H, T, B = 3, 4, 5, 3


class TwoStatesCell(nn.Module):
    """A user's cell with two states, a `hidden_size`, and no `initial_state`."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.gates = nn.Linear(input_size + hidden_size, 2 * hidden_size)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], context: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        f, g = self.gates(torch.cat((x, h), 1)).chunk(2, 1)
        c = torch.sigmoid(f) * c + torch.tanh(g) + (0 if context is None else context)
        return c, (torch.tanh(c), c)


@pytest.mark.parametrize("B", [1, 2, 3])  # a tensor of two rows can be unpacked into two
@pytest.mark.parametrize("batch_first", [False, True])
def test_two_states_are_asked_for(B: int, batch_first: bool) -> None:
    layer = en.Recurrent(TwoStatesCell(I, H), batch_first=batch_first, fallback="error")
    x = torch.zeros(*((B, T) if batch_first else (T, B)), I)
    wanted = rf"one tensor of zeros \({B}, {H}\), but runs on a tuple of 2; give it initial_state"
    with pytest.raises(ValueError, match=wanted):
        layer(x)
    with pytest.raises(ValueError, match="tuple of 2"):
        layer(x, context=torch.zeros(B, H))
    y, _ = layer(x, (torch.zeros(B, H), torch.zeros(B, H)))
    assert y.shape == (*x.shape[:2], H)


def test_one_sequence_and_a_stack() -> None:
    with pytest.raises(ValueError, match="tuple of 2"):
        en.Recurrent(TwoStatesCell, I, H, 2, fallback="error")(torch.zeros(T, B, I))
    with pytest.raises(ValueError, match="tuple of 2"), pytest.warns(EngineWarning):
        en.Recurrent(TwoStatesCell(I, H))(torch.zeros(T, I))


def test_the_start_is_not_blamed_for_something_else() -> None:
    with pytest.warns(EngineWarning), pytest.raises(ValueError, match="unpack"):
        en.Recurrent(TwoStatesCell(I, H))(torch.zeros(T, B, I + 1))


def test_a_cell_of_torch_is_not_blamed() -> None:
    with pytest.raises(ValueError, match="lengths") as caught:
        en.Recurrent(nn.LSTMCell(I, H))(torch.zeros(T, B, I), lengths=torch.tensor([1, 2]))
    assert "initial_state" not in str(caught.value)
