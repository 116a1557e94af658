"""The task: `elman train video-tagging`, and what runs of it can do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.data.inputs import Item
from elman.data.labels import steady_thresholds
from elman.page import Section
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.video_tagging import answers, footage, learning, scores
from elman.tasks.video_tagging.answers import Evaluate, Predict
from elman.tasks.video_tagging.drawing import drawing_of
from elman.tasks.video_tagging.footage import Codec, Footage, Part
from elman.tasks.video_tagging.learning import ClipBatch
from elman.tasks.video_tagging.sections import sections_of
from elman.tasks.video_tagging.settings import Config
from elman.tasks.video_tagging.sheets import Sheet, write_sheets
from elman.tasks.video_tagging.watching import Watch, Watcher, watch
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from torch import nn

    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["TrainedVideoTagger", "VideoTaggingTask"]


class TrainedVideoTagger(Trained):
    """A tagger of clips from a run folder: `predict`, `watch`, `evaluate`, `model`."""

    @property
    def thresholds(self) -> Any:
        """At which each tag is given, `(K,)`."""
        return scores.thresholds_of(self.model, self.codec.labels)

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
        return measure(self.model, self.codec, self.examples(settings), interval=True)

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others."""
        names = ("macro_F1", "micro_F1", "all_right", "loss")
        others = [
            f"{name.replace('_', ' ')} {number(score.figures[name])}"
            for name in names
            if name in score.figures
        ]
        counted = "steps" if "steps" in score.figures else "clips"
        return f"{score}, {', '.join(others)}; {score.figures[counted]:,} {counted}"

    def watch(self) -> Watcher:
        """A tagger for frames that come one by one."""
        return Watcher(self.model, self.codec, self.config)

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Clips, folders of them, tables of frames, or lines that name clips."""
        return answers.inputs_of(settings, self.codec, self.config)

    def answer(self, values: Sequence[Any], settings: Any) -> Iterator[Answer | str]:
        """The class, the tags or the stretches of each clip."""
        for value, one in zip(values, answers.seen(values, self.codec, self.config), strict=True):
            yield one if isinstance(one, str) else self._said(_name_of(value), one, settings)

    def _said(self, name: str, clip: answers.Seen, settings: Predict) -> Answer:
        labels, thresholds = self.codec.labels, self.thresholds
        (p,) = learning.probabilities_of(self.model, self.codec, [clip.rows])
        make = answers.answer_of_steps if self.codec.steps else answers.answer_of
        found = make(name, p, labels, thresholds, clip)
        if not settings.times:
            return found
        p = learning.over_time(self.model, self.codec, clip.rows)
        rows = {tag: [round(float(v), 4) for v in p[:, k]] for k, tag in enumerate(labels.names)}
        return found._replace(data={**found.data, "rate": clip.rate, "over_time": rows})

    def inside(self) -> str:
        """Why there is no such view."""
        return (
            f"a run of {self.task.name} has no view of its inside: "
            "its steps are pictures or skeletons, which no text or curve can show; see its report, and its layers by "
            "elman.nn.inspection"
        )

    def sections(self, examples: Part) -> Iterator[Section]:
        """Tags, confusion, clips with their chances over time."""
        return sections_of(self, examples)


def _name_of(value: Any) -> str:
    return value if isinstance(value, str) else str(value.path)


def measure(model: Any, codec: Codec, part: Part, *, interval: bool = False) -> Score:
    """Accuracy of classes, or the mean average precision of tags."""
    p = scores.probabilities_as_rows(learning.probabilities(model, codec, part))
    truth = scores.truth_of(part)
    thresholds = scores.thresholds_of(model, codec.labels)
    return scores.score_of(codec.labels, truth, p, thresholds, clips=scores.clips_of(part), interval=interval)


class VideoTaggingTask(Task):
    """Classes and tags of clips."""

    settings = Config
    trained = TrainedVideoTagger

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks, `watch` and `sheet`."""
        shared = super().verbs()
        return {
            **shared,
            "evaluate": shared["evaluate"]._replace(settings=Evaluate),
            "predict": Verb(Predict, "Say what clips show, one line each.", shared["predict"].act),
            "watch": Verb(Watch, "Say what a clip shows while it comes, frame by frame.", watch),
            "sheet": Verb(Sheet, "Draw clips: frames, and the chances of the tags over time.", write_sheets),
        }

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name))
            for name in ("train", "valid", "test")
        }
        frames = config.frames
        if frames.cache:
            frames = replace(frames, cache=str(Path(frames.cache).absolute()))
        return replace(config, data=replace(data, **paths), frames=frames)

    def prepare(self, config: Config, codec: Codec | None) -> Footage:
        """Read and divide the clips."""
        return footage.prepare(config, codec)

    def codec(self, run: Run) -> Codec:
        """Tags and features."""
        return footage.read_codec(run)

    def model(self, config: Config, codec: Codec) -> nn.Module:
        """The network."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Clips of like lengths side by side."""
        training = learning.Training(config, prepared.parts["train"])
        return training, len(training.buckets)

    def loss(self, model: Any, batch: ClipBatch, state: Any, config: Config) -> StepLoss:
        """Cross entropy; of several tags the sum of the binary ones."""
        from elman.training.loop import StepLoss

        losses = learning.loss_of(model, batch)
        return StepLoss(losses.mean(), float(losses.detach().sum()), len(batch.lengths), ())

    def progress(self, codec: Codec) -> Measure:
        """The loss as it is."""
        from elman.training.loop import Measure

        return Measure("loss", float, "clips")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """Accuracy or mAP; thresholds of several tags are tuned on the validation data, and stay with the model."""
        import torch

        if examples is None:
            return None
        if codec.labels.several and examples.name == "valid":
            p = scores.probabilities_as_rows(learning.probabilities(model, codec, examples))
            tuned = steady_thresholds(p, scores.truth_of(examples))
            model.thresholds.copy_(torch.from_numpy(tuned))
        return measure(model, codec, examples)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Clips with tags of other files."""
        return footage.read_part(paths, config, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """The commonest answer, and the nearest clips."""
        return scores.baselines_of(prepared)

    def describe(self, trained: TrainedVideoTagger, *, steps: int) -> ModelDrawing:
        """One stack."""
        return drawing_of(trained, steps=steps)

    def says(self, trained: TrainedVideoTagger) -> dict[str, str]:
        """Tags and their thresholds, features, and how a clip becomes frames."""
        codec = trained.codec.to_json() | {"frames": asdict(trained.config.frames)}
        if trained.codec.labels.several:
            codec["thresholds"] = trained.thresholds.tolist()
        return {"task": "video tagging", "codec": json.dumps(codec)}

    def closing(self, trained: TrainedVideoTagger) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; tag clips: elman predict {path} FILE"]
