"""Clips: how they are found, their frames by time, features and skeletons, and each fault in a few words."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.config import UserError
from elman.data.account import Account
from elman.data.pictures import Fitting
from elman.data.video import (
    ClipError,
    Listing,
    RawFormat,
    Skeleton,
    Stretch,
    Variation,
    centred,
    filled,
    read_clips,
    read_features,
    varied,
    with_differences,
    with_stretches,
)
from elman.data.video.decoding import Sampler, decode, pictures_of, probe, sample_times
from elman.data.video.raw import raw_pictures
from elman.data.video.store import FrameStore
from tests.video_tagging.made import (
    BLUE,
    GREEN,
    RED,
    dot,
    flat,
    turned,
    write_features,
    write_film,
    write_films,
    write_frames,
    write_sound,
)

pytest.importorskip("av")
WHOLE = Fitting(32, 32, "stretch")


def colour(picture: np.ndarray) -> tuple[int, int, int]:
    return tuple(round(float(v) / 10) * 10 for v in picture.mean(axis=(0, 1)))


def named(picture: np.ndarray) -> str:
    """Which of the three it is: the largest channel."""
    return "rgb"[int(picture.mean(axis=(0, 1)).argmax())]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "webm", "gif"])
def test_pictures_are_those_of_the_time_whatever_the_rate(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film.{suffix}"
    codec = {"webm": "libvpx", "gif": "gif"}.get(suffix, "mpeg4")
    times = [0.0, 0.1, 0.9] if suffix != "avi" else [0.0, 0.5, 1.0]
    write_film(path, [flat(RED), flat(GREEN), flat(BLUE)], times, codec)
    found = decode(path, [0.0, 0.05, 0.2, 0.6, 0.85, 1.0], WHOLE)
    expected = "rrgggb" if suffix != "avi" else "rrrggb"
    assert "".join(map(named, found)) == expected
    assert probe(path).frames == 3 or suffix == "avi"


def test_times_are_looked_at_up_to_the_end() -> None:
    assert sample_times(1.0, 4) == [0, 0.25, 0.5, 0.75]
    assert sample_times(1.01, 4)[-1] == 1.0
    assert sample_times(0.0, 4) == [0]
    assert sample_times(9.0, 2, 1.0, 2.0) == [1.0, 1.5]


def test_a_quarter_turn_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    pixels = flat(RED, 32, 64)
    pixels[:, 32:] = BLUE
    write_film(path, [pixels] * 3, [0, 0.1, 0.2])
    assert probe(path).size == (32, 64)
    turned(path)
    assert probe(path).size == (64, 32)
    (found,) = decode(path, [0.0], Fitting(64, 64, "stretch"))
    # Clockwise: what was on the left is above.
    assert (named(found[:30]), named(found[34:])) == ("r", "b")


def test_one_picture_is_a_clip_of_one_step(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, [flat(GREEN)], [0.0])
    found = probe(path)
    times = sample_times(found.seconds, 8)
    assert (found.frames, len(times)) == (1, 1)
    assert named(decode(path, times, WHOLE)[0]) == "g"


def test_what_is_wrong_with_a_film_is_named(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no film at all\n" * 99)
    write_film(tmp_path / "whole.mp4", [dot(k % 25) for k in range(80)], [k / 10 for k in range(80)])
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    said = {
        "sound": "sound alone",
        "empty": "empty file",
        "text": "damaged",
        "cut": "truncated",
        "none": "no such",
    }
    for name, words in said.items():
        with pytest.raises(ClipError, match=words):
            probe(tmp_path / f"{name}.mp4")


def test_a_film_that_breaks_off_is_not_held_still(tmp_path: Path) -> None:
    write_film(tmp_path / "whole.mkv", [dot(k % 25) for k in range(80)], [k / 10 for k in range(80)])
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipError, match="breaks off"):
        decode(tmp_path / "cut.mkv", [k / 4 for k in range(32)], WHOLE)


def test_frames_as_they_come_are_those_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    draw = np.random.default_rng(3)
    times = np.round(np.sort(draw.uniform(0, 2, 30)), 3)
    times[0] = 0
    write_film(
        path,
        [dot(3 + k) for k in range(30)],
        np.unique(times).tolist() + [2.2] * (30 - len(np.unique(times))),
    )
    whole = decode(path, sample_times(probe(path).seconds, 7), WHOLE)
    with path.open("rb") as stream:
        pieces = list(pictures_of(stream, 7, WHOLE))
    np.testing.assert_array_equal(np.stack(pieces)[: len(whole)], whole)
    assert abs(len(pieces) - len(whole)) <= 1


def test_the_sampler_gives_nothing_of_nothing() -> None:
    assert Sampler(8, WHOLE).finish(1.0) == []


def test_clips_are_found_in_every_form(tmp_path: Path) -> None:
    write_films(tmp_path / "films", 4)
    write_features(tmp_path / "rows", 4)
    (tmp_path / "rows" / "list.csv").write_text(
        "file;tags;start;end\n0.csv;a|b;0;2\n1.csv;;0:01;1:02.5\nnone.csv;a;0;1\n2.csv;a;3;3\n"
    )
    write_frames(tmp_path / "frames.csv", 4)
    account = Account("clips")
    assert [clip.labels for clip in read_clips([str(tmp_path / "films")], account)] == [("down",)] * 2 + [
        ("up",)
    ] * 2
    listed = read_clips([str(tmp_path / "rows" / "list.csv")], account)
    assert [(clip.labels, clip.start, clip.end) for clip in listed] == [(("a", "b"), 0, 2), ((), 1, 62.5)]
    assert {reason: len(at) for reason, at in account.faults.items()} == {
        "no such clip": 1,
        "times that are none": 1,
    }
    named = read_clips([str(tmp_path / "rows")], account, Listing(pattern="{label}"))
    assert [clip.labels for clip in named[:2]] == [("0",), ("1",)]
    framed = read_clips([str(tmp_path / "frames.csv")], account)
    assert [clip.labels[0] for clip in framed] == ["down", "up", "down", "up"]
    assert framed[1].values.shape[1] == 2
    assert framed[1].fields["person"] == "1"


def test_a_row_of_frames_that_is_lost_is_in_the_account(tmp_path: Path) -> None:
    path = tmp_path / "frames.csv"
    write_frames(path, 3)
    path.write_text(path.read_text() + "c2,99\n")
    account = Account("clips")
    read_clips([str(path)], account)
    assert (account.read, account.used) == (4, 3)
    assert "not 6 cells" in account.faults


def test_tags_that_change_within_a_clip_are_stretches(tmp_path: Path) -> None:
    path = tmp_path / "frames.csv"
    rows = [f"a,{t},{t * 2},{t % 3},{'run' if 2 <= t < 5 else 'walk' if t < 8 else ''}" for t in range(10)]
    path.write_text("\n".join(["clip,frame,x,y,label", *rows, ""]))
    (clip,) = read_clips([str(path)], Account("clips"), Listing(rate=2.0))
    assert clip.stretches == (Stretch("walk", 0, 1), Stretch("run", 1, 2.5), Stretch("walk", 2.5, 4))
    (whole,) = with_stretches([clip])
    assert whole.labels == ("walk", "run")


def test_what_holds_no_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_clips([str(tmp_path / "none")], Account())
    with pytest.raises(UserError, match="holds no clips"):
        read_clips([str(tmp_path)], Account())
    write_features(tmp_path, 2)
    with pytest.raises(UserError, match="no tags"):
        read_clips([str(tmp_path)], Account())


def test_features_of_every_form_are_the_same(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", features=x, other=x[:2])
    np.savetxt(tmp_path / "c.txt", x.reshape(30, 3), fmt="%.7f")
    np.savetxt(
        tmp_path / "d.csv",
        x.reshape(6, 15),
        delimiter=",",
        header="names,of,columns",
        comments="",
        fmt="%.7f",
    )
    lines = ["6"]
    for frame in x:
        lines += ["1", "body 0 1", "5", *(" ".join(f"{v:.7f}" for v in (*joint, 9)) for joint in frame)]
    (tmp_path / "e.skeleton").write_text("\n".join(lines))
    for name in ("a.npy", "b.npz", "c.txt", "d.csv", "e.skeleton"):
        found = read_features(tmp_path / name, 5, 2)
        np.testing.assert_allclose(found, x[..., :2].reshape(6, 10), rtol=1e-5, atol=1e-6)


def test_what_is_no_file_of_features_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("so it is\nso it goes\n")
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    np.savetxt(tmp_path / "joints.txt", np.ones((7, 3)))
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    said = {
        "words.txt": "numbers",
        "ragged.csv": "unlike",
        "joints.txt": "5 joints",
        "bad.npy": "numbers",
        "no.npy": "no such",
    }
    for name, words in said.items():
        with pytest.raises(ClipError, match=words):
            read_features(tmp_path / name, 5, 3)


def test_empty_frames_go_and_missing_numbers_come_from_their_neighbours() -> None:
    x = np.array([[0, 0], [1, 1], [np.nan, 2], [3, 3], [np.nan, np.nan]], dtype=np.float32)
    found, empty, missing = filled(x)
    np.testing.assert_array_equal(found, [[1, 1], [2, 2], [3, 3]])
    assert (empty, missing) == (2, 1)
    with pytest.raises(ClipError, match="nothing but empty"):
        filled(np.zeros((3, 2), dtype=np.float32))


def test_skeletons_are_about_their_root_in_units_of_their_torso() -> None:
    p = np.random.default_rng(1).normal(size=(7, 4, 3)).astype(np.float32)
    how = Skeleton(4, 3, 2, (1, 3), 3)
    found = centred(p.reshape(7, 12), how).reshape(7, 4, 3)
    # The slow form: each number by itself.
    smooth = np.empty_like(p)
    for t in range(7):
        window = [p[min(max(s, 0), 6)] for s in range(t - 1, t + 2)]
        smooth[t] = np.median(window, axis=0)
    size = np.median([np.linalg.norm(frame[0] - frame[2]) for frame in smooth])
    np.testing.assert_allclose(found, (smooth - smooth[:, 1:2]) / size, rtol=1e-4, atol=1e-6)
    moved = centred(3 * p.reshape(7, 12) + 5, how).reshape(7, 4, 3)
    np.testing.assert_allclose(moved, found, rtol=1e-3, atol=1e-5)


def test_a_turn_keeps_distances_and_a_difference_is_one() -> None:
    q = np.random.default_rng(2).normal(size=(6, 9)).astype(np.float32)
    found = varied(q, Skeleton(3), Variation(turn=40, lean=20), np.random.default_rng(0))
    between = [
        np.linalg.norm(x.reshape(6, 3, 3)[:, 0] - x.reshape(6, 3, 3)[:, 1], axis=1) for x in (q, found)
    ]
    np.testing.assert_allclose(*between, rtol=1e-5)
    assert not np.allclose(q, found)
    both = with_differences(q, (1, 4))
    np.testing.assert_array_equal(both[5], np.concatenate((q[5], q[5] - q[4], q[5] - q[1])))
    np.testing.assert_array_equal(both[0, 9:], 0)


def test_frames_are_made_once_and_a_cache_that_is_no_folder_is_done_without(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for cache in (tmp_path / "cache", tmp_path / "file" / "cache"):
        (tmp_path / "file").touch()
        store = FrameStore(cache, ["a"], (4,), np.uint8)
        for _ in range(3):
            np.testing.assert_array_equal(store("mark", 3, lambda: rows), rows)
        assert store.made == 1
    again = FrameStore(tmp_path / "cache", ["a"], (4,), np.uint8)
    np.testing.assert_array_equal(again("mark", 3, lambda: rows), rows)
    other = FrameStore(tmp_path / "cache", ["b"], (4,), np.uint8)
    other("mark", 3, lambda: rows)
    assert (again.made, other.made) == (0, 1)


@pytest.mark.parametrize("layout", ["rgb24", "bgr24", "rgba", "bgra", "gray", "yuv420p", "nv12", "yuyv422"])
def test_raw_frames_are_pictures_of_their_time(layout: Any) -> None:
    import av

    # Seven frames, three a second, looked at five times a second: from 0 to 7/3 seconds.
    shades = [flat((10 + 30 * k,) * 3, 16, 24) for k in range(7)]
    frames = [av.VideoFrame.from_ndarray(one, format="rgb24").reformat(format=layout) for one in shades]
    stream = io.BytesIO(b"".join(frame.to_ndarray().tobytes() for frame in frames))
    found = list(raw_pictures(stream, RawFormat(24, 16, layout, 3.0), 5.0, Fitting(16, 24)))
    expected = [shades[int(k / 5 * 3 + 1e-9)] for k in range(12)]
    assert len(found) == 12
    np.testing.assert_allclose(np.stack(found).astype(int), np.stack(expected), atol=3)
