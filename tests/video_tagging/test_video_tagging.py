"""Video tagging from files to answers: what is learnt, what is said of clips whole and as they come; refusals."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman as package
from command import elman
from elman.data.pictures import Fitting
from elman.data.video import Stretch, read_features
from elman.data.video.decoding import decode
from elman.tasks.video_tagging.footage import stretches_of
from tests.video_tagging.made import way_of, write_features, write_film, write_sound

# The least training of all.
TINY = ["--size", "16", "--channels", "4", "--epochs", "1", "--engine", "torch", "--quiet", "--threads", "1"]


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return folder


def test_a_direction_is_learnt_that_no_frame_shows(here: Path) -> None:
    rows = package.load("rows").evaluate()
    assert (rows.name, rows.value) == ("accuracy", pytest.approx(1.0, abs=0.2))
    films = package.load("run").evaluate()
    assert films.name == "mAP"
    assert films.value > 0.8
    assert set(films.figures["tags"]) == {"up", "down"}


def test_a_group_is_on_one_side(here: Path) -> None:
    account = json.loads(Path("rows/run.json").read_text())["account"]
    assert any("test: 1 of person, 0 of them in the training data" in line for line in account)
    assert any("a row a frame" in line for line in account)


def test_clips_tables_and_folders_are_answered(here: Path) -> None:
    write_features(Path("more"), 6)
    found = [json.loads(line) for line in elman("predict", "rows", "more", "--json").out.splitlines()]
    assert [Path(one["clip"]).name for one in found] == [f"{n}.csv" for n in range(6)]
    assert sum(one["label"] == way_of(n) for n, one in enumerate(found)) >= 5
    table = elman("predict", "rows", "frames.csv").out.splitlines()
    assert len(table) == 60
    one = elman("predict", "rows", "more/3.csv", "--json", "--times").out
    chances = json.loads(one)
    assert len(chances["over_time"]["up"]) == len(read_features(Path("more/3.csv")))
    assert chances["over_time"]["up"][-1] == pytest.approx(chances["probabilities"]["up"], abs=2e-4)


def watched(run: str, given: str, stdin: bytes = b"", monkeypatch: Any = None) -> list[dict[str, Any]]:
    if stdin:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    done = elman("watch", run, given, "--format", "json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_frames_as_they_come_say_what_the_whole_says(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_features(Path("more"), 6)
    for given, run in (("more/3.csv", "rows"), (str(next(Path("films/up").glob("*.mp4"))), "run")):
        whole = package.load(run).predict(given, times=True)
        names = list(whole["over_time"])
        from_file = watched(run, given)
        from_pipe = watched(run, "-", Path(given).read_bytes(), monkeypatch)
        for steps in (from_file, from_pipe):
            assert len(steps) == len(whole["over_time"][names[0]])
            for name in names:
                said = [step["probabilities"][name] for step in steps]
                np.testing.assert_allclose(said, whole["over_time"][name], atol=2e-4)


def test_a_network_of_both_directions_cannot_watch(here: Path) -> None:
    flags = [
        "--epochs",
        "1",
        "--hidden",
        "4",
        "--engine",
        "torch",
        "--threads",
        "1",
        "--quiet",
        "--overwrite",
    ]
    done = elman("train", "video-tagging", "--data", "frames.csv", "--run", "both", *flags)
    assert done.code == 0, done.err
    write_features(Path("more"), 6)
    done = elman("watch", "both", "more/1.csv")
    assert done.code == 2
    assert "reads from both ends" in done.err
    # Over time it reads each beginning anew; the last is the whole.
    found = package.load("both").predict("more/1.csv", times=True)
    assert found["over_time"]["up"][-1] == pytest.approx(found["probabilities"]["up"], abs=2e-4)


def test_stretches_of_time_are_learnt_and_given_back(here: Path) -> None:
    rows = ["clip,frame,x,y,label"]
    draw = np.random.default_rng(0)
    for clip in range(40):
        begin, end = sorted(draw.choice(np.arange(2, 14), 2, replace=False))
        for t in range(16):
            moves = begin <= t < end
            rows.append(
                f"c{clip},{t},{moves * 2 + draw.normal(0, 0.2):.3f},{draw.normal():.3f},{'wave' if moves else ''}"
            )
        rows[-1] = rows[-1][: rows[-1].rindex(",")] + ",rest"
    Path("stretches.csv").write_text("\n".join([*rows, ""]))
    flags = ["--target", "steps", "--epochs", "12", "--hidden", "8", "--rate", "0.03", "--feature-rate", "2"]
    flags += [
        "--no-bidirectional",
        "--engine",
        "torch",
        "--threads",
        "1",
        "--quiet",
        "--overwrite",
        "--dropout",
        "0",
    ]
    done = elman("train", "video-tagging", "--data", "stretches.csv", "--run", "parts", *flags)
    assert done.code == 0, done.err
    trained = package.load("parts")
    score = trained.evaluate()
    assert score.figures["tags"]["wave"]["AP"] > 0.9
    assert score.figures["steps"] % 16 == 0
    clip = next(item for items in trained.inputs(_settings("stretches.csv")) for item in items)
    waves = [one for one in trained.predict([clip.value])[0]["stretches"] if one["tag"] == "wave"]
    truth = [t / 2 for t, row in enumerate(rows[1:17]) if row.endswith("wave")]
    assert max(waves, key=lambda one: one["end"] - one["start"])["start"] == pytest.approx(truth[0], abs=1.0)


def _settings(path: str) -> Any:
    from elman.tasks.video_tagging.answers import Predict

    return Predict(inputs=(path,))


def test_a_step_has_the_tags_of_its_time() -> None:
    numbers = {"a": 0, "b": 1}
    found = stretches_of([Stretch("a", 0.5, 1.5), Stretch("b", 1.6, 1.7), Stretch("a", 2.5)], numbers, 6, 2.0)
    np.testing.assert_array_equal(found.T, [[0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0]])


def test_what_cannot_be_used_is_named_with_its_file(here: Path) -> None:
    home = Path("bad")
    for way in ("up", "down"):
        (home / way).mkdir(parents=True, exist_ok=True)
        for number, film in enumerate(sorted((here / "films" / way).glob("*.mp4"))[:8]):
            (home / way / f"{number}.mp4").write_bytes(film.read_bytes())
    write_sound(home / "up" / "sound.mp4")
    (home / "down" / "cut.mp4").write_bytes((home / "down" / "0.mp4").read_bytes()[:300])
    done = elman("train", "video-tagging", "--data", home, "--run", "refused", *TINY)
    assert done.code == 2
    assert "sound alone" in done.err
    assert "up/sound.mp4" in done.err
    done = elman("train", "video-tagging", "--data", home, "--run", "taken", "--on-bad", "skip", *TINY)
    assert done.code == 0, done.err
    account = json.loads(Path("taken/run.json").read_text())["account"]
    assert any(line.startswith("read 18 clips, used 16, left out 2") for line in account)


def test_a_film_that_breaks_off_ends_the_training_or_is_found_before(here: Path) -> None:
    home = Path("broken")
    for way in ("up", "down"):
        (home / way).mkdir(parents=True, exist_ok=True)
        for number, film in enumerate(sorted((here / "films" / way).glob("*.mp4"))[:8]):
            (home / way / f"{number}.mp4").write_bytes(film.read_bytes())
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(40)]
    write_film(home / "up" / "whole.mkv", noise, [k / 8 for k in range(40)])
    whole = bytearray((home / "up" / "whole.mkv").read_bytes())
    (home / "up" / "whole.mkv").unlink()
    # All packets are there, and from the middle on they cannot be decoded.
    at = len(whole) // 3
    whole[at:-2000] = bytes(len(whole) - at - 2000)
    (home / "up" / "cut.mkv").write_bytes(whole)
    flags = [*TINY, "--on-bad", "skip", "--valid-share", "0", "--test-share", "0"]
    done = elman("train", "video-tagging", "--data", home, "--run", "found", "--decode", "first", *flags)
    assert done.code == 0, done.err
    account = " ".join(json.loads(Path("found/run.json").read_text())["account"])
    assert "cut.mkv" in account


def test_a_contact_sheet_is_a_picture_of_each_clip(here: Path) -> None:
    film = next(Path("films/down").glob("*.mp4"))
    done = elman("sheet", "run", film, "--to", "sheets")
    assert done.code == 0, done.err
    (path,) = done.out.split()
    assert Path(path).read_bytes()[:4] == b"\x89PNG"
    report = Path("run/report.html").read_text()
    assert report.count("data:image/png;base64,") == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "frames.csv", "--torso", "1", "2"], "--joints"),
        (["--data", "frames.csv", "--joints", "2", "--median", "2"], "odd"),
        (["--data", "frames.csv", "--test-where", "person"], "FIELD=VALUE"),
        (["--data", "frames.csv", "--test-where", "persn=1"], "no field 'persn'"),
        (["--data", "frames.csv", "--target", "steps", "--labels", "one"], "--labels one"),
        (["--data", "more/0.csv"], "no column"),
        (
            ["--data", "films", "--differences", "1", "--encoder", "pretrained"],
            "reads pictures, and no differences",
        ),
        (["--data", "films", "--differences", "1", "--only", "middle"], "of one frame there are none"),
        ([], "nothing to learn from"),
    ],
)
def test_bad_settings_are_refused_before_any_work(here: Path, flags: list[str], words: str) -> None:
    write_features(Path("more"), 6)
    done = elman("train", "video-tagging", "--run", "none", *flags)
    assert done.code == 2
    assert words in done.err
    assert not Path("none").exists()


def raw(picture: np.ndarray, layout: str) -> bytes:
    import av

    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return (frame if layout == "rgb24" else frame.reformat(format=layout)).to_ndarray().tobytes()


def test_raw_frames_say_what_the_film_says(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = str(next(Path("films/down").glob("*.mp4")))
    # Each picture of the film stands for five frames of the pipe.
    pipe = decode(Path(film), [k / 40 for k in range(40)], Fitting(32, 32))
    from_film = watched("run", film)
    for layout, flags in (("rgb24", []), ("bgr24", ["--pixels", "bgr24"]), ("bgra", ["--pixels", "bgra"])):
        stream = b"".join(raw(picture, layout) for picture in pipe)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stream)))
        done = elman("watch", "run", "-", "--format", "json", "--raw", "32x32", "--rate", "40", *flags)
        assert done.code == 0, done.err
        steps = [json.loads(line) for line in done.out.splitlines()]
        assert len(steps) == len(from_film) == 8
        for step, other in zip(steps, from_film, strict=True):
            assert step["probabilities"] == pytest.approx(other["probabilities"], abs=2e-4)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-", "--raw", "32"), "expected WIDTHxHEIGHT"),
        (("-", "--raw", "31x32", "--pixels", "nv12"), "no odd sides"),
        (("films", "--raw", "32x32"), "give - in the place of a file"),
        (("-", "--rate", "5"), "--raw"),
        (("-", "--raw", "32x32"), "frame 1 ends after 10 of 3,072 bytes"),
    ],
)
def test_raw_frames_that_cannot_be_are_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"0123456789")))
    done = elman("watch", "run", *flags)
    assert done.code == 2
    assert words in done.err
