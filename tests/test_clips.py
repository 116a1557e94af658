"""The clips that are made: no frame shows a tag on movement, the frames of a clip without their order do not either."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import clips
from benchmarks.clips import MOVING, Phases, Scene, draw_scene, draw_shares, phases_at, picture, rounds


def with_moving(scene: Scene, moving: set[str]) -> Scene:
    return scene._replace(tags=scene.tags - set(MOVING) | moving)


def drawn_tags(generator: np.random.Generator) -> set[str]:
    return {name for name in MOVING if generator.random() < 0.5}


@pytest.mark.parametrize("seed", range(12))
def test_any_frame_is_as_likely_with_any_tags_on_movement(seed: int) -> None:
    """Phases begin uniformly, and a shift of them takes every scene to one with other tags and the same frame."""
    generator = np.random.default_rng(seed)
    scene, u = draw_scene(generator), generator.random()
    other = with_moving(scene, drawn_tags(generator) ^ {MOVING[seed % len(MOVING)]})
    back = ((now - n * u) % 1 for now, n in zip(phases_at(scene, u), rounds(other.tags), strict=True))
    np.testing.assert_array_equal(picture(scene, u), picture(other._replace(start=Phases(*back)), u))


@pytest.mark.parametrize("seed", range(4))
def test_all_tags_on_movement_show_the_same_frames(seed: int) -> None:
    """The phases of a clip, seen at times of even distance: as many times as no number of rounds divides."""
    generator = np.random.default_rng(seed)
    scene = draw_scene(generator)
    other = with_moving(scene, drawn_tags(generator))
    shown, others = (np.array([phases_at(one, k / 37) for k in range(37)]) for one in (scene, other))
    for movement in range(len(Phases._fields)):
        # Around the circle, 0 and 1 are one place.
        apart = abs(shown[:, None, movement] - others[None, :, movement])
        assert np.minimum(apart, 1 - apart).min(axis=1).max() < 1e-9


@pytest.mark.parametrize("name", MOVING)
def test_each_tag_on_movement_changes_how_a_clip_goes_on(name: str) -> None:
    scene = draw_scene(np.random.default_rng(5))
    other = scene._replace(tags=scene.tags ^ {name})
    np.testing.assert_array_equal(picture(scene, 0.0), picture(other, 0.0))
    assert any((picture(scene, u) != picture(other, u)).any() for u in (0.03, 0.13, 0.24))


def test_each_part_of_a_clip_has_a_frame() -> None:
    for seed in range(20):
        shares = draw_shares(np.random.default_rng(seed))
        assert 30 <= len(shares) <= 42
        np.testing.assert_array_equal(np.floor(shares * len(shares)), np.arange(len(shares)))


def test_clips_are_drawn_from_their_seed_and_each_frame_is_compressed_by_itself(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for home in ("one", "again"):
        clips.write(tmp_path / home, {"train": 3, "test": 1})
    first, again = (sorted((tmp_path / home).rglob("*.*")) for home in ("one", "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    table = (tmp_path / "one/train/tags.csv").read_text(encoding="utf-8").splitlines()
    scene = draw_scene(np.random.default_rng(clips.SEEDS["train"]))
    assert table[0] == "path,tags"
    path, tags = table[1].split(",")
    assert set(tags.split(";")) == scene.tags
    with av.open(str(tmp_path / "one/train" / path)) as container:
        found = list(container.decode(container.streams.video[0]))
    assert all(frame.key_frame for frame in found)
    shares = draw_shares(_after_scene())
    assert [frame.time for frame in found] == pytest.approx(list(clips.times_of(shares)))
    apart = found[0].to_ndarray(format="rgb24") - picture(scene, float(shares[0]))
    assert abs(apart).mean() < 2 * clips.NOISE


def _after_scene() -> np.random.Generator:
    generator = np.random.default_rng(clips.SEEDS["train"])
    draw_scene(generator)
    return generator
