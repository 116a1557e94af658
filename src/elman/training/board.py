"""The log of a run for TensorBoard, beside log.jsonl: an extra, `elman[tensorboard]`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Board"]

# These say where an event stands, not what was found.
PLACE = {"step", "epoch", "seconds", "higher", "best"}


class Board:
    """Writes the numbers of events as scalars, such as `train/loss`, over the steps."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log of a training that stands at `step`; what lies behind it is hidden from view."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, event: str, entries: Mapping[str, Any]) -> None:
        """Write an event of the log, if it is one of training or validation."""
        if event not in {"train", "valid"}:
            return
        for name, value in entries.items():
            if name not in PLACE and isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(f"{event}/{name}", value, entries["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
