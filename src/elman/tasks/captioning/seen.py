"""Data: what a frozen pretrained encoder makes of pictures: computed once, kept, and read in place of the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.data.feature_store import cache_folder
from elman.data.video.store import FrameStore
from elman.tasks.captioning.changing import changed, drawn_changes
from elman.tasks.captioning.settings import Config

if TYPE_CHECKING:
    from elman.nn import PictureGrid

__all__ = ["Seen", "seen_once"]

Grids = npt.NDArray[np.float16]
Pixels = npt.NDArray[np.uint8]


def seen_once(config: Config) -> bool:
    """Whether the grids of pictures never change in a training."""
    return config.model.encoder == "pretrained" and config.model.frozen


class Seen:
    """The grids `(S, C)` of pictures as they are, and of `views` changed versions of each, made when first asked for.

    Both follow from the picture, the encoder's weights and the settings of the changes alone: not from the seed, so
    that another training, and another split, finds them too. They are kept beside the pictures (`--cache`).
    """

    def __init__(self, config: Config, grid: PictureGrid) -> None:
        """Take the encoder, which stays as it is."""
        self.grid, self.augment, self.views = grid, config.augment, config.model.views
        shape = (grid.height * grid.width, grid.seen_size)
        plain = [_fingerprint(grid.encoder), list(config.picture.fitting())]
        own = [*plain, [getattr(self.augment, name) for name in ("shift", "zoom", "turn", "flip", "light")]]
        folder = cache_folder(config.picture.cache)
        self._plain = FrameStore(folder, ["seen", *plain], shape, np.float16)
        self._changed = FrameStore(folder, ["seen changed", *own], shape, np.float16)

    def plain(self, pixels: Pixels, marks: Sequence[str]) -> Grids:
        """The grids of pictures `(N, H, W, 3)` as they are, `(N, S, C)`; marks: fingerprints of their contents."""
        found = [
            self._plain(mark, 1, partial(self._made, picture[None]))
            for picture, mark in zip(pixels, marks, strict=True)
        ]
        return np.concatenate(found)

    def drawn(self, pixels: Pixels, marks: Sequence[str], generator: np.random.Generator) -> Grids:
        """The same, of a version of each that is drawn, the unchanged one among them."""
        versions = generator.integers(self.views + 1, size=len(pixels))
        found = []
        for picture, mark, version in zip(pixels, marks, versions, strict=True):
            if version:
                found.append(self._versions(picture, mark)[version - 1][None])
            else:
                found.append(self.plain(picture[None], [mark]))
        return np.concatenate(found)

    def _versions(self, picture: Pixels, mark: str) -> Grids:
        def made() -> Grids:
            # A draw of the picture's own, whatever else is drawn.
            generator = np.random.default_rng(int(hashlib.sha256(mark.encode()).hexdigest()[:16], 16))
            changes = drawn_changes(self.views, self.augment, generator)
            return self._made(np.repeat(picture[None], self.views, axis=0), changes)

        found: Grids = self._changed(mark, self.views, made)
        return found

    def _made(self, pixels: Pixels, changes: Any = None) -> Grids:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        with torch.no_grad():
            found = self.grid.seen(x / 255 if changes is None else changed(x, changes))
        return np.asarray(found.to(torch.float16).numpy())


def _fingerprint(encoder: Any) -> str:
    """Of the kind of an encoder and of all its numbers."""
    digest = hashlib.blake2b(repr(encoder).encode(), digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
