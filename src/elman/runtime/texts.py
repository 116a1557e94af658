"""From text to text: language models that write on, and classifiers that answer, as their runs do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data import vocabulary
from elman.data.words import Lexicon
from elman.runtime.library import FrozenError
from elman.runtime.model import Frozen, Numbers, text_of

__all__ = ["TextClassifier", "TextWriter", "check_texts"]


class TextWriter(Frozen):
    """A language model with its tokenizer."""

    def __init__(self, source: str | bytes | Frozen) -> None:
        super().__init__(source)
        self.tokenizer = vocabulary.from_json(_json(self, "tokenizer"))

    def generate(self, prompt: str = "", **options: Any) -> str:
        """The text that `write` would yield, at once, without the prompt."""
        return "".join(self.write(prompt, **options))

    def write(
        self,
        prompt: str = "",
        *,
        length: int = 400,
        temperature: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Write on from `prompt`, token by token: yields text as it comes, `length` tokens in all.

        temperature: 0 always the likeliest, the same text as `elman generate` writes; else drawn by numpy's generator:
        the same text for the same seed, another one than torch draws. top_k: from so many of the likeliest (0: all).
        FrozenError for a temperature or a top_k below 0, and a character that the model has never seen.
        """
        if not 0 <= temperature < float("inf") or top_k < 0 or length < 0:
            raise FrozenError(
                f"temperature={temperature}, top_k={top_k}, length={length}; expected 0 or more"
            )
        tokens = [self.tokenizer.start, *self.tokens(prompt)]
        return self._write(prompt, tokens, length, temperature, top_k, seed)

    def tokens(self, text: str, called: str = "the prompt") -> list[int]:
        """The tokens of a text. FrozenError, which says what it is called, for a character that the model has never
        seen."""
        tokenizer = self.tokenizer
        tokens = tokenizer.encode(text)
        if tokenizer.kind == "characters" and (strange := np.flatnonzero(tokens == tokenizer.unknown)).size:
            raise FrozenError(f"{called} has {text[strange[0]]!r}, a character that the model has never seen")
        found: list[int] = tokens.tolist()
        return found

    def choose(self, logits: Numbers, draw: np.random.Generator, temperature: float, top_k: int) -> int:
        """The next token, from the logits `(V,)` of a step: never one for the unknown."""
        logits = logits.astype(np.float64)
        if self.tokenizer.unknown is not None:
            logits[self.tokenizer.unknown] = -np.inf
        if temperature == 0:
            return int(logits.argmax())
        return int(draw.choice(len(logits), p=_chances(logits, temperature, top_k)))

    def _write(
        self, prompt: str, tokens: list[int], length: int, temperature: float, top_k: int, seed: int | None
    ) -> Iterator[str]:
        draw = np.random.default_rng(seed)
        spell, stream = self.tokenizer.stream(prompt), self.stream(1)
        if len(tokens) > 1:
            stream.state = self.run(np.array(tokens[:-1], np.int64).reshape(-1, 1)).state
        last = tokens[-1]
        for _ in range(length):
            last = self.choose(stream([last])[0], draw, temperature, top_k)
            yield spell.push(last)
        yield spell.close()


class TextClassifier(Frozen):
    """A classifier of texts with its words and labels."""

    def __init__(self, source: str | bytes | Frozen) -> None:
        super().__init__(source)
        codec = _json(self, "codec")
        self.labels = tuple(codec["labels"])
        self.several = bool(codec["several"])
        self.longest = int(codec["longest"])
        self.thresholds = np.array(codec["thresholds"], dtype=np.float64)
        self._encode = Lexicon.from_json(codec["lexicon"]).encoder()

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """p `(N, K)`: of one label the softmax of the logits, of several the sigmoid of each."""
        tokens = [self._encode(text)[: self.longest or None] for text in texts]
        lengths = np.array([len(row) for row in tokens], dtype=np.int64)
        padded = np.zeros((max(1, int(lengths.max(initial=1))), len(tokens)), dtype=np.int64)
        for place, row in enumerate(tokens):
            padded[: len(row), place] = row
        if not tokens:
            return np.zeros((0, len(self.labels)))
        logits = self.run(padded, lengths=lengths).y.astype(np.float64)
        return 1 / (1 + np.exp(-logits)) if self.several else _softmax(logits)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The answer to each text, as `elman predict --json` has it but for the words that weighed: of a text with
        nothing in it too, {"error": "empty text"}.

        FrozenError for one text in place of a list of them, and for what is no text.
        """
        check_texts(texts)
        found: list[dict[str, Any]] = []
        rows = iter(self.probabilities([text for text in texts if text.strip()]))
        for text in texts:
            if not text.strip():
                found.append({"error": "empty text"})
                continue
            p = next(rows)
            if self.several:
                said: Any = [self.labels[k] for k in np.flatnonzero(p >= self.thresholds)]
            else:
                said = self.labels[int(p.argmax())]
            shown = {name: round(float(value), 6) for name, value in zip(self.labels, p, strict=True)}
            found.append({"text": text, "labels" if self.several else "label": said, "probabilities": shown})
        return found


def check_texts(texts: Sequence[Any], kinds: tuple[type, ...] = (str,)) -> None:
    """FrozenError for one text in place of a list of them, and for what is of none of the kinds."""
    if isinstance(texts, str | bytes):
        raise FrozenError("one text is given; expected a list of texts")
    for place, text in enumerate(texts):
        if not isinstance(text, kinds):
            raise FrozenError(f"text {place} is of the type {type(text).__name__}; expected str")


def _json(model: Frozen, key: str) -> Any:
    return json.loads(text_of(model, key))


def _softmax(logits: Numbers) -> Numbers:
    p: Numbers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p


def _chances(logits: Numbers, temperature: float, top_k: int) -> Numbers:
    if top_k and top_k < len(logits):
        logits = np.where(logits >= np.partition(logits, -top_k)[-top_k], logits, -np.inf)
    return _softmax((logits - logits.max()) / temperature)
