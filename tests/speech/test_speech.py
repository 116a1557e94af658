"""The whole path: train, evaluate, predict, transcribe, report; in pieces as in one."""

import functools
import io
import itertools
import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from command import elman
from elman.config import UserError
from elman.data.audio.mel import LogMel
from elman.data.audio.sound import read_sound
from elman.data.audio.symbols import Symbols, cleaned
from elman.tasks.base import configure, find
from elman.tasks.speech import learning
from elman.tasks.speech.hearing import HeardWord, Listener, _aligned, heard, heard_by_beam
from elman.tasks.speech.recordings import needed
from elman.tasks.speech.scores import errors_of, text_score
from elman.tasks.speech.searching import Search, fusion_of
from elman.tasks.speech.subtitles import cues
from tests.speech.sounds import texts, tones, write_table, write_wav


def test_it_learns_and_says_how_well(trained: Any) -> None:
    score = trained.evaluate()
    assert score.name == "WER"
    assert score.value < 0.3
    assert {"CER", "substitutions", "deletions", "insertions", "words"} <= score.figures.keys()
    assert score.interval[0] <= score.value <= score.interval[1]
    others = [known.score.value for known in trained.baselines() if known.part == "test"]
    assert min(others) > score.value


def test_a_report_shows_what_was_heard(trained: Any) -> None:
    page = Path("run/report.html").read_text()
    for said in (
        "The best recording",
        "The median recording",
        "The worst recording",
        "Confused words",
        "WER",
    ):
        assert said in page
    assert page.count('aria-label="the best recording') == 1


@pytest.mark.parametrize("size", [1, 37, 400, 1280, 100000])
def test_in_pieces_it_hears_the_same(trained: Any, size: int) -> None:
    count = 1 if size == 1 else 4
    sound = np.concatenate([read_sound(Path(f"sounds/{i}.wav"))[0] for i in range(count)])
    steps = learning.steps_for(
        LogMel(trained.codec.mel)(sound), trained.codec, trained.config, trained.config.features
    )
    whole = heard(learning.outputs(trained.model, [steps])[0], trained.codec, trained.config.features)
    listener = trained.listen(endpoint=0)
    for at in range(0, len(sound), size):
        listener(sound[at : at + size])
    listener.finish()
    assert whole.text
    assert listener.whole.text == whole.text
    assert [word[:3] for word in listener.whole.words] == [word[:3] for word in whole.words]
    assert listener.whole.confidence == pytest.approx(whole.confidence, rel=1e-4)


@functools.cache
def _loaded() -> Any:
    import elman as package

    return package.load("run")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_utterances_are_the_same_for_any_pieces(pieces: list[int]) -> None:
    trained = _loaded()
    silence = tones("    ", 3, seconds=0.11)
    sound = np.concatenate([tones("ab", 1), silence, tones("c ba", 2), silence])
    found = []
    for sizes in (pieces, [len(sound)]):
        listener, ended, at = trained.listen(endpoint=0.3), [], 0
        for size in itertools.chain(sizes, itertools.repeat(2000)):
            if at >= len(sound):
                break
            ended += [update for update in listener(sound[at : at + size]) if update.final]
            at += size
        ended += [update for update in listener.finish() if update.final]
        found.append([update.heard.text for update in ended if update.heard.text])
    assert found[0] == found[1]
    assert len(found[0]) >= 2


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def test_transcripts_of_each_form(trained: Any) -> None:
    said = trained.predict("sounds/0.wav")
    plain = elman("transcribe", "run", "sounds/0.wav").out
    assert plain == f"{said['text']}\n"
    words = [
        line.split("\t")
        for line in elman("transcribe", "run", "sounds/0.wav", "--format", "words").out.splitlines()
    ]
    assert [word[3] for word in words] == said["text"].split()
    assert all(0 <= float(start) < float(end) <= said["seconds"] + 0.05 for start, end, *_ in words)
    ctm = elman("transcribe", "run", "sounds/0.wav", "--format", "ctm").out.splitlines()
    assert [line.split()[4] for line in ctm] == said["text"].split()
    assert (
        json.loads(elman("transcribe", "run", "sounds/0.wav", "--format", "json").out)["words"]
        == said["words"]
    )
    srt = elman("transcribe", "run", "sounds/0.wav", "--format", "srt").out
    assert srt.startswith("1\n00:00:00,")
    assert elman("transcribe", "run", "sounds/0.wav", "--format", "vtt").out.startswith("WEBVTT\n\n00:00:00.")
    two = elman("transcribe", "run", "sounds/0.wav", "sounds/1.wav").out.splitlines()
    assert [line.split("\t")[0] for line in two] == ["0", "1"]


