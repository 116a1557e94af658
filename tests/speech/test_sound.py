"""Sound from files: rates, channels, and what is wrong with a recording by name."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from elman.config import UserError
from elman.data.audio import store
from elman.data.audio.mel import LogMel, Mel
from elman.data.audio.pcm import Mixer, pcm
from elman.data.audio.sound import Resampler, SoundError, mono, rate_of, read_sound, resample
from tests.speech.sounds import RATE, tones, write_wav

SOUND = tones("abc")


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        *((".wav", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW")),
        *((".flac", "PCM_16"), (".ogg", "VORBIS"), (".mp3", "MPEG_LAYER_III"), (".aiff", "PCM_16")),
    ],
)
def test_formats(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(str(path), SOUND, RATE, subtype=subtype)
    found, rate = read_sound(path)
    assert rate == RATE
    assert abs(len(found) - len(SOUND)) <= (2400 if suffix == ".mp3" else 0)
    if suffix != ".mp3":
        lossy = {"PCM_U8": 1.0, "ULAW": 0.05, "VORBIS": 0.1}.get(subtype, 1e-3)
        assert np.abs(found - SOUND).mean() < lossy * 0.05


def test_any_rate_becomes_the_one_that_is_asked_for(tmp_path: Path) -> None:
    t = np.arange(16000) / 16000
    path = write_wav(tmp_path / "a.wav", (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32), 16000)
    found, rate = read_sound(path, 8000)
    assert (len(found), rate) == (8000, 8000)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=0.01)


def test_opposite_phase_does_not_cancel() -> None:
    both = np.stack([SOUND, -SOUND], axis=1)
    assert np.abs(mono(both)).max() == pytest.approx(np.abs(SOUND).max())
    np.testing.assert_allclose(mono(np.stack([SOUND, SOUND], axis=1)), SOUND, atol=1e-6)
    np.testing.assert_allclose(mono(np.stack([SOUND, 0 * SOUND], axis=1)), SOUND / 2, atol=1e-6)
    # An offset is no sound, and hides nothing.
    np.testing.assert_allclose(np.abs(mono(both + 0.5) - 0.5), np.abs(SOUND), atol=1e-6)


def test_a_part_of_a_recording(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", SOUND)
    found, _ = read_sound(path, start=0.1, end=0.2)
    np.testing.assert_allclose(found, SOUND[800:1600], atol=1e-4)
    with pytest.raises(SoundError, match="outside"):
        read_sound(path, start=0.1, end=9)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    whole = write_wav(tmp_path / "whole.wav", SOUND).read_bytes()
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole[: len(whole) // 2])
    piped = tmp_path / "piped.wav"
    piped.write_bytes(whole[:40] + struct.pack("<I", 0xFFFFFFFF) + whole[44:])
    nan = SOUND.copy()
    nan[7] = np.nan
    soundfile.write(str(tmp_path / "nan.wav"), nan, RATE, subtype="FLOAT")
    write_wav(tmp_path / "silent.wav", np.zeros(800, np.float32))
    write_wav(tmp_path / "none.wav", np.zeros(0, np.float32))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_bytes(b"this is no sound" * 9)
    said = {}
    for path in sorted(tmp_path.iterdir()):
        try:
            read_sound(path)
        except SoundError as error:
            said[path.stem] = str(error)
    assert said == {
        "cut": "truncated recording",
        "empty": "empty file",
        "nan": "recording with samples that are no numbers",
        "none": "empty recording",
        "silent": "silent recording",
        "text": "file that cannot be read as sound",
    }


KINDS = [
    *((".wav", kind, "WAV") for kind in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")),
    *((".wav", "PCM_16", kind) for kind in ("WAVEX", "RF64")),
    (".w64", "PCM_16", "W64"),
    (".aiff", "PCM_16", "AIFF"),
    (".au", "PCM_16", "AU"),
    (".sph", "PCM_16", "NIST"),
    (".voc", "PCM_16", "VOC"),
    (".caf", "PCM_16", "CAF"),
    (".flac", "PCM_16", "FLAC"),
    (".ogg", "VORBIS", "OGG"),
    (".opus", "OPUS", "OGG"),
    (".mp3", "MPEG_LAYER_III", "MP3"),
]


@pytest.mark.parametrize(("suffix", "subtype", "form"), KINDS)
def test_a_file_that_is_cut_off_is_named_whatever_its_kind(
    tmp_path: Path, suffix: str, subtype: str, form: str
) -> None:
    long = np.tile(SOUND, 12)
    path = tmp_path / f"a{suffix}"
    soundfile.write(str(path), long, RATE, subtype=subtype, format=form)
    assert abs(len(read_sound(path)[0]) - len(long)) < 3000
    whole = path.read_bytes()
    for share in (0.3, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SoundError):
            read_sound(path)


def test_an_ogg_with_a_hole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(str(path), np.tile(SOUND, 40), RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 4) + whole[3 * len(whole) // 4 :])
    with pytest.raises(SoundError):
        read_sound(path)


def test_samples_beyond_any_scale_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(str(path), SOUND.astype(np.float32) * 1e30, RATE, subtype="FLOAT")
    with pytest.raises(SoundError, match="beyond"):
        read_sound(path)
    soundfile.write(str(path), SOUND.astype(np.float32) * 2**15, RATE, subtype="FLOAT")
    assert np.isfinite(LogMel(Mel(RATE, 200, 80, 20, 60, 3900))(read_sound(path)[0])).all()


def test_what_libsndfile_does_not_read_is_read_by_ffmpeg(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    long = np.tile(SOUND, 4)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("aac", rate=RATE, layout="stereo")
        both = np.ascontiguousarray(np.stack((long, -long)), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    found, rate = read_sound(path)
    assert (rate, rate_of(path)) == (RATE, RATE)
    # The coder's own start lies in front; opposite phases do not cancel.
    lag = int(np.correlate(found, long[:4000], "valid")[:4000].argmax())
    size = min(len(long), len(found) - lag)
    assert size > 0.9 * len(long)
    assert np.corrcoef(found[lag : lag + size], long[:size])[0, 1] > 0.9
    part, _ = read_sound(path, start=0.5, end=0.75)
    np.testing.assert_array_equal(part, found[4000:6000])
    whole = path.read_bytes()
    for share in (0.5, 0.8):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SoundError):
            read_sound(path)
    path.write_bytes(b"no sound at all")
    with pytest.raises(SoundError, match="cannot be read"):
        read_sound(path)


RAW = {
    "s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT", "f64le": "DOUBLE", "u8": "PCM_U8",
    "mulaw": "ULAW", "alaw": "ALAW",
}  # fmt: skip


@pytest.mark.parametrize("form", RAW)
def test_raw_samples_are_those_of_libsndfile(tmp_path: Path, form: str) -> None:
    both = np.stack((SOUND, np.roll(SOUND, 500)), axis=1)
    subtype = RAW[form]
    soundfile.write(
        str(tmp_path / "a"),
        both,
        RATE,
        subtype=subtype,
        format="RAW",
        endian="LITTLE" if form[0] in "sf" else None,
    )
    wanted, _ = soundfile.read(
        str(tmp_path / "a"), dtype="float32", format="RAW", samplerate=RATE, channels=2, subtype=subtype
    )
    found = pcm((tmp_path / "a").read_bytes(), form, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    # Every octet of the logarithmic forms.
    if form in {"mulaw", "alaw"}:
        (tmp_path / "all").write_bytes(bytes(range(256)))
        every, _ = soundfile.read(
            str(tmp_path / "all"), dtype="float32", format="RAW", samplerate=RATE, channels=1, subtype=subtype
        )
        np.testing.assert_allclose(pcm(bytes(range(256)), form)[:, 0], every, atol=1e-7)


@pytest.mark.parametrize("channels", ["opposite", "equal", "left", "right", "three"])
def test_channels_of_a_stream_are_mixed_as_those_of_a_file(channels: str) -> None:
    rest = 0 * SOUND
    data = np.stack(
        {
            "opposite": (SOUND, -0.5 * SOUND),
            "equal": (SOUND, SOUND),
            "left": (SOUND, rest),
            "right": (rest, SOUND),
            "three": (SOUND, -SOUND, 0.5 * np.roll(SOUND, 100)),
        }[channels],
        axis=1,
    )
    whole = Mixer(data.shape[1])(data)
    # The first samples decide by themselves.
    np.testing.assert_allclose(whole[400:], mono(data)[400:], atol=1e-6)
    for sizes in ([1, 7, 160, 800], [3000], [399, 1]):
        mix, at, found = Mixer(data.shape[1]), 0, []
        for size in [*sizes, len(data)]:
            found.append(mix(data[at : at + size]))
            at += size
        np.testing.assert_array_equal(np.concatenate(found), whole)


def test_another_rate_piece_by_piece() -> None:
    sound = tones("abcabc")
    stream = Resampler(RATE, 16000)
    pieces = [stream(sound[at : at + 700]) for at in range(0, len(sound), 700)]
    whole = np.concatenate([*pieces, stream(np.zeros(0, np.float32), last=True)])
    wanted = resample(sound, RATE, 16000)
    assert abs(len(whole) - len(wanted)) <= 1
    size = min(len(whole), len(wanted))
    np.testing.assert_allclose(whole[:size], wanted[:size], atol=1e-3)


def test_features_are_kept_by_what_they_follow_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = Mel(RATE, 200, 80, 12, 60.0, 3900.0)
    one, two = write_wav(tmp_path / "1.wav", SOUND), write_wav(tmp_path / "2.wav", tones("ba", 3))
    bad = tmp_path / "3.wav"
    bad.write_bytes(b"no sound")
    pieces = [store.Piece(one), store.Piece(bad), store.Piece(two), store.Piece(one, 0.1, 0.3)]
    marks, cache = store.digests(pieces), tmp_path / "cache"
    fresh, made = store.extract(pieces, marks, mel), store.extract(pieces, marks, mel, cache=cache)
    monkeypatch.setattr(store, "read_sound", None)
    kept = store.extract(pieces, marks, mel, cache=cache)
    for found in (made, kept):
        np.testing.assert_array_equal(found.frames, fresh.frames)
        assert (found.lengths.tolist(), found.starts.tolist()) == (
            fresh.lengths.tolist(),
            fresh.starts.tolist(),
        )
        assert found.faults == {1: "file that cannot be read as sound"}
    start, length = int(kept.starts[2]), int(kept.lengths[2])
    monkeypatch.undo()
    wanted = LogMel(mel)(read_sound(two)[0])
    np.testing.assert_array_equal(kept.frames[start : start + length], wanted)
    # Anything else that they follow from is another key.
    fast = store.extract(pieces, marks, mel, speed=1.25, cache=cache)
    assert fast.lengths[0] == pytest.approx(fresh.lengths[0] / 1.25, abs=2)
    # Half a cache is none, and a broken one is made again.
    next(cache.glob("*.f32")).write_bytes(b"")
    assert store.extract(pieces, marks, mel, cache=cache).faults == fresh.faults
    write_wav(one, tones("c"))
    assert store.digests(pieces) != marks


def test_no_room_for_features_is_said(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "1.wav", SOUND)
    sink = store._Sink(tmp_path / "cache")
    sink._file.close()
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink._file = full
        with pytest.raises(UserError, match="--cache"):
            sink.add(np.zeros((3, 2), np.float32))
    # Where no folder can be made the features stay in memory.
    found = store.extract(
        [store.Piece(path)], ["x"], Mel(RATE, 200, 80, 12, 60.0, 3900.0), cache=path / "below"
    )
    assert len(found.frames) == found.lengths[0] > 0
