"""Data: the small changes that are made to training pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.tasks.captioning.settings import AugmentSettings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Changes", "changed", "drawn_changes"]

Floats = npt.NDArray[np.float32]


class Changes(NamedTuple):
    """What is done to B pictures: `where` `(B, 2, 3)` their places come from; `gain`, `lift` `(B, 3)` of colours."""

    where: Floats
    gain: Floats
    lift: Floats


def drawn_changes(count: int, how: AugmentSettings, generator: np.random.Generator) -> Changes:
    """Shifts, sizes, turns, mirrors and colours of so many pictures, each evenly drawn up to its largest."""

    def even(most: float, *shape: int) -> npt.NDArray[np.float64]:
        return generator.uniform(-most, most, (count, *shape))

    angle = np.deg2rad(even(how.turn))
    size = np.exp(np.log1p(how.zoom) * (even(1.0, 1) + 0.5 * even(1.0, 2)))
    mirror = np.where(generator.random(count) < 0.5 * how.flip, -1.0, 1.0)
    where = np.empty((count, 2, 3))
    where[:, 0, 0], where[:, 0, 1] = np.cos(angle) * mirror, -np.sin(angle)
    where[:, 1, 0], where[:, 1, 1] = np.sin(angle) * mirror, np.cos(angle)
    where[:, :, :2] *= size[:, :, None]
    where[:, :, 2] = 2 * even(how.shift, 2)
    gain = np.exp(even(np.log1p(how.light), 1) + 0.5 * even(np.log1p(how.light), 3))
    return Changes(*(part.astype(np.float32) for part in (where, gain, even(how.light / 2, 3))))


def changed(pictures: Tensor, changes: Changes) -> Tensor:
    """Pictures `(B, 3, H, W)` of bytes as numbers from 0 to 1 with the changes; beyond the edge the edge goes on."""
    import torch
    import torch.nn.functional as F

    x = pictures.to(torch.float32) / 255
    where, gain, lift = (torch.from_numpy(part).to(x.device) for part in changes)
    same = torch.eye(2, 3, device=x.device)
    if not torch.equal(where, same.expand_as(where)):
        grid = F.affine_grid(where, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = (x - 0.5) * gain[:, :, None, None] + 0.5 + lift[:, :, None, None]
    return x.clamp(0, 1)
