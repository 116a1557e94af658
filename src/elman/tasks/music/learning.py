"""Model, Loss: the network over the steps of a roll, its batches, and how likely it finds pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import Buckets, cuts
from elman.data.music import Keys
from elman.tasks.music.pieces import Codec, Part
from elman.tasks.music.settings import Config

if TYPE_CHECKING:
    from torch import Tensor

    from elman.tasks.music.network import RollNetwork

__all__ = [
    "RollBatch",
    "batch_of",
    "batches_of",
    "build_model",
    "losses_of",
    "piece_losses",
    "room",
    "transposed",
]

Roll = npt.NDArray[np.uint8]
# Padded size of a batch without gradients, and the most pieces in it.
BUDGET, MOST = 1 << 13, 64


class RollBatch(NamedTuple):
    """B pieces: `inputs` and `targets` `(T, B, K)` of 0 and 1, a target the next step's input; `lengths` `(B,)`."""

    inputs: Roll
    targets: Roll
    lengths: npt.NDArray[np.int64]


def batch_of(rolls: Sequence[Roll]) -> RollBatch:
    """Pieces side by side, each with the step in front from which its first one is predicted."""
    lengths = np.array([len(roll) - 1 for roll in rolls], dtype=np.int64)
    padded = np.zeros((int(lengths.max()) + 1, len(rolls), rolls[0].shape[1]), dtype=np.uint8)
    for place, roll in enumerate(rolls):
        padded[: len(roll), place] = roll
    return RollBatch(padded[:-1], padded[1:], lengths)


def room(roll: Roll, keys: Keys) -> tuple[int, int]:
    """How far a piece can be moved down and up, in semitones, before a note leaves the piano."""
    piano = np.flatnonzero(roll[:, :88].any(axis=0)) if keys.piano else np.zeros(0, dtype=np.int64)
    return (int(piano[0]), 87 - int(piano[-1])) if len(piano) else (0, 0)


def transposed(roll: Roll, by: int) -> Roll:
    """The piano's keys moved by so many semitones; percussion stays. `room` tells how far."""
    return np.concatenate([np.roll(roll[:, :88], by, axis=1), roll[:, 88:]], axis=1) if by else roll


def batches_of(config: Config, train: Part, keys: Keys) -> tuple[Callable[[int, int], RollBatch], int]:
    """The training batches: pieces of like lengths, moved and cut as (seed, epoch, index) says."""
    data, seed = config.data, config.training.seed
    most = data.crop or max(len(roll) for roll in train.rolls)
    lengths = [min(len(roll) - 1, most) for roll in train.rolls]
    buckets = Buckets(lengths, budget=data.budget, most=data.batch, seed=seed, alike=data.alike)
    rooms = [room(roll, keys) for roll in train.rolls]

    def batch(epoch: int, index: int) -> RollBatch:
        draw = np.random.default_rng([seed, epoch, index])
        chosen = []
        for i in buckets(epoch, index):
            roll, (down, up) = train.rolls[i], rooms[i]
            start = int(draw.integers(len(roll) - 1 - lengths[i] + 1))
            by = int(draw.integers(-min(data.transpose, down), min(data.transpose, up) + 1))
            chosen.append(transposed(roll[start : start + lengths[i] + 1], by))
        return batch_of(chosen)

    return batch, len(buckets)


def build_model(config: Config, codec: Codec) -> RollNetwork:
    """The network, its first parameters drawn from torch's global generator."""
    import torch

    from elman.tasks.music.network import RollNetwork

    own, keys = config.model, codec.keys.size
    inputs = own.inputs(keys)
    model = RollNetwork(
        inputs,
        own.recurrent(inputs.output_size),
        keys,
        nade=own.nade,
        norm=own.output_norm,
        dense=own.dense,
        dropout=own.dropout,
        sequence_dropout=own.sequence_dropout,
    )
    shares = np.array(codec.shares)
    with torch.no_grad():
        model.bias.copy_(torch.from_numpy(np.log(shares / (1 - shares))))
    return model


def losses_of(model: RollNetwork, batch: RollBatch) -> tuple[Tensor, Tensor]:
    """-log p of each step that is one, in nats `(N,)`, and which of `(T, B)` these are."""
    import torch

    device = next(model.parameters()).device
    inputs, targets = (torch.from_numpy(a).to(device, torch.float32) for a in (batch.inputs, batch.targets))
    lengths = torch.from_numpy(batch.lengths)
    valid = torch.arange(len(inputs)).unsqueeze(1) < lengths
    features = model.features(inputs, None, lengths).logits
    valid = valid.to(device)
    return -model.log_prob(features[valid], targets[valid]), valid


def piece_losses(model: RollNetwork, rolls: Sequence[Roll]) -> list[npt.NDArray[np.float64]]:
    """-log p of each step of each piece in nats, the first one too."""
    import torch

    model.eval()
    found: list[Any] = [None] * len(rolls)
    lengths = np.array([len(roll) - 1 for roll in rolls], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    with torch.no_grad():
        for a, b in pairwise(cuts(lengths[order], BUDGET, MOST)):
            losses, valid = losses_of(model, batch_of([rolls[i] for i in order[a:b]]))
            table = torch.zeros(valid.shape, dtype=torch.float64)
            table[valid.cpu()] = losses.double().cpu()
            for column, i in enumerate(order[a:b]):
                found[i] = table[: lengths[i], column].numpy()
    return found


def next_chances(model: RollNetwork, sequence: Tensor) -> npt.NDArray[np.float64]:
    """p `(K,)` of each key at the step behind a sequence `(T, K)`; of a NADE, as drawn many times."""
    import torch

    with torch.no_grad():
        features = model.features(sequence.float().unsqueeze(1)).logits[-1]
        return model.chances(features)[0].double().cpu().numpy()
