"""A run of a translator, which cannot be frozen: served by torch, on one thread, a few lines of a request at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec

from elman.config import UserError

if TYPE_CHECKING:
    from elman.serve.settings import Serve

__all__ = ["Line", "Translate", "Translator", "is_translator"]

TASK = "translation"
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Translate(msgspec.Struct, forbid_unknown_fields=True):
    """Lines, and how translations are searched for: the flags of `elman predict`."""

    texts: Annotated[list[str], msgspec.Meta(min_length=1)]
    beam: Count = 5
    n_best: Count = 1
    length_penalty: Amount = 0.6
    coverage_penalty: Amount = 0.0
    no_repeat: Whole = 0
    copy_unknown: bool = True
    tokenize: bool = False
    detokenized: bool = False

    def flags(self) -> tuple[tuple[str, Any], ...]:
        """All but the lines."""
        names = (name for name in self.__struct_fields__ if name != "texts")
        return tuple((name, getattr(self, name)) for name in names)


class Line(NamedTuple):
    """A line, and `Translate.flags` of its request."""

    text: str
    flags: tuple[tuple[str, Any], ...]


def is_translator(path: Path, settings: Serve) -> bool:
    """Whether a folder is a run of this task. UserError where it is no run."""
    from elman.tasks.base import open_run

    return open_run(path, trust=settings.allow_code)[1].name == TASK


class Translator:
    """What `Served` needs of a model. UserError for a run that cannot be loaded."""

    can_step, contexts, live = False, (), ""

    def __init__(self, path: Path, settings: Serve) -> None:
        import torch

        from elman.tasks.base import load_run, open_run

        # As many processes as cores, and each on its own.
        torch.set_num_threads(1)
        run, task = open_run(path, trust=settings.allow_code)
        self._trained = load_run(run, task, checkpoint=settings.checkpoint, device="cpu")
        self._flags = task.verbs()["predict"].settings
        weights = run.best if settings.checkpoint == "best" and run.best.exists() else run.last
        parts = [(path / "run.json").read_bytes(), weights.read_bytes()]
        self.hash = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        # The first call takes longest: a step is traced, and its check compiled.
        self.predict([Line("a", Translate(texts=["a"]).flags())])

    def text(self, key: str) -> str | None:
        """As of a frozen file."""
        return {"task": TASK}.get(key)

    def predict(self, lines: Sequence[Line]) -> list[Any]:
        """An answer to each line of one request, as `elman predict --json` has it."""
        flags = self._flags(**dict(lines[0].flags))
        found = []
        for answer in self._trained.answer([line.text for line in lines], flags):
            if isinstance(answer, str):
                raise UserError(answer)
            found.append(dict(answer.data))
        return found
