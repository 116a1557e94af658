"""The task: `elman train captioning`, and what runs of it can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.data.inputs import Item
from elman.data.subwords import UNKNOWN
from elman.page import Section
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.captioning import answers, captions, learning, scores
from elman.tasks.captioning.answers import Caption, Evaluate, Predict
from elman.tasks.captioning.captions import Captions, Codec, Part
from elman.tasks.captioning.drawing import drawing_of
from elman.tasks.captioning.learning import CaptionBatch, Search, Training
from elman.tasks.captioning.sections import sections_of
from elman.tasks.captioning.seen import Seen, seen_once
from elman.tasks.captioning.settings import Config
from elman.tasks.captioning.strips import Strips
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from elman.nn import Captioner
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["CaptioningTask", "TrainedCaptioner"]

# Tokens of a caption where the training has no limit.
LONGEST = 50


class TrainedCaptioner(Trained):
    """A captioner from a run folder: `predict`, `evaluate`, `captions_of`, `model`."""

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
        """What `elman evaluate` finds, decoded by its beam, with an interval."""
        part = self.examples(settings)
        pixels = part.pixels
        if settings.shuffled:
            # In a circle of all pictures, each one in the place of the next.
            circle = np.random.default_rng(0).permutation(len(pixels))
            others = np.empty_like(circle)
            others[circle] = np.roll(circle, 1)
            pixels = pixels[others]
        found = [own[0].text for own in self._captions(pixels, answers.search_of(settings))]
        score = scores.score_of(found, part, self.codec.words, interval=True)
        return score._replace(
            figures={**score.figures, "beam": settings.beam, "consensus": settings.consensus}
        )

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others."""
        figures = score.figures
        beam = f", beam {figures['beam']}" if "beam" in figures else ""
        beam += f", consensus {number(figures['consensus'])}" if figures.get("consensus") else ""
        return (
            f"{score}, BLEU-4 {number(figures['BLEU_4'])}, ROUGE-L {number(figures['ROUGE_L'])}, exact "
            f"{number(figures['exact'])}, where all words are known {number(figures['exact_known'])}{beam}; "
            f"{figures['pictures']:,} pictures"
        )

    def captions_of(
        self,
        pictures: Any,
        *,
        beam: int = 5,
        n_best: int = 1,
        length_penalty: float = 0.6,
        consensus: float = 0.0,
    ) -> list[list[Caption]]:
        """The `n_best` best captions of pictures `(N, size, size, 3)` of uint8, best first."""
        return self._captions(pictures, Search(beam, n_best, length_penalty, consensus=consensus))

    def _captions(self, pixels: Any, search: Search) -> list[list[Caption]]:
        vocabulary = self.codec.vocabulary
        followed = search.beam if search.consensus else search.n_best
        asked = search._replace(banned=(UNKNOWN,), n_best=followed)
        found = learning.describe(self.model, pixels, asked, longest_of(self.config))
        said = [
            [
                Caption(vocabulary.decode(one.tokens), one.tokens, one.log_probability, one.score)
                for one in own
            ]
            for own in found
        ]
        return [answers.by_consensus(own, search) for own in said] if search.consensus else said

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Pictures, folders of them, or lines that name them."""
        return answers.inputs_of(settings)

    def answer(self, values: Sequence[Any], settings: Predict) -> Iterator[Answer | str]:
        """A caption of each picture."""
        found = answers.opened(values, self.config.picture.fitting())
        whole = [one for one in found if not isinstance(one, str)]
        said = iter(self._captions(np.stack(whole), answers.search_of(settings)) if whole else [])
        strips = Strips.of(self, settings.attention)
        for value, one in zip(values, found, strict=True):
            if isinstance(one, str):
                yield one
                continue
            own = next(said)
            answer = answers.answer_of(value, own, settings)
            yield answer if strips is None else strips.beside(answer, value, one, own[0])

    def inside(self) -> str:
        """Why there is no such view."""
        return (
            f"a run of {self.task.name} has no view of its inside: "
            "its network looks at a grid of a picture and not at a sequence; see where it looks in its report, and its "
            "layers by elman.nn.inspection"
        )

    def sections(self, examples: Part) -> Iterator[Section]:
        """Where the network looks, words, the worst captions."""
        return sections_of(self, examples)


def longest_of(config: Config) -> int:
    """The most tokens of a caption that is written."""
    return config.data.longest or LONGEST


class CaptioningTask(Task):
    """Description of pictures."""

    settings = Config
    trained = TrainedCaptioner

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks; evaluate and predict have flags of their own."""
        shared = super().verbs()
        own = shared["predict"]._replace(
            settings=Predict, summary="Say what pictures show: pictures, folders, or lines that name them."
        )
        return {**shared, "evaluate": shared["evaluate"]._replace(settings=Evaluate), "predict": own}

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data, picture = config.data, config.picture
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name))
            for name in ("train", "valid", "test")
        }
        if data.pictures:
            paths["pictures"] = str(Path(data.pictures).absolute())
        if picture.cache:
            picture = replace(picture, cache=str(Path(picture.cache).absolute()))
        return replace(config, data=replace(data, **paths), picture=picture)

    def prepare(self, config: Config, codec: Codec | None) -> Captions:
        """Read and divide the pictures."""
        return captions.prepare(config, codec)

    def codec(self, run: Run) -> Codec:
        """The vocabulary."""
        return captions.read_codec(run)

    def model(self, config: Config, codec: Codec) -> Captioner:
        """The network."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Captions with their pictures, changed a little."""
        training = Training(config, prepared.parts["train"])
        return training, len(training.buckets)

    def loss(self, model: Any, batch: CaptionBatch, state: Any, config: Config) -> StepLoss:
        """Cross entropy of each token."""
        return learning.loss_of(model, batch, config)

    def progress(self, codec: Codec) -> Measure:
        """Perplexity of a token."""
        from elman.metrics import perplexity
        from elman.training.loop import Measure

        return Measure("perplexity", perplexity, "tokens")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """CIDEr-D, decoded by --validation-beam."""
        if examples is None:
            return None
        search = Search(config.data.validation_beam, banned=(UNKNOWN,))
        seen = Seen(config, model.encoder) if seen_once(config) else None
        pixels = seen.plain(examples.pixels, examples.marks) if seen else examples.pixels
        found = learning.describe(model, pixels, search, longest_of(config))
        said = [codec.vocabulary.decode(own[0].tokens) for own in found]
        return scores.score_of(said, examples, codec.words)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Pictures with captions of other files."""
        return captions.read_part(paths, config, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterable[Baseline]:
        """The commonest caption, and that of the nearest picture."""
        return scores.caption_baselines(prepared)

    def describe(self, trained: TrainedCaptioner, *, steps: int) -> ModelDrawing:
        """Both halves and the attention."""
        return drawing_of(trained, steps=steps)

    def closing(self, trained: TrainedCaptioner) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; describe pictures: elman predict {path} PICTURE"]
