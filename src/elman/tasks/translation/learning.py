"""Model, Loss: the network, batches of pairs, the loss, and translations by beam search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import cuts
from elman.data.subwords import END, UNKNOWN
from elman.tasks.network import import_cell
from elman.tasks.translation.pairs import Codec
from elman.tasks.translation.settings import Config, ModelSettings
from elman.training.parallel import each

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from elman.decoding import Hypothesis
    from elman.nn import AttentionEncoderDecoder, Sampling

__all__ = [
    "PairBatch",
    "Search",
    "alignments",
    "batch_of",
    "build_model",
    "loss_of",
    "sampling_of",
    "translate",
]

Ids = npt.NDArray[np.int32]
# Padded size of a batch that is decoded, rows of its beams counted, and the most sentences in it.
BUDGET, MOST = 1 << 14, 128


class PairBatch(NamedTuple):
    """B pairs. source `(S, B)`, targets `(T, B)`: the end, then the tokens; truth `(T, B)`: the tokens, then the end.

    lengths `(B,)`: of the sources, and of the targets with one end. Anything stands in the padding.
    """

    source: npt.NDArray[np.int64]
    source_lengths: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    target_lengths: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """B."""
        return len(self.source_lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> PairBatch:
        """Some of the pairs."""
        lengths, targets = self.source_lengths[rows], self.target_lengths[rows]
        S, T = max(1, int(lengths.max())), int(targets.max())
        source, target, truth = self.source[:S, rows], self.target[:T, rows], self.truth[:T, rows]
        return PairBatch(source, lengths, target, truth, targets)


class Search(NamedTuple):
    """How translations are searched for; see `elman.decoding.beam_search`."""

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 0.6
    coverage_penalty: float = 0.0
    no_repeat_ngram: int = 0
    banned: tuple[int, ...] = ()


def side_by_side(rows: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """Rows of numbers as `(T, B)`, ends in the padding."""
    padded = np.full((max([1, *map(len, rows)]), len(rows)), END, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[: len(row), place] = row
    return padded


def lengths_of(rows: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """`(B,)`."""
    return np.array([len(row) for row in rows], dtype=np.int64)


def batch_of(sources: Sequence[Ids], targets: Sequence[Ids]) -> PairBatch:
    """Pairs side by side."""
    end = np.array([END], dtype=np.int32)
    fed = side_by_side([np.concatenate((end, row)) for row in targets])
    truth = side_by_side([np.concatenate((row, end)) for row in targets])
    return PairBatch(side_by_side(sources), lengths_of(sources), fed, truth, lengths_of(targets) + 1)


def build_model(config: Config, codec: Codec) -> AttentionEncoderDecoder:
    """The network."""
    import torch

    from elman.nn import AttentionCell, AttentionEncoderDecoder, Embedding, recurrent_stack

    model = config.model
    tables = [
        Embedding(
            vocabulary.size,
            model.width,
            word_dropout=model.word_dropout,
            unknown=UNKNOWN,
            dropout=model.dropout,
        )
        for vocabulary in (codec.source, codec.target)
    ]
    for table in tables:
        torch.nn.init.normal_(table.weight, std=model.init)
    factory = import_cell(model.cell) if ":" in model.cell else model.cell
    both = {"bidirectional": True} if model.bidirectional else {}
    encoder = recurrent_stack(
        factory,
        model.width,
        model.hidden,
        model.layers,
        dropout=model.dropout,
        engine=model.engine,
        options=both,
    )
    memory = model.hidden * (2 if model.bidirectional else 1)
    cell = AttentionCell(
        _cell_of(model, factory),
        model.width,
        model.hidden,
        _attention(model, memory),
        model.attended if model.attention == "multihead" else memory,
        look=model.look,
        feeding=model.width if model.feeding else 0,
    )
    network = AttentionEncoderDecoder(
        tables[0],
        encoder,
        tables[1],
        cell,
        dropout=model.dropout,
        tied=model.tied,
        shared=codec.joint,
        loop=model.engine == "torch",
    )
    if model.sampling:
        # In the checkpoint with the weights: a training that goes on draws as one that was never broken.
        network.register_buffer("steps", torch.zeros((), dtype=torch.int64))
    return network


def _cell_of(model: ModelSettings, factory: Any) -> Any:
    """The decoder's cell: f(input_size, hidden_size) -> cell."""
    from torch import nn

    from elman.nn import cell_factory

    if model.engine == "torch":
        return {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[model.cell]
    return cell_factory(factory) if isinstance(factory, str) else factory


def _attention(model: ModelSettings, memory: int) -> Module:
    from elman import nn

    query, size = model.hidden, model.attended
    kinds: dict[str, Any] = {
        "additive": lambda: nn.AdditiveAttention(query, memory, size),
        "dot": lambda: nn.DotAttention(scaled=True),
        "general": lambda: nn.GeneralAttention(query, memory),
        "concat": lambda: nn.ConcatAttention(query, memory, size),
        "multihead": lambda: nn.MultiHeadAttention(query, memory, size, model.heads),
        "location": lambda: nn.LocationAttention(query, memory, size),
        "coverage": lambda: nn.CoverageAttention(query, memory, size),
        "monotonic": lambda: nn.MonotonicAttention(query, memory, size),
    }
    found: Module = kinds[model.attention]()
    return found


def sampling_of(model: Any, settings: ModelSettings) -> Sampling | None:
    """How many of its own tokens the network is fed at this step of the training, which is counted."""
    from elman.nn import Sampling

    if not settings.sampling or not model.training:
        return None
    model.steps += 1
    risen = min(1.0, int(model.steps) / settings.sampling_steps) if settings.sampling_steps else 1.0
    return Sampling(settings.sampling * risen, settings.sampling_from == "drawn")


def loss_of(
    model: AttentionEncoderDecoder, batch: PairBatch, smoothing: float, sampling: Sampling | None = None
) -> tuple[Tensor, float, int]:
    """The mean loss of the target tokens in nats, with `smoothing`; the sum of -log p of all of them; how many.

    The output layer is asked at the steps that are no padding alone, but where the network is fed tokens of its own.
    """
    import torch

    from elman.nn import head_cross_entropy

    device = model.head.weight.device
    source, target, truth = (
        torch.from_numpy(part).to(device) for part in (batch.source, batch.target, batch.truth)
    )
    lengths = torch.from_numpy(batch.source_lengths), torch.from_numpy(batch.target_lengths)
    features = model.features(source, target, *lengths, sampling=sampling)
    taken = torch.arange(len(target)).unsqueeze(1) < lengths[1]
    rows = taken.flatten().nonzero().squeeze(1).to(device)
    loss, nll = head_cross_entropy(
        model.head,
        features.flatten(0, 1).index_select(0, rows),
        truth.flatten()[rows],
        label_smoothing=smoothing,
        by_torch=model.loop,
    )
    return loss, float(nll.sum(dtype=torch.float64)), len(rows)


def _in_order(lengths: npt.NDArray[np.int64], beam: int) -> list[npt.NDArray[np.int64]]:
    """Batches of like lengths, as indices."""
    order = np.argsort(lengths, kind="stable")
    starts = cuts(lengths[order], max(1, BUDGET // beam), MOST)
    return [order[a:b] for a, b in pairwise(starts)]


def translate(
    model: AttentionEncoderDecoder, sources: Sequence[Ids], search: Search
) -> list[list[Hypothesis]]:
    """The best translations of each source, best first; a source without tokens has one of none."""
    import torch

    from elman.decoding import Hypothesis, beam_search
    from elman.nn import DecoderState

    model.eval()
    device = model.head.weight.device
    lengths = lengths_of(sources)
    found: list[list[Hypothesis]] = [[Hypothesis((), 0.0, 0.0, True)] for _ in sources]

    def of(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        own = [sources[i] for i in indices]
        source = torch.from_numpy(side_by_side(own)).to(device)
        # More than twice as long is no translation, but a loop.
        most = torch.from_numpy(2 * lengths[indices] + 10)
        answers = beam_search(
            model.step,
            torch.full((len(indices),), END, device=device),
            model.encode(source, torch.from_numpy(lengths[indices])),
            end=END,
            beam=search.beam,
            n_best=search.n_best,
            max_length=most,
            length_penalty=search.length_penalty,
            coverage_penalty=search.coverage_penalty,
            attention=lambda state: state.weights,
            attended=torch.arange(source.shape[0]) < torch.from_numpy(lengths[indices]).unsqueeze(1),
            no_repeat_ngram=search.no_repeat_ngram,
            banned=search.banned,
            pick=DecoderState.pick,
        )
        return np.frombuffer(json.dumps(answers).encode(), dtype=np.uint8)

    pieces = [indices[lengths[indices] > 0] for indices in _in_order(lengths, search.beam)]
    pieces = [indices for indices in pieces if len(indices)]
    for indices, data in zip(pieces, each(pieces, of), strict=True):
        for i, answer in zip(indices, json.loads(data.tobytes()), strict=True):
            found[i] = [Hypothesis(tuple(tokens), *rest) for tokens, *rest in answer]
    return found


def alignments(
    model: AttentionEncoderDecoder, sources: Sequence[Ids], targets: Sequence[Sequence[int]]
) -> list[npt.NDArray[np.float64]]:
    """Where each step of each target looks, the end's step among them: `(T + 1, S)` for each pair."""
    import torch

    model.eval()
    device = model.head.weight.device
    rows = [np.array(target, dtype=np.int32) for target in targets]
    found: list[Any] = [None] * len(rows)
    lengths = lengths_of(sources)
    for indices in _in_order(lengths, 1):
        batch = batch_of([sources[i] for i in indices], [rows[i] for i in indices])
        source, target = (torch.from_numpy(part).to(device) for part in (batch.source, batch.target))
        weights = model.align(source, target, torch.from_numpy(batch.source_lengths)).double().cpu().numpy()
        for place, i in enumerate(indices):
            found[i] = weights[: len(rows[i]) + 1, place, : lengths[i]]
    return found
