"""Frozen models without torch: numpy and the compiled core (docs/export.md).

    model = elman.runtime.load("model.elman")
    y, state = model.run(x)                     whole sequences (T, B, I)
    stream = model.stream(batch=1)
    y_t = stream(x_t)                           one step at a time (B, I)

The model of a run has words too: `model.generate("It was ")` of a language model, `model.predict(texts)` of a
classifier of texts.
"""

from elman.runtime.loading import load
from elman.runtime.model import Array, Frozen, FrozenError, Result, Stream

__all__ = ["Array", "Frozen", "FrozenError", "Result", "Stream", "load"]
