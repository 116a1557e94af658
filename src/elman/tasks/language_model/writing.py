"""Predict: text that a model writes, and how likely it finds text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.config import UserError
from elman.data.batching import whole_text
from elman.data.corpus import Part
from elman.data.vocabulary import Tokenizer
from elman.metrics import Likelihood
from elman.tasks.base import Answer, Trained
from elman.tasks.language_model.learning import mean_loss, piece_losses
from elman.tasks.language_model.scores import likelihood, loss_interval, score_of
from elman.tasks.language_model.settings import Evaluate, Generate, Predict
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.decoding import Draw
    from elman.nn.networks import TaggerStream
    from elman.page import Section

__all__ = ["TrainedLanguageModel", "generate"]


class TrainedLanguageModel(Trained):
    """A language model from a run folder."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Between text and tokens."""
        found: Tokenizer = self.codec
        return found

    def stream(
        self,
        prompt: str = "",
        *,
        length: int = 400,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Write on from `prompt`, token by token: yields text as it comes, `length` tokens in all.

        The state is carried from token to token, so each costs the same. temperature: below 1 surer, 0 always the
        likeliest, above 1 freer. top_k, top_p: see `elman.decoding.probabilities`. seed: the same text each time.
        """
        from elman.decoding import Draw

        unknown = self.tokenizer.unknown
        draw = Draw(
            self.tokenizer.size,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            banned=() if unknown is None else (unknown,),
            seed=seed,
        )
        *before, last = self._prompt(prompt)
        return self._spell(_written(self._read(before), last, draw, length), prompt)

    def _spell(self, drawn: Iterable[int], prompt: str) -> Iterator[str]:
        decoder = self.tokenizer.stream(prompt)
        for token in drawn:
            yield decoder.push(token)
        yield decoder.close()

    def generate(self, prompt: str = "", **options: Any) -> str:
        """The text that `stream` would yield, at once, without the prompt."""
        return "".join(self.stream(prompt, **options))

    def measured(self, settings: Evaluate) -> Score:
        """What `elman evaluate` finds.

        The text is read once from start to end with the state carried; with more `streams` it is read in so many
        pieces side by side, which is faster and forgets at their starts.
        """
        part, streams = self.examples(settings), settings.streams
        # Long pieces are fast; but there must be enough of them to see how much they differ.
        steps = min(max(self.config.data.steps, 256 // streams), max(16, len(part.tokens) // (50 * streams)))
        losses, counts = piece_losses(self.model, whole_text(part.tokens, streams, steps))
        found = likelihood(self.tokenizer, part, sum(losses) / sum(counts), sum(counts))
        return score_of(found, self.tokenizer.unit, loss_interval(losses, counts))

    def answer(self, values: Sequence[str], settings: Predict) -> Iterator[Answer | str]:
        """Each line written on to its end, or by `--length` tokens."""
        for prompt in values:
            remark = self.remark(prompt)
            if remark and not settings.json:
                sys.stderr.write(f"{remark}\n")
            try:
                text = self.generate(
                    prompt,
                    length=settings.length,
                    temperature=settings.temperature,
                    seed=None if settings.seed < 0 else settings.seed,
                )
            except UserError as error:
                yield str(error)
                continue
            line = text.split("\n", 1)[0]
            strange = {"unknown": self.tokenizer.strange(prompt)} if remark else {}
            yield Answer(prompt + line, {"prompt": prompt, "line": line, "text": text, **strange})

    def sections(self, examples: Part) -> Iterator[Section]:
        """Text that it writes, three times."""
        from elman.page import Section, preformatted

        written = [self.generate(length=300, temperature=0.8, seed=seed) for seed in range(3)]
        yield Section.of("What it writes, drawn at temperature 0.8", *map(preformatted, written))

    def score(self, text: str) -> Likelihood:
        """How likely a text is, from its first token on."""
        tokens = self.tokenizer.encode(text)
        if not len(tokens):
            raise UserError("an empty text has no score")
        row = np.concatenate([[self.tokenizer.start], tokens])
        loss, count = mean_loss(self.model, whole_text(row, 1, 256))
        characters = None if self.tokenizer.kind == "words" else len(text)
        return Likelihood(loss * count, count, characters, float(np.mean(tokens == self.tokenizer.unknown)))

    def remark(self, prompt: str) -> str:
        """The words of a prompt that the model has never seen, in a sentence; empty where there are none."""
        strange = self.tokenizer.strange(prompt)
        if not strange:
            return ""
        words = ", ".join(map(repr, strange[:5])) + ", ..." * (len(strange) > 5)
        what = "a word" if len(strange) == 1 else f"{len(strange):,} words"
        return f"the prompt has {what} that the model does not know and reads as <unk>: {words}"

    def _prompt(self, prompt: str) -> list[int]:
        """The start mark and the prompt's tokens."""
        tokens = self.tokenizer.encode(prompt)
        unknown = np.flatnonzero(tokens == self.tokenizer.unknown)
        if self.tokenizer.kind == "characters" and unknown.size:
            raise UserError(
                f"the prompt has {prompt[unknown[0]]!r}, a character that the model has never seen; leave it out, or "
                f"train with --tokens bytes"
            )
        return [self.tokenizer.start, *tokens.tolist()]

    def _read(self, tokens: list[int]) -> TaggerStream:
        """The model, standing after these tokens."""
        import torch

        row = torch.tensor(tokens, dtype=torch.long, device=self.model.head.weight.device)
        stream: TaggerStream = self.model.read(row.unsqueeze(1))
        return stream

    def in_words(self, score: Score) -> str:
        """Loss, perplexity, bits, unknown words, and over how many tokens."""
        unit, found = self.tokenizer.unit, score.figures
        words = [f"loss {found['loss']:.4f} nats a {unit}", f"perplexity {found['perplexity']:.2f}"]
        if found["bits_per_character"] is not None:
            letter = "byte" if unit == "byte" else "character"
            words.append(f"{found['bits_per_character']:.3f} bits per {letter}")
        if found["unknown"]:
            words.append(f"{found['unknown']:.2%} unknown")
        return f"{', '.join(words)}; {found['tokens']:,} {unit}s"


def _written(stream: TaggerStream, last: int, draw: Draw, length: int) -> Iterator[int]:
    """Token by token what is drawn on from the last one of a prompt."""
    for _ in range(length):
        [last] = draw(stream([last]))
        yield last


def generate(trained: TrainedLanguageModel, settings: Generate) -> Iterator[str]:
    """The prompt, and what is written on from it, piece by piece."""
    remark = trained.remark(settings.prompt)
    if remark:
        sys.stderr.write(f"{remark}\n")
    pieces = trained.stream(
        settings.prompt,
        length=settings.length,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        seed=None if settings.seed < 0 else settings.seed,
    )
    yield settings.prompt
    yield from pieces
    yield "\n"
