"""The level that features are brought to, against a slow form, and what it is for."""

import numpy as np
import pytest

from elman.data.audio.normalizing import Level
from elman.data.video import pictures_with_differences
from elman.tasks.video_tagging.frames import learn_level
from elman.tasks.video_tagging.settings import FrameSettings


def drawn(seed: int, width: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    scales = generator.uniform(0.1, 9, width)
    return [(generator.normal(2, scales, (size, width))).astype(np.float32) for size in (1, 5, 8)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_level_is_that_of_all_frames(shared: bool, blocks: int) -> None:
    clips = drawn(blocks, 4 * blocks)
    found = learn_level(clips, 4, shared=shared)
    # The slow form: each number by itself.
    frames = [frame for clip in clips for frame in clip.astype(float)]
    means = [sum(frame[k] for frame in frames) / len(frames) for k in range(4 * blocks)]
    squares = [sum((frame[k] - means[k]) ** 2 for frame in frames) / len(frames) for k in range(4 * blocks)]
    if shared:
        squares = [sum(squares[k // 4 * 4 : k // 4 * 4 + 4]) / 4 for k in range(4 * blocks)]
    np.testing.assert_allclose(found.mean, means, rtol=1e-5)
    np.testing.assert_allclose(found.deviation, np.sqrt(squares), rtol=1e-5)


def test_what_never_changes_stays_finite_and_what_is_small_is_no_less() -> None:
    clips = drawn(3, 3)
    for clip in clips:
        clip[:, 0], clip[:, 1] = 0.1, clip[:, 1] * 1e-5
    found = learn_level(clips, 3, shared=False)
    rows = Level(*found).apply(np.concatenate(clips))
    assert found.deviation[0] == 1
    assert np.abs(rows[:, 0]).max() < 1e-6
    np.testing.assert_allclose(rows[:, 1:].std(axis=0), 1, rtol=1e-3)


def test_a_joint_that_rests_stays_at_rest_beside_one_that_waves() -> None:
    generator = np.random.default_rng(4)
    clip = np.concatenate((generator.normal(0, 1, (50, 3)), generator.normal(0, 0.01, (50, 3))), axis=1)
    rows = [clip.astype(np.float32)]
    shared, own = (Level(*learn_level(rows, 6, shared=known)).apply(rows[0]) for known in (True, False))
    assert shared[:, 3:].std() < 0.05 * shared[:, :3].std()
    assert own[:, 3:].std() == pytest.approx(own[:, :3].std(), rel=0.01)


@pytest.mark.parametrize(
    ("level", "joints", "shared"),
    [("auto", 0, False), ("auto", 20, True), ("own", 20, False), ("shared", 0, True)],
)
def test_joints_share_unless_something_else_is_said(level: str, joints: int, shared: bool) -> None:
    assert FrameSettings(joints=joints, level=level).shared == shared  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_what_has_changed_in_a_picture_is_half_of_it_about_the_middle_of_a_byte(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.choice(np.array([0, 1, 127, 128, 254, 255], dtype=np.uint8), (int(draw.integers(1, 9)), 12))
    back = tuple(int(k) for k in draw.integers(1, 12, seed))
    found = pictures_with_differences(x, back)
    assert found.dtype == np.uint8 and found.shape == (len(x), 12 * (1 + len(back)))
    np.testing.assert_array_equal(found[:, :12], x)
    for i, k in enumerate(back, 1):
        for t in range(len(x)):
            # Frames in front of the first are like it.
            change = [int(now) - int(before) for now, before in zip(x[t], x[max(t - k, 0)], strict=True)]
            assert found[t, 12 * i : 12 * (i + 1)].tolist() == [128 + d // 2 for d in change]
