"""What a model can be asked, by its task."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from elman.config import UserError
from elman.runtime import Frozen, FrozenError, load
from elman.runtime.speech import SoundReader
from elman.serve.batcher import Batcher
from elman.serve.settings import Serve
from elman.serve.translating import Translator
from elman.serve.whole import Whole

__all__ = ["VERBS", "Served", "check_model", "verbs_of"]

# By the class of the model in elman.runtime.
REQUESTS = {
    "TextWriter": ("generate", "score"),
    "TextClassifier": ("classify",),
    "TextTagger": ("tag",),
    "SeriesForecaster": ("forecast",),
    "SeriesClassifier": ("classify",),
    "Translator": ("translate",),
}
VERBS = ("generate", "score", "classify", "tag", "forecast", "translate")


def verbs_of(model: Frozen | Translator) -> tuple[str, ...]:
    """The requests that a model answers, none where it answers no request as a whole."""
    if getattr(model, "target", "") == "anomalies":
        return ()
    return REQUESTS.get(type(model).__name__, ())


def streams(model: Frozen | Translator) -> str:
    """What a session of the model is fed: "text", "audio", "rows", or nothing where it has none."""
    if isinstance(model, Translator) or not model.can_step or model.contexts:
        return ""
    if isinstance(model, SoundReader):
        return "" if model.live else "audio"
    if type(model).__name__ == "TextWriter":
        return "text"
    plain = len(model.inputs) == len(model.outputs) == 1 and len(model.inputs[0].shape) <= 1
    return "rows" if plain and type(model) is Frozen else ""


def check_model(path: Path, settings: Serve) -> Frozen | Translator:
    """The model of a file, or of the run of a translator, if it can be served. Raises UserError, naming what it is."""
    if path.is_dir():
        return Translator(path, settings)
    try:
        model: Frozen = load(path)
    except FrozenError as error:
        raise UserError(f"{path}: {error}") from None
    if not verbs_of(model) and not streams(model):
        raise UserError(
            f"{path} is a frozen model of the task {model.text('task')!r} that answers no requests and takes no single "
            f"steps; elman serve has language models, classifiers, taggers, forecasters, and layers that can be stepped"
        )
    return model


class Served:
    """A model that is served, by its name. hash: of all bytes of its file, which tells whose state a state is."""

    def __init__(self, name: str, path: Path, settings: Serve) -> None:
        self.name = name
        model: Any = check_model(path, settings)  # of the class that its task has in elman.runtime
        self.model = model
        self.hash = model.hash if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        self.verbs, self.streams = verbs_of(self.model), streams(self.model)
        self.batcher: Batcher | None = None
        self.whole: Whole | None = None
        if self.streams:
            self.batcher = Batcher(
                self.model,
                sessions=settings.sessions,
                waiting=settings.waiting,
                widest=settings.widest,
                turn=settings.turn,
            )
        self.series = type(self.model).__name__.startswith("Series")
        if self.verbs and self.streams != "text":
            apart = isinstance(model, Translator)
            self.whole = Whole(model.predict, waiting=settings.waiting, widest=settings.widest, apart=apart)

    @property
    def workers(self) -> list[Batcher | Whole]:
        """Those that compute."""
        return [worker for worker in (self.batcher, self.whole) if worker is not None]

    def described(self) -> dict[str, Any]:
        """For /models."""
        found = {
            "name": self.name,
            "task": self.model.text("task"),
            "hash": self.hash,
            "requests": self.verbs,
            "stream": self.streams or None,
        }
        if self.streams == "audio":
            found |= {"rate": self.model.rate, "seconds": self.model.seconds}
        if self.streams == "rows":
            one, other = self.model.inputs[0], self.model.outputs[0]
            found["input"] = {"shape": one.shape, "dtype": one.dtype.name}
            found["output"] = {"shape": other.shape, "dtype": other.dtype.name}
        return found