def test_a_folder_of_subtitles(tmp_path: Path) -> None:
    for number in (3, 4):
        write_wav(tmp_path / "in" / f"{number}.wav", tones("ab c", number))
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF")
    refused = elman("transcribe", "run", tmp_path / "in", "--format", "srt")
    assert (refused.code, "give --to FOLDER" in refused.err) == (2, True)
    done = elman("transcribe", "run", tmp_path / "in", "--format", "srt", "--to", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["3.srt", "4.srt"]
    assert "bad.wav: file that cannot be read as sound" in done.err


class Standard:
    """Standard input with these bytes."""

    def __init__(self, raw: bytes) -> None:
        self.buffer = io.BufferedReader(io.BytesIO(raw))


def test_sound_by_standard_input(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = Path("sounds/2.wav").read_bytes()
    wanted = trained.predict("sounds/2.wav")["text"]
    for raw, flags in (
        (wav[44:], []),
        (wav, []),
        (
            np.frombuffer(wav[44:], "<i2").astype("<f4").__truediv__(2**15).astype("<f4").tobytes(),
            ["--samples", "f32le"],
        ),
    ):
        monkeypatch.setattr(sys, "stdin", Standard(raw))
        assert elman("transcribe", "run", "-", "--chunk", "50", *flags).out == f"{wanted}\n"
    monkeypatch.setattr(sys, "stdin", Standard(wav))
    lines = elman("transcribe", "run", "-", "--partial", "--chunk", "50").out.splitlines()
    assert lines[-1] == wanted
    partial = [line.removeprefix("~ ") for line in lines[:-1]]
    assert partial
    assert all(wanted.startswith(text) for text in partial)
    monkeypatch.setattr(sys, "stdin", Standard(wav[44:] + b"\0"))
    assert "its last 1 bytes are not heard" in elman("transcribe", "run", "-").err
    monkeypatch.setattr(sys, "stdin", Standard(b""))
    assert elman("transcribe", "run", "-")[1:] == ("", "standard input held no sound\n")
    monkeypatch.setattr(sys, "stdin", Standard(wav[:20] + struct.pack("<H", 85) + wav[22:]))
    assert elman("transcribe", "run", "-").code == 2


def test_wav_files_of_all_kinds_by_standard_input(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, rate = read_sound(Path("sounds/2.wav"))
    quiet = 0 * samples
    for subtype, data in (
        ("PCM_24", samples),
        ("DOUBLE", samples),
        ("ULAW", samples),
        ("ALAW", samples),
        ("PCM_16", np.stack((samples, -samples), axis=1)),
        ("FLOAT", np.stack((quiet, samples), axis=1)),
    ):
        soundfile.write(str(tmp_path / "a.wav"), data, rate, subtype=subtype)
        monkeypatch.setattr(sys, "stdin", Standard((tmp_path / "a.wav").read_bytes()))
        wanted = trained.predict(str(tmp_path / "a.wav"))["text"]
        assert elman("transcribe", "run", "-").out == f"{wanted}\n", subtype
    wanted = trained.predict("sounds/2.wav")["text"]
    wav = Path("sounds/2.wav").read_bytes()
    # What stands behind the samples is not heard, and a file that ends too early is said to.
    monkeypatch.setattr(sys, "stdin", Standard(wav + b"LIST" + struct.pack("<I", 9000) + 9000 * b"\x7f\x33"))
    assert elman("transcribe", "run", "-") == (0, f"{wanted}\n", "")
    monkeypatch.setattr(sys, "stdin", Standard(wav[:-100]))
    assert "ends before its header says" in elman("transcribe", "run", "-").err


def test_what_is_no_raw_sound_is_refused(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav = Path("sounds/2.wav").read_bytes()
    samples, rate = read_sound(Path("sounds/2.wav"))
    for suffix, kind in (
        (".flac", "FLAC"),
        (".ogg", "Ogg"),
        (".aiff", "AIFF"),
        (".au", "AU"),
        (".caf", "CAF"),
    ):
        soundfile.write(str(tmp_path / f"a{suffix}"), samples, rate)
        monkeypatch.setattr(sys, "stdin", Standard((tmp_path / f"a{suffix}").read_bytes()))
        done = elman("transcribe", "run", "-")
        assert (done.code, f"standard input is {kind}," in done.err) == (2, True)
    for raw in (wav[:22], wav[:16] + struct.pack("<I", 4) + wav[20:24], wav[:22] + b"\0\0" + wav[24:]):
        monkeypatch.setattr(sys, "stdin", Standard(raw))
        done = elman("transcribe", "run", "-")
        assert (done.code, done.out) == (2, "")
    samples = samples.copy()
    samples[rate // 2] = np.nan
    monkeypatch.setattr(sys, "stdin", Standard(samples.tobytes()))
    done = elman("transcribe", "run", "-", "--samples", "f32le")
    assert done.code == 2
    assert "0.50 s from its start the sound has samples that are no numbers" in done.err


def test_what_cannot_be_heard_while_it_comes_says_so(trained: Any) -> None:
    from dataclasses import replace

    config = trained.config
    both = replace(config, model=replace(config.model, bidirectional=True))
    by_recording = replace(config, features=replace(config.features, normalize="recording"))
    for other in (both, by_recording):
        trained.config = other
        with pytest.raises(UserError, match="needs the whole recording"):
            trained.listen()


def test_recordings_that_cannot_be_used_are_named_before_training(tmp_path: Path) -> None:
    path = write_table(tmp_path, ["ab", "ba", "a", "b", "ab a", "c", "abcabcabcabc", *texts(12)])
    path.write_text(path.read_text().replace("/5.wav,c,", "/5.wav,?!,"))
    whole = (tmp_path / "sounds/0.wav").read_bytes()
    (tmp_path / "sounds/0.wav").write_bytes(whole[:-900])
    write_wav(tmp_path / "sounds/1.wav", np.zeros(900, np.float32))
    write_wav(tmp_path / "sounds/6.wav", tones("a", 0))
    refused = elman("train", "speech", "--data", path, "--run", tmp_path / "r", "--quiet")
    assert refused.code == 2
    assert "1 transcript without letters (" in refused.err
    for reason in ("1 truncated recording (", "1 silent recording ("):
        assert reason in refused.err
    config = configure(
        find("speech"),
        {"data.train": [str(path)], "data.on_bad": "skip", "data.valid_share": 0.0, "data.test_share": 0.0},
    )
    found = find("speech").prepare(config, None)
    account = found.accounts["train"]
    assert account.used == len(found.part("train").recordings) == 15
    assert account.faults["transcript longer than its recording has steps"][0].line == 8


def test_characters_that_training_lacks_are_listed(tmp_path: Path) -> None:
    train, valid = write_table(tmp_path / "a", ["ab", "ba"]), write_table(tmp_path / "b", ["ab", "cc"])
    config = configure(
        find("speech"), {"data.train": [str(train)], "data.valid": [str(valid)], "data.on_bad": "skip"}
    )
    found = find("speech").prepare(config, None)
    (line,) = [line for line in found.lines() if "training lacks" in line]
    assert line == f"valid has 'c', which training lacks and the network cannot write: 1 ({valid}:3)"
    assert found.part("valid").texts == ["ab", "cc"]


def test_parts_by_a_field(tmp_path: Path) -> None:
    path = write_table(tmp_path, texts(24, 3))
    given = {"data.train": [str(path)], "data.test_where": "speaker=s1", "data.on_bad": "skip"}
    found = find("speech").prepare(configure(find("speech"), given), None)
    assert {r.speaker for r in found.part("test").recordings} == {"s1"}
    assert "s1" not in {r.speaker for name in ("train", "valid") for r in found.part(name).recordings}
    with pytest.raises(UserError, match="picks no recording; the values are s0, s1, s2, s3"):
        find("speech").prepare(configure(find("speech"), {**given, "data.test_where": "speaker=x"}), None)
    with pytest.raises(UserError, match="has no field 'speakr'; did you mean speaker"):
        find("speech").prepare(configure(find("speech"), {**given, "data.test_where": "speakr=x"}), None)


def test_classes_of_whole_recordings(tmp_path: Path) -> None:
    said = ["a", "b", "c"] * 12
    write_table(tmp_path, said)
    flags = [
        "--hidden",
        "8",
        "--layers",
        "1",
        "--epochs",
        "12",
        "--batch",
        "8",
        "--rate",
        "0.03",
        "--bands",
        "20",
    ]
    done = elman(
        *("train", "speech", "--data", tmp_path / "data.csv", "--target", "class", "--run", tmp_path / "r"),
        *(*flags, "--normalize", "speaker", "--threads", "1", "--engine", "torch", "--quiet"),
    )
    assert done.code == 0, done.err
    found = json.loads(elman("evaluate", tmp_path / "r", "--json").out)
    assert (found["metric"], found["value"]) == ("accuracy", 1.0)
    (answer,) = [json.loads(elman("predict", tmp_path / "r", tmp_path / "sounds/1.wav", "--json").out)]
    assert answer["label"] == "b"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert "Confusion" in (tmp_path / "r/report.html").read_text()
    assert "ask it by elman predict" in elman("transcribe", tmp_path / "r", "x.wav").err


# The parts


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 4000), st.lists(st.integers(0, 900), max_size=6))
def test_steps_of_a_stream_are_those_of_the_whole(
    stride: int, ahead: int, length: int, pieces: list[int]
) -> None:
    from dataclasses import replace

    trained = _loaded()
    features = replace(trained.config.features, stride=stride, ahead=ahead)
    config = replace(trained.config, features=features)
    seen: list[np.ndarray] = []

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, None]:
            seen.append(x[:, 0].numpy().copy())
            return torch.zeros(len(x), 1, len(trained.codec.symbols.names) + 1), None

    sound = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    listener, at = Listener(Network(), trained.codec, config), 0
    for size in [*pieces, length]:
        listener(sound[at : at + size])
        at += size
    listener.finish()
    wanted = learning.steps_for(LogMel(trained.codec.mel)(sound), trained.codec, config, features)
    np.testing.assert_allclose(np.concatenate(seen), wanted, rtol=1e-5, atol=1e-5)


def test_symbols_there_and_back() -> None:
    symbols = Symbols.learn(["go on", "don't"], words=False)
    assert symbols.decode(symbols.encode("go  no ")) == "go no"
    assert symbols.unknown("go up") == ["u", "p"]
    assert symbols.pieces(symbols.encode("go no")) == [("go", 0, 1), ("no", 3, 4)]
    words = Symbols.learn(["go on", "go"], words=True)
    assert words.names == ("go", "on")
    assert words.decode(words.encode("on go up")) == "on go"
    assert words.pieces([2, 1]) == [("on", 0, 0), ("go", 1, 1)]


def test_transcripts_are_cleaned() -> None:
    assert (
        cleaned("  “Well-known”,  he’d said: it's 'so'! ", lower=True, punctuation=False)
        == "well known he'd said it's so"
    )
    assert cleaned("É!", lower=False, punctuation=True) == "É!"


def test_ctc_needs_a_blank_between_equal_symbols() -> None:
    assert needed([1, 2, 3]) == 3
    assert needed([1, 1, 2, 2, 2]) == 8
    # As torch has it: one step less makes the loss infinite.
    logs = torch.zeros(8, 1, 4).log_softmax(-1)
    truth, sizes = torch.tensor([[1, 1, 2, 2, 2]]), torch.tensor([5])
    found = [
        float(torch.nn.functional.ctc_loss(logs, truth, torch.tensor([T]), sizes, reduction="sum"))
        for T in (7, 8)
    ]
    assert [math.isinf(loss) for loss in found] == [True, False]


def test_stacked_frames_are_those_of_each_step() -> None:
    z = np.arange(14, dtype=np.float32).reshape(7, 2)
    found = learning.stacked(z, 3, 1)
    padded = np.concatenate((z, np.zeros((3, 2), np.float32)))
    assert found.tolist() == [padded[at : at + 4].ravel().tolist() for at in (0, 3, 6)]


def test_the_alignment_is_the_likeliest_path() -> None:
    draw = np.random.default_rng(0)
    logs = np.log(draw.dirichlet(np.ones(3), size=6))
    for labels in ([1], [1, 2], [1, 1], [2, 1, 2]):
        best = max(
            (sum(logs[t, s] for t, s in enumerate(path)), path)
            for path in itertools.product(range(3), repeat=6)
            if [s for s, _ in itertools.groupby(path) if s] == labels
        )
        found = _aligned(logs, labels)
        own = {t: entry.number for entry in found for t in range(entry.first, entry.last + 1)}
        assert [own.get(t, 0) for t in range(6)] == list(best[1])


def test_a_beam_is_never_less_likely_than_the_best_path(trained: Any) -> None:
    logs = torch.randn(12, len(trained.codec.symbols.names) + 1).log_softmax(-1)
    plain, searched = (
        heard(logs, trained.codec, trained.config.features),
        heard_by_beam(logs, trained.codec, trained.config.features, Search(20)),
    )
    chances = []
    for one in (plain, searched):
        truth = torch.tensor([trained.codec.symbols.encode(one.text)])
        lengths = torch.tensor([truth.shape[1]])
        loss = torch.nn.functional.ctc_loss(
            logs.unsqueeze(1), truth, torch.tensor([12]), lengths, reduction="sum"
        )
        chances.append(-float(loss))
    assert chances[1] >= chances[0] - 1e-6 or not plain.text


def test_a_language_model_is_fused_in(trained: Any, tmp_path: Path) -> None:
    Path("said.txt").write_text("ab ba\n" * 150)
    tiny = [
        "--tokens",
        "characters",
        "--hidden",
        "12",
        "--batch",
        "4",
        "--steps",
        "12",
        "--epochs",
        "8",
        "--rate",
        "0.03",
    ]
    done = elman(
        *("train", "language-model", "--data", "said.txt", "--run", "text", *tiny, "--threads", "1"),
        *("--engine", "torch", "--quiet", "--overwrite"),
    )
    assert done.code == 0, done.err
    refused = elman("predict", "run", "sounds/0.wav", "--language-model", "text")
    assert (refused.code, "has no token for 'c'" in refused.err) == (2, True)
    refused = elman("predict", "run", "sounds/0.wav", "--language-model", "run")
    assert "is a run of speech; give one of language-model" in refused.err

    import elman as package

    symbols = Symbols((" ", "a", "b"))
    model = package.load("text")
    fusion = fusion_of(model, symbols, 1.0, 0.0, "text")
    # p of each next symbol is the language model's own, over the recognizer's symbols alone.
    state, numbers = fusion.state, [0, 2, 3]
    for number, following in ((0, 2), (2, 3), (3, 1)):
        logits, state = fusion.step(torch.tensor([number]), state)
        assert int(logits.argmax()) == following
        assert float(logits[0, 0]) == -math.inf
    picked = fusion.pick(state, torch.tensor([0, 0]))
    assert fusion.step(torch.tensor(numbers[:2]), picked)[0].shape == (2, 4)
    # Sound that says a and b alike is decided by the text.
    p = torch.tensor([[0.02, 0.01, 0.50, 0.47], [0.94, 0.02, 0.02, 0.02], [0.02, 0.01, 0.50, 0.47]])
    codec = trained.codec._replace(symbols=symbols)
    plain, fused = (
        heard_by_beam(p.log(), codec, trained.config.features, search).text
        for search in (Search(8), Search(8, fusion))
    )
    assert (plain, fused) == ("aa", "ab")


def test_errors_are_counted_by_recording() -> None:
    found = errors_of(["a b c", "a b", "x"], ["a c", "a b", ""])
    assert found.words.tolist() == [1, 0, 1]
    assert found.of_words.tolist() == [3, 2, 1]
    assert (found.substitutions, found.deletions, found.insertions) == (0, 2, 0)
    score = text_score(["a b c", "a b", "x"], ["a c", "a b", ""])
    assert score.value == pytest.approx(2 / 6)
    assert score.figures["empty"] == pytest.approx(1 / 3)


def test_subtitles_end_at_pauses() -> None:
    words = [
        HeardWord("a", 0, 0.5, 1),
        HeardWord("b", 0.6, 1, 1),
        HeardWord("c", 2.5, 3, 1),
        HeardWord("d", 8.7, 9, 1),
    ]
    assert list(cues(words)) == [(0, 1, "a b"), (2.5, 3, "c"), (8.7, 9, "d")]
