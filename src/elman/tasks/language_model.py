"""Language model and text generation: from the user's text to text of the model's own.

text -> tokens -> B streams -> embedding -> recurrent layers -> p(next token) -> cross entropy -> text again
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from elman.config import Amount, Count, Flag, OptionalSeed, UserError, Whole, option, pasted
from elman.data import vocabulary
from elman.data.batching import IGNORED, Streams, TextBatch, training_streams, whole_text
from elman.data.corpus import Corpus, CorpusSettings, Part, read_corpus, read_part
from elman.data.ngrams import bigram_loss, unigram_loss
from elman.data.vocabulary import Tokenizer
from elman.metrics import Likelihood, bits, perplexity
from elman.tasks import verbs
from elman.tasks.base import Answer, Baseline, Batches, Prepared, Task, Trained, Verb
from elman.tasks.network import RecurrentSettings
from elman.training.run import Run
from elman.training.score import Score
from elman.training.settings import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from elman.nn.networks import LanguageModel
    from elman.page import Section
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["TASK", "Config", "TrainedLanguageModel"]

# Fewer pieces of text say nothing about how far their mean may be off.
FEWEST_PIECES = 10

# Config


@dataclass(frozen=True)
class ModelSettings(RecurrentSettings):
    """Embedding -> dropout -> recurrent stack -> norm -> dropout -> dense softmax."""

    tied: Flag = option(False, "one table for embedding and output layer")
    init: Amount = option(0.0, "draw all from U(-INIT, INIT) (0: each layer's own start)", unit="INIT")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        super().__post_init__()
        self.check_residual(self.width)
        output = self.projection or self.hidden
        if self.tied and self.width != output:
            flag = "--projection" if self.projection else "--hidden"
            raise UserError(
                f"--tied needs one width: --embedding {self.width} is not {flag} {output}; leave one out"
            )


@dataclass(frozen=True)
class Config:
    """The settings of a language model."""

    data: CorpusSettings = field(default_factory=CorpusSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)


# Data

# What is read, and how it is cut into tokens and streams: `elman.data.corpus`, `vocabulary`, `batching`.

# Model


def build_model(settings: ModelSettings, size: int, unknown: int = -1) -> LanguageModel:
    """The network over a vocabulary of `size` tokens; unknown: what a dropped token is taken for (-1: nothing)."""
    from elman.nn.networks import LanguageModel

    return LanguageModel(
        size,
        settings.width,
        settings.hidden,
        settings.layers,
        cell=settings.factory(),
        dropout=settings.dropout,
        sequence_dropout=settings.sequence_dropout,
        word_dropout=settings.word_dropout,
        unknown=unknown,
        input_norm=settings.input_norm,
        tied=settings.tied,
        norm=settings.output_norm,
        init=settings.init,
        engine=settings.engine,
        extras=settings.extras(),
    )


# Loss


def summed_loss(model: LanguageModel, batch: TextBatch, state: Any) -> tuple[Tensor, int, Any]:
    """-sum log p(target) in nats over a piece, over how many targets, and the state behind it."""
    import torch

    device = model.head.weight.device
    inputs, targets = (torch.from_numpy(array).to(device) for array in batch)
    logits, state = model(inputs, state)
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED
    )
    return loss, int((batch.targets != IGNORED).sum()), state


def mean_loss(model: LanguageModel, streams: Streams) -> tuple[float, int]:
    """The mean loss in nats over a whole text, with the state carried from start to end; over how many tokens."""
    losses, counts = piece_losses(model, streams)
    return sum(losses) / sum(counts), sum(counts)


def piece_losses(model: LanguageModel, streams: Streams) -> tuple[list[float], list[int]]:
    """The summed loss of each piece in nats, with the state carried from piece to piece; over how many tokens each."""
    import torch

    model.eval()
    losses, counts, state = [], [], model.initial_state(streams.batch_size)
    with torch.no_grad():
        for index in range(len(streams)):
            loss, count, state = summed_loss(model, streams[index], state)
            losses.append(float(loss))
            counts.append(count)
    return losses, counts


# Metrics


def score_of(found: Likelihood, unit: str, spread: tuple[float, float] | None = None) -> Score:
    """What the best model is chosen by: bits for characters and bytes, perplexity for words and byte pairs.

    spread: the loss at both ends of its interval.
    """
    name, of = _measure(unit)
    interval = None if spread is None else (of(spread[0]), of(spread[1]))
    return Score(name, of(found.loss), higher=False, figures=found.figures(), interval=interval)


def _measure(unit: str) -> tuple[str, Callable[[float], float]]:
    small = unit in {"character", "byte"}
    return (f"bits per {unit}", bits) if small else ("perplexity", perplexity)


def likelihood(tokenizer: Tokenizer, part: Part, loss: float, count: int) -> Likelihood:
    """How well a text is predicted: the mean loss over `count` tokens, all but the first."""
    written = {"characters": count, "bytes": count, "words": None}
    characters = written.get(tokenizer.kind, part.characters * count / len(part.tokens))
    return Likelihood(loss * count, count, characters, part.unknown(tokenizer))


def loss_interval(losses: Sequence[float], counts: Sequence[int]) -> tuple[float, float] | None:
    """Where the mean loss of a token lies at 95 %: pieces of the text drawn anew 1,000 times; None of too few."""
    if len(losses) < FEWEST_PIECES:
        return None
    drawn = np.random.default_rng(0).integers(len(losses), size=(1000, len(losses)))
    means = np.asarray(losses)[drawn].sum(1) / np.asarray(counts)[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


# Predict


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
        import torch

        from elman.decoding import sample

        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        unknown = self.tokenizer.unknown
        tokens, state = self._read(self._prompt(prompt))
        drawn = sample(
            self.model.step,
            tokens,
            state,
            length=length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            banned=() if unknown is None else (unknown,),
            generator=generator,
        )
        return self._spell(drawn, prompt)

    def _spell(self, drawn: Iterable[Tensor], prompt: str) -> Iterator[str]:
        decoder = self.tokenizer.stream(prompt)
        for token in drawn:
            yield decoder.push(int(token))
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

    def _read(self, tokens: list[int]) -> tuple[Tensor, Any]:
        """The last token, and the state after all before it."""
        import torch

        row = torch.tensor(tokens, device=self.model.head.weight.device).unsqueeze(1)
        state = self.model.initial_state(1)
        if len(row) > 1:
            with torch.no_grad():
                state = self.model(row[:-1], state).state
        return row[-1], state

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


# At temperature 0 nothing is drawn.
DRAWN = {"temperature": True}


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    streams: Count = option(
        1, "pieces of the text read side by side: faster, but each forgets at its start", unit="COUNT"
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    length: Count = option(40, "how much to write on at most", unit="TOKENS")
    temperature: Amount = option(
        0.0, "0 the likeliest token each time, above it drawn: below 1 surer, above 1 freer", unit="NUMBER"
    )
    seed: OptionalSeed = option(
        -1,
        "the same text each time for the same seed (-1: a new one each time)",
        unit="NUMBER",
        needs=DRAWN,
    )


@dataclass(frozen=True)
class Generate:
    """Flags of `elman generate`."""

    prompt: str = option("", "text to write on from", unit="TEXT")
    length: Count = option(400, "how much to write", unit="TOKENS")
    temperature: Amount = option(
        0.8, "below 1 surer, above 1 freer, 0 always the likeliest token", unit="NUMBER"
    )
    top_k: Whole = option(
        0, "draw from the so many likeliest tokens only (0: from all)", unit="TOKENS", needs=DRAWN
    )
    top_p: Amount = option(
        1.0, "draw from the likeliest tokens that make up this probability", unit="SHARE", needs=DRAWN
    )
    seed: OptionalSeed = option(
        -1,
        "the same text each time for the same seed (-1: a new one each time)",
        unit="NUMBER",
        needs=DRAWN,
    )
    checkpoint: Literal["best", "last"] = option("best", "the model at its best validation, or the last one")

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p:g} is outside (0, 1]; 1 draws from all tokens")


def _generate(trained: TrainedLanguageModel, settings: Generate) -> Iterable[str]:
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


class LanguageModelTask(Task):
    """`elman train language-model`, and what runs of it can do."""

    settings = Config
    trained = TrainedLanguageModel

    def verbs(self) -> dict[str, Verb]:
        """Write text; measure with streams."""
        shared = super().verbs()
        own = {
            "evaluate": shared["evaluate"]._replace(settings=Evaluate),
            "predict": Verb(Predict, "Write on from each line of text.", verbs.predict),
        }
        return {"generate": Verb(Generate, "Write with a trained model.", _generate), **shared, **own}

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        train, valid, test = (_absolute(paths) for paths in (data.train, data.valid, data.test))
        return replace(config, data=replace(data, train=train, valid=valid, test=test))

    def prepare(self, config: Config, codec: Tokenizer | None) -> Corpus:
        """Read the text; the tokenizer of a run that is continued is its own."""
        return read_corpus(config.data, codec)

    def codec(self, run: Run) -> Tokenizer:
        """The tokenizer of a run."""
        try:
            return vocabulary.from_json(run.read_json("tokenizer.json"))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{run.path / 'tokenizer.json'} is damaged ({error!r}); bring it back or train anew"
            ) from None

    def model(self, config: Config, codec: Tokenizer) -> LanguageModel:
        """The network over the tokenizer's vocabulary."""
        return build_model(config.model, codec.size, -1 if codec.unknown is None else codec.unknown)

    def batches(self, config: Config, prepared: Prepared) -> tuple[Batches, int]:
        """Pieces of B streams; all epochs read the same text in the same order."""
        settings = config.data
        streams = training_streams(prepared.part("train").tokens, settings.batch, settings.steps)
        return (lambda epoch, index: streams[index]), len(streams)

    def initial_state(self, model: LanguageModel, config: Config) -> Any:
        """Zeros for each stream: an epoch begins at the start of the text."""
        return model.initial_state(config.data.batch)

    def loss(self, model: LanguageModel, batch: TextBatch, state: Any, config: Config) -> StepLoss:
        """The mean over all tokens of a piece, or the sum over its steps averaged over the streams."""
        from elman.training.loop import StepLoss

        total, count, state = summed_loss(model, batch, state)
        over = config.data.batch if config.optimizer.loss == "sum_over_time" else count
        return StepLoss(total / over, float(total.detach()), count, state)

    def progress(self, codec: Tokenizer) -> Measure:
        """Bits or perplexity; characters, bytes, words, tokens."""
        from elman.training.loop import Measure

        return Measure(*_measure(codec.unit), f"{codec.unit.removesuffix('acter')}s")

    def measure(
        self, model: LanguageModel, codec: Tokenizer, examples: Part | None, config: Config
    ) -> Score | None:
        """The whole text read with the state carried, in `--valid-batch` streams."""
        if examples is None:
            return None
        streams = whole_text(examples.tokens, config.data.valid_batch, config.data.steps)
        return score_of(likelihood(codec, examples, *mean_loss(model, streams)), codec.unit)

    def baselines(self, config: Config, prepared: Prepared) -> Iterator[Baseline]:
        """How often each token occurs, and how often after the one before."""
        tokenizer, train = prepared.codec, prepared.part("train").tokens
        for part in ("valid", "test"):
            text = prepared.part(part)
            if text is None:
                continue
            for name, rule in (("frequency of tokens", unigram_loss), ("the token before", bigram_loss)):
                loss = rule(train, text.tokens, tokenizer.size)
                found = likelihood(tokenizer, text, loss, len(text.tokens) - 1)
                yield Baseline(name, part, score_of(found, tokenizer.unit))

    def read(self, paths: tuple[str, ...], config: Config, codec: Tokenizer) -> Part:
        """A text of its own."""
        found = read_part(paths, config.data, codec)
        if len(found.tokens) < 2:
            name = ", ".join(paths)
            raise UserError(f"{name} is too short: {len(found.tokens)} tokens; give a text by --data")
        return found

    def describe(self, trained: TrainedLanguageModel, *, steps: int) -> ModelDrawing:
        """One stack, which reads and writes at every step."""
        from elman.plots import ModelDrawing, Signal, Stack
        from elman.plots.modules import blocks_of, dtype_of

        model, unit = trained.model, trained.tokenizer.unit
        parts = blocks_of([model], activation="softmax")
        reads = Signal("x_t", f"a {unit}")
        writes = Signal("y_t", f"chances of the next {unit}", trained.tokenizer.size, "K")
        stack = Stack("language model", parts, reads, writes, steps)
        return ModelDrawing(trained.run.path.name, (stack,), trained.config.data.batch, dtype_of(model))

    def closing(self, trained: TrainedLanguageModel) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; write text: elman generate {pasted(path)}"]


def _absolute(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)


TASK = LanguageModelTask
