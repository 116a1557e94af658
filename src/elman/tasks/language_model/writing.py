"""Predict: text that a model writes, and how likely it finds text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.batching import whole_text
from elman.data.corpus import Part
from elman.data.inputs import STANDARD_INPUT
from elman.data.text import read_text
from elman.data.vocabulary import Tokenizer
from elman.metrics import Likelihood
from elman.tasks.base import Answer, Trained
from elman.tasks.language_model.inspection import InsideText
from elman.tasks.language_model.learning import piece_losses
from elman.tasks.language_model.scores import likelihood, loss_interval, score_of
from elman.tasks.language_model.scoring import Scored, score_text
from elman.tasks.language_model.settings import Evaluate, Generate, Predict
from elman.tasks.language_model.texts import Manner, Text, Writing
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.page import Section

__all__ = ["TrainedLanguageModel", "generate"]

MOST_SHOWN = 12


class TrainedLanguageModel(Trained):
    """A language model from a run folder."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Between text and tokens."""
        found: Tokenizer = self.codec
        return found

    def stream(self, prompt: str = "", **manner: Any) -> Iterator[str]:
        """Write on from `prompt`, token by token: yields text as it comes, at most `length` tokens in all.

        The state is carried from token to token, so each costs the same.
        length: 400. temperature: 1; below 1 surer, 0 always the likeliest, above 1 freer. top_k, top_p: see
        `elman.decoding.probabilities`. stop: texts before which it ends. seed: the same text each time. across: write
        on past the end of a document, in a run of several documents.
        """
        writing = self._writing([prompt], 1, manner)
        return (piece for _, piece in writing)

    def generate(self, prompt: str = "", **manner: Any) -> str:
        """The text that `stream` would yield, at once, without the prompt."""
        return "".join(self.stream(prompt, **manner))

    def texts(self, prompts: Sequence[str] = ("",), *, samples: int = 1, **manner: Any) -> list[Text]:
        """`samples` texts for each prompt, written side by side; the other arguments are those of `stream`.

        Sample n of a prompt, from 0, has the seed + n.
        """
        return self._writing(prompts, samples, manner).texts()

    def _writing(self, prompts: Sequence[str], samples: int, manner: dict[str, Any]) -> Writing:
        tokens = [self.prompt_tokens(prompt) for prompt in prompts]
        return Writing(self.model, self.tokenizer, prompts, tokens, Manner(**manner), samples=samples)

    def measured(self, settings: Evaluate) -> Score:
        """What `elman evaluate` finds.

        The text is read once from start to end with the state carried; with more `streams` it is read in so many
        pieces side by side, which is faster and forgets at their starts.
        """
        part, streams = self.examples(settings), settings.streams
        # Long pieces are fast; but there must be enough of them to see how much they differ.
        steps = min(max(self.config.data.steps, 256 // streams), max(16, len(part.tokens) // (50 * streams)))
        mark = self.tokenizer.mark if self.config.data.apart else None
        losses, counts = piece_losses(self.model, whole_text(part.tokens, streams, steps, mark))
        found = likelihood(self.tokenizer, part, sum(losses) / sum(counts), sum(counts))
        return score_of(found, self.tokenizer.unit, loss_interval(losses, counts))

    def answer(self, values: Sequence[str], settings: Predict) -> Iterator[Answer | str]:
        """Each line written on to its end, or by `--length` tokens."""
        faults = {prompt: fault for prompt in set(values) if (fault := self._fault(prompt))}
        sound = [prompt for prompt in values if prompt not in faults]
        manner: dict[str, Any] = {
            "length": settings.length,
            "temperature": settings.temperature,
            "seed": None if settings.seed < 0 else settings.seed,
        }
        written = iter(self.texts(sound, **manner) if sound else [])
        for prompt in values:
            remark = self.remark(prompt)
            if remark and not settings.json:
                sys.stderr.write(f"{remark}\n")
            if prompt in faults:
                yield faults[prompt]
                continue
            text = next(written).text
            line = text.split("\n", 1)[0]
            strange = {"unknown": self.tokenizer.strange(prompt)} if remark else {}
            yield Answer(prompt + line, {"prompt": prompt, "line": line, "text": text, **strange})

    def _fault(self, prompt: str) -> str:
        """Why nothing can be written on from a prompt; empty where something can."""
        try:
            self.prompt_tokens(prompt)
        except UserError as error:
            return str(error)
        return ""

    def sections(self, examples: Part) -> Iterator[Section]:
        """Text that it writes, three times; and what it wrote while it learnt."""
        from elman.page import Section, paragraph, preformatted
        from elman.training.log import read_log

        written = [self.generate(length=300, temperature=0.8, seed=seed) for seed in range(3)]
        yield Section.of("What it writes, drawn at temperature 0.8", *map(preformatted, written))
        shown = [event for event in read_log(self.run.log) if event.get("event") == "sample"]
        if shown:
            # Of many, as many as a page can hold, the first and the last among them.
            few = [
                shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, MOST_SHOWN).round().astype(int))
            ]
            pieces = [
                piece
                for event in few
                for piece in (paragraph(f"step {event['step']:,}"), preformatted("\n".join(event["texts"])))
            ]
            yield Section.of("What it wrote while it learnt", *pieces)

    def inside(self) -> InsideText:
        """Token by token."""
        return InsideText(self)

    def score(self, text: str) -> Likelihood:
        """How likely a text is, from its first token on; `scored` says it of each token."""
        return self.scored(text, top=0).likelihood

    def scored(self, text: str, *, top: int = 3) -> Scored:
        """How likely each token of a text is, and the `top` likeliest in its place."""
        return score_text(self, text, top=top)

    def encoded(self, text: str) -> npt.NDArray[np.int64]:
        """The start mark and the tokens of a text. Raises UserError for an empty one."""
        tokens = self.tokenizer.encode(text)
        if not len(tokens):
            raise UserError("an empty text has no score")
        return np.concatenate([[self.tokenizer.start], tokens]).astype(np.int64)

    def remark(self, prompt: str) -> str:
        """The words of a prompt that the model has never seen, in a sentence; empty where there are none."""
        strange = self.tokenizer.strange(prompt)
        if not strange:
            return ""
        words = ", ".join(map(repr, strange[:5])) + ", ..." * (len(strange) > 5)
        what = "a word" if len(strange) == 1 else f"{len(strange):,} words"
        return f"the prompt has {what} that the model does not know and reads as <unk>: {words}"

    def prompt_tokens(self, prompt: str) -> list[int]:
        """The start mark and the prompt's tokens."""
        tokens = self.tokenizer.encode(prompt)
        unknown = np.flatnonzero(tokens == self.tokenizer.unknown)
        if self.tokenizer.kind == "characters" and unknown.size:
            raise UserError(
                f"the prompt has {prompt[unknown[0]]!r}, a character that the model has never seen; leave it out, or "
                f"train with --tokens bytes"
            )
        return [self.tokenizer.start, *tokens.tolist()]

    def likelihood_in_words(self, found: Likelihood) -> str:
        """Loss, perplexity, bits, unknown words, and over how many tokens."""
        return self.in_words(score_of(found, self.tokenizer.unit))

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


