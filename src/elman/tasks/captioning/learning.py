"""Model, Loss: the network, batches of changed pictures with captions, the loss, captions by beam search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import Buckets
from elman.data.subwords import END, UNKNOWN
from elman.tasks.captioning.captions import Codec, Part
from elman.tasks.captioning.changing import Changes, changed, drawn_changes
from elman.tasks.captioning.seen import Seen, seen_once
from elman.tasks.captioning.settings import Config, ModelSettings
from elman.tasks.network import import_cell, pretrained_encoder, require_weights

if TYPE_CHECKING:
    from torch import nn

    from elman.decoding import Hypothesis
    from elman.nn import Captioner, PictureGrid
    from elman.training.loop import StepLoss

__all__ = ["CaptionBatch", "Search", "Training", "build_model", "describe", "looks", "loss_of"]

Ids = npt.NDArray[np.int32]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Grids = npt.NDArray[np.float16]
# Pictures that are described at once.
TOGETHER = 64


class CaptionBatch(NamedTuple):
    """B captions. pictures `(B, 3, H, W)`, or what is seen of them, `(B, S, C)`, which `changes` do not concern.

    target `(T, B)`: the end, then the tokens; truth `(T, B)`: the other way.

    lengths `(B,)`: of the targets, with one end. Anything stands in the padding.
    """

    pictures: Pixels | Grids
    changes: Changes
    target: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> CaptionBatch:
        """Some of the captions."""
        lengths = self.lengths[rows]
        T = int(lengths.max())
        changes = Changes(*(part[rows] for part in self.changes))
        return CaptionBatch(
            self.pictures[rows], changes, self.target[:T, rows], self.truth[:T, rows], lengths
        )


class Search(NamedTuple):
    """How captions are searched for; see `elman.decoding.beam_search`, and of consensus > 0 `expected_likeness`."""

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 0.6
    no_repeat_ngram: int = 0
    banned: tuple[int, ...] = ()
    consensus: float = 0.0


class Training:
    """The batches of all epochs: every caption once in each, with its picture."""

    def __init__(self, config: Config, part: Part) -> None:
        """Take the training part."""
        self.part, self.augment, self.seed = part, config.augment, config.training.seed
        self.seen = None
        if seen_once(config) and config.model.views:
            require_weights()
            self.seen = Seen(config, grid_of(config))
        pairs = [(i, ids) for i, own in enumerate(part.tokens) for ids in own]
        self.owners = np.array([i for i, _ in pairs], dtype=np.int64)
        self.tokens = [ids for _, ids in pairs]
        self.buckets = Buckets(
            [len(ids) + 1 for ids in self.tokens],
            most=config.data.batch,
            seed=self.seed,
            alike=config.data.alike,
        )

    def __call__(self, epoch: int, index: int) -> CaptionBatch:
        """Batch `index` of `epoch`."""
        own = self.buckets(epoch, index)
        owners = self.owners[own]
        pixels = self.part.pixels[owners]
        generator = np.random.default_rng([self.seed, epoch, index])
        changes = drawn_changes(len(own), self.augment, generator)
        pictures: Pixels | Grids
        if self.seen:
            pictures = self.seen.drawn(pixels, [self.part.marks[i] for i in owners], generator)
        else:
            pictures = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        end = np.array([END], dtype=np.int32)
        rows = [self.tokens[i] for i in own]
        target = side_by_side([np.concatenate((end, row)) for row in rows])
        truth = side_by_side([np.concatenate((row, end)) for row in rows])
        lengths = np.array([len(row) + 1 for row in rows], dtype=np.int64)
        return CaptionBatch(pictures, changes, target, truth, lengths)


def side_by_side(rows: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """Rows of numbers as `(T, B)`, ends in the padding."""
    padded = np.full((max([1, *map(len, rows)]), len(rows)), END, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[: len(row), place] = row
    return padded


# The network


def build_model(config: Config, codec: Codec) -> Captioner:
    """The network."""
    import torch

    from elman.nn import AttentionCell, Captioner, Embedding, SummedAttention

    model = config.model
    grid = grid_of(config)
    table = Embedding(
        codec.vocabulary.size,
        model.width,
        word_dropout=model.word_dropout,
        unknown=UNKNOWN,
        dropout=model.dropout,
    )
    torch.nn.init.normal_(table.weight, std=model.init)
    memory = grid.output_size
    attention = attention_of(model, memory)
    cell = AttentionCell(
        _cell_of(model),
        model.width,
        model.hidden,
        SummedAttention(attention) if config.data.doubly else attention,
        model.attended if model.attention == "multihead" else memory,
        look=model.look,
    )
    return Captioner(grid, table, cell, dropout=model.dropout, tied=model.tied)


def grid_of(config: Config) -> PictureGrid:
    """The pictures' grid."""
    from elman.nn import PictureGrid

    model, size = config.model, config.picture.size
    return PictureGrid(
        encoder_of(model), size, size, size=model.grid, dropout=model.grid_dropout, frozen=model.frozen
    )


