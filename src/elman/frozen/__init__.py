"""The way out: a layer or a network as one file, from which it runs without torch (docs/export.md)."""

from elman.frozen.exporting import export, frozen_bytes
from elman.frozen.int8 import in_eight_bits

__all__ = ["export", "frozen_bytes", "in_eight_bits"]
