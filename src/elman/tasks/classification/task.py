"""The task: `elman train sentiment | emotion | classification`, and what runs of it can do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import Buckets
from elman.data.inputs import Item
from elman.data.labels import steady_thresholds
from elman.files import write_bytes
from elman.page import Section, document, table
from elman.tasks import verbs
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.classification import answers, learning, scores, texts
from elman.tasks.classification.answers import Evaluate, Explained, Predict
from elman.tasks.classification.drawing import drawing_of
from elman.tasks.classification.inspection import InsideTexts
from elman.tasks.classification.learning import TextBatch
from elman.tasks.classification.sections import sections_of
from elman.tasks.classification.settings import Config
from elman.tasks.classification.texts import Codec, Part, Texts
from elman.tasks.replacing import check_page_replaced
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from elman.nn import SequenceClassifier
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["ClassificationTask", "TrainedClassifier"]

Floats = npt.NDArray[np.float64]
SHOWN = 1000


class TrainedClassifier(Trained):
    """A classifier of texts from a run folder: `predict`, `evaluate`, `model`."""

    @property
    def thresholds(self) -> Floats:
        """From which probability on a label counts, `(K,)`."""
        found: Floats = self.model.thresholds.double().cpu().numpy()
        return found

    def probabilities(self, part: Part) -> Floats:
        """p `(N, K)` of the texts of a part."""
        return learning.probabilities(self.model, part.tokens, several=self.codec.labels.several)

    def examples(self, settings: Any) -> Part:
        """What is measured on; other files are judged by the `--on-bad` that is given beside them."""
        found: Part
        if settings.data:
            data = replace(self.config.data, on_bad=settings.on_bad)
            found = self.read(settings.data, replace(self.config, data=data))
        else:
            found = super().examples(settings)
        return found

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` finds, with an interval and each label's measures."""
        part: Part = self.examples(settings)
        labels, p = self.codec.labels, self.probabilities(part)
        metric = scores.metric_of(self.config.data.metric, labels)
        score = scores.score_of(metric, labels, part.truth, p, self.thresholds)
        return scores.with_interval(score, labels, part.truth, p, self.thresholds)

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others."""
        names = ("accuracy", "macro_F1", "micro_F1", "loss", "calibration_error")
        others = [
            f"{name.replace('_', ' ')} {number(score.figures[name])}"
            for name in names
            if name in score.figures
        ]
        return f"{score}, {', '.join(others)}; {score.figures['texts']:,} texts"

    def explained(
        self, found: Sequence[str], given: Sequence[Sequence[int]] | None = None
    ) -> list[Explained]:
        """Texts with their probabilities, labels and words; given: the labels to explain (None: the answers)."""
        labels, encoder = self.codec.labels, self.codec.lexicon.encoder()
        tokens = [encoder(text)[: self.config.data.longest or None] for text in found]
        p = learning.probabilities(self.model, tokens, several=labels.several)
        said = given if given is not None else [self._labels(row) for row in p]
        asked = [own or (int(row.argmax()),) for own, row in zip(said, p, strict=True)]
        weights = learning.word_weights(self.model, tokens, asked, several=labels.several)
        return [
            Explained(text, row, tuple(own), self.codec.lexicon.spans(text), weight)
            for text, row, own, weight in zip(found, p, said, weights, strict=True)
        ]

    def _labels(self, p: Floats) -> tuple[int, ...]:
        if self.codec.labels.several:
            return tuple(np.flatnonzero(p >= self.thresholds).tolist())
        return (int(p.argmax()),)

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Lines, rows of tables, or files."""
        return answers.inputs_of(settings, self.config.data, self.codec.columns)

    def answer(self, values: Sequence[str], settings: Predict) -> Iterator[Answer | str]:
        """The label of each text, with its probability and the words that weighed."""
        found = iter(self._answers([text for text in values if text.strip()], settings))
        for text in values:
            answered = text.strip()
            yield answers.answer_of(next(found), self.codec.labels, settings) if answered else "empty text"

    def _answers(self, found: Sequence[str], settings: Predict) -> list[Explained]:
        if not found or settings.words or settings.html:
            kept = self.explained(found) if found else []
            self._keep(kept, settings)
            return kept
        encoder = self.codec.lexicon.encoder()
        tokens = [encoder(text)[: self.config.data.longest or None] for text in found]
        p = learning.probabilities(self.model, tokens, several=self.codec.labels.several)
        return [
            Explained(text, row, self._labels(row), [], np.zeros(0))
            for text, row in zip(found, p, strict=True)
        ]

    def _keep(self, found: Iterable[Explained], settings: Predict) -> None:
        if settings.html:
            self._shown = [*getattr(self, "_shown", []), *found][:SHOWN]

    def write_page(self, path: Path) -> None:
        """The texts that were answered, with their words, as a page of its own."""
        labels, shown = self.codec.labels, getattr(self, "_shown", [])
        rows = [
            (
                answers.highlighted(one),
                ", ".join(f"{labels.names[k]} {one.p[k]:.3f}" for k in one.labels) or "none",
            )
            for one in shown
        ]
        body = table(["text", "answer"], rows)
        words = "Green words speak for the answer, red ones against it."
        page = document("Answers", [words], [Section("", body)], f"Answered by the run {self.run.path.name}.")
        write_bytes(path, page.encode())

    def inside(self) -> InsideTexts:
        """Word by word."""
        return InsideTexts(self)

    def sections(self, examples: Part) -> Iterator[Section]:
        """Labels, confusion, calibration, worst errors."""

        def explain(numbers: Sequence[int], given: Sequence[Sequence[int]]) -> list[Explained]:
            return self.explained([examples.examples[i].text for i in numbers], given)

        return sections_of(
            self.codec.labels, examples, self.probabilities(examples), self.thresholds, explain
        )


