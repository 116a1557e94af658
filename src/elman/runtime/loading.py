"""From a file to the model that answers by it."""

from __future__ import annotations

import os

from elman.runtime.model import Frozen

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> Frozen:
    """The model of a frozen file; a `TextWriter` or a `TextClassifier` where it is one of a run with texts.

    FrozenError, a sentence, where the file cannot be read or is damaged or too new.
    """
    model = Frozen(os.fspath(path))
    if model.text("task") in ("language model", "classification"):
        from elman.runtime.texts import predictor

        return predictor(model)
    return model
