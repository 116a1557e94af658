"""Config: the settings of a model of measured series."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from elman.config import Amount, Count, Flag, Layers, Share, UserError, Whole, nearest, option
from elman.data.account import OnBad
from elman.data.series import Chosen
from elman.data.table import Given
from elman.tasks.network import CELLS, ClassifierSettings
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["Config", "ModelSettings", "SeriesSettings", "Target"]

Target = Literal["forecast", "classify", "anomalies"]
OF_TIME = ("forecast", "anomalies")
CLASSIFY = ("classify",)


@dataclass(frozen=True)
class SeriesSettings:
    """Which series, how they are read and divided, and what is to be learnt of them."""

    target: Target = option(
        "forecast",
        "what is learnt: the next values, the class of whole series, or what is out of the ordinary",
    )
    train: tuple[str, ...] = option(
        (), "tables with a row for each time; to classify also .ts and .arff", unit="PATH", flag="data"
    )
    valid: tuple[str, ...] = option((), "data to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "data for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    valid_share: Share = option(
        0.15,
        "part kept for validation where --valid is not given: the latest rows before the test",
        unit="SHARE",
    )
    test_share: Share = option(
        0.15, "part kept for the test where no part is given: the latest rows", unit="SHARE"
    )
    valid_rows: Whole = option(
        0, "the same as a number of rows (0: by --valid-share)", unit="ROWS", needs={"target": OF_TIME}
    )
    test_rows: Whole = option(
        0, "the same as a number of rows (0: by --test-share)", unit="ROWS", needs={"target": OF_TIME}
    )
    split_seed: Whole = option(0, "which cases are drawn", unit="NUMBER", needs={"target": CLASSIFY})
    on_bad: OnBad = option(
        "auto",
        "rows that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    encoding: str = option(
        "auto", "encoding of the files (auto: UTF-8, what a mark says, else cp1252)", unit="NAME"
    )
    delimiter: str = option(
        "auto", "between the cells of a row: tab, comma, semicolon, pipe, or a character", unit="SIGN"
    )
    header: Literal["auto", "yes", "no"] = option("auto", "whether the first row names the columns")
    decimal: Literal["auto", "point", "comma"] = option("auto", "the sign before decimals")
    time_column: str = option("", "column of the times (empty: found, or none)", unit="COLUMN")
    time_format: str = option(
        "auto",
        "how times are written: a form such as %%d.%%m.%%Y, or ISO, year, quarter, seconds, number",
        unit="FORM",
    )
    time_zone: str = option(
        "", "zone of times that name none, such as Europe/Berlin (empty: a clock of its own)", unit="ZONE"
    )
    step: Literal["auto", "rows", "seconds", "months"] = option(
        "auto", "the step between rows: found, rows as they follow, a fixed time, or months"
    )
    series_column: tuple[str, ...] = option(
        (), "column that names the series of a long table (none: found)", unit="COLUMN"
    )
    target_column: tuple[str, ...] = option(
        (), "columns to learn (none: all that hold numbers)", unit="COLUMN"
    )
    past_column: tuple[str, ...] = option(
        (), "columns that help, known up to now only", unit="COLUMN", needs={"target": OF_TIME}
    )
    future_column: tuple[str, ...] = option(
        (),
        "columns that help, known ahead of time (a price, a holiday)",
        unit="COLUMN",
        needs={"target": OF_TIME},
    )
    static_column: tuple[str, ...] = option(
        (),
        "columns that say one thing of each series (none: found)",
        unit="COLUMN",
        needs={"target": OF_TIME},
    )
    label_column: str = option(
        "",
        "column of the class, or of the marks of anomalies (empty: found)",
        unit="COLUMN",
        needs={"target": ("classify", "anomalies")},
    )
    wide: Literal["auto", "channels", "series"] = option(
        "auto",
        "columns side by side: channels of one network, or a series each (auto: of more than 16)",
        needs={"target": OF_TIME},
    )
    horizon: Whole = option(
        0,
        "rows ahead (0: a season, at most 24, and at least 4, for anomalies 8)",
        unit="ROWS",
        needs={"target": OF_TIME},
    )
    season: Whole = option(
        0,
        "rows in a season (0: by the step: 12 of months, 24 of hours, ...)",
        unit="ROWS",
        needs={"target": OF_TIME},
    )
    lags: Count = option(
        24, "latest values that the linear map reads", unit="ROWS", needs={"target": OF_TIME}
    )
    calendar: Flag = option(
        True, "tell the network the time of the year, week and day", needs={"target": OF_TIME}
    )
    scale: Literal["series", "all"] = option(
        "series",
        "mean and deviation of each series, or of all together; of training rows only",
        needs={"target": OF_TIME},
    )
    length: Count = option(96, "rows of a training piece", unit="ROWS", needs={"target": OF_TIME})
    batch: Count = option(16, "training pieces, or cases, in a batch", unit="COUNT")
    lay_gaps: Share = option(
        0.0,
        "share of the training pieces over which the gaps of another stretch of the series are laid as well",
        unit="SHARE",
        needs={"target": OF_TIME},
    )
    stride: Count = option(
        1, "rows from one origin of the backtest to the next", unit="ROWS", needs={"target": ("forecast",)}
    )
    false_alarms: Share = option(
        0.002,
        "share of clean rows that may be flagged: sets the threshold",
        unit="SHARE",
        needs={"target": ("anomalies",)},
    )
    recent: Count = option(
        3,
        "latest forecasts of a row that count in its score",
        unit="COUNT",
        needs={"target": ("anomalies",)},
    )
    window: Count = option(
        20, "rows of a window of the window F1", unit="ROWS", needs={"target": ("anomalies",)}
    )
    differences: Flag = option(
        False, "read the change from step to step beside each value", needs={"target": CLASSIFY}
    )
    noise: Amount = option(
        0.0, "deviation of noise on the scaled values in training", unit="SHARE", needs={"target": CLASSIFY}
    )
    frames: Count = option(
        1, "steps that are read side by side as one", unit="STEPS", needs={"target": CLASSIFY}
    )
    each: Literal["data", "case", "none"] = option(
        "data",
        "scale by mean and deviation of the training data, of each case, or not",
        flag="scale-by",
        needs={"target": CLASSIFY},
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                f"--valid-share {self.valid_share:g} and --test-share {self.test_share:g} leave nothing to train on"
            )

    @property
    def chosen(self) -> Chosen:
        """What the user says about the columns."""
        return Chosen(
            self.time_column,
            self.series_column,
            self.target_column,
            self.past_column,
            self.future_column,
            self.static_column,
            self.label_column,
            self.wide,
            self.decimal,
            self.time_format,
            self.time_zone,
            self.step,
        )

    @property
    def given(self) -> Given:
        """What the user says about the form of the tables."""
        return Given(self.delimiter, "auto", self.header)


@dataclass(frozen=True)
class ModelSettings:
    """Values, mask and time since -> recurrent layers -> an outlook on the next values, or a class."""

    cell: str = option(
        "auto",
        "recurrent cell: gru-d, lstm, gru, rnn, ... (auto: gru-d where values are missing, else gru)",
        unit="CELL",
    )
    hidden: Count = option(64, "width of each recurrent layer, in each direction", unit="UNITS")
    layers: Layers = option(1, "recurrent layers on top of each other", unit="COUNT")
    dropout: Share = option(0.2, "part dropped between layers and before the output", unit="SHARE")
    gaps: Literal["auto", "decay", "mask", "mean", "forward"] = option(
        "auto",
        "missing values: decays of a gru-d, mask and time since beside them, the mean or the last value in their place "
        "(auto: decay with gru-d, mask with other cells where values are missing)",
    )
    outlook: Literal["quantiles", "gaussian", "student-t", "negative-binomial"] = option(
        "quantiles", "what is said of the next values: 19 quantiles, or a distribution"
    )
    ahead: Literal["direct", "steps"] = option(
        "direct", "all rows ahead at once, or one by one, the network fed with its own samples"
    )
    paths: Count = option(100, "sampled paths of each forecast", unit="COUNT", needs={"ahead": ("steps",)})
    level: Literal["auto", "level", "change"] = option(
        "auto",
        "whether values or their changes are learnt (auto: as the linear map forecasts the validation rows better)",
    )
    linear: Literal["trained", "frozen", "none"] = option(
        "trained", "the linear map of the last values under the network: trained with it, as it is, or none"
    )
    pooling: str = option(
        "max+mean", "of whole series: last, mean, max, attention, or several joined by +", unit="POOLING"
    )
    bidirectional: Flag = option(True, "read whole series from both ends")
    engine: Literal["elman", "torch"] = option(
        "elman", "recurrent layers of elman.nn, or of torch.nn to compare"
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.cell not in {"auto", "gru-d"} and ":" not in self.cell and self.cell not in CELLS:
            hint = nearest(self.cell, [*CELLS, "gru-d"], form="'{}'")
            raise UserError(
                f"--cell: {self.cell!r} is not one of gru-d, {', '.join(CELLS)}, nor a package.module:Class{hint}"
            )
        if self.cell == "gru-d" and self.gaps not in {"auto", "decay"}:
            raise UserError(
                f"--gaps {self.gaps}: a gru-d has its decays; take --cell gru or another, or leave it out"
            )
        if self.gaps == "decay" and self.cell not in {"auto", "gru-d"}:
            raise UserError(f"--gaps decay is what a gru-d does; take --cell gru-d, not {self.cell}")
        if self.cell == "gru-d" and self.engine == "torch":
            raise UserError("--engine torch: torch.nn has no gru-d; leave it out, or take --cell gru")

    def settled(self, *, missing: bool) -> tuple[str, str]:
        """The cell and what is done with gaps, where values are missing in training or not."""
        if (
            self.gaps == "decay"
            or self.cell == "gru-d"
            or (self.cell == "auto" and self.gaps == "auto" and missing)
        ):
            if self.engine == "torch":
                return "gru", "mask"
            return "gru-d", "decay"
        cell = "gru" if self.cell == "auto" else self.cell
        return cell, ("mask" if missing else "mean") if self.gaps == "auto" else self.gaps

    def classifier(self, cell: str) -> ClassifierSettings:
        """The same as the network of a classifier takes it."""
        return ClassifierSettings(
            cell=cell,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
            pooling=self.pooling,
            bidirectional=self.bidirectional,
            engine=self.engine,
        )


@dataclass(frozen=True)
class Config:
    """The settings of a model of measured series."""

    data: SeriesSettings = field(default_factory=SeriesSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: the loss is a mean over what was observed; leave it out"
            )
        target, model = self.data.target, self.model
        if target == "anomalies" and model.ahead == "steps":
            raise UserError("--ahead steps: anomalies are told by all rows ahead at once; leave it out")
        if target == "classify":
            for name, default in (
                ("outlook", "quantiles"),
                ("ahead", "direct"),
                ("level", "auto"),
                ("linear", "trained"),
            ):
                if getattr(model, name) != default:
                    raise UserError(f"--{name} has no effect with --target classify; leave it out")
            self.model.classifier("gru")
        elif model.pooling != "max+mean" or not model.bidirectional:
            flag = "--pooling" if model.pooling != "max+mean" else "--no-bidirectional"
            raise UserError(
                f"{flag} has no effect with --target {target}: nothing reads the future; leave it out"
            )
        if model.outlook == "negative-binomial" and model.level == "change":
            raise UserError("--level change: counts are learnt as they are; leave it out")