def encoder_of(model: ModelSettings) -> nn.Module:
    """What reads pictures."""
    from elman.nn import PictureEncoder

    if model.encoder == "pretrained":
        return pretrained_encoder(model.encoder_groups)
    if ":" not in model.encoder:
        return PictureEncoder(model.channels, depth=model.depth)
    made: nn.Module = import_cell(model.encoder, flag="--encoder", makes="an encoder")()
    return made


def attention_of(model: ModelSettings, memory: int) -> Any:
    """How places of the grid are scored."""
    from elman import nn

    query, size = model.hidden, model.attended
    kinds: dict[str, Any] = {
        "additive": lambda: nn.AdditiveAttention(query, memory, size),
        "general": lambda: nn.GeneralAttention(query, memory),
        "concat": lambda: nn.ConcatAttention(query, memory, size),
        "multihead": lambda: nn.MultiHeadAttention(query, memory, size, model.heads),
        "coverage": lambda: nn.CoverageAttention(query, memory, size),
    }
    return kinds[model.attention]()


def _cell_of(model: ModelSettings) -> Any:
    from elman.nn import cell_factory

    return import_cell(model.cell) if ":" in model.cell else cell_factory(model.cell)


# The loss


def loss_of(model: Captioner, batch: CaptionBatch, config: Config) -> StepLoss:
    r"""Cross entropy of each token, and with `doubly` λ Σ_s (1 − Σ_t a_ts)², its mean over the pictures (Xu et al.)."""
    import torch

    from elman.nn import head_cross_entropy
    from elman.training.loop import StepLoss

    device = model.head.weight.device
    pictures, target, truth = (
        torch.from_numpy(part).to(device) for part in (batch.pictures, batch.target, batch.truth)
    )
    lengths = torch.from_numpy(batch.lengths)
    x = pictures.to(model.head.weight.dtype) if pictures.dim() == 3 else changed(pictures, batch.changes)
    found = model.taught(x, target, lengths)
    taken = torch.arange(len(target)).unsqueeze(1) < lengths
    rows = taken.flatten().nonzero().squeeze(1).to(device)
    objective, nll = head_cross_entropy(
        model.head,
        found.features.flatten(0, 1).index_select(0, rows),
        truth.flatten()[rows],
        label_smoothing=config.data.smoothing,
    )
    if found.looked is not None and config.data.doubly:
        objective = objective + config.data.doubly * (1 - found.looked).square().sum(1).mean()
    return StepLoss(objective, float(nll.sum(dtype=torch.float64)), len(rows), ())


# Captions


def _pieces(pixels: Pixels | Grids) -> Iterator[Any]:
    """Pictures `(N, H, W, 3)` of bytes as tensors `(B, 3, H, W)` from 0 to 1; what is seen of them, `(N, S, C)`."""
    import torch

    for start in range(0, len(pixels), TOGETHER):
        own = pixels[start : start + TOGETHER]
        if own.ndim == 3:
            yield torch.from_numpy(own).to(torch.float32)
            continue
        piece = np.ascontiguousarray(own.transpose(0, 3, 1, 2))
        yield torch.from_numpy(piece).to(torch.float32) / 255


def describe(
    model: Captioner, pixels: Pixels | Grids, search: Search, longest: int
) -> list[list[Hypothesis]]:
    """The best captions of pictures `(N, H, W, 3)`, best first, of at most `longest` tokens; always at least one.

    What a frozen encoder has seen of them, `(N, S, C)`, does as well.
    """
    import torch

    from elman.decoding import beam_search
    from elman.nn import DecoderState

    model.eval()
    device = model.head.weight.device
    found: list[list[Hypothesis]] = []
    for pictures in _pieces(pixels):
        found += beam_search(
            model.step,
            torch.full((len(pictures),), END, device=device),
            model.encode(pictures.to(device)),
            end=END,
            beam=search.beam,
            n_best=search.n_best,
            max_length=longest,
            length_penalty=search.length_penalty,
            no_repeat_ngram=search.no_repeat_ngram,
            banned=search.banned,
            pick=DecoderState.pick,
        )
    return found


def looks(model: Captioner, pixels: Pixels, captions: Sequence[Sequence[int]]) -> list[Floats]:
    """Where each step of a caption looks, the end's step among them: `(T + 1, h, w)` for each picture."""
    import torch

    model.eval()
    grid: Any = model.encoder
    device = model.head.weight.device
    found: list[Floats] = []
    rows = [np.array([END, *caption], dtype=np.int32) for caption in captions]
    for number, pictures in enumerate(_pieces(pixels)):
        own = rows[number * TOGETHER :][: len(pictures)]
        target = torch.from_numpy(side_by_side(own)).to(device)
        weights = model.align(pictures.to(device), target).cpu().numpy()
        found += [
            weights[: len(row), place].reshape(len(row), grid.height, grid.width)
            for place, row in enumerate(own)
        ]
    return found
