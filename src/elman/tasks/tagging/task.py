"""The task: `elman train tagging`, and what runs of it can do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import Buckets
from elman.data.inputs import Item
from elman.page import Section
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.tagging import answers, learning, scores, sentences
from elman.tasks.tagging.answers import Evaluate, Predict
from elman.tasks.tagging.drawing import drawing_of
from elman.tasks.tagging.inspection import InsideSentences
from elman.tasks.tagging.learning import SentenceBatch
from elman.tasks.tagging.sections import sections_of
from elman.tasks.tagging.sentences import Codec, Part, Sentences
from elman.tasks.tagging.settings import Config
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from elman.nn import Tagger
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["TaggingTask", "TrainedTagger"]

Ids = npt.NDArray[np.int64]


class TrainedTagger(Trained):
    """A tagger from a run folder: `predict`, `evaluate`, `model`."""

    def examples(self, settings: Any) -> Part:
        """What is measured on; other files are judged by the `--on-bad` that is given beside them."""
        found: Part
        if settings.data:
            own = {
                name: value
                for name in ("on_bad", "word_column", "tag_column", "form")
                if (value := getattr(settings, name))
            }
            data = replace(self.config.data, **own)
            found = self.read(settings.data, replace(self.config, data=data))
        else:
            found = super().examples(settings)
        return found

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` finds, with an interval and the measures of each kind."""
        part: Part = self.examples(settings)
        said, loss = self._tags(part)
        return scores.with_interval(scores.score_of(self.codec, part, said, loss), self.codec, part, said)

    def _tags(self, part: Part) -> tuple[list[Ids], float]:
        emissions = learning.emissions_of(self.model, part.numbers)
        chain = learning.chain_of(self.model, self.codec)
        said = learning.best_tags(learning.shifted(emissions, float(self.model.outside)), chain)
        return said, scores.loss_figure(part, emissions, chain)

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others."""
        names = ("precision", "recall", "accuracy", "total_span_F1", "accuracy_of_unknown_words", "loss")
        others = [
            f"{name.replace('_', ' ')} {number(score.figures[name])}"
            for name in names
            if name in score.figures
        ]
        sizes = f"{score.figures['words']:,} words in {score.figures['sentences']:,} sentences"
        return f"{score}, {', '.join(others)}; {sizes}"

    def tagged(self, values: Sequence[answers.Words]) -> list[answers.Tagged]:
        """The words of texts with their tags and spans, and how sure each is."""
        numbers = [sentences.encode_words(value.words, self.codec) for value in values]
        emissions = learning.shifted(learning.emissions_of(self.model, numbers), float(self.model.outside))
        chain = learning.chain_of(self.model, self.codec)
        best = learning.best_tags(emissions, chain)
        return [
            answers.tagged(value, row, tags, chain, self.codec)
            for value, row, tags in zip(values, emissions, best, strict=True)
        ]

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Lines, or the sentences of files with words in rows."""
        return answers.inputs_of(settings, self.config.data)

    def answer(self, values: Sequence[Any], settings: Predict) -> Iterator[Answer | str]:
        """Each text with its tags or spans."""
        words = [answers.words_of(value, self.codec, settings) for value in values]
        found = iter(self.tagged([own for own in words if own.words]))
        for own in words:
            yield answers.answer_of(next(found), self.codec, settings) if own.words else "empty text"

    def inside(self) -> InsideSentences:
        """Word by word."""
        return InsideSentences(self)

    def sections(self, examples: Part) -> Iterator[Section]:
        """Kinds, confusion, known and unknown words, calibration, worst errors, what follows what."""
        return sections_of(self.codec, examples, self.model)


class TaggingTask(Task):
    """Tags of words, and the spans that they mark."""

    settings = Config
    trained = TrainedTagger

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks; evaluate and predict have flags of their own."""
        shared = super().verbs()
        summary = "Tag the words of texts, and say how sure each tag or span is."
        return {
            **shared,
            "evaluate": shared["evaluate"]._replace(settings=Evaluate),
            "predict": shared["predict"]._replace(settings=Predict, summary=summary),
        }

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name))
            for name in ("train", "valid", "test")
        }
        return replace(config, data=replace(data, **paths))

    def prepare(self, config: Config, codec: Codec | None) -> Sentences:
        """Read and divide the sentences."""
        return sentences.prepare(config, codec)

    def codec(self, run: Run) -> Codec:
        """Tags, words, letters, and where words end."""
        return sentences.read_codec(run)

    def model(self, config: Config, codec: Codec) -> Tagger:
        """The network."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Sentences of like lengths side by side."""
        train, data = prepared.parts["train"], config.data
        lengths = [len(row) for row in train.truth]
        buckets = Buckets(
            lengths, budget=data.budget, most=data.batch, seed=config.training.seed, alike=data.alike
        )

        def batch(epoch: int, index: int) -> SentenceBatch:
            own = buckets(epoch, index)
            return learning.batch_of([train.numbers[i] for i in own], [train.truth[i] for i in own])

        return batch, len(buckets)

    def loss(self, model: Any, batch: SentenceBatch, state: Any, config: Config) -> StepLoss:
        """Cross entropy of each word, or of the sentence under the chain; the mean of the words, or of the sums."""
        from elman.training.loop import StepLoss

        total = learning.loss_of(model, batch, config.data.smoothing)
        words = int(batch.lengths.sum())
        by = words if config.optimizer.loss == "mean" else len(batch.lengths)
        return StepLoss(total / by, float(total.detach()), words, (), by)

    def progress(self, codec: Codec) -> Measure:
        """The loss as it is."""
        from elman.training.loop import Measure

        return Measure("loss", float, "words")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """Span F1, or the accuracy of plain tags, of the best sound sequence of tags.

        What is added for O is tuned on the validation data, and stays with the model.
        """
        if examples is None:
            return None
        emissions, chain = learning.emissions_of(model, examples.numbers), learning.chain_of(model, codec)
        loss = scores.loss_figure(examples, emissions, chain)
        if codec.scheme and config.data.tune_outside and examples.name == "valid":
            model.outside.fill_(scores.tune_outside(codec, examples, emissions, chain))
        said = learning.best_tags(learning.shifted(emissions, float(model.outside)), chain)
        return scores.score_of(codec, examples, said, loss)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Sentences with tags of other files."""
        return sentences.read_part(paths, config.data, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """The most frequent tag of each word, and a linear model of words and affixes."""
        return scores.baselines(prepared, tune=config.data.tune_outside)

    def describe(self, trained: TrainedTagger, *, steps: int) -> ModelDrawing:
        """One stack that answers at every step."""
        return drawing_of(trained, steps=steps)

    def leaves(self, trained: TrainedTagger) -> dict[str, str]:
        """Words, letters, tags, and what follows what."""
        chain = trained.model.chain
        learned = None if chain is None else (chain.cell.transitions, chain.start, chain.end)
        parts = [None, None, None] if learned is None else [part.double().tolist() for part in learned]
        moves = dict(zip(("transitions", "start", "end"), parts, strict=True))
        return {
            "task": "tagging",
            "codec": json.dumps(trained.codec.to_json()),
            "chain": json.dumps({"outside": float(trained.model.outside), **moves}),
        }

    def example(self, trained: TrainedTagger) -> Any:
        """A word of as many letters as are read."""
        import torch

        return torch.zeros(1, 1, 1 + trained.codec.longest, dtype=torch.int64)

    def closing(self, trained: TrainedTagger) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; tag texts: elman predict {path} FILE"]
