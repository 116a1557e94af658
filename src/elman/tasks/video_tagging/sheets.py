"""`elman sheet RUN FILE|FOLDER`: pictures of clips with the chances of the tags over time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from elman.config import Count, option
from elman.data.inputs import check_inputs
from elman.files import write_bytes
from elman.tasks.verbs import CHECKPOINT
from elman.tasks.video_tagging import answers, learning
from elman.tasks.video_tagging.answers import Predict
from elman.tasks.video_tagging.sheet import Shown, sheet

if TYPE_CHECKING:
    from elman.tasks.video_tagging.task import TrainedVideoTagger

__all__ = ["Sheet", "write_sheets"]


@dataclass(frozen=True)
class Sheet:
    """Flags of `elman sheet`."""

    inputs: tuple[str, ...] = option(
        (), "clips, folders of them, or - for lines that name clips", unit="FILE|FOLDER|-", positional=True
    )
    to: str = option(".", "folder that gets a picture for each clip", unit="FOLDER")
    most: Count = option(50, "clips that are drawn, at most", unit="COUNT")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)

    def check(self) -> None:
        """Raise UserError for an input that is not there."""
        check_inputs(self.inputs)


def write_sheets(trained: TrainedVideoTagger, settings: Sheet) -> Iterator[str]:
    """Draw each clip; gives the pictures' paths, a line each. What cannot be drawn is named on standard error."""
    folder, left = Path(settings.to), settings.most
    folder.mkdir(parents=True, exist_ok=True)
    codec, config = trained.codec, trained.config
    for items in trained.inputs(Predict(inputs=settings.inputs)):
        for item in items[:left]:
            (found,) = [item.fault] if item.fault else answers.seen([item.value], codec, config)
            if isinstance(found, str):
                sys.stderr.write(f"{item.place}: {found}\n")
                continue
            name = item.value if isinstance(item.value, str) else str(item.value.path)
            side = config.frames.size
            # What has changed since other frames lies behind the frame itself.
            frames = found.rows[:, : codec.width or 3 * side**2]
            frames = frames if codec.width else frames.reshape(-1, side, side, 3)
            p = learning.over_time(trained.model, codec, found.rows)
            shown = Shown(
                Path(name).name, frames, p, codec.labels.names, found.rate, skeleton=config.frames.skeleton()
            )
            path = folder / f"{Path(name).stem}.png"
            write_bytes(path, sheet(shown))
            yield f"{path}\n"
        left -= len(items)
        if left <= 0:
            return
