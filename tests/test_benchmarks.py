"""The grid: its cases agree, a wrong one is refused and the others go on, its record survives, its bars are judged."""

import json
import math
import time

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks.grid import command, measure, page, plot
from benchmarks.grid.bars import Bar, judge, judge_record
from benchmarks.grid.catalog import CELLS, CUSTOM
from benchmarks.grid.compiled import GaveUpError, _TimeUp, time_limit
from benchmarks.grid.measure import Bench
from benchmarks.grid.network import MODES, Layer, Mode, Network, Size
from benchmarks.grid.optional import MissingPackageError, package
from benchmarks.grid.peers import PEERS, Limits
from benchmarks.grid.record import Entry, OtherConditionsError, Record, Spot, resumed
from benchmarks.grid.sides import side
from benchmarks.pairing import Case, Effort, Side, assert_same_answers

TINY = Size(4, 3, 6, 8)
GLANCE = Effort(seconds=0.0, rounds=3, most_rounds=3)
LIMITS = Limits(1, 1.0)


def entry(cell: str = "LSTM", speedup: float = 2.0, size: Size = TINY, mode: Mode = "training") -> Entry:
    return Entry(cell, "loop", mode, size, "measured", ours_ms=1.0, theirs_ms=speedup, speedup=speedup)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of one small size, without time."""
    for module in (measure, page):
        monkeypatch.setattr(module, "SIZES", (TINY,))
    for name in ("NOISE_SIZE", "SHARE_SIZE"):
        monkeypatch.setattr(measure, name, TINY)
    monkeypatch.setattr(measure, "PRODUCT_WIDTH", 16)
    monkeypatch.setattr(command, "QUICK", GLANCE)
    monkeypatch.setattr(
        command, "conditions", lambda: {"threads": torch.get_num_threads(), "load before": 0.0}
    )


@pytest.mark.parametrize(
    "cell", ["GRU", "bidirectional LSTM", "ragged LSTM", "zoneout LSTM", "hand-written LSTM"]
)
@pytest.mark.parametrize("mode", MODES)
def test_peers_in_torch_give_the_same_answers(cell: str, mode: Mode) -> None:
    network = CELLS[cell](TINY)
    theirs = [PEERS[peer](network, mode, LIMITS) for peer in ("torch.nn", "elman.nn.LSTM", "loop")]
    compared = [found for found in theirs if found is not None]
    assert compared
    for found in compared:
        ours = side(network.ours, network.x, mode)
        assert_same_answers(Case(cell, ours, found))
        wanted = {"y", "grad x"} if mode == "training" else {"y"}
        assert wanted <= ours.answers().keys()
        assert len(ours.answers()) == (2 + len(network.ours.parameters) if mode == "training" else 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", ["flax", "onnxruntime"])
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "projected LSTM"])
@pytest.mark.parametrize("mode", MODES)
def test_peers_outside_of_torch_give_the_same_answers(cell: str, peer: str, mode: Mode) -> None:
    pytest.importorskip(peer)
    network = CELLS[cell](TINY)
    found = PEERS[peer](network, mode, LIMITS)
    if found is None:
        assert peer == "onnxruntime"
        assert mode == "training" or cell in CUSTOM
        return
    assert_same_answers(Case(cell, side(network.ours, network.x, mode), found))


def test_a_wrong_case_is_refused_and_the_others_go_on(tiny, tmp_path, monkeypatch, capsys) -> None:
    def wrong(network: Network, mode: Mode, limits: Limits) -> Side:
        return side(
            Layer("wrong", lambda x: network.ours.forward(x) + 1, network.ours.parameters), network.x, mode
        )

    def broken(network: Network, mode: Mode, limits: Limits) -> Side:
        raise RuntimeError("no such thing")

    monkeypatch.setitem(PEERS, "torch.nn", wrong)
    monkeypatch.setitem(PEERS, "elman.nn.LSTM", broken)
    words = ["grid", "--quick", "--threads", "1", "--cells", "RNN", "--out", str(tmp_path)]
    assert benchmarks.main([*words, "--peers", "torch.nn,elman.nn.LSTM,loop"]) == 1
    err = capsys.readouterr().err
    assert f"refused: RNN {TINY} training beside torch.nn" in err
    assert "failed: RNN" in err
    assert "no such thing" in err
    record = json.loads((tmp_path / "grid_1_thread.json").read_text())
    found = {(result["peer"], result["mode"]): result["status"] for result in record["results"]}
    assert found["torch.nn", "training"] == "refused"
    assert found["elman.nn.LSTM", "forward"] == "failed"
    assert found["loop", "training"] == found["loop", "forward"] == "measured"
    text = (tmp_path / "grid_1_thread.md").read_text()
    assert "refused" in text
    assert (tmp_path / "grid_1_thread.png").stat().st_size > 1000


def test_resume_measures_the_rest_and_only_it(tiny, tmp_path, monkeypatch) -> None:
    words = [
        "grid",
        "--quick",
        "--threads",
        "1",
        "--cells",
        "LSTM",
        "--peers",
        "loop",
        "--out",
        str(tmp_path),
    ]
    assert benchmarks.main([*words, "--only", "forward"]) == 0
    seen: list[Spot] = []
    measured = Bench.entry

    def watched(bench: Bench, spot: Spot) -> Entry | None:
        seen.append(spot)
        return measured(bench, spot)

    monkeypatch.setattr(Bench, "entry", watched)
    assert benchmarks.main([*words, "--resume"]) == 0
    assert {(spot.mode, spot.peer) for spot in seen} == {
        ("training", "itself"),
        ("training", "torch.mm"),
        ("training", "loop"),
    }
    results = json.loads((tmp_path / "grid_1_thread.json").read_text())["results"]
    assert [result["kind"] for result in results].count("noise") == 2
    share = next(result for result in results if result["kind"] == "share")
    assert share["speedup"] > 0
    assert "GFLOP/s" in share["ours"]
    # 24 T B H (I + H)
    assert measure.lstm_operations(Size(2, 3, 5, 7)) == 24 * 2 * 3 * 7 * 12
    seen.clear()
    assert benchmarks.main([*words, "--resume", "--minutes", "0"]) == 0
    assert not seen


def test_a_record_is_whole_after_every_case_and_keeps_its_conditions(tmp_path) -> None:
    path = tmp_path / "grid.json"
    record = Record(path, {"threads": 1, "commit": "a", "load before": 3.0})
    for number in range(3):
        record.add(entry(size=Size(number + 1, 2, 3, 4)))
        assert len(json.loads(path.read_text())["results"]) == number + 1
        assert list(tmp_path.iterdir()) == [path]
    again = resumed(path, {"threads": 1, "commit": "b", "load before": 0.5})
    assert again.entries == record.entries
    assert again.conditions["commit"] == "a, b"
    with pytest.raises(OtherConditionsError, match="threads 1, now 2"):
        resumed(path, {"threads": 2})


def test_mean_and_worst_are_held_against_the_bars() -> None:
    large = Size(4, 64, 6, 64)
    bars = [Bar(("LSTM",), "loop", "training", 2, 1.5), Bar(("LSTM",), "loop", "training", 2, 1, small=True)]
    refused = Entry("LSTM", "loop", "training", Size(9, 9, 9, 9), "refused")
    whole, small, other = judge(
        [entry(speedup=8.0), refused, entry(speedup=2.0, size=large), entry("GRU")], bars
    )
    assert (whole.cases, whole.worst, whole.worst_size, whole.met) == (2, 2.0, large, True)
    assert math.isclose(whole.mean, 4.0)
    assert (small.small, small.cases, small.worst) == (True, 1, 8.0)
    assert (other.cell, other.bar, other.met) == ("GRU", None, True)
    assert not judge([entry(speedup=9.0), entry(speedup=1.2, size=large)], bars)[0].met
    assert "**1.5 missed**" in page.summary_table(judge([entry(speedup=1.2)], bars))


@pytest.mark.parametrize(("threads", "met"), [(2, False), (1, True)])
def test_the_bars_are_for_two_threads(threads: int, met: bool) -> None:
    record = Record(None, {"threads": threads})
    record.add(Entry("LSTM", "torch.nn", "training", Size(1, 2, 3, 4), "measured", speedup=0.5))
    assert judge_record(record)[0].met is met
    assert ("missed" in page.page(record)) is not met
    assert ("for 2 threads only" in page.page(record)) is met


def test_a_compilation_that_takes_too_long_is_not_tried_over_more_steps(monkeypatch) -> None:
    def endless(network: Network, mode: Mode, limits: Limits) -> Side:
        raise GaveUpError("not compiled after 600 s")

    monkeypatch.setitem(PEERS, "compiled-loop", endless)
    bench = Bench(GLANCE, LIMITS)
    first = bench.entry(Spot("RNN", TINY, "training", "compiled-loop"))
    assert first is not None
    assert first.status == "gave up"
    monkeypatch.setitem(PEERS, "compiled-loop", PEERS["loop"])
    longer = bench.entry(Spot("RNN", TINY._replace(T=5), "training", "compiled-loop"))
    assert longer is not None
    assert "T = 4" in longer.reason
    shorter = bench.entry(Spot("RNN", TINY._replace(T=3), "training", "compiled-loop"))
    assert shorter is not None
    assert shorter.status == "measured"


def test_the_time_limit_rings_and_is_taken_back() -> None:
    with pytest.raises(_TimeUp), time_limit(0.02):
        time.sleep(2)
    with time_limit(0.02):
        pass
    time.sleep(0.03)


def test_a_missing_library_is_said_once(tiny, monkeypatch, capsys) -> None:
    def missing(network: Network, mode: Mode, limits: Limits) -> Side:
        package("no_such_library")
        raise AssertionError

    monkeypatch.setitem(PEERS, "flax", missing)
    with pytest.raises(MissingPackageError, match=r"benchmarks/requirements\.txt"):
        package("no_such_library")
    assert (
        benchmarks.main(["grid", "--quick", "--threads", "1", "--cells", "RNN", "--peers", "loop,flax"]) == 0
    )
    assert capsys.readouterr().out.count("without flax") == 1


@pytest.mark.parametrize("words", [["--cells", "LSTN"], ["--peers", "none"], ["--threads", "3"]])
def test_a_wrong_call_names_what_there_is(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit):
        benchmarks.main(["grid", *words])
    assert "LSTN" not in words or "2-layer LSTM" in capsys.readouterr().err


def test_lanes_keep_cells_together() -> None:
    found = plot.lanes([entry("a"), entry("b"), entry("a", mode="forward")])
    assert [(lane.cell, len(lane.entries)) for lane in found] == [("a", 2), ("b", 1)]
    assert found[1].height > found[0].height + 1