def generate(trained: TrainedLanguageModel, settings: Generate) -> Iterator[str]:
    """The prompt, and what is written on from it, piece by piece; of several texts one after the other."""
    prompts = [*settings.prompt, *map(_prompt_of, settings.prompt_file)] or [""]
    for prompt in dict.fromkeys(prompts):
        if remark := trained.remark(prompt):
            sys.stderr.write(f"{remark}\n")
    if settings.across and trained.tokenizer.mark is None:
        raise UserError("--across has no effect: the run has learnt one document, without a mark at its end")
    manner = {
        "length": settings.length,
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "stop": [text.replace("\\n", "\n").replace("\\t", "\t") for text in settings.stop],
        "seed": None if settings.seed < 0 else settings.seed,
        "across": settings.across,
    }
    if len(prompts) * settings.samples == 1 and not settings.json:
        pieces = trained.stream(prompts[0], **manner)
        yield prompts[0]
        yield from pieces
        yield "\n"
        return
    texts = trained.texts(prompts, samples=settings.samples, **manner)
    for number, text in enumerate(texts, 1):
        if settings.json:
            yield json.dumps(text._asdict(), ensure_ascii=False) + "\n"
        else:
            yield f"==> {number} of {len(texts)}, seed {text.seed} <==\n{text.prompt}{text.text}\n"


def _prompt_of(path: str) -> str:
    """The text of a file, or of standard input, without its last line end."""
    if path != STANDARD_INPUT:
        return read_text(Path(path)).removesuffix("\n")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("standard input is not UTF-8 text") from None
    return text.replace("\r\n", "\n").removesuffix("\n")
