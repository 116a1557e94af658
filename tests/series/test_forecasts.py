"""Forecasts: no future leaks, rows by themselves give what the whole gives, what is missing does not count."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.config import UserError, build
from elman.data.series import Frame, Step
from elman.data.series.stamps import Clock, written
from elman.nn import Forecaster, LaggedMap
from elman.nn.cells import Observed
from elman.tasks.series import learning, maps, panel, scores
from elman.tasks.series.settings import Config
from tests.series.conftest import SMALL, hourly


def write(path: Path, values: list[float | None]) -> None:
    path.write_text("\n".join(["value", *("" if v is None else f"{v:.6f}" for v in values), ""]))


def config(path: Path, **more: Any) -> Config:
    values = {"data.train": (str(path),), "data.season": 24, "data.horizon": 5, "model.hidden": 6, **more}
    found: Config = build(Config, values)
    return found


def test_it_beats_the_season_before_and_says_what_stands_beside(folder: Path) -> None:
    trained = package.load(folder / "run")
    score = trained.evaluate()
    beside = {known.name: known.score.value for known in trained.baselines() if known.part == "test"}
    naive = next(value for name, value in beside.items() if name.startswith("seasonal naive"))
    assert score.name == "MASE"
    assert score.value < naive
    low, high = score.interval
    assert low <= score.value <= high
    assert {"sMAPE", "MSE", "MAE", "CRPS", "coverage_80", "coverage_90", "rows_ahead"} <= score.figures.keys()
    assert any("price" in line and "known ahead" in line for line in trained.run.entry("account"))


@pytest.mark.parametrize("ahead", ["direct", "steps"])
@pytest.mark.parametrize("level", ["level", "change"])
def test_a_changed_future_changes_nothing_before_it(here: Path, ahead: str, level: str) -> None:
    """All values from a row of the test part on are others: what was learnt and said before stays as it is."""
    values: list[float | None] = [*hourly(200)]
    values[50:55] = [None] * 5
    cut = 180
    write(here / "a.csv", values)
    write(here / "b.csv", [*values[:cut], *(1000.0 + 7 * t for t in range(20))])
    found = []
    for name in ("a.csv", "b.csv"):
        own = config(here / name, **{"model.ahead": ahead, "model.level": level, "model.paths": 8})
        prepared = panel.prepare(own, None)
        torch.manual_seed(0)
        model = learning.build_forecaster(own, prepared.codec)
        torch.nn.init.normal_(model.head.weight, std=0.3)
        test = prepared.parts["test"]
        rows = np.arange(test.starts[0] - 1, cut)
        q = learning.forecasts(model, prepared.codec, test, own, [rows]).q
        batch = learning.Pieces(own, prepared)(1, 0)
        found.append((prepared.codec.to_json(), batch, q))
    assert found[0][0] == found[1][0]
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found[0][1], found[1][1], strict=True))
    np.testing.assert_array_equal(found[0][2], found[1][2])


def test_training_pieces_end_where_training_ends(here: Path) -> None:
    write(here / "a.csv", hourly(200))
    own = config(here / "a.csv")
    prepared = panel.prepare(own, None)
    values = prepared.codec.scale("").down(prepared.parts["train"].frames[0].values)[:140, 0]
    batches = learning.Pieces(own, prepared)
    for index in range(4):
        batch = batches(1, index)
        known = batch.y[np.isfinite(batch.y)]
        assert known.max() <= np.float32(values.max())
        assert np.isin(known, values.astype(np.float32)).all()
        assert np.isnan(batch.y[: prepared.codec.lags]).all()


def test_rows_one_by_one_give_the_forecast_of_the_whole(folder: Path, here: Path) -> None:
    """Also over gaps, of two series in turns, and with the columns in another order."""
    trained = package.load(folder / "run")
    whole = json_lines("predict", folder / "run", folder / "shops.csv", "--json")
    assert [one["series"] for one in whole] == ["north", "south"]
    lines = (folder / "shops.csv").read_text().splitlines()
    rows = [line.split(";") for line in lines[1:]]
    rows.sort(key=lambda row: row[0])
    swapped = ["sold;price;kind;shop;hour", *(";".join(reversed(row)) for row in rows)]
    for name, text in (("in.txt", [lines[0], *(";".join(row) for row in rows)]), ("other.txt", swapped)):
        Path(name).write_text("\n".join([*text, ""]))
        found = json_lines("predict", folder / "run", name, "--json", "--together", 7)
        assert len(found) == len(rows)
        for one in whole:
            last = [row for row in found if row["series"] == one["series"]][-1]
            assert last["after"] == one["after"]
            assert_near(last["forecast"]["sold"], one["forecast"]["sold"])
    assert trained.predict(lines[1])["series"] == "north"


def assert_near(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [row["time"] for row in found] == [row["time"] for row in wanted]
    for word in ("median", "low", "high"):
        np.testing.assert_allclose([r[word] for r in found], [r[word] for r in wanted], rtol=1e-4)


def json_lines(*arguments: object) -> list[Any]:
    done = elman(*arguments)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_bad_rows_have_their_reason_in_their_place(folder: Path) -> None:
    rows = [
        "2024-02-01 00:00;north;big;1;3,5",
        "soon;north;big;1;3",
        "a;b",
        "2024-02-01 00:00;north;big;1;4",
        "",
    ]
    found = package.load(folder / "run").predict(rows)
    assert "forecast" in found[0]
    said = [one.get("error", "") for one in found[1:]]
    assert said == [
        "no time in 'soon'",
        "not 5 cells",
        "its time does not lie behind that of the row before",
        "empty row",
    ]


def test_history_and_new_rows_and_a_table_of_answers(folder: Path, here: Path) -> None:
    lines = (folder / "shops.csv").read_text().splitlines()
    more = "2024-01-10 04:00;north;big;1;12,0"
    Path("more.txt").write_text(more + "\n")
    (dark,) = json_lines("predict", folder / "run", "more.txt", "--json")
    (known,) = json_lines(
        "predict", folder / "run", "more.txt", "--json", "--history", folder / "shops.csv", "--to", "out.csv"
    )
    Path("all.csv").write_text("\n".join([*lines, more, ""]))
    whole = json_lines("predict", folder / "run", "all.csv", "--json")[0]
    assert_near(known["forecast"]["sold"], whole["forecast"]["sold"])
    assert known != dark
    table = Path("out.csv").read_text().splitlines()
    assert table[0] == "place,series,target,ahead,time,median,low,high"
    assert len(table) == 5
    Path("all.txt").write_text("\n".join([*lines, more, ""]))
    found = json_lines("predict", folder / "run", "all.txt", "--json", "--new")
    assert [one.get("error") for one in found].count(None) == 1
    assert_near(found[-1]["forecast"]["sold"], whole["forecast"]["sold"])


def test_what_is_missing_costs_nothing(here: Path) -> None:
    """The loss of a batch is that of its observed values alone; where nothing was observed it has no gradient."""
    write(here / "a.csv", [None if t % 3 == 0 else v for t, v in enumerate(hourly(200))])
    own = config(here / "a.csv")
    prepared = panel.prepare(own, None)
    model = learning.build_forecaster(own, prepared.codec)
    assert own.model.settled(missing=prepared.codec.missing) == ("gru-d", "decay")
    batch = learning.Pieces(own, prepared)(1, 0)
    total, count = learning.loss_of(model, batch)
    assert count == np.isfinite(batch.y).sum()
    nothing = batch._replace(y=np.full_like(batch.y, np.nan))
    total, count = learning.loss_of(model, nothing)
    assert (float(total.detach()), count) == (0.0, 0)
    total.backward()
    assert all(p.grad is None or not p.grad.isnan().any() for p in model.parameters())


def test_laid_gaps_hide_what_is_still_to_be_told(here: Path) -> None:
    """A piece lacks what another stretch lacks as well, and nothing else differs: not the values that count."""
    draw = np.random.default_rng(0)
    values: list[float | None] = [None if draw.random() < 0.3 else v for v in hourly(200)]
    values[60:70] = [None] * 10
    write(here / "a.csv", values)
    plain = config(here / "a.csv", **{"data.batch": 1})
    prepared = panel.prepare(plain, None)
    gaps = np.isnan(prepared.parts["train"].frames[0].values[:140, 0])
    usual = learning.Pieces(plain, prepared)
    laid = learning.Pieces(config(here / "a.csv", **{"data.batch": 1, "data.lay_gaps": 0.99}), prepared)
    more = 0
    for index in range(20):
        own, other = usual(1, index), laid(1, index)
        np.testing.assert_array_equal(other.y, own.y)
        np.testing.assert_array_equal(other.known, own.known)
        seen, kept = np.isfinite(own.x[:, 0, 0]), np.isfinite(other.x[:, 0, 0])
        np.testing.assert_array_equal(other.x[kept], own.x[kept])
        assert not (kept & ~seen).any()
        more += int((seen & ~kept).sum())
        # What was laid over the piece is the series' own pattern, moved on.
        here_is = [np.roll(gaps, -by)[: len(kept)] for by in range(len(gaps))]
        assert any((kept == seen & ~there).all() for there in here_is)
        rows = np.flatnonzero(kept)
        for t in range(rows[0] + 1, np.flatnonzero(seen).max() + 1):
            assert other.since[t, 0, 0] == t - rows[rows < t].max()
    assert more > 100


@pytest.mark.parametrize("outlook", ["quantiles", "gaussian", "student-t", "negative-binomial"])
@pytest.mark.parametrize("ahead", ["direct", "steps"])
def test_every_outlook_learns_and_forecasts(here: Path, outlook: str, ahead: str) -> None:
    write(here / "a.csv", [float(max(0, round(3 * v - 10))) for v in hourly(160)])
    more = {
        "model.outlook": outlook,
        "model.ahead": ahead,
        "model.paths": 20,
        "data.horizon": 3,
        "data.batch": 4,
    }
    own = config(here / "a.csv", **more)
    prepared = panel.prepare(own, None)
    torch.manual_seed(0)
    model = learning.build_forecaster(own, prepared.codec)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    pieces, losses = learning.Pieces(own, prepared), []
    for step in range(12):
        total, count = learning.loss_of(model, pieces(1, step % 4))
        losses.append(float(total.detach()) / count)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    part = prepared.parts["test"]
    rows = learning.origins_of(part, 3, 4)
    found = learning.forecasts(model, prepared.codec, part, own, rows)
    assert found.q.shape == (len(rows[0]), 3, 1, 19)
    assert (np.diff(found.q, axis=-1) >= -1e-9).all()
    score = scores.forecast_score(prepared.codec, part, found)
    assert score.value < 2
    assert math.isfinite(score.figures["CRPS"])


def test_the_untrained_network_is_the_ridge_map(here: Path) -> None:
    write(here / "a.csv", hourly(200))
    for level in ("level", "change"):
        own = config(here / "a.csv", **{"model.level": level})
        prepared = panel.prepare(own, None)
        codec, part = prepared.codec, prepared.parts["test"]
        model = learning.build_forecaster(own, codec)
        rows = learning.origins_of(part, codec.horizon, 1)
        q = learning.forecasts(model, codec, part, own, rows).q[..., scores.MEDIAN]
        scaled = codec.scale("").down(part.frames[0].values)
        wanted = codec.scale("").up(codec.map(maps.windows_of(scaled, codec.lags, rows[0])))
        np.testing.assert_allclose(q, wanted, rtol=1e-4)


def test_mase_is_one_for_the_rule_that_it_is_measured_in() -> None:
    """Of a series whose seasonal errors are all alike; and by hand on three values."""
    values = np.array([[float(t // 4)] for t in range(40)])
    np.testing.assert_allclose(maps.seasonal_error(values, 4), [1.0])
    rows = np.arange(20, 30)
    naive = maps.seasonal_naive(values, 4, 4, rows)
    assert np.abs(naive - maps.targets_of(values, 4, rows)).mean() == 1.0
    assert maps.seasonal_naive(values, 4, 6, np.array([11]))[0, :, 0].tolist() == [2, 2, 2, 2, 2, 2]


def test_windows_read_nothing_behind_their_origin() -> None:
    values = np.array([[np.nan], [2.0], [np.nan], [4.0], [5.0]])
    found = maps.windows_of(values, 3, np.arange(5))[:, 0]
    assert found.tolist() == [[0, 0, 0], [2, 2, 2], [2, 2, 2], [2, 2, 4], [2, 4, 5]]


def test_a_network_of_torch_and_other_cells(here: Path) -> None:
    write(here / "data.csv", hourly(160))
    for more in (
        ["--cell", "lstm", "--engine", "torch"],
        ["--cell", "minimal-gated", "--ahead", "steps", "--paths", 8],
    ):
        done = elman(
            "train", "series", "--data", "data.csv", "--run", "run", "--overwrite", *SMALL, "--season", 24,
            "--horizon", 2, "--max-steps", 2, "--stride", 5, *more,
        )  # fmt: skip
        assert done.code == 0, done.err
        one, other = package.load("run").predict(["10", "11.5"]), package.load("run").predict([10.0, 11.5])
        np.testing.assert_allclose(
            [row["median"] for row in one[-1]["forecast"]["value"]],
            [row["median"] for row in other["forecast"]["value"]],
            rtol=1e-4,
        )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--horizon", 200], "--horizon 200"),
        (["--cell", "gru-d", "--gaps", "mean"], "a gru-d has its decays"),
        (["--cell", "grud"], "did you mean 'gru-d'"),
        (["--outlook", "negative-binomial"], "values below 0"),
        (["--test-rows", 159], "leave"),
        (["--pooling", "last"], "nothing reads the future"),
        (["--paths", 7], "--paths has no effect"),
        (["--differences"], "--differences has no effect"),
        (["--target-column", "valu"], "did you mean value"),
        (["--target", "anomalies", "--ahead", "steps"], "all rows ahead at once"),
    ],
)
def test_mistakes_end_in_a_sentence(here: Path, flags: list[Any], said: str) -> None:
    write(here / "data.csv", [v - 10 for v in hourly(160)])
    done = elman("train", "series", "--data", "data.csv", "--run", "run", *SMALL, *flags)
    assert done.code == 2
    assert said in done.err
    assert not Path("run").exists()


def test_a_gap_in_irregular_times_is_told(here: Path) -> None:
    draw = np.random.default_rng(0)
    times = np.cumsum(draw.exponential(1, 120))
    rows = [f"{t:.3f},{math.sin(t):.4f}" for t in times]
    (here / "a.csv").write_text("\n".join(["t,v", *rows, ""]))
    prepared = panel.prepare(config(here / "a.csv", **{"data.season": 1}), None)
    codec = prepared.codec
    assert (codec.step.kind, codec.known) == ("irregular", 1)
    numbers = panel.encode(prepared.parts["train"].frames[0], codec)
    np.testing.assert_allclose(np.expm1(numbers.known[1:, 0]) * codec.step.size, np.diff(times), atol=2e-3)
    np.testing.assert_allclose(numbers.since[1:, 0] * codec.step.size, np.diff(times), atol=2e-3)


def test_a_series_that_nobody_knows_is_scaled_as_all_are() -> None:
    frame = Frame(
        "new", np.ones((3, 1)), np.arange(3.0), np.ones(3), Step("rows"), Clock("number"), [None] * 3
    )
    assert frame.missing == 0.0
    assert len(frame.part(1)) == 2


def test_a_constant_series_has_no_season_to_be_measured_in(here: Path) -> None:
    """MASE is the MAE there; the seasonal rule, which has no error, is what the network does not beat."""
    write(here / "data.csv", [5.0] * 120)
    done = elman(
        "train", "series", "--data", "data.csv", "--run", "run", *SMALL, "--horizon", 4, "--max-steps", 2
    )
    assert done.code == 0, done.err
    score = package.load("run").evaluate()
    assert math.isfinite(score.value)
    assert score.value == pytest.approx(score.figures["MAE"])
    assert "nan" not in done.err


def test_where_no_value_of_the_test_is_known_nothing_is_beaten(here: Path) -> None:
    """And a horizon that is longer than a part is said to be."""
    write(here / "data.csv", [v if t < 80 else math.nan for t, v in enumerate(hourly(120))])
    done = elman(
        "train", "series", "--data", "data.csv", "--run", "run", *SMALL, "--horizon", 20, "--max-steps", 2
    )
    assert done.code == 0, done.err
    assert "does not beat" not in done.err
    lines = panel.prepare(config(here / "data.csv", **{"data.horizon": 20}), None).lines()
    assert any("the test part has 18 rows of a series at most" in line for line in lines)
    assert package.load("run").evaluate().interval is None


@pytest.mark.parametrize("unit", [1e-25, 1e-6, 1e25])
def test_the_unit_of_the_values_does_not_matter(here: Path, unit: float) -> None:
    found_scores = []
    for name, by in (("plain", 1.0), ("other", unit)):
        rows = [f"{t},{by * v!r}" for t, v in enumerate(hourly(120))]
        (here / f"{name}.csv").write_text("\n".join(["t,v", *rows, ""]))
        prepared = panel.prepare(config(here / f"{name}.csv"), None)
        torch.manual_seed(0)
        model = learning.build_forecaster(config(here / f"{name}.csv"), prepared.codec)
        part = prepared.parts["valid"]
        found = learning.forecasts(
            model, prepared.codec, part, config(here / f"{name}.csv"), learning.origins_of(part, 5, 1)
        )
        found_scores.append(scores.forecast_score(prepared.codec, part, found).value)
    assert found_scores[1] == pytest.approx(found_scores[0], rel=1e-4)


def test_a_far_time_ends_in_no_accident(here: Path) -> None:
    """9999-12-31 stands for never in many tables."""
    days = [f"2024-{1 + t // 28:02d}-{1 + t % 28:02d}" for t in range(100)]
    rows = [f"{day},{v:.3f}" for day, v in zip([*days, "9999-12-31"], hourly(101), strict=True)]
    (here / "a.csv").write_text("\n".join(["date,v", *rows, ""]))
    prepared = panel.prepare(config(here / "a.csv"), None)
    assert np.isfinite(panel.encode(prepared.parts["test"].frames[0], prepared.codec).known).all()
    end = datetime(9999, 12, 1, tzinfo=UTC).timestamp()
    assert written(Step("months").after(end, 3), Clock("ISO")) <= "9999-12-31"


def test_a_column_with_nothing_to_learn_from_is_named(here: Path) -> None:
    rows = [f"{t},{v:.3f},{v if t > 100 else ''}" for t, v in enumerate(hourly(120))]
    (here / "a.csv").write_text("\n".join(["t,v,w", *rows, ""]))
    with pytest.raises(UserError, match="no value of 'w'"):
        panel.prepare(config(here / "a.csv"), None)
    panel.prepare(config(here / "a.csv", **{"data.target_column": ("v",)}), None)


@pytest.mark.parametrize(("relative", "share"), [(True, math.exp(-3)), (False, 1.0)])
def test_a_change_is_not_said_again_in_a_gap(relative: bool, share: float) -> None:
    """Where changes are read, a GRU-D starts out taking a missing one for nearly none; where values, for the last."""
    weight = torch.zeros(1, 2, 4)
    linear = LaggedMap(weight, weight[..., 0], torch.ones(1, 2), relative=relative, frozen=True)
    model = Forecaster(1, 0, 0, linear, torch.ones(1), hidden=4)
    (cell,) = model.recurrent[0].cells
    with torch.no_grad():
        cell.weight_ih[:, 1:] = 0.0  # What the mask says by itself.
        last, zero, one = torch.tensor([[2.0]]), torch.zeros(1, 1), torch.ones(1, 1)
        h = torch.zeros(1, 4)
        missing, _ = cell(Observed(zero, zero, zero), (h, last))
        told, _ = cell(Observed(share * last, one, zero), (h, zero))
    torch.testing.assert_close(missing, told)


def test_the_split_needs_rows(here: Path) -> None:
    write(here / "a.csv", hourly(9))
    with pytest.raises(UserError, match="to train on"):
        panel.prepare(config(here / "a.csv"), None)
