"""How a model of music reads: chord by chord, or event by event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.data.music import Piece
from elman.data.music.piece import note_name
from elman.tasks.inspection import Inside, Reading
from elman.tasks.inspection.reading import spread
from elman.tasks.music import learning
from elman.tasks.music.pieces import Part

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InsidePieces"]

PIECES = 48


class InsidePieces(Inside):
    """The notes that sound at a step, or an event; and the next one of each."""

    around = (10, 5)

    def __init__(self, trained: Any) -> None:
        """Take the trained model."""
        super().__init__(trained)
        self.unit = f"{trained.codec.unit}s"

    def readings(self, part: Part) -> Iterator[Reading]:
        """Pieces spread over the part."""
        for i in spread(len(part.sequences), PIECES):
            yield self._reading(part.sequences[i], part.pieces[i].piece.name)

    def _reading(self, sequence: Any, place: str = "") -> Reading:
        return Reading(
            tuple(self._name(step) for step in sequence[:-1]), (sequence[:-1], sequence[1:]), place=place
        )

    def _name(self, step: Any) -> str:
        """`C4·E4·G4`, drums by their number; a dash for silence; or an event by its name."""
        codec = self.trained.codec
        if codec.words is not None:
            return str(codec.words.name(int(step)))
        notes = [codec.keys.note(int(column)) for column in np.flatnonzero(step)]
        return "·".join(f"drum {pitch}" if drum else note_name(pitch) for pitch, drum in notes) or "–"

    def of_text(self, text: str) -> Reading:
        """A piece in a line, as `elman predict` takes it."""
        return self.of_value(text)

    def of_value(self, value: Any) -> Reading:
        """A piece, or what names or holds one."""
        from elman.config import UserError
        from elman.data.music import FaultError

        try:
            piece = value if isinstance(value, Piece) else self.trained.piece_of(value)
            return self._reading(self.trained.codec.encode(piece)[0])
        except FaultError as fault:
            raise UserError(f"this piece cannot be read: {fault}") from None

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """-log p of each next step or event."""
        import torch

        rows = [np.concatenate((reading.steps[0][:1], reading.steps[1])) for reading in readings]
        batch = learning.batch_of(rows)
        lengths = torch.from_numpy(batch.lengths)
        inputs, targets = (model.taken(torch.from_numpy(part)) for part in (batch.inputs, batch.targets))
        features = model.features(inputs, None, lengths).logits
        valid = torch.arange(len(inputs)).unsqueeze(1) < lengths
        wanted = targets[valid]
        wanted = wanted.to(features.dtype) if wanted.is_floating_point() else wanted
        total: Tensor = -model.log_prob(features[valid], wanted).sum()
        return total
