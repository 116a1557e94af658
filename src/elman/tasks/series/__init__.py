"""Measured series: what comes next, which class a series is of, what is out of the ordinary.

values, mask, time since -> recurrent layers -> quantiles of the next values, or a class
"""

from elman.tasks.series.task import SeriesTask, TrainedSeries

__all__ = ["TASK", "SeriesTask", "TrainedSeries"]

TASK = SeriesTask
