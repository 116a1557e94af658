"""Score: how likely a model finds a text, token by token, and what it would have said instead."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from elman.data.inputs import STANDARD_INPUT, check_inputs, files_of, lines
from elman.data.text import read_text
from elman.metrics import Likelihood, bits
from elman.tasks.language_model.settings import ScoreText

if TYPE_CHECKING:
    from elman.tasks.language_model.writing import TrainedLanguageModel

__all__ = ["Scored", "ScoredToken", "score_text", "score_texts"]

# Tokens that are read in one call: the logits of so many are in memory at once.
PIECE = 256


class Guess(NamedTuple):
    """A token that might come, and how likely it is."""

    token: str
    probability: float


class ScoredToken(NamedTuple):
    """A token of a text: -log2 p of it, how many tokens were likelier, and the likeliest in its place."""

    token: str
    bits: float
    rank: int
    likeliest: list[Guess]


class Scored(NamedTuple):
    """A text with the likelihood of each of its tokens; following: what is likeliest to come behind its end."""

    likelihood: Likelihood
    tokens: list[ScoredToken]
    following: list[Guess]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        known = self.likelihood
        figures = {"bits": bits(known.nats), **known.figures()}
        tokens = [
            {**token._asdict(), "likeliest": [guess._asdict() for guess in token.likeliest]}
            for token in self.tokens
        ]
        return {**figures, "scored": tokens, "following": [guess._asdict() for guess in self.following]}


def score_text(trained: TrainedLanguageModel, text: str, *, top: int = 3) -> Scored:
    """How likely a text is from its first token on, read with the state carried; top: so many likeliest at each place.

    Raises UserError for an empty text.
    """
    import torch

    tokenizer, model = trained.tokenizer, trained.model
    row = trained.encoded(text)
    top = min(top, tokenizer.size)
    found: list[ScoredToken] = []
    following: list[Guess] = []
    nats, state, device = 0.0, model.initial_state(1), model.head.weight.device
    with torch.no_grad():
        for at in range(0, len(row), PIECE):
            piece = torch.as_tensor(row[at : at + PIECE], dtype=torch.long, device=device)
            logits, state = model(piece.unsqueeze(1), state)
            chances = logits[:, 0].double().log_softmax(-1).cpu()
            targets = torch.as_tensor(row[at + 1 : at + 1 + PIECE], dtype=torch.long)
            best = chances.topk(top, -1)
            guesses = [
                [
                    Guess(tokenizer.shown(int(i)), math.exp(p))
                    for p, i in zip(ps.tolist(), places, strict=True)
                ]
                for ps, places in zip(best.values, best.indices.tolist(), strict=True)
            ]
            own = chances[: len(targets)].gather(-1, targets.unsqueeze(-1))
            ranks = (chances[: len(targets)] > own).sum(-1).tolist()
            nats -= float(own.sum())
            found += [
                ScoredToken(tokenizer.shown(token), bits(-p), rank, likeliest)
                for token, p, rank, likeliest in zip(
                    targets.tolist(), own[:, 0].tolist(), ranks, guesses, strict=False
                )
            ]
            following = guesses[-1]
    tokens = row[1:]
    characters = (
        None if tokenizer.kind == "words" else len(tokens) if tokenizer.kind == "bytes" else len(text)
    )
    unknown = 0.0 if tokenizer.unknown is None else float(np.mean(tokens == tokenizer.unknown))
    return Scored(Likelihood(nats, len(tokens), characters, unknown), found, following)


def score_texts(trained: TrainedLanguageModel, settings: ScoreText) -> Iterator[str]:
    """Each text with its figures: a table of its tokens and a line of figures, or one JSON object a text."""
    faults = 0
    for place, text in _texts(settings):
        if not text:
            faults += 1
            where = {"place": place, "error": "an empty text has no score"}
            yield json.dumps(where) + "\n" if settings.json else f"{place}: an empty text has no score\n"
            continue
        scored = score_text(trained, text, top=settings.top)
        if settings.json:
            yield json.dumps({"place": place, "text": text, **scored.to_json()}, ensure_ascii=False) + "\n"
            continue
        if not settings.total:
            yield from (f"{line}\n" for line in _table(scored))
        yield f"{place}: {bits(scored.likelihood.nats):.1f} bits; {trained.likelihood_in_words(scored.likelihood)}\n"
    if faults:
        sys.stderr.write(f"{faults:,} empty\n")


def _texts(settings: ScoreText) -> Iterator[tuple[str, str]]:
    """The place and the text of each file, or of each line."""
    if settings.lines:
        for items in lines(settings.inputs, 64):
            yield from ((item.place, item.value or "") for item in items)
        return
    check_inputs(settings.inputs)
    for path in settings.inputs:
        if path == STANDARD_INPUT:
            yield path, sys.stdin.buffer.read().decode("utf-8", "replace").replace("\r\n", "\n")
            continue
        yield from ((str(file), read_text(Path(file))) for file in files_of(path))


def _table(scored: Scored) -> Sequence[str]:
    """A line a token: its bits, itself, and what was likelier or as likely."""
    rows = [f"{'bits':>7}  {'token':<12}  likeliest in its place"]
    rows += [
        f"{token.bits:7.2f}  {_quoted(token.token):<12}  {_guessed(token.likeliest)}".rstrip()
        for token in scored.tokens
    ]
    if scored.following:
        rows.append(f"{'next':>7}  {'':<12}  {_guessed(scored.following)}")
    return rows


def _guessed(guesses: Sequence[Guess]) -> str:
    return "  ".join(f"{_quoted(guess.token)} {guess.probability:.1%}" for guess in guesses)


def _quoted(token: str) -> str:
    return json.dumps(token, ensure_ascii=False)
