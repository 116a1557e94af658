"""The way out: a layer or a network as one file, from which it runs without torch (docs/export.md)."""

from elman.frozen.exporting import export, frozen_bytes

__all__ = ["export", "frozen_bytes"]
