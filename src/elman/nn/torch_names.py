"""What code that was written for torch.nn's recurrent layers asks of them, beside the call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elman.nn.stack import Stack

__all__ = ["TorchNames"]


class TorchNames(Stack):
    """The part of a layer that is also one of torch.nn's by class, for code that looks for layers by class.

    RNN, LSTM and GRU derive from torch.nn's classes so that `isinstance(layer, torch.nn.LSTM)` finds them. Nothing of
    these classes runs: what they do to parameters, to copies and to attributes rests on a flat copy of the weights,
    which is not kept here.
    """

    input_size: int
    hidden_size: int | tuple[int, ...]
    proj_size: int
    torch_class: type[Any]
    mode: str  # as torch.nn names the kind of layer

    def _stock_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        raise NotImplementedError

    # ---- torch.nn.RNNBase's ways of holding weights, put back to those of any module

    __setattr__ = nn.Module.__setattr__
    _apply = nn.Module._apply

    def flatten_parameters(self) -> None:
        """Does nothing: parameters are read where they are, so they may be replaced, tied or parametrized."""

    def _init_flat_weights(self) -> None:
        """Nothing is kept."""

    def _update_flat_weights(self) -> None:
        """Nothing is kept."""

    def _weights_have_changed(self) -> bool:
        return False

    # ---- its names

    @property
    def _all_weights(self) -> list[list[str]]:
        return [[name + suffix for name in self._stock_shapes(layer)] for layer, _, suffix in self._tracks()]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """Torch's parameters, one list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """`(L·D, B, H)` of the state h for an input; ValueError where the layers have widths of their own."""
        return self._expected(self.proj_size or self.hidden_size, input, batch_sizes)

    def _expected(self, size: Any, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        if not isinstance(size, int):
            raise ValueError(
                f"the layers have the widths {size}; expected one hidden_size for all, where torch asks for one shape"
            )
        batch = input.shape[0 if self.batch_first else 1] if batch_sizes is None else int(batch_sizes[0])
        return self.num_layers * self.num_directions, batch, size

    # ---- torch's own layer

    def _beyond_torch(self) -> list[str]:
        """What is set of the options that torch.nn's layer does not have, as "name=value"."""
        raise NotImplementedError

    def _torch_arguments(self) -> dict[str, Any]:
        """What the constructor of torch.nn's layer takes beside the sizes."""
        raise NotImplementedError

    def to_torch(self) -> nn.RNNBase:
        """torch.nn's layer with copies of these parameters: for what takes only that (dynamic quantization).

        ValueError where an option is set that torch.nn does not have, for it would compute something else.
        """
        beyond = self._beyond_torch()
        if beyond or not isinstance(self.hidden_size, int):
            beyond = beyond or [f"hidden_size={self.hidden_size!r}"]
            name = self.torch_class.__name__
            raise ValueError(
                f"torch.nn.{name} has no {', '.join(beyond)}; a layer without it can be converted"
            )
        like = self._flat_weights[0]
        with torch.random.fork_rng(devices=[]):
            layer: nn.RNNBase = self.torch_class(
                self.input_size, self.hidden_size, self.num_layers, device=like.device, dtype=like.dtype,
                **self._torch_arguments(),
            )  # fmt: skip
        with torch.no_grad():
            for name, p in layer.named_parameters():
                p.copy_(getattr(self, name)).requires_grad_(getattr(self, name).requires_grad)
        return layer.train(self.training)
