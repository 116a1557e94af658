"""The task: `elman train language-model`, and what runs of it can do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import UserError, pasted
from elman.data import vocabulary
from elman.data.batching import Streams, TextBatch, training_streams, whole_text
from elman.data.corpus import Corpus, Part, read_corpus, read_part
from elman.data.documents import Shuffled, ends_of
from elman.data.ngrams import bigram_loss, unigram_loss
from elman.data.vocabulary import Tokenizer
from elman.tasks import verbs
from elman.tasks.base import Baseline, Batches, Prepared, Task, Verb
from elman.tasks.language_model.learning import build_model, mean_loss, summed_loss
from elman.tasks.language_model.scores import likelihood, measure_of, score_of
from elman.tasks.language_model.scoring import score_texts
from elman.tasks.language_model.settings import Config, Evaluate, Generate, Predict, ScoreText
from elman.tasks.language_model.texts import Manner, Writing
from elman.tasks.language_model.writing import TrainedLanguageModel, generate
from elman.training.run import Run
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.nn.networks import LanguageModel
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["LanguageModelTask"]


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
            "score": Verb(ScoreText, "Say how likely a text is, token by token.", score_texts),
        }
        return {"generate": Verb(Generate, "Write with a trained model.", generate), **shared, **own}

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        train, valid, test = (_absolute(paths) for paths in (data.train, data.valid, data.test))
        cache = str(Path(data.cache).absolute()) if data.cache else ""
        return replace(config, data=replace(data, train=train, valid=valid, test=test, cache=cache))

    def prepare(self, config: Config, codec: Tokenizer | None) -> Corpus:
        """Read the text; the tokenizer of a run that is continued is its own."""
        corpus = read_corpus(config.data, codec)
        unknown, prompt = corpus.tokenizer.unknown, config.training.sample_prompt
        if corpus.tokenizer.kind == "characters" and unknown in corpus.tokenizer.encode(prompt):
            raise UserError(
                f"--sample-prompt {prompt!r} has a character that the training text does not have"
            )
        return corpus

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
        """Pieces of B streams; a text read on is the same in all epochs, documents come in another order in each."""
        settings, tokens, mark = config.data, prepared.part("train").tokens, _apart(config, prepared.codec)
        ends = None if mark is None else ends_of(tokens, mark)

        @lru_cache(maxsize=1)
        def streams(epoch: int) -> Streams:
            ordered = tokens if ends is None else Shuffled(tokens, ends, config.training.seed, epoch)
            return training_streams(ordered, settings.batch, settings.steps, mark)

        if mark is None:
            same = streams(1)
            return (lambda epoch, index: same[index]), len(same)
        return (lambda epoch, index: streams(epoch)[index]), len(streams(1))

    def initial_state(self, model: LanguageModel, config: Config) -> Any:
        """Zeros for each stream: an epoch begins at the start of the text."""
        return model.initial_state(config.data.batch)

    def loss(self, model: LanguageModel, batch: TextBatch, state: Any, config: Config) -> StepLoss:
        """The mean over all tokens of a piece, or the sum over its steps averaged over the streams."""
        from elman.training.loop import StepLoss

        total, count, state = summed_loss(model, batch, state, by_torch=config.model.engine == "torch")
        over = batch.rows if config.optimizer.loss == "sum_over_time" else count
        return StepLoss(total / over, float(total.detach()), count, state, over)

    def progress(self, codec: Tokenizer) -> Measure:
        """Bits or perplexity; characters, bytes, words, tokens."""
        from elman.training.loop import Measure

        return Measure(*measure_of(codec.unit), f"{codec.unit.removesuffix('acter')}s")

    def measure(
        self, model: LanguageModel, codec: Tokenizer, examples: Part | None, config: Config
    ) -> Score | None:
        """The whole text read with the state carried, in `--valid-batch` streams."""
        if examples is None:
            return None
        data = config.data
        streams = whole_text(examples.tokens, data.valid_batch, data.steps, _apart(config, codec))
        return score_of(likelihood(codec, examples, *mean_loss(model, streams)), codec.unit)

    def show(self, model: LanguageModel, codec: Tokenizer, config: Config, step: int) -> list[str]:
        """A text, drawn at temperature 0.8 with the training's seed, every `--sample-every` steps."""
        asked = config.training
        if not asked.sample_every or step % asked.sample_every:
            return []
        model.eval()
        tokens = [codec.start, *codec.encode(asked.sample_prompt).tolist()]
        manner = Manner(length=asked.sample_length, temperature=0.8, seed=asked.seed)
        [text] = Writing(model, codec, [asked.sample_prompt], [tokens], manner).texts()
        return [asked.sample_prompt + text.text]

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

    def leaves(self, trained: TrainedLanguageModel) -> dict[str, str]:
        """The tokenizer."""
        return {"task": "language model", "tokenizer": json.dumps(trained.run.read_json("tokenizer.json"))}

    def closing(self, trained: TrainedLanguageModel) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; write text: elman generate {pasted(path)}"]


def _apart(config: Config, codec: Tokenizer) -> int | None:
    """The mark behind which the network is to forget; None where texts are read on."""
    return codec.mark if config.data.apart else None


def _absolute(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)
