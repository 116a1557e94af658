"""Recognizers that write by a decoder with attention, alone and trained together with CTC."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.config import UserError
from elman.data.audio.sound import read_sound
from elman.tasks.base import configure, find
from elman.tasks.speech import learning, scores, spelling, task
from elman.tasks.speech.hearing import Heard, heard_by_decoder
from elman.tasks.speech.scores import BLANKS, text_score
from elman.tasks.speech.settings import ModelSettings
from elman.tasks.speech.spelling import Spelled
from tests.speech.conftest import FLAGS
from tests.speech.sounds import texts, tones, write_table, write_wav

OTHERS = {
    "attention": ["--decoder", "attention", "--bidirectional", "--epochs", "14", "--rate", "0.01"],
    "joint": ["--decoder", "joint", "--epochs", "40", "--rate", "0.01"],
}


@pytest.fixture(scope="module", params=OTHERS)
def kind(request: pytest.FixtureRequest) -> str:
    word: str = request.param
    return word


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.chdir(home)
        write_table(home, texts(80))
        yield home


@pytest.fixture(scope="module")
def run(home: Path, kind: str) -> Any:
    flags = [flag for flag in FLAGS if flag != "--no-bidirectional" or kind == "joint"]
    done = elman("train", "speech", "--data", "data.csv", "--run", kind, *flags, *OTHERS[kind])
    assert done.code == 0, done.err
    return package.load(kind)


def test_it_learns_to_write(run: Any, kind: str) -> None:
    found = json.loads(elman("evaluate", kind, "--json").out)
    assert found["value"] < 0.2
    assert all(found["value"] < known["value"] for known in found["baselines"])
    assert "where the decoder looked" in Path(kind, "report.html").read_text() or kind == "joint"


def test_words_have_times_and_chances(run: Any, kind: str) -> None:
    said = run.predict("sounds/2.wav")
    words = said["words"]
    assert [word["word"] for word in words] == said["text"].split()
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= said["seconds"] + 0.05
    assert all(0 < word["confidence"] <= 1 for word in words)
    for form in ("text", "words", "json", "srt", "vtt", "ctm"):
        assert elman("transcribe", kind, "sounds/2.wav", "--format", form).code == 0
    # One at a time or together, the same.
    both = elman("predict", kind, "sounds/2.wav", "sounds/7.wav").out.splitlines()
    assert both == [run.predict(f"sounds/{n}.wav")["text"] for n in (2, 7)]


def test_what_is_drawn_is_what_is_trained(run: Any) -> None:
    count = sum(p.numel() for p in run.model.parameters())
    assert run.task.describe(run, steps=3).parameters == count


def test_what_is_inside_is_shown_where_something_is_said_at_each_step(run: Any, kind: str) -> None:
    done = elman("inspect", kind)
    if kind == "joint":
        assert (done.code, Path(kind, "inspect.html").is_file()) == (0, True)
    else:
        assert (done.code, "no view of its inside" in done.err) == (2, True)


def test_flags_that_do_not_fit_say_so(run: Any, kind: str) -> None:
    refused = elman("evaluate", kind, "--language-model", "x")
    assert (refused.code, "fused into CTC's search" in refused.err) == (2, True)
    by = elman("evaluate", kind, "--by", "ctc")
    if kind == "attention":
        assert (by.code, "trained with --decoder attention" in by.err) == (2, True)
        with pytest.raises(UserError, match="looks at the whole recording"):
            run.listen()
    else:
        assert by.code == 0
        assert elman("evaluate", kind, "--by", "attention").code == 0


def test_flags_without_an_effect_are_refused(home: Path) -> None:
    for flags in (
        ["--ctc-share", "0.5"],
        ["--smoothing", "0"],
        ["--decoder", "attention", "--ctc-share", "0.5"],
    ):
        done = elman("train", "speech", "--data", "data.csv", "--run", "none", *flags)
        assert (done.code, flags[-2] in done.err) == (2, True)


def test_both_together_are_heard_while_one_speaks(run: Any, kind: str) -> None:
    if kind != "joint":
        pytest.skip("a decoder alone needs the whole recording")
    samples, rate = read_sound(Path("sounds/4.wav"))
    wanted = elman("transcribe", kind, "sounds/4.wav", "--by", "ctc").out
    for size in (37, 400, 100000):
        listener = run.listen(rate=rate, endpoint=0)
        for at in range(0, len(samples), size):
            listener(samples[at : at + size])
        listener.finish()
        assert f"{listener.whole.text}\n" == wanted


@pytest.mark.parametrize("decoder", ["attention", "joint"])
def test_a_transcript_may_be_longer_than_the_steps_without_ctc(tmp_path: Path, decoder: str) -> None:
    path = write_table(tmp_path, ["ab", "ba", "abcabcabcabc", "c"])
    write_wav(tmp_path / "sounds/2.wav", tones("a"))
    given = {
        "data.train": [str(path)],
        "data.on_bad": "skip",
        "data.valid_share": 0.0,
        "data.test_share": 0.0,
    }
    found = find("speech").prepare(configure(find("speech"), {**given, "model.decoder": decoder}), None)
    assert len(found.part("train").recordings) == (4 if decoder == "attention" else 3)
    assert any("blanks" in line for line in found.lines()) == (decoder == "joint")


@pytest.mark.parametrize(
    "given",
    [
        {"data.target": "class"},
        {"model.dense": 4},
        {"model.norm": True},
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--decoder attention"):
        configure(find("speech"), {"data.train": ["x"], "model.decoder": "attention", **given})


# The loss and the search against slow forms


def small(decoder: str = "joint", attention: str = "location") -> Any:
    from elman.nn import Features

    torch.manual_seed(3)
    settings = ModelSettings(
        hidden=5, layers=1, dropout=0.0, decoder=decoder, attention=attention, symbol_width=4
    )  # type: ignore[arg-type]
    model = spelling.build_model(settings, Features(3), 4)
    # Far from uniform, so that mistakes show.
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return model.double().eval()


def recordings() -> learning.SpeechBatch:
    draw = np.random.default_rng(0)
    steps = [draw.standard_normal((size, 3)) for size in (7, 4, 6)]
    truth = [np.array(row, dtype=np.int64) for row in ([1, 2, 2], [3], [2, 1])]
    batch = learning.batch_of(steps, truth)  # type: ignore[arg-type]
    return batch._replace(steps=batch.steps.astype(np.float64))  # type: ignore[arg-type]


def log_p(model: Any, sound: torch.Tensor, symbols: list[int]) -> list[torch.Tensor]:
    """log p of all that could come at each step, one step at a time."""
    state, found = model.encode(sound), []
    for number in [0, *symbols]:
        logits, state = model.step(torch.tensor([number]), state)
        found.append(logits[0].log_softmax(-1))
    return found


@pytest.mark.parametrize("attention", ["location", "additive", "monotonic"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_are_those_of_the_equations(attention: str, smoothing: float) -> None:
    batch, rows = recordings(), [[1, 2, 2], [3], [2, 1]]
    for decoder, share in (("attention", 0.0), ("joint", 0.0), ("joint", 0.4)):
        model = small(decoder, attention)
        settings = ModelSettings(decoder=decoder, ctc_share=share or 0.0, smoothing=smoothing)  # type: ignore[arg-type]
        found = learning.loss_of(model, batch, settings)
        for b, symbols in enumerate(rows):
            sound = torch.from_numpy(batch.steps[: batch.lengths[b], b : b + 1])
            said = log_p(model, sound, symbols)
            own = -sum(
                (1 - smoothing) * logs[number] + smoothing * logs.mean()
                for logs, number in zip(said, [*symbols, 0], strict=True)
            )
            if share:
                logs = model.align_steps(sound).logits.log_softmax(-1)
                ctc = torch.nn.functional.ctc_loss(
                    logs, torch.tensor([symbols]), [len(sound)], [len(symbols)], reduction="sum"
                )
                own = share * ctc + (1 - share) * own
            assert isinstance(own, torch.Tensor)
            assert found[b].item() == pytest.approx(own.item(), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_transcripts_of_the_beam_are_weighed_by_ctc(share: float) -> None:
    model, batch = small(), recordings()
    together, logs = spelling.spell(model, batch.steps, batch.lengths, 6, share)
    assert logs is not None
    for b in range(3):
        n = int(batch.lengths[b])
        alone, _ = spelling.spell(model, batch.steps[:n, b : b + 1], batch.lengths[b : b + 1], 6, share)
        assert alone[0].symbols == together[b].symbols
        np.testing.assert_allclose(alone[0].weights, together[b].weights, atol=1e-6)
        assert together[b].weights.shape == (len(together[b].symbols), n)
        sound = torch.from_numpy(batch.steps[:n, b : b + 1])
        said = log_p(model, sound, list(together[b].symbols))
        wanted = [float(row[number]) for row, number in zip(said, together[b].symbols, strict=False)]
        np.testing.assert_allclose(together[b].logs, wanted, atol=1e-5)
    if share == 1.0:
        # CTC alone: the chosen one is no less likely by it than what the decoder takes alone.
        plain, _ = spelling.spell(model, batch.steps, batch.lengths, 6, 0.0)
        for b in range(3):
            own = logs[: int(batch.lengths[b]), b]
            assert spelling._ctc(own, together[b].symbols) >= spelling._ctc(own, plain[b].symbols) - 1e-9


def test_times_never_go_back(run: Any) -> None:
    weights = np.eye(8)[[2, 5, 1, 6]]
    one = Spelled((1, 2, 3, 2), (-0.1, -0.2, -0.3, -0.4), weights)
    found = heard_by_decoder(one, run.codec, run.config.features)
    times = [t for word in found.words for t in (word.start, word.end)]
    assert times == sorted(times)
    chances = one.chances(4).exp()
    assert chances[2, 1] == chances[5, 2] == chances[1, 3] == chances[6, 2] == 1
    assert chances[0, 0] == 1
    # A wide look has its letter too.
    wide = Spelled((1,), (-0.1,), np.array([[0.3, 0.4, 0.2, 0.1]])).chances(3)
    assert wide.argmax(1).tolist() == [1, 1, 1, 0]
    empty = heard_by_decoder(Spelled((), (), np.zeros((0, 8))), run.codec, run.config.features)
    assert (empty.text, empty.words) == ("", [])
    # Room for no path of CTC: the times are those of looking.
    logs = torch.full((2, 5), math.log(0.2))
    assert heard_by_decoder(one, run.codec, run.config.features, logs) == found


def test_nothing_but_blanks_is_normal_at_first_and_warned_of_when_it_lasts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert text_score(["a"], ["a"]).remark is None
    assert text_score(["a", "b"], ["", ""]).remark == BLANKS
    assert "normal" in BLANKS.at(1)
    assert "still nothing" in BLANKS.at(600)
    flags = [flag for flag in FLAGS if flag != "--quiet"]

    def blanks(model: Any, steps: Any, *_: Any) -> list[Any]:
        return [(Heard("", []), None) for _ in steps]

    monkeypatch.setattr(task, "written", blanks)
    monkeypatch.setattr(scores, "BLANKS", BLANKS._replace(steps=10))
    done = elman("train", "speech", "--data", "data.csv", "--run", "b", *flags, "--epochs", "2")
    assert done.code == 0, done.err
    first, second = [line for line in (done.out + done.err).splitlines() if line.startswith("epoch")]
    assert BLANKS.text in first
    assert BLANKS.later in second
