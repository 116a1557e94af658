"""Model, Loss: the network over the steps or events of pieces, its batches, and how likely it finds pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import Buckets, cuts
from elman.tasks.music.pieces import Codec, Part, Sequenced
from elman.tasks.music.settings import Config
from elman.training.parallel import each

if TYPE_CHECKING:
    from torch import Tensor

    from elman.tasks.music.network import MusicNetwork

__all__ = [
    "MusicBatch",
    "batch_of",
    "batches_of",
    "build_model",
    "losses_of",
    "piece_losses",
]

# Padded size of a batch without gradients, and the most pieces in it.
BUDGET, MOST = 1 << 13, 64


class MusicBatch(NamedTuple):
    """B pieces: `inputs` and `targets` `(T, B, K)` of 0 and 1, or events `(T, B)`; `lengths` `(B,)`.

    A target is the input of the next step; anything stands behind a piece's end.
    """

    inputs: Sequenced
    targets: Sequenced
    lengths: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> MusicBatch:
        """Some of the pieces."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        return MusicBatch(self.inputs[:longest, rows], self.targets[:longest, rows], lengths)


def batch_of(sequences: Sequence[Sequenced]) -> MusicBatch:
    """Pieces side by side, each with the step in front from which its first one is predicted."""
    lengths = np.array([len(sequence) - 1 for sequence in sequences], dtype=np.int64)
    shape = (int(lengths.max()) + 1, len(sequences), *sequences[0].shape[1:])
    padded = np.zeros(shape, dtype=sequences[0].dtype)
    for place, sequence in enumerate(sequences):
        padded[: len(sequence), place] = sequence
    return MusicBatch(padded[:-1], padded[1:], lengths)


def batches_of(config: Config, train: Part, codec: Codec) -> tuple[Callable[[int, int], MusicBatch], int]:
    """The training batches: pieces of like lengths, moved and cut as (seed, epoch, index) says."""
    data, seed = config.data, config.training.seed
    most = data.crop or max(len(sequence) for sequence in train.sequences)
    lengths = [min(len(sequence) - 1, most) for sequence in train.sequences]
    buckets = Buckets(lengths, budget=data.budget, most=data.batch, seed=seed, alike=data.alike)
    rooms = [codec.room(sequence) for sequence in train.sequences]

    def batch(epoch: int, index: int) -> MusicBatch:
        draw = np.random.default_rng([seed, epoch, index])
        chosen = []
        for i in buckets(epoch, index):
            sequence, (down, up) = train.sequences[i], rooms[i]
            start = int(draw.integers(len(sequence) - 1 - lengths[i] + 1))
            by = int(draw.integers(-min(data.transpose, down), min(data.transpose, up) + 1))
            chosen.append(codec.transposed(sequence[start : start + lengths[i] + 1], by))
        return batch_of(chosen)

    return batch, len(buckets)


def build_model(config: Config, codec: Codec) -> MusicNetwork:
    """The network, its first parameters drawn from torch's global generator.

    The output's biases begin where what comes often in the training data is as likely as it is there.
    """
    import torch

    from elman.tasks.music.network import EventNetwork, RollNetwork

    own, shares = config.model, torch.tensor(codec.shares, dtype=torch.float64)
    inputs: Any = own.inputs(codec.size) if codec.words is None else own.event_table(codec.size)
    kind = RollNetwork if codec.words is None else EventNetwork
    more: dict[str, Any] = {"nade": own.nade} if codec.words is None else {}
    model: MusicNetwork = kind(
        inputs,
        own.recurrent(inputs.output_size),
        codec.size,
        norm=own.output_norm,
        dense=own.dense,
        dropout=own.dropout,
        sequence_dropout=own.sequence_dropout,
        **more,
    )
    with torch.no_grad():
        model.bias.copy_(torch.logit(shares) if codec.words is None else shares.log())
    return model


def losses_of(model: MusicNetwork, batch: MusicBatch) -> tuple[Tensor, Tensor]:
    """-log p of each step that is one, in nats `(N,)`, and which of `(T, B)` these are."""
    import torch

    device = next(model.parameters()).device
    inputs, targets = (model.taken(torch.from_numpy(a).to(device)) for a in (batch.inputs, batch.targets))
    lengths = torch.from_numpy(batch.lengths)
    valid = torch.arange(len(inputs)).unsqueeze(1) < lengths
    features = model.features(inputs, None, lengths).logits
    valid = valid.to(device)
    return -model.log_prob(features[valid], targets[valid]), valid


def piece_losses(model: MusicNetwork, sequences: Sequence[Sequenced]) -> list[npt.NDArray[np.float64]]:
    """-log p of each step of each piece in nats, the first one too."""
    import torch

    model.eval()
    found: list[Any] = [None] * len(sequences)
    lengths = np.array([len(sequence) - 1 for sequence in sequences], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    pieces = [order[a:b] for a, b in pairwise(cuts(lengths[order], BUDGET, MOST))]

    def of(own: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        losses, valid = losses_of(model, batch_of([sequences[i] for i in own]))
        table = torch.zeros(valid.shape, dtype=torch.float64)
        table[valid.cpu()] = losses.double().cpu()
        return np.asarray(table.numpy())

    with torch.no_grad():
        for own, table in zip(pieces, each(pieces, of), strict=True):
            for column, i in enumerate(own):
                found[i] = table[: lengths[i], column]
    return found


def next_chances(model: MusicNetwork, sequence: Sequenced) -> npt.NDArray[np.float64]:
    """p `(K,)` of each key, or of each event, behind a sequence; of a NADE, its share in many draws."""
    import torch

    with torch.no_grad():
        inputs = model.taken(torch.from_numpy(sequence)).unsqueeze(1)
        features = model.features(inputs).logits[-1]
        found: npt.NDArray[np.float64] = model.chances(features)[0].double().cpu().numpy()
    return found