def predict(trained: TrainedClassifier, settings: Predict) -> Iterator[str]:
    """Answer each text with a line, in order; then the page, where one is asked for."""
    if settings.html:
        check_page_replaced(Path(settings.html), "--html")
    yield from verbs.predict(trained, settings)
    if settings.html:
        trained.write_page(Path(settings.html))
        sys.stderr.write(f"page: {settings.html}\n")


class ClassificationTask(Task):
    """Classification of texts."""

    settings = Config
    trained = TrainedClassifier

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks; evaluate and predict have flags of their own."""
        own = Verb(Predict, "Say the label of texts, how sure it is, and which words weighed.", predict)
        shared = super().verbs()
        return {**shared, "evaluate": shared["evaluate"]._replace(settings=Evaluate), "predict": own}

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        names = ("train", "valid", "test", "labels_from", "valid_labels_from", "test_labels_from")
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name)) for name in names
        }
        paths |= {
            name: str(Path(path).absolute())
            for name in ("label_names", "vectors")
            if (path := getattr(data, name))
        }
        return replace(config, data=replace(data, **paths))

    def prepare(self, config: Config, codec: Codec | None) -> Texts:
        """Read and divide the texts."""
        prepared = texts.prepare(config, codec)
        learning.label_weights(config, prepared.parts["train"], prepared.codec)
        return prepared

    def codec(self, run: Run) -> Codec:
        """Labels and words."""
        return texts.read_codec(run)

    def model(self, config: Config, codec: Codec) -> SequenceClassifier:
        """The network."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Texts of like lengths side by side."""
        train, data = prepared.parts["train"], config.data
        lengths = [len(row) for row in train.tokens]
        buckets = Buckets(
            lengths, budget=data.budget, most=data.batch, seed=config.training.seed, alike=data.alike
        )
        weights = learning.label_weights(config, train, prepared.codec)

        def batch(epoch: int, index: int) -> tuple[TextBatch, Any]:
            own = buckets(epoch, index)
            return learning.batch_of([train.tokens[i] for i in own], train.truth[own]), weights

        return batch, len(buckets)

    def loss(self, model: Any, batch: tuple[TextBatch, Any], state: Any, config: Config) -> StepLoss:
        """Cross entropy; of several labels the sum of the binary ones."""
        from elman.training.loop import StepLoss

        found, weights = batch
        losses = learning.loss_of(model, found, config.data.smoothing, weights)
        return StepLoss(losses.mean(), float(losses.detach().sum()), len(found.lengths), ())

    def rows(self, batch: tuple[TextBatch, Any]) -> int:
        """Texts."""
        return batch[0].rows

    def pick(self, batch: tuple[TextBatch, Any], rows: npt.NDArray[np.int64]) -> tuple[TextBatch, Any]:
        """Some of them, with the weights of the labels."""
        return batch[0].pick(rows), batch[1]

    def progress(self, codec: Codec) -> Measure:
        """The loss as it is."""
        from elman.training.loop import Measure

        return Measure("loss", float, "texts")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """Accuracy or F1; thresholds of several labels are tuned on the validation data, and stay with the model."""
        import torch

        if examples is None:
            return None
        labels = codec.labels
        p = learning.probabilities(model, examples.tokens, several=labels.several)
        if labels.several and examples.name == "valid":
            model.thresholds.copy_(torch.from_numpy(steady_thresholds(p, examples.truth)))
        tuned = model.thresholds.double().cpu().numpy()
        return scores.score_of(scores.metric_of(config.data.metric, labels), labels, examples.truth, p, tuned)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Labelled texts of other files."""
        return texts.read_part(paths, config.data, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """The commonest answer and a linear model of the words."""
        return scores.bag_baselines(scores.metric_of(config.data.metric, prepared.codec.labels), prepared)

    def describe(self, trained: TrainedClassifier, *, steps: int) -> ModelDrawing:
        """One stack, which is pooled at the end."""
        return drawing_of(trained, steps=steps)

    def leaves(self, trained: TrainedClassifier) -> dict[str, str]:
        """Words, labels and thresholds."""
        codec = trained.codec.to_json() | {
            "longest": trained.config.data.longest,
            "thresholds": trained.thresholds.tolist(),
        }
        del codec["columns"]
        return {"task": "classification", "codec": json.dumps(codec)}

    def closing(self, trained: TrainedClassifier) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; classify texts: elman predict {path} FILE"]
