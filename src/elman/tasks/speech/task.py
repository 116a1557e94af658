"""The task: `elman train speech`, and what runs of it can do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.data.inputs import Item
from elman.errors import UserError
from elman.page import Section
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.speech import answers, learning, recordings, scores
from elman.tasks.speech.answers import Evaluate, Predict
from elman.tasks.speech.drawing import drawing_of
from elman.tasks.speech.hearing import Heard, Listener
from elman.tasks.speech.inspection import InsideRecordings
from elman.tasks.speech.learning import SpeechBatch
from elman.tasks.speech.recordings import Codec, Part, Speech
from elman.tasks.speech.searching import Search, search_of
from elman.tasks.speech.sections import sections_of
from elman.tasks.speech.settings import Config
from elman.tasks.speech.transcribing import Transcribe, transcribe
from elman.tasks.speech.writing import BEST_PATH, written
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from torch import nn

    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["SpeechTask", "TrainedSpeech"]


class TrainedSpeech(Trained):
    """A recognizer, or a classifier of recordings, from a run folder: `predict`, `listen`, `evaluate`, `model`."""

    def examples(self, settings: Any) -> Part:
        """What is measured on; other files are judged by the `--on-bad` that is given beside them."""
        found: Part
        if settings.data:
            data = replace(
                self.config.data, on_bad=settings.on_bad, pattern=settings.pattern or self.config.data.pattern
            )
            found = self.read(settings.data, replace(self.config, data=data))
        else:
            found = super().examples(settings)
        return found

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` finds, with an interval."""
        part = self.examples(settings)
        return measure(self.model, self.codec, part, self.config, self.search(settings), interval=True)

    def search(self, settings: Any) -> Search:
        """What the flags ask for. Raises UserError where they do not fit the run."""
        return search_of(settings, self.codec.symbols, self.config.model.decoder)

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others; and where nothing is written, so."""
        names = ("CER", "macro_F1", "loss", "whole_right", "substitutions", "deletions", "insertions")
        others = [
            f"{name.replace('_', ' ')} {number(value) if isinstance(value, float) else format(value, ',')}"
            for name in names
            if (value := score.figures.get(name)) is not None
        ]
        blanks = "; nothing but blanks is written: train longer, or look at the transcripts"
        more = blanks if score.figures.get("empty") == 1 else ""
        return f"{score}, {', '.join(others)}; {score.figures['recordings']:,} recordings{more}"

    def listen(self, *, rate: int = 0, endpoint: float = 0.8) -> Listener:
        """A recognizer for sound that comes in pieces: `listener(samples)`, `listener.finish()`."""
        return Listener(self.model, self.codec, self.config, rate=rate, endpoint=endpoint)

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Recordings, folders of them, or lines that name them."""
        return answers.inputs_of(settings)

    def answer(self, values: Sequence[str], settings: Any) -> Iterator[Answer | str]:
        """The text or the class of each recording."""
        found = answers.opened(values, self.codec, self.config)
        steps = answers.steps_of_opened(found, self.codec, self.config)
        said = iter(self.said(steps, settings))
        for value, one in zip(values, found, strict=True):
            yield one if isinstance(one, str) else next(said)(value, one)

    def said(self, steps: Sequence[Any], settings: Any) -> list[answers.Said]:
        """What is answered to recordings, each a function of its name and its sound."""
        if not steps:
            return []
        if self.codec.classes:
            return [
                answers.of_classes(p, self.codec.classes) for p in learning.probabilities(self.model, steps)
            ]
        return [answers.of_text(one) for one in self.heard(steps, self.search(settings))]

    def heard(self, steps: Sequence[Any], search: Search = BEST_PATH) -> list[Heard]:
        """What is heard in the steps of recordings."""
        return [one for one, _ in written(self.model, steps, self.codec, self.config, search)]

    def inside(self) -> InsideRecordings | str:
        """Frame by frame; a decoder alone says nothing at the frames."""
        if self.config.model.decoder == "attention":
            return (
                f"{self.run.path} has no view of its inside: its decoder looks back at all of the sound, and nothing "
                "is said frame by frame; see where it looks in its report, and its layers by elman.nn.inspection"
            )
        return InsideRecordings(self)

    def sections(self, examples: Part) -> Iterator[Section]:
        """Errors, best, median and worst recordings with their pictures; or classes and confusion."""
        return sections_of(self, examples)


