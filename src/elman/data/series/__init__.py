"""Measured series: tables, `.ts` and `.arff` -> values with gaps on an even grid, and what was found on the way."""

from elman.data.series.cases import Case, read_cases
from elman.data.series.frames import Chosen, Frame, Layout
from elman.data.series.reading import read_series
from elman.data.series.stamps import Step

__all__ = ["Case", "Chosen", "Frame", "Layout", "Step", "read_cases", "read_series"]
