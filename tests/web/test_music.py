"""A page that composes: the events and steps of the model, their notes, and that something sounds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.config import UserError
from elman.tasks.music.events import EventWish, write_events
from elman.tasks.music.task import MusicTask
from tests.music import tunes
from tests.web.browser import needs_browser, opened
from tests.web.node import WEB, needs_modules, needs_node, script

SMALL = [
    "--hidden",
    16,
    "--batch",
    8,
    "--threads",
    1,
    "--quiet",
    "--dropout",
    0,
    "--resolution",
    2,
    "--epochs",
    6,
]
KINDS = {"roll": ("--nade", 0), "events": ("--kind", "events")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("composers")
    data = tunes.write_lines(folder / "data.jsonl", 40)
    for kind, more in KINDS.items():
        done = elman(
            "train", "music", "--data", data, "--run", folder / kind, *SMALL, "--rate", "0.02", *more
        )
        assert done.code == 0, done.err
        done = elman("export", folder / kind, "--file", folder / f"{kind}.elman")
        assert done.code == 0, done.err
    return folder


COMPOSES = """
import { readFileSync } from "node:fs";
const { script, module, file, length, temperature, seeds } = JSON.parse(readFileSync(0, "utf8"));
const { Elman } = await import(script);
const made = await import(script.replace("elman.js", "composing.js"));
const model = (await Elman.load(readFileSync(module))).model(readFileSync(file));
const codec = JSON.parse(model.said("codec"));
const [draw, notes_of] = codec.events ? [made.events, made.notes_of_events] : [made.steps, made.notes_of_steps];
console.log(JSON.stringify(seeds.map((seed) => {
  const found = [...draw(model, codec, { length, temperature, seed })];
  const told = ({ start, end, pitch, velocity, drum }) => [start, end, pitch, velocity, drum];
  return { found, notes: notes_of(found, codec).map(told) };
})));
"""


def composed(
    folder: Path, kind: str, length: int, temperature: float, seeds: list[int]
) -> list[dict[str, list]]:
    file = str(folder / f"{kind}.elman")
    settings = {"length": length, "temperature": temperature, "seeds": seeds}
    return script(COMPOSES, module=str(WEB / "elman.wasm"), file=file, **settings)


@needs_node
@needs_modules
def test_events_are_those_of_torch_and_so_are_their_notes(folder: Path) -> None:
    trained = package.load(folder / "events")
    words = trained.codec.words
    (cold,) = composed(folder, "events", 120, 0, [1])
    wish = EventWish(length=120, temperature=0)
    assert [0, *cold["found"]] == write_events(trained.model, words, wish, torch.Generator())
    one, again, other = composed(folder, "events", 300, 1, [1, 1, 2])
    assert one == again != other
    for found in (cold, one, other):
        expected = words.decode(found["found"])
        assert sorted(map(tuple, found["notes"])) == sorted(
            (n.start, n.end, n.pitch, n.velocity, n.drum) for n in expected
        )
    assert len(other["notes"]) > 10


@needs_node
@needs_modules
def test_steps_have_the_chances_of_the_model(folder: Path) -> None:
    model = package.load(folder / "roll").model.eval()
    (cold,) = composed(folder, "roll", 40, 0, [1])
    rows = np.zeros((41, model.keys), np.float32)
    for t, columns in enumerate(cold["found"]):
        rows[t + 1, columns] = 1
    with torch.no_grad():
        logits = model(torch.from_numpy(rows[:-1]).unsqueeze(1)).logits[:, 0].numpy()
    assert np.array_equal(rows[1:] > 0, logits > 0)

    # The first step over many seeds: each key as often as the model says.
    draws = composed(folder, "roll", 1, 1, list(range(600)))
    share = np.zeros(model.keys)
    for draw in draws:
        share[draw["found"][0]] += 1 / len(draws)
    p = 1 / (1 + np.exp(-logits[0].astype(float)))
    assert np.abs(share - p).max() < 5 * np.sqrt(0.25 / len(draws))


def test_a_nade_is_refused() -> None:
    config = SimpleNamespace(model=SimpleNamespace(nade=4))
    trained = SimpleNamespace(
        config=config, codec=SimpleNamespace(words=None), run=SimpleNamespace(path="runs/x")
    )
    with pytest.raises(UserError, match="train with --nade 0 or --kind events"):
        MusicTask("music").leaves(trained)


PLAYS = """(async () => {
  const notes = JSON.parse(document.querySelector('#roll').dataset.notes);
  const context = new OfflineAudioContext(1, 44100 * 4, 44100);
  sound(context, context.destination, notes, 0, 0.5);
  const data = (await context.startRendering()).getChannelData(0);
  return [Math.max(...Array.from({ length: 400 }, (_, i) => Math.abs(data[441 * i]))), data.some(Number.isNaN)];
})()"""


INKED = """(() => {
  const { width, height } = document.querySelector('#roll'), pen = document.querySelector('#roll').getContext('2d');
  return pen.getImageData(0, 0, width, height).data.filter((value, i) => i % 4 === 3 && value > 0).length;
})()"""


@needs_browser
@needs_modules
@pytest.mark.parametrize("kind", ["events", pytest.param("roll", marks=pytest.mark.slow)])
def test_the_page_draws_and_plays(folder: Path, kind: str) -> None:
    page = folder / f"{kind}.html"
    done = elman("export", folder / kind, "--to", "html", "--file", page)
    assert done.code == 0, done.err
    with opened() as tab:
        tab.looks(390, 800)
        # What a module declares is its own: the test wants to hear it.
        text = page.read_text(encoding="utf-8").replace(
            "const place = doc", "window.sound = sound;\nconst place = doc"
        )
        page.write_text(text, encoding="utf-8")
        tab.open(page, "seed=3&count=200")
        tab.wait("JSON.parse(document.querySelector('#roll')?.dataset.notes ?? '[]').length > 5")
        loudest, broken = tab.value(PLAYS)
        assert 0.02 < loudest < 4
        assert not broken
        assert tab.value(INKED) > 200
        assert tab.value("document.documentElement.scrollWidth") <= 390
        tab.value("document.querySelector('[name=play]').click()")
        assert tab.value("document.querySelector('[name=play]').textContent") == "Stop"
        tab.value("document.querySelector('[name=play]').click()")
        assert tab.value("document.querySelector('[name=play]').textContent") == "Play"
        assert tab.said == []
