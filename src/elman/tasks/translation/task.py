"""The task: `elman train translation`, and what runs of it can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.data.bucketing import Buckets
from elman.data.inputs import Item
from elman.data.subwords import UNKNOWN
from elman.page import Section
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.translation import answers, learning, pairs, scores
from elman.tasks.translation.answers import Evaluate, Predict, Translation
from elman.tasks.translation.drawing import drawing_of
from elman.tasks.translation.learning import PairBatch, Search
from elman.tasks.translation.pairs import Codec, Pairs, Part
from elman.tasks.translation.sections import sections_of
from elman.tasks.translation.settings import Config
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from elman.nn import AttentionEncoderDecoder
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["TrainedTranslator", "TranslationTask"]


def banned(codec: Codec) -> tuple[int, ...]:
    """What is never written: the unknown, where byte pairs spell everything."""
    return (UNKNOWN,) if codec.target.unit == "bpe" else ()


class TrainedTranslator(Trained):
    """A translator from a run folder: `predict`, `evaluate`, `translate`, `model`.

    odd: the places of answers that look wrong, by what is wrong with them.
    """

    odd: dict[str, list[str]]

    def __init__(self, *given: Any) -> None:
        """As all of them."""
        super().__init__(*given)
        self.odd = {}

    def examples(self, settings: Any) -> Part:
        """What is measured on; other files are judged by the `--on-bad` that is given beside them."""
        if not settings.data:
            found: Part = super().examples(settings)
            return found
        data = replace(self.config.data, on_bad=settings.on_bad)
        part = pairs.read_part(settings.data, settings.target_from, data, self.codec)
        self.account = part.account
        return part

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` finds, decoded by its beam, with an interval."""
        scores.check_extra()
        part = self.examples(settings)
        hypotheses = self._texts(part, answers.search_of(settings))
        tokenizer = scores.tokenizer_of(self.config.data.bleu, self.codec)
        score = scores.score_of(hypotheses, part.references, tokenizer, interval=True)
        return score._replace(figures={**score.figures, "beam": settings.beam})

    @property
    def banned(self) -> tuple[int, ...]:
        """What is never written."""
        return banned(self.codec)

    def _texts(self, part: Part, search: Search) -> list[str]:
        sources = [pair.source for pair in part.pairs]
        return [found[0].text for found in self._translate(sources, search)]

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others."""
        figures = score.figures
        beside = f", 13a {number(figures['BLEU_13a'])}" if "BLEU_13a" in figures else ""
        beam = f", beam {figures['beam']}" if "beam" in figures else ""
        return (
            f"{score}{beside}, chrF {number(figures['chrF'])}{beam}; {figures['sentences']:,} sentences "
            f"({figures['signature']})"
        )

    def translate(
        self, sources: Sequence[str], *, beam: int = 5, n_best: int = 1, length_penalty: float = 0.6
    ) -> list[list[Translation]]:
        """The `n_best` best translations of each sentence, best first."""
        return self._translate(sources, Search(beam, n_best, length_penalty))

    def _translate(
        self, sources: Sequence[str], search: Search, *, copy_unknown: bool = True
    ) -> list[list[Translation]]:
        codec: Codec = self.codec
        tokens = codec.source.encode(sources)
        found = learning.translate(self.model, tokens, search._replace(banned=self.banned))
        looked = self._looked(tokens, found) if copy_unknown else {}
        return [
            [
                Translation(
                    answers.spelled(codec, source, one.tokens, looked.get((i, place))),
                    one.log_probability,
                    one.score,
                )
                for place, one in enumerate(own)
            ]
            for i, (source, own) in enumerate(zip(sources, found, strict=True))
        ]

    def _looked(self, tokens: Sequence[Any], found: Sequence[Sequence[Any]]) -> dict[tuple[int, int], Any]:
        """Where the steps looked, of the translations that hold something unknown."""
        places = [
            (i, place)
            for i, own in enumerate(found)
            for place, one in enumerate(own)
            if UNKNOWN in one.tokens and len(tokens[i])
        ]
        if not places:
            return {}
        sources, targets = [tokens[i] for i, _ in places], [found[i][place].tokens for i, place in places]
        return dict(zip(places, learning.alignments(self.model, sources, targets), strict=True))

    def answers(self, items: Sequence[Item], settings: Any) -> list[Answer | str]:
        """An answer to each item; the places of odd ones are kept."""
        found = super().answers(items, settings)
        for item, answer in zip(items, found, strict=True):
            if isinstance(answer, Answer):
                odd = answers.oddness(answer.data["source"], answer.data["translation"])
                if odd:
                    self.odd.setdefault(odd, []).append(item.place)
        return found

    def answer(self, values: Sequence[str], settings: Predict) -> Iterator[Answer | str]:
        """The translation of each line; an empty line stays one."""
        search, source = answers.search_of(settings), self.codec.source
        given = [text for text in values if text.strip()]
        if settings.tokenize:
            given = [answers.tokenized(text, source) for text in given]
        found = iter(self._translate(given, search, copy_unknown=settings.copy_unknown))
        for text in values:
            own = next(found) if text.strip() else [Translation("", 0.0, 0.0)]
            yield answers.answer_of(text, own, settings)

    def inside(self) -> str:
        """Why there is no such view."""
        return (
            f"a run of {self.task.name} has no view of its inside: "
            "its network reads one sequence and writes another that looks back at it; see where it looks in its "
            "report, and its layers by elman.nn.inspection"
        )

    def sections(self, examples: Part) -> Iterator[Section]:
        """Where the network looks, the worst sentences, lengths."""
        return sections_of(self, examples)


class TranslationTask(Task):
    """Translation."""

    settings = Config
    trained = TrainedTranslator

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks; evaluate and predict have flags of their own."""
        shared = super().verbs()
        own = shared["predict"]._replace(
            settings=Predict, summary="Translate lines: as many come out as go in.", act=answers.predict
        )
        return {**shared, "evaluate": shared["evaluate"]._replace(settings=Evaluate), "predict": own}

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        names = ("train", "valid", "test", "target_from", "valid_target_from", "test_target_from")
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(config.data, name)) for name in names
        }
        return replace(config, data=replace(config.data, **paths))

    def prepare(self, config: Config, codec: Codec | None) -> Pairs:
        """Read and divide the pairs."""
        scores.check_extra()
        return pairs.prepare(config, codec)

    def codec(self, run: Run) -> Codec:
        """Both vocabularies."""
        return pairs.read_codec(run)

    def model(self, config: Config, codec: Codec) -> AttentionEncoderDecoder:
        """The network."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Pairs of like lengths side by side."""
        train, data = prepared.parts["train"], config.data
        lengths = [max(len(a), len(b)) + 1 for a, b in zip(train.sources, train.targets, strict=True)]
        buckets = Buckets(lengths, budget=data.budget, most=data.batch, seed=config.training.seed)

        def batch(epoch: int, index: int) -> PairBatch:
            own = buckets(epoch, index)
            return learning.batch_of([train.sources[i] for i in own], [train.targets[i] for i in own])

        return batch, len(buckets)

    def loss(self, model: Any, batch: PairBatch, state: Any, config: Config) -> StepLoss:
        """Cross entropy of each target token, some of the truth spread over the others."""
        from elman.training.loop import StepLoss

        sampling = learning.sampling_of(model, config.model)
        loss, total, count = learning.loss_of(model, batch, config.data.smoothing, sampling)
        return StepLoss(loss, total, count, ())

    def progress(self, codec: Codec) -> Measure:
        """Perplexity of a target token."""
        from elman.metrics import perplexity
        from elman.training.loop import Measure

        return Measure("perplexity", perplexity, "tokens")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """BLEU, decoded by --validation-beam."""
        if examples is None:
            return None
        search = Search(config.data.validation_beam, banned=banned(codec))
        found = learning.translate(model, examples.sources, search)
        hypotheses = [codec.target.decode(own[0].tokens) for own in found]
        tokenizer = scores.tokenizer_of(config.data.bleu, codec)
        return scores.score_of(hypotheses, examples.references, tokenizer)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Pairs of other files."""
        return pairs.read_part(paths, (), config.data, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterable[Baseline]:
        """The source as it is, and the nearest sentence of the training."""
        return scores.pair_baselines(prepared, scores.tokenizer_of(config.data.bleu, prepared.codec))

    def describe(self, trained: TrainedTranslator, *, steps: int) -> ModelDrawing:
        """Both halves and the attention."""
        return drawing_of(trained, steps=steps)

    def closing(self, trained: TrainedTranslator) -> list[str]:
        """How to go on."""
        path = trained.run.path
        return [f"the run is in {path}; translate lines: elman predict {path} FILE"]
