"""The gated recurrent unit with trainable decays, for series with missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.cells.base import Cell, Weights, check_size, read_weights

__all__ = ["Decays", "GRUDCell", "Observed", "gru_d_step"]


class Observed(NamedTuple):
    """One step of a series, or T of them in front: each `(..., B, F)`.

    x: the values, finite where they are missing too. mask: 1 where a value was observed, else 0. since: the time
    since the last observation before this step, in any unit.
    """

    x: Tensor
    mask: Tensor
    since: Tensor


class Decays(NamedTuple):
    """The tensors of the two decays: of the input `(F,)` each, of the state `(H, F)` and `(H,)`; mean `(F,)`."""

    weight_x: Tensor
    bias_x: Tensor | None
    weight_h: Tensor
    bias_h: Tensor | None
    mean: Tensor


def gru_d_step(
    inputs: Sequence[Tensor], h: Tensor, last: Tensor, w: Weights, d: Decays
) -> tuple[Tensor, Tensor]:
    """(h', last'): the equations stand in `GRUDCell`; rows r, z, n."""
    x, mask, since = inputs
    H2 = w.weight_hh.shape[0] * 2 // 3
    toward = d.weight_x * since if d.bias_x is None else d.weight_x * since + d.bias_x
    decay_x = torch.exp(-torch.relu(toward))
    decay_h = torch.exp(-torch.relu(F.linear(since, d.weight_h, d.bias_h)))
    last = mask * x + (1 - mask) * last
    filled = mask * x + (1 - mask) * (decay_x * last + (1 - decay_x) * d.mean)
    h = decay_h * h
    a = F.linear(torch.cat((filled, mask), dim=-1), w.weight_ih, w.bias_ih)
    r, z = (a[..., :H2] + F.linear(h, w.weight_hh[:H2])).sigmoid().chunk(2, -1)
    n = (a[..., H2:] + F.linear(r * h, w.weight_hh[H2:])).tanh()
    return (1 - z) * h + z * n, last


class GRUDCell(Cell):
    r"""GRU-D: a GRU that models gaps (Che, Purushotham, Cho, Sontag & Liu 2018, arXiv:1606.01865, eqs. 10-17).

        γx_t = exp(−max(0, w_γx⊙δ_t + b_γx))                      decay of the input, one weight a feature (eq. 10)
        γh_t = exp(−max(0, W_γh δ_t + b_γh))                      decay of the state (eq. 10)
        x'_t = m_t⊙x_t + (1 − m_t)⊙x^last_{t−1}                   the last value that was observed
        x̂_t  = m_t⊙x_t + (1 − m_t)⊙(γx_t⊙x'_t + (1 − γx_t)⊙x̃)     x̃: the mean of each feature (eq. 11)
        ĥ_t  = γh_t⊙h_{t−1}                                       (eq. 12)
        r_t  = σ(W_r x̂_t + V_r m_t + U_r ĥ_t + b_r)               z_t the same with rows z (eqs. 13, 14)
        n_t  = tanh(W_n x̂_t + V_n m_t + U_n (r_t⊙ĥ_t) + b_n)      (eq. 15)
        h_t  = (1 − z_t)⊙ĥ_t + z_t⊙n_t                            y_t = h_t (eq. 16)

    Input: x, m, δ of F features, three tensors `(B, F)` (see `Observed`) or one `(B, 3F)` with all side by side,
    so that `input_size` is 3F: values, finite where they are missing too; mask, 1 where observed; time since the last
    observation. State: h `(B, H)` and x^last `(B, F)`. Parameters: `weight_ih` `(3H, 2F)`, rows r, z, n, columns W and
    V side by side; `weight_hh` `(3H, H)`, U; `bias_ih` `(3H)`; `weight_decay_x`, `bias_decay_x` `(F)`;
    `weight_decay_h` `(H, F)`, `bias_decay_h` `(H)`. The buffer `mean` `(F)` is x̃, zeros unless given, the mean of
    scaled inputs. Drawn as `GRUCell`'s, but the decays: weights from U(0, 1/sqrt(H)), biases 0, so that each has a
    slope at the start.

    The paper writes the update as here: z_t weighs the candidate. In `GRUCell` it weighs the old state.
    """

    state_names = ("h", "last")
    gates = 3
    weight_decay_x: nn.Parameter
    bias_decay_x: nn.Parameter | None
    weight_decay_h: nn.Parameter
    bias_decay_h: nn.Parameter | None
    mean: Tensor

    def __init__(
        self,
        features: int,
        hidden_size: int,
        bias: bool = True,
        *,
        mean: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(2 * check_size("features", features), hidden_size, bias, device=device, dtype=dtype)
        self.features, self.input_size = features, 3 * features
        self.register_parameter("bias_hh", None)
        self._add("weight_decay_x", features)
        self._add("bias_decay_x", features if bias else None)
        self._add("weight_decay_h", hidden_size, features)
        self._add("bias_decay_h", hidden_size if bias else None)
        x = self.weight_ih.detach().new_zeros(features) if mean is None else mean.detach().clone()
        if x.shape != (features,):
            raise ValueError(f"GRUDCell: mean has shape {tuple(x.shape)}; expected ({features},)")
        self.register_buffer("mean", x.to(self.weight_ih))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        super().reset_parameters()
        for name in ("weight_decay_x", "weight_decay_h"):
            nn.init.uniform_(getattr(self, name), 0.0, self.hidden_size**-0.5)
        for name in ("bias_decay_x", "bias_decay_h"):
            if getattr(self, name) is not None:
                nn.init.zeros_(getattr(self, name))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """H and F."""
        return self.hidden_size, self.features

    def forward(
        self,
        x: Tensor | Observed | tuple[Tensor, Tensor, Tensor],
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; x, mask, since `(B, F)` or side by side `(B, 3F)`; state `(B, H)`, `(B, F)` -> (h_t, state)."""
        inputs = self._apart(x)
        if state is None:
            state = self._zeros(inputs[0])
        decays = Decays(
            self.weight_decay_x, self.bias_decay_x, self.weight_decay_h, self.bias_decay_h, self.mean
        )
        h, last = gru_d_step(inputs, *state, read_weights(self), decays)
        return h, (h, last)

    def _apart(
        self, x: Tensor | Observed | tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, ...] | list[Tensor]:
        """x, mask and since; RuntimeError for other widths."""
        one = isinstance(x, Tensor)
        widths = [x.shape[-1]] if isinstance(x, Tensor) else [part.shape[-1] for part in x]
        if widths != ([self.input_size] if one else [self.features] * 3):
            raise RuntimeError(
                f"GRUDCell: inputs of the widths {widths}; expected x, mask and since of {self.features} features "
                f"each, or one tensor with all three side by side, {self.input_size} wide"
            )
        return x.split(self.features, dim=-1) if isinstance(x, Tensor) else tuple(x)

    def _zeros(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_zeros(*x.shape[:-1], self.hidden_size), x.new_zeros(*x.shape[:-1], self.features)

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        return f"{self.features}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