def measure(
    model: Any,
    codec: Codec,
    part: Part,
    config: Config,
    search: Search = BEST_PATH,
    *,
    interval: bool = False,
) -> Score:
    """The word error rate, or the accuracy, decoded as in use."""
    steps = learning.normalized(part, codec, config)
    if codec.classes:
        p = learning.probabilities(model, steps)
        return scores.class_score(scores.classes_of(part), p, interval=interval)
    said = [one.text for one, _ in written(model, steps, codec, config, search)]
    return scores.text_score(part.texts, said, interval=interval)


class SpeechTask(Task):
    """Speech recognition, and classification of recordings."""

    settings = Config
    trained = TrainedSpeech

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks, and `transcribe`."""
        shared = super().verbs()
        summary = "Write down recordings, or what comes by standard input while one speaks."
        return {
            **shared,
            "evaluate": shared["evaluate"]._replace(settings=Evaluate),
            "predict": Verb(Predict, "Say what recordings hold, one line each.", shared["predict"].act),
            "transcribe": Verb(Transcribe, summary, transcribe),
        }

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name))
            for name in ("train", "valid", "test")
        }
        features = config.features
        if features.cache:
            features = replace(features, cache=str(Path(features.cache).absolute()))
        return replace(config, data=replace(data, **paths), features=features)

    def prepare(self, config: Config, codec: Codec | None) -> Speech:
        """Read and divide the recordings."""
        return recordings.prepare(config, codec)

    def codec(self, run: Run) -> Codec:
        """Features, symbols, classes."""
        return recordings.read_codec(run)

    def model(self, config: Config, codec: Codec) -> nn.Module:
        """The network."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Recordings of like lengths side by side."""
        training = learning.Training(config, prepared.parts["train"], prepared.codec)
        return training, len(training.buckets)

    def loss(self, model: Any, batch: SpeechBatch, state: Any, config: Config) -> StepLoss:
        """CTC, the decoder's, or both, by the symbol; or cross entropy."""
        import torch

        from elman.training.loop import StepLoss

        losses = learning.loss_of(model, batch, config.model)
        sizes = torch.from_numpy(batch.sizes).to(losses.device)
        objective = (losses / sizes.clamp(min=1)).mean()
        return StepLoss(objective, float(losses.detach().sum()), int(batch.sizes.sum()), (), batch.rows)

    def progress(self, codec: Codec) -> Measure:
        """The loss as it is."""
        from elman.training.loop import Measure

        return Measure("loss", float, "recordings" if codec.classes else "symbols")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """Word error rate or accuracy."""
        return None if examples is None else measure(model, codec, examples, config)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Recordings with transcripts of other files."""
        return recordings.read_part(paths, config, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """The commonest answer, and the nearest recording."""
        return scores.baselines_of(prepared)

    def describe(self, trained: TrainedSpeech, *, steps: int) -> ModelDrawing:
        """One stack."""
        return drawing_of(trained, steps=steps)

    def says(self, trained: TrainedSpeech) -> dict[str, str]:
        """Features, symbols or classes, and how frames become the steps of the network."""
        config = trained.config
        features = {"stride": config.features.stride, "ahead": config.features.ahead}
        more = {**features, "normalization": config.normalization}
        return {"task": "speech", "codec": json.dumps(trained.run.read_json("codec.json") | more)}

    def leaves(self, trained: TrainedSpeech) -> dict[str, str]:
        """Features, their level, symbols or classes. A decoder with attention does not leave."""
        config = trained.config
        if config.model.decoder != "ctc":
            raise UserError(
                f"{trained.run.path} writes by a decoder with attention (--decoder {config.model.decoder}), which "
                f"cannot be frozen yet; train with --decoder ctc"
            )
        features = config.features
        reading = {
            "normalization": config.normalization,
            "stride": features.stride,
            "ahead": features.ahead,
        }
        return {
            "task": "speech",
            "codec": json.dumps(trained.codec.to_json()),
            "reading": json.dumps(reading),
        }

    def closing(self, trained: TrainedSpeech) -> list[str]:
        """How to go on."""
        path = trained.run.path
        if trained.codec.classes:
            return [f"the run is in {path}; classify recordings: elman predict {path} FILE"]
        return [f"the run is in {path}; write recordings down: elman transcribe {path} FILE"]
