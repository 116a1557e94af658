"""Model, Loss, Predict of a decoder that looks at what was heard: its network, its loss, its beam search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.audio.symbols import BLANK

if TYPE_CHECKING:
    from torch import Tensor

    from elman.nn import Transcriber
    from elman.tasks.speech.settings import ModelSettings

__all__ = ["Spelled", "build_model", "losses", "spell"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# Prefixes that are kept where nothing is asked for, and how scores are normalized by length (Wu et al. 2016, eq. 14).
USUAL_BEAM, LENGTH_PENALTY = 4, 0.6
# A step that is looked at less than this is looked past.
GLANCE = 0.2
# Symbols beyond the steps of a recording: it has hardly ever as many.
MORE = 5


class Spelled(NamedTuple):
    """What a decoder wrote: T symbols, log p of each, and where it looked, `(T, S)`."""

    symbols: tuple[int, ...]
    logs: tuple[float, ...]
    weights: npt.NDArray[np.float64]

    def chances(self, count: int) -> Tensor:
        """log of where each of `count` symbols was looked for, `(S, count)`, to be drawn as CTC's chances are.

        The blank has the rest where hardly any was looked for, and else nothing: glances are wide, and hide none.
        """
        import torch

        p = np.zeros((self.weights.shape[1], count))
        for number, row in zip(self.symbols, self.weights, strict=True):
            p[:, number] = np.maximum(p[:, number], row)
        few = p[:, 1:].max(axis=1, initial=0) < GLANCE
        p[:, BLANK] = np.where(few, np.clip(1 - p[:, 1:].sum(axis=1), 0, None), 0)
        return torch.from_numpy(np.log(np.clip(p, 1e-12, 1)))


def build_model(model: ModelSettings, inputs: Any, count: int) -> Transcriber:
    """The network over `count` numbers: the blank, which is the decoder's start and end too, and the symbols."""
    from torch import nn

    from elman import nn as own

    encoder: Any = model.recurrent(inputs.output_size)
    width = own_width(encoder)
    attention: Any = {
        "location": own.LocationAttention,
        "additive": own.AdditiveAttention,
        "monotonic": own.MonotonicAttention,
    }[model.attention](model.hidden, width, model.attended)
    factory = model.factory()
    if model.engine == "torch":
        factory = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[model.cell]
    elif isinstance(factory, str):
        factory = own.cell_factory(factory)
    target = own.Embedding(count, model.symbol_width, dropout=model.dropout)
    nn.init.normal_(target.weight, std=0.1)
    cell = own.AttentionCell(factory, model.symbol_width, model.hidden, attention, width, look="before")
    return own.Transcriber(
        inputs,
        encoder,
        target,
        cell,
        joint=model.decoder == "joint",
        dropout=model.dropout,
        loop=model.engine == "torch",
    )


def own_width(encoder: Any) -> int:
    """The features of the encoder's outputs."""
    from elman.nn.networks.stacks import stack_width

    return stack_width(encoder)


def _fed(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints, Ints]:
    """What is fed in, the start and the symbols, `(T, B)`; what is right, the symbols and the end; lengths `(B,)`."""
    lengths = np.array([len(row) + 1 for row in rows], dtype=np.int64)
    target = np.full((int(lengths.max(initial=1)), len(rows)), BLANK, dtype=np.int64)
    truth = target.copy()
    for place, row in enumerate(rows):
        target[1 : len(row) + 1, place] = row
        truth[: len(row), place] = row
    return target, truth, lengths


def losses(
    model: Transcriber, steps: Floats, lengths: Ints, truth: Ints, sizes: Ints, smoothing: float
) -> tuple[Tensor | None, Tensor]:
    """CTC's logits `(S, B, V)`, where there are some, and the decoder's −log p of each transcript in nats, `(B,)`.

    The arguments are those of a `SpeechBatch`.
    """
    import torch
    import torch.nn.functional as F

    device = model.head.weight.device
    rows = np.split(truth, np.cumsum(sizes)[:-1])
    target, right, ends = (torch.from_numpy(part) for part in _fed([row.tolist() for row in rows]))
    found = model(torch.from_numpy(steps).to(device), target.to(device), torch.from_numpy(lengths), ends)
    T, B = right.shape
    each = F.cross_entropy(
        found.written.flatten(0, 1), right.flatten().to(device), reduction="none", label_smoothing=smoothing
    ).view(T, B)
    taken = (torch.arange(T).unsqueeze(1) < ends).to(device)
    return found.aligned, torch.where(taken, each, 0.0).sum(0)


def spell(
    model: Transcriber, steps: Floats, lengths: Ints, beam: int, share: float
) -> tuple[list[Spelled], Tensor | None]:
    """What the decoder writes to recordings side by side, `(S, B, F)`; and log p of CTC `(S, B, V)`, if it is there.

    share: λ of CTC, by which the transcripts of the beam are weighed (Watanabe et al. 2017, section III-C):
    (1 − λ) log p_decoder + λ log p_ctc.
    """
    import torch

    from elman.decoding import beam_search
    from elman.nn import DecoderState

    device = model.head.weight.device
    sound, sizes = torch.from_numpy(steps).to(device), torch.from_numpy(lengths)
    with torch.no_grad():
        logs = None
        if model.aligned is not None:
            logs = model.align_steps(sound, lengths=sizes).logits.float().log_softmax(-1).cpu()
        beam = beam or USUAL_BEAM
        found = beam_search(
            model.step,
            torch.full((len(lengths),), BLANK, device=device),
            model.encode(sound, sizes),
            end=BLANK,
            beam=beam,
            n_best=beam if logs is not None else 1,
            max_length=sizes + MORE,
            length_penalty=LENGTH_PENALTY,
            pick=DecoderState.pick,
        )
        chosen = [_best(own, logs, b, int(lengths[b]), share) for b, own in enumerate(found)]
        return _looked(model, sound, sizes, chosen), logs


def _best(own: Sequence[Any], logs: Tensor | None, b: int, length: int, share: float) -> tuple[int, ...]:
    if logs is None or len(own) == 1:
        return tuple(own[0].tokens)
    scores = [(1 - share) * one.log_probability + share * _ctc(logs[:length, b], one.tokens) for one in own]
    best = int(np.argmax(scores)) if np.isfinite(scores).any() else 0
    return tuple(own[best].tokens)


def _ctc(logs: Tensor, symbols: Sequence[int]) -> float:
    """log p of a transcript by CTC."""
    import torch
    import torch.nn.functional as F

    truth = torch.tensor([list(symbols)], dtype=torch.int64).view(1, -1)
    sizes = torch.tensor([len(logs)]), torch.tensor([len(symbols)])
    return -float(F.ctc_loss(logs.unsqueeze(1), truth, *sizes, blank=BLANK, reduction="sum"))


def _looked(
    model: Transcriber, sound: Tensor, lengths: Tensor, chosen: Sequence[tuple[int, ...]]
) -> list[Spelled]:
    """The transcripts once more, with the chance of each symbol, and where the decoder looked."""
    import torch

    target, _, ends = (torch.from_numpy(part) for part in _fed(chosen))
    target = target.to(sound.device)
    logs = model(sound, target, lengths, ends).written.double().log_softmax(-1).cpu()
    weights = model.align(sound, target, lengths).double().cpu().numpy()
    found = []
    for b, symbols in enumerate(chosen):
        own = tuple(float(logs[t, b, number]) for t, number in enumerate(symbols))
        found.append(Spelled(symbols, own, weights[: len(symbols), b, : int(lengths[b])]))
    return found
