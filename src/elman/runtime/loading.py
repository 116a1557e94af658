"""From a file to the model that answers by it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from elman.runtime.model import Frozen

__all__ = ["load"]

# What makes the model of a task of a `Frozen`; imported when the first of them is loaded.
_CLASSES = {
    "language model": ("texts", "TextWriter"),
    "classification": ("texts", "TextClassifier"),
    "series": ("series", "model_of"),
    "speech": ("speech", "SoundReader"),
    "tagging": ("tagging", "TextTagger"),
}


def load(path: str | os.PathLike[str]) -> Any:
    """The model of a frozen file: a `Frozen`, and of a run a class of its task, which answers as the run.

    FrozenError, a sentence, where the file cannot be read or is damaged or too new.
    """
    model = Frozen(os.fspath(path))
    module, name = _CLASSES.get(model.text("task") or "", ("model", "Frozen"))
    found = getattr(import_module(f"elman.runtime.{module}"), name)
    return found(model)
