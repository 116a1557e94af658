"""How a language model reads: pieces of the text, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.data.corpus import Part
from elman.tasks.inspection import Inside, Reading
from elman.tasks.inspection.reading import spread

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InsideText"]

PIECES, LENGTH = 32, 200
# Characters of a file that are read at most.
MOST = 4000


class InsideText(Inside):
    """Tokens, and the next one of each."""

    def __init__(self, trained: Any) -> None:
        """Take the trained model."""
        super().__init__(trained)
        tokenizer = trained.tokenizer
        self.unit = f"{tokenizer.unit}s"
        self.joined = " " if tokenizer.kind == "words" else ""
        self.around = (12, 6) if tokenizer.kind in {"words", "bpe"} else (44, 16)

    def readings(self, part: Part) -> Iterator[Reading]:
        """Pieces of the text, each from a start without memory."""
        T = min(LENGTH, len(part.tokens) - 1)
        for piece in spread((len(part.tokens) - 1) // T, PIECES):
            yield self._reading(part.tokens[piece * T : piece * T + T + 1])

    def _reading(self, tokens: Any) -> Reading:
        decode = self.trained.tokenizer.decode
        names = tuple(decode([int(token)]).strip(self.joined) or self.joined for token in tokens[:-1])
        return Reading(names, (np.asarray(tokens[:-1], np.int64), np.asarray(tokens[1:], np.int64)))

    def of_text(self, text: str) -> Reading:
        """A text, behind the start mark."""
        tokens = self.trained.prompt_tokens(text)
        # Of the last token no next one is known; none of it is used without a gradient.
        return self._reading(np.array([*tokens, tokens[-1]]))

    def of_file(self, path: str) -> Reading:
        """The text of a file."""
        from pathlib import Path

        from elman.data.encoding import decode

        return self.of_text(decode(Path(path).read_bytes(), path).text[:MOST])

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """-log p of each next token; what is behind a piece's end is left out."""
        import torch
        import torch.nn.functional as F

        lengths = [len(reading.names) for reading in readings]
        inputs, targets = (
            torch.from_numpy(_side_by_side([reading.steps[part] for reading in readings], fill))
            for part, fill in ((0, 0), (1, -1))
        )
        even = len(set(lengths)) == 1
        logits = model(inputs, lengths=None if even else torch.tensor(lengths)).logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")


def _side_by_side(rows: Sequence[Any], fill: int) -> Any:
    found = np.full((max(map(len, rows)), len(rows)), fill, dtype=np.int64)
    for place, row in enumerate(rows):
        found[: len(row), place] = row
    return found
