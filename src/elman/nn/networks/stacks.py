"""The recurrent layers of a network by the name of their cell, and what a network needs to know of any such layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from elman.nn.cells import (
    CoupledLSTMCell,
    ElmanCell,
    GRUCell,
    LSTMCell,
    MinimalGatedCell,
    OriginalGRUCell,
    PeepholeLSTMCell,
)
from elman.nn.gru import GRU
from elman.nn.lstm import LSTM
from elman.nn.recurrent import CellFactory, Recurrent
from elman.nn.rnn import RNN
from elman.nn.stack import Output, Stack

__all__ = [
    "CELLS",
    "Engine",
    "cell_factory",
    "ends_of",
    "recurrent_stack",
    "run_stack",
    "stack_width",
    "start_of",
]

Engine = Literal["elman", "torch"]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Known(NamedTuple):
    """A cell by its word: the layer that has it, or the cell itself, and the options that make it so."""

    maker: Any
    options: Mapping[str, Any] = _NOTHING


CELLS: dict[str, Known] = {
    "lstm": Known(LSTM),
    "gru": Known(GRU),
    "rnn": Known(RNN),
    "peephole-lstm": Known(LSTM, {"peephole": True}),
    "coupled-lstm": Known(LSTM, {"coupled": True}),
    "original-gru": Known(GRU, {"reset_after": False}),
    "minimal-gated": Known(MinimalGatedCell),
}
_CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "rnn": ElmanCell,
    "peephole-lstm": PeepholeLSTMCell,
    "coupled-lstm": CoupledLSTMCell,
    "original-gru": OriginalGRUCell,
    "minimal-gated": MinimalGatedCell,
}
_TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def recurrent_stack(
    cell: str | CellFactory,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    dropout: float = 0.0,
    engine: Engine = "elman",
    options: Mapping[str, Any] = _NOTHING,
) -> nn.Module:
    """The recurrent layers `(T, B, I) -> (T, B, H)`, from `elman.nn` or, to compare with, from `torch.nn`.

    cell: a word of `CELLS`, or a factory f(input_size, hidden_size) -> cell, such as the class of a cell of your own.
    dropout lies between the layers only. options: further arguments of the layer that is made (`elman.nn.LSTM`, ...,
    or `elman.nn.Recurrent` for a factory).

    Raises ValueError for an unknown word and for an option that this cell does not have.
    """
    between = dropout if num_layers > 1 else 0.0
    if engine == "torch":
        return _of_torch(cell, input_size, hidden_size, num_layers, between, options)
    maker, own = _known(cell) if isinstance(cell, str) else Known(cell)
    is_layer = inspect.isclass(maker) and issubclass(maker, Stack)
    layer: Any = maker if is_layer else Recurrent
    _check_options(cell, layer, options)
    sizes = (input_size, hidden_size) if is_layer else (maker, input_size, hidden_size)
    stack: nn.Module = layer(*sizes, num_layers=num_layers, dropout=between, **own, **options)
    return stack


def cell_factory(word: str) -> Callable[[int, int], nn.Module]:
    """The cell of a word of `CELLS`, as f(input_size, hidden_size) -> cell; ValueError for another word."""
    _known(word)
    return _CELLS[word]


def _known(word: str) -> Known:
    if word not in CELLS:
        raise ValueError(
            f"cell={word!r}; expected one of {', '.join(CELLS)}, or a factory f(input_size, hidden_size) -> cell"
        )
    return CELLS[word]


def _check_options(cell: Any, layer: Any, options: Mapping[str, Any]) -> None:
    takes = inspect.signature(layer).parameters
    for name in options:
        if name not in takes:
            having = [w for w, known in CELLS.items() if name in inspect.signature(known.maker).parameters]
            raise ValueError(
                f"{name}: {cell if isinstance(cell, str) else 'a cell of your own'} has no such option; "
                f"{', '.join(having) or 'no cell'} {'have' if len(having) > 1 else 'has'} it"
            )


def _of_torch(
    cell: Any, input_size: int, hidden_size: int, num_layers: int, between: float, options: Mapping[str, Any]
) -> nn.Module:
    if cell not in _TORCH:
        raise ValueError(f"torch.nn has {', '.join(_TORCH)}, not {cell}; take engine='elman'")
    layer: Any = _TORCH[cell]
    for name in options:
        if name not in {"bidirectional", "bias"}:
            raise ValueError(f"{name}: torch.nn has no such option; leave it out, or take engine='elman'")
    stack: nn.Module = layer(input_size, hidden_size, num_layers=num_layers, dropout=between, **options)
    return stack


def stack_width(recurrent: nn.Module) -> int:
    """The number of features of y; ValueError where the layer does not say (`output_size`)."""
    width = getattr(recurrent, "output_size", None)
    if width is None and isinstance(recurrent, nn.RNNBase):
        width = (recurrent.proj_size or recurrent.hidden_size) * (2 if recurrent.bidirectional else 1)
    if not isinstance(width, int):
        raise ValueError(
            f"{type(recurrent).__name__} does not say how many features it gives; give it (or its cell) an int "
            f"attribute output_size"
        )
    if getattr(recurrent, "batch_first", False):
        raise ValueError(
            f"{type(recurrent).__name__} has batch_first=True; the networks are time-major, (T, B, ...): leave it out"
        )
    return width


def ends_of(recurrent: nn.Module) -> str:
    """Where each direction of the outputs ends, as `elman.nn.Pooling` takes it."""
    if not getattr(recurrent, "bidirectional", False):
        return "first" if getattr(recurrent, "reverse", False) else "last"
    if getattr(recurrent, "merge", "concat") != "concat":
        return "both"
    return "turned" if getattr(recurrent, "reverse", False) else "halves"


def run_stack(
    recurrent: nn.Module, x: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None = None
) -> Output:
    """The outputs and the final state of recurrent layers of any library over x `(T, B, I)`, by each row's length.

    reset: bool `(T, B)`, of the layers of elman.nn only; ValueError for others.
    """
    if reset is not None:
        if not isinstance(recurrent, Stack):
            raise ValueError(f"{type(recurrent).__name__} knows no resets; take a layer of elman.nn")
        layers: Any = recurrent
        return Output(*layers(x, state, lengths=lengths, reset=reset))
    if lengths is None:
        return Output(*recurrent(x, state))
    if isinstance(recurrent, nn.RNNBase) and not isinstance(recurrent, Stack):
        packed = pack_padded_sequence(x, lengths.cpu().clamp(min=1), enforce_sorted=False)
        y, final = recurrent(packed, state)
        y = pad_packed_sequence(y, total_length=x.shape[0])[0]
        if bool((lengths < 1).any()):  # which torch.nn refuses: such a row gives zeros and keeps its state
            none = (lengths < 1).to(y.device).view(-1, 1)
            start = start_of(recurrent, x.shape[1]) if state is None else state
            y = y.masked_fill(none, 0.0)
            if isinstance(final, tuple):
                final = tuple(torch.where(none, s, f) for s, f in zip(start, final, strict=True))
            else:
                final = torch.where(none, start, final)
        return Output(y, final)
    return Output(*recurrent(x, state, lengths=lengths))


def start_of(recurrent: nn.Module, batch: int) -> Any:
    """The state that the layers start from where none is given, for `batch` sequences, on their own device."""
    like = next((p for p in recurrent.parameters() if p.is_floating_point()), torch.empty(0))
    if isinstance(recurrent, Stack):
        return recurrent.start(batch, device=like.device, dtype=like.dtype)
    stack: Any = recurrent
    layers = stack.num_layers * (2 if stack.bidirectional else 1)
    h = like.new_zeros(layers, batch, stack.proj_size or stack.hidden_size)
    return (h, like.new_zeros(layers, batch, stack.hidden_size)) if isinstance(stack, nn.LSTM) else h
