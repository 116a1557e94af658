"""Features against a slow form of their equations, and piece by piece against the whole."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.audio.augmenting import Augmentation, augment, mask, noise, warp
from elman.data.audio.mel import LogMel, LogMelStream, Mel
from elman.data.audio.normalizing import RunningNormalizer, Statistics

MEL = Mel(rate=8000, window=200, hop=80, bands=23, low=60.0, high=3900.0)
# fmt: off
LIBROSA = np.array(
    [
        (
            -0.871, 0.829, 1.807, 1.865, 0.973, -1.297, -4.219, -7.457, -10.298, -12.419, -14.222, -15.755,
            -15.936, -14.326, -12.093, -8.776, 3.522, 4.267, -5.986, -11.683, -14.393, -16.271, -17.617,
        ),
        (
            -6.666, -3.909, -0.981, 1.222, 2.740, 3.146, 2.420, 0.237, -3.321, -7.028, -10.098, -12.183,
            -13.425, -13.496, -11.944, -8.762, 3.522, 4.267, -5.987, -11.698, -14.437, -16.345, -17.696,
        ),
        (
            -11.772, -10.099, -7.643, -4.941, -1.488, 1.499, 3.367, 3.984, 3.124, 0.536, -3.704, -7.834,
            -10.846, -13.199, -12.273, -8.795, 3.522, 4.267, -5.985, -11.672, -14.381, -16.326, -17.962,
        ),
    ]
)
# fmt: on


def slow(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """The equations, one number at a time."""
    y = [x - mel.emphasis * (samples[n - 1] if n else x) for n, x in enumerate(samples.astype(float))]
    y += [0.0] * max(0, mel.window - len(y))

    def to_mel(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    step = (to_mel(mel.high) - to_mel(mel.low)) / (mel.bands + 1)
    edges = [700 * (10 ** ((to_mel(mel.low) + k * step) / 2595) - 1) for k in range(mel.bands + 2)]
    found = []
    for start in range(0, len(y) - mel.window + 1, mel.hop):
        w = [y[start + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / mel.window)) for n in range(mel.window)]
        row = [0.0] * mel.bands
        for k in range(mel.size // 2 + 1):
            angle = -2 * math.pi * k / mel.size
            a = sum(v * math.cos(angle * n) for n, v in enumerate(w))
            b = sum(v * math.sin(angle * n) for n, v in enumerate(w))
            f = k * mel.rate / mel.size
            for m in range(mel.bands):
                left, centre, right = edges[m : m + 3]
                weight = min((f - left) / (centre - left), (right - f) / (right - centre))
                row[m] += max(weight, 0.0) * (a * a + b * b)
        found.append([math.log(max(value, mel.floor)) for value in row])
    return np.array(found)


@pytest.mark.parametrize("length", [30, 200, 279, 280, 450])
def test_features_are_those_of_the_equations(length: int) -> None:
    draw = np.random.default_rng(length)
    samples = (0.1 * draw.standard_normal(length) + 0.2).astype(np.float32)
    found = LogMel(MEL)(samples)
    assert found.shape == (MEL.frames(length), MEL.bands)
    np.testing.assert_allclose(found, slow(samples, MEL), rtol=2e-4, atol=2e-3)


def test_features_are_those_of_librosa() -> None:
    """Recorded with librosa 0.11, whose windows lie in the middle of the transform: 28 zeros stood on both sides.

    melspectrogram(y=effects.preemphasis(x, coef=0.97, zi=[-0.97 * x[0]]), sr=8000, n_fft=256, hop_length=80,
    win_length=200, center=False, htk=True, norm=None, fmin=60, fmax=3900, n_mels=23), log of at least 1e-8.
    """
    n = np.arange(360)
    samples = (0.3 * np.sin(0.001 * n**2) + 0.1 * np.cos(1.7 * n)).astype(np.float32)
    np.testing.assert_allclose(LogMel(MEL)(samples), LIBROSA, atol=2e-2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1500), st.lists(st.integers(0, 400), max_size=12), st.integers(0, 99))
def test_a_stream_of_any_pieces_has_the_same_frames(length: int, pieces: list[int], seed: int) -> None:
    samples = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    statistics = Statistics(np.full(MEL.bands, -3.0, np.float32), np.full(MEL.bands, 2.0, np.float32))
    stream, running = LogMelStream(MEL), RunningNormalizer(statistics)
    found, at = [], 0
    for size in [*pieces, length]:
        found.append(running(stream(samples[at : at + size])))
        at += size
    found.append(running(stream.finish()))
    whole = statistics.normalize(LogMel(MEL)(samples), "running")
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-5, atol=1e-5)


def test_a_running_level_looks_at_nothing_that_is_to_come() -> None:
    draw = np.random.default_rng(1)
    x = draw.standard_normal((50, 4)).astype(np.float32)
    statistics = Statistics.learn([x])
    other = x.copy()
    other[30:] += 100
    same, changed = (statistics.normalize(values, "running")[:30] for values in (x, other))
    np.testing.assert_array_equal(same, changed)


def test_levels_are_those_of_their_equations() -> None:
    x = np.random.default_rng(2).standard_normal((40, 3)).astype(np.float32) + 5
    statistics = Statistics(np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32))
    m = (50 * statistics.mean + x.sum(0)) / 90
    s = np.sqrt((50 * statistics.deviation**2 + ((x - m) ** 2).sum(0)) / 90)
    np.testing.assert_allclose(statistics.normalize(x, "recording"), (x - m) / s, rtol=1e-5, atol=1e-6)
    both = statistics.level([x[:15], x[15:]])
    np.testing.assert_allclose(
        statistics.normalize(x[:15], "speaker", both), ((x - m) / s)[:15], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics.normalize(x, "global"), (x - statistics.mean) / statistics.deviation, rtol=1e-6
    )
    running = statistics.normalize(x, "running")
    m7 = (50 * statistics.mean + x[:8].sum(0)) / 58
    np.testing.assert_allclose(running[7], (x[7] - m7) / statistics.deviation, rtol=1e-5, atol=1e-6)


def test_bands_that_are_too_narrow_are_refused() -> None:
    with pytest.raises(ValueError, match="too narrow"):
        LogMel(MEL._replace(bands=200))


def test_augmentation_depends_on_its_generator_alone_and_leaves_its_input() -> None:
    x = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
    kept, how = x.copy(), Augmentation(0.5, 0.3, 0.9, 0.1, 2, 5, 1, 3)
    first, second, third = (
        augment(x, how, np.zeros(12, np.float32), np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)
    assert augment(x, Augmentation(), np.zeros(12, np.float32), np.random.default_rng(0)) is x


def test_what_is_done_to_features_is_what_is_said() -> None:
    x = np.tile(np.arange(10, dtype=np.float32), (20, 1))
    np.testing.assert_allclose(warp(x, 1.1)[0, :9], np.arange(9) * 1.1, rtol=1e-5)
    np.testing.assert_allclose(warp(x, 0.5)[0], np.arange(10) * 0.5, rtol=1e-5)
    louder = noise(x, np.random.default_rng(0))
    assert (louder >= x).all()
    assert (louder > x).any()
    masked = mask(
        x, Augmentation(0, 0, 0, 0, 3, 9, 2, 3), np.full(10, -1, np.float32), np.random.default_rng(3)
    )
    blank = masked == -1
    assert (blank | (masked == x)).all()
    # A strip of time takes a fifth at most, and three of them leave words.
    assert blank.all(axis=1).sum() <= 12
