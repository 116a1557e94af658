"""Texts that a model writes, several of them side by side, each to its own end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from elman.config import UserError
from elman.data.vocabulary import Tokenizer

if TYPE_CHECKING:
    from elman.decoding import Draw
    from elman.nn.networks import LanguageModel, TaggerStream

__all__ = ["End", "Manner", "StopFilter", "Text", "Writing"]

End = Literal["length", "stop", "document"]


class Text(NamedTuple):
    """What was written on from a prompt.

    text: without the prompt. sample: which one of this prompt, from 1. seed: that gives this text again, as the only
    one. tokens: how many were drawn. end: why it ended.
    """

    prompt: str
    text: str
    sample: int
    seed: int
    tokens: int
    end: End


@dataclass(frozen=True)
class Manner:
    """How texts are written; the arguments of `TrainedLanguageModel.stream`. Raises UserError for an empty `stop`."""

    length: int = 400
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    seed: int | None = None
    across: bool = False

    def __post_init__(self) -> None:
        """Check the texts to stop at."""
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if "" in self.stop:
            raise UserError("an empty text to stop at is found everywhere; leave it out")


class StopFilter:
    """Lets a text through piece by piece, up to the first of several texts to stop at, which is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        """Take the texts to stop at."""
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """What is certain not to belong to a text to stop at; after `stopped`, nothing more."""
        if self.stopped:
            return ""
        text = self._held + piece
        found = [at for at in (text.find(word) for word in self._stop) if at >= 0]
        self.stopped = bool(found)
        cut = min(found) if found else len(text) - self._begun(text)
        self._held = "" if found else text[cut:]
        return text[:cut]

    def close(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _begun(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of one to stop at."""
        most = max((len(word) for word in self._stop), default=1) - 1
        return next(
            (
                n
                for n in range(min(most, len(text)), 0, -1)
                if any(word.startswith(text[-n:]) for word in self._stop)
            ),
            0,
        )


class _Row:
    """One text as it grows."""

    def __init__(self, tokenizer: Tokenizer, prompt: str, sample: int, seed: int, manner: Manner) -> None:
        self.prompt, self.sample, self.seed = prompt, sample, seed
        self.tokens = 0
        self.end: End | None = None
        self._decoder = tokenizer.stream(prompt)
        self._filter = StopFilter(manner.stop)
        self._last = None if manner.across else tokenizer.mark
        self._pieces: list[str] = []

    def push(self, token: int) -> str:
        """The text that a token adds."""
        self.tokens += 1
        if token == self._last:
            return self.close("document")
        piece = self._filter.push(self._decoder.push(token))
        self._pieces.append(piece)
        if self._filter.stopped:
            self.end = "stop"
        return piece

    def close(self, end: End) -> str:
        """What is left where nothing more comes. The bytes of half a character are dropped."""
        self.end = end
        self._pieces.append(self._filter.close())
        return self._pieces[-1]

    def text(self) -> Text:
        assert self.end is not None
        return Text(self.prompt, "".join(self._pieces), self.sample, self.seed, self.tokens, self.end)


class Writing:
    """`samples` texts for each prompt, in that order, written side by side: one step of the network for all.

    Iterating gives (number of the text, what it has grown by) as it comes; then `texts` are all there. Each text has a
    random generator of its own, seeded with the seed + its sample's number from 0.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        tokens: Sequence[Sequence[int]],
        manner: Manner,
        *,
        samples: int = 1,
    ) -> None:
        """Read the prompts; tokens: of each, from the start mark on."""
        from elman.decoding import Draw

        self._manner, self._samples = manner, samples
        seeds = [_seed(manner.seed, sample) for _ in prompts for sample in range(samples)]
        numbers = [(prompt, sample) for prompt in prompts for sample in range(1, samples + 1)]
        self._rows = [
            _Row(tokenizer, prompt, sample, seed, manner)
            for (prompt, sample), seed in zip(numbers, seeds, strict=True)
        ]
        self._draw = Draw(
            tokenizer.size,
            rows=len(seeds),
            temperature=manner.temperature,
            top_k=manner.top_k,
            top_p=manner.top_p,
            banned=() if tokenizer.unknown is None else (tokenizer.unknown,),
            seed=seeds,
        )
        self._last = [row[-1] for row in tokens for _ in range(samples)]
        self._stream = _read(model, tokens)
        if samples > 1:
            self._stream = self._stream.pick([row for row in range(len(tokens)) for _ in range(samples)])

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Step by step, until all texts have ended."""
        rows, stream, last, draw = self._rows, self._stream, self._last, self._draw
        # The texts that the rows of the stream belong to.
        held = list(range(len(rows)))
        for _ in range(self._manner.length):
            places = [place for place, row in enumerate(held) if rows[row].end is None]
            if not places:
                return
            # Rows that have ended go along, and are left behind when they are half of all.
            if 2 * len(places) <= len(held):
                stream, last = stream.pick(places), [last[place] for place in places]
                held, places = [held[place] for place in places], list(range(len(places)))
            for place, token in zip(places, self._step(stream, last, held, places, draw), strict=True):
                last[place] = token
                yield held[place], rows[held[place]].push(token)
        for number, row in enumerate(rows):
            if row.end is None:
                yield number, row.close("length")

    @staticmethod
    def _step(
        stream: TaggerStream, last: list[int], held: list[int], places: list[int], draw: Draw
    ) -> list[int]:
        """The next tokens of the texts at some places of the stream."""
        logits = stream(last)
        if len(places) == len(held):
            return draw(logits, None if len(held) == draw.rows else held)
        return draw(logits[places], [held[place] for place in places])

    def texts(self) -> list[Text]:
        """All texts, written to their ends."""
        for _ in self:
            pass
        return [row.text() for row in self._rows]


def _seed(given: int | None, sample: int) -> int:
    """The seed of a sample, from 0; where none is given, one of its own that nobody could know."""
    return int.from_bytes(os.urandom(4), "little") if given is None else (given + sample) % 2**63


def _read(model: LanguageModel, tokens: Sequence[Sequence[int]]) -> TaggerStream:
    """The model, standing after all tokens of each row but the last."""
    import torch

    lengths = torch.tensor([len(row) - 1 for row in tokens])
    rows: Any = torch.zeros(int(lengths.max()), len(tokens), dtype=torch.long)
    for b, row in enumerate(tokens):
        rows[: len(row) - 1, b] = torch.tensor(row[:-1], dtype=torch.long)
    alike = bool((lengths == lengths[0]).all())
    device = model.head.weight.device
    return model.read(rows.to(device), lengths=None if alike else lengths.to(device))
