"""What a task says so that its network can be looked into: sequences as they are read, their steps by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Inside", "Reading", "spread"]


class Reading(NamedTuple):
    """A sequence as the network reads it.

    names: a word for each of T steps. steps: arrays `(T, ...)`, what is read and what is to be said at each step.
    truth: what is to be said of the whole. place: where it comes from. curve: a number for each step, drawn where the
    names say little: a measured value, how loud it is.
    """

    names: tuple[str, ...]
    steps: tuple[npt.NDArray[Any], ...]
    truth: Any = None
    place: str = ""
    curve: tuple[float, ...] = ()

    def cut(self, count: int) -> Reading:
        """Its first steps."""
        return self._replace(
            names=self.names[:count],
            steps=tuple(part[:count] for part in self.steps),
            curve=self.curve[:count],
        )


class Inside:
    """How the network of a task reads: a subclass for each task.

    unit: what steps are, or are named by, in the plural. joined: what stands between two steps of a text.
    dense: whether each step has a name worth reading, as in texts. around: how many steps are shown before and after an
    extreme. within: the part of the network that has the recurrent layers.
    """

    unit = "steps"
    joined = " "
    dense = True
    around = (12, 6)
    within = "recurrent"

    def __init__(self, trained: Any) -> None:
        """Take the trained model of a run."""
        self.trained = trained

    def readings(self, part: Any) -> Iterable[Reading]:
        """Sequences of a part of the data, spread over it."""
        raise NotImplementedError

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """The summed loss of sequences side by side, of any lengths, with the model as it is."""
        raise NotImplementedError

    def of_text(self, text: str) -> Reading:
        """A text of the user's own. Raises UserError where the network reads no texts."""
        raise UserError(
            f"--text: a run of {self.trained.task.name} reads no text; leave it out, or give a FILE"
        )

    def of_file(self, path: str) -> Reading:
        """The first sequence of a file."""
        for items in self.trained.inputs(self.predicting(path)):
            for item in items:
                if not item.fault:
                    return self.of_value(item.value)
        raise UserError(f"{path} has nothing that could be read")

    def predicting(self, path: str) -> Any:
        """The settings under which `elman predict` reads a file."""
        from elman.config import build

        kind = self.trained.task.verbs()["predict"].settings
        return build(kind, {"inputs": (path,)})

    def of_value(self, value: Any) -> Reading:
        """What `elman predict` reads of a file."""
        return self.of_text(str(value))


def spread(count: int, most: int) -> list[int]:
    """At most `most` numbers from 0 to count − 1, evenly."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []
    )
