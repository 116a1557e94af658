"""`elman export RUN --to html`: one page that needs no server, makes no request, and says what the model says."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import elman as package
from command import elman, verse
from elman.config import UserError
from elman.runtime import load
from elman.web import page
from tests.classification import moods
from tests.web.browser import Page, needs_browser, opened
from tests.web.node import WEB, needs_modules, needs_node, script

SMALL = ["--hidden", 12, "--embedding", 8, "--threads", 1, "--quiet"]
KINDS = {"characters": ["--layers", 2], "bpe": ["--vocabulary", 270]}
MARK = 'http-equiv="Content-Security-Policy" content="default-src \'none\''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "text.txt").write_text("naïve 日本 </script> {{model}}\n" * 3 + verse(60))
    for kind, flags in KINDS.items():
        more = ["--tokens", kind, "--epochs", 1, "--batch", 4, "--steps", 16, *flags]
        done = elman(
            "train", "language-model", "--data", folder / "text.txt", "--run", folder / kind, *SMALL, *more
        )
        assert done.code == 0, done.err
    for name, write in (("one", moods.write), ("several", moods.write_several)):
        data = folder / f"{name}.{'csv' if name == 'one' else 'tsv'}"
        write(data, 120, 0)
        done = elman(
            "train", "emotion", "--data", data, "--run", folder / name, *SMALL, "--epochs", 1, "--batch", 16
        )
        assert done.code == 0, done.err
    for name in (*KINDS, "one", "several"):
        done = elman("export", folder / name, "--file", folder / f"{name}.elman")
        assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def pages(folder: Path) -> Path:
    for name in (*KINDS, "one", "several"):
        done = elman("export", folder / name, "--to", "html", "--file", folder / f"{name}.html")
        assert (done.code, done.out) == (0, f"{folder / name}.html\n"), done.err
    again = elman("export", folder / "one", "--to", "html", "--file", folder / "one.html")  # over its own
    assert again.code == 0, again.err
    return folder


def test_without_the_module_a_sentence_says_how_to_mend_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elman.web.pages.MODULE", tmp_path / "elman.wasm")
    done = elman("export", folder / "characters", "--to", "html", "--file", tmp_path / "page.html")
    assert done.code == 2
    assert "the core for browsers is not in this installation" in done.err
    assert "make wasm" in done.err
    assert "apt install emscripten" in done.err
    assert not (tmp_path / "page.html").exists()


def test_a_task_without_a_page_is_refused() -> None:
    with pytest.raises(UserError, match="no page for a model of the task 'layer'"):
        page("layer", title="x", version="0")


WRITES = """
import { readFileSync } from "node:fs";
const { script, module, jobs } = JSON.parse(readFileSync(0, "utf8"));
const { Elman } = await import(script);
const { written } = await import(script.replace("elman.js", "writing.js"));
const elman = await Elman.load(readFileSync(module));
console.log(JSON.stringify(jobs.map(({ file, prompt, ...settings }) => {
  const model = elman.model(readFileSync(file));
  try { return [...written(model, prompt, settings)].join(""); } catch (error) { return error.message; }
})));
"""

JUDGES = """
import { readFileSync } from "node:fs";
const { script, module, file, texts } = JSON.parse(readFileSync(0, "utf8"));
const { Elman } = await import(script);
const { judged } = await import(script.replace("elman.js", "classifying.js"));
const elman = await Elman.load(readFileSync(module)), model = elman.model(readFileSync(file));
console.log(JSON.stringify(texts.map((text) => judged(model, text))));
"""


@needs_node
@needs_modules
@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_written_is_what_torch_writes(folder: Path, kind: str) -> None:
    trained, prompts = package.load(folder / kind), ["", "the sea and the ", "naïve 日本"]
    jobs = [
        {"file": str(folder / f"{kind}.elman"), "prompt": prompt, "length": 200, "temperature": 0}
        for prompt in prompts
    ]
    found = script(WRITES, module=str(WEB / "elman.wasm"), jobs=jobs)
    assert found == [trained.generate(prompt, length=200, temperature=0) for prompt in prompts]


@needs_node
@needs_modules
def test_drawn_text_goes_by_its_seed(folder: Path) -> None:
    def job(seed: int, temperature: float, prompt: str = "the ") -> dict[str, object]:
        file = str(folder / "characters.elman")
        return {"file": file, "prompt": prompt, "length": 80, "temperature": temperature, "seed": seed}

    jobs = [job(1, 1), job(1, 1), job(2, 1), job(1, 0), job(5, 1e-6), job(1, 1, "\u2603")]
    one, again, other, greedy, cold, strange = script(WRITES, module=str(WEB / "elman.wasm"), jobs=jobs)
    assert one == again != other
    assert greedy == cold != one
    assert strange == "The prompt has “\u2603”, a character that the model has never seen."


@needs_node
@needs_modules
@pytest.mark.parametrize("name", ["one", "several"])
def test_answers_and_words_that_weighed(folder: Path, name: str) -> None:
    """Probabilities are those of the model; a word's weight is what the text without it says."""
    texts = ["I am so happy today", "this is sad , sad news and nothing else at all", "xyzzy", "a"]
    model = load(folder / f"{name}.elman")
    found = script(JUDGES, module=str(WEB / "elman.wasm"), file=str(folder / f"{name}.elman"), texts=texts)
    for text, one, expected in zip(texts, found, model.predict(texts), strict=True):
        assert dict(zip(one["labels"], one["p"], strict=True)) == pytest.approx(
            expected["probabilities"], abs=3e-6
        )
        said = [one["labels"][k] for k in one["said"]]
        assert said == (expected["labels"] if name == "several" else [expected["label"]])
        best = one["best"]
        for span, weight in zip(one["spans"], one["weights"], strict=True):
            without = text[: span["start"]] + text[span["end"] :]
            p = model.probabilities([without])[0, best]
            share = one["p"][best]
            odds = [float(x) for x in (share / (1 - share), p / (1 - p))]
            assert odds[1] * 2.718281828459045**weight == pytest.approx(odds[0], rel=1e-4)


@needs_modules
def test_the_page_is_whole(pages: Path) -> None:
    text = (pages / "characters.html").read_text(encoding="utf-8")
    assert MARK in text
    assert "{{" not in text.split('id="module"')[0]
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']""", text)
    assert "import {" not in text.split('type="module"')[1].replace("//   import { Elman }", "")


@pytest.fixture(scope="module")
def tab(pages: Path) -> Iterator[Page]:
    with opened() as found:
        yield found


DONE = "document.querySelector('#text')?.dataset.done === 'yes'"


@needs_browser
@needs_modules
@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_the_page_writes_what_torch_writes_and_asks_for_nothing(pages: Path, tab: Page, kind: str) -> None:
    tab.requests.clear()
    tab.said.clear()
    tab.open(pages / f"{kind}.html", f"prompt={quote('the sea ')}&temperature=0&length=1000")
    tab.wait(DONE)
    text = package.load(pages / kind).generate("the sea ", length=1000, temperature=0)
    assert tab.value("document.querySelector('#text').textContent") == f"the sea {text}"
    assert tab.said == []
    assert {url for url in tab.requests if not url.startswith("data:")} == {
        (pages / f"{kind}.html").as_uri()[:80]
    }
    # Another text at a press of the button.
    tab.value(
        "document.querySelector('[name=temperature]').value = 1, document.querySelector('#text').dataset.done = 'no'"
    )
    tab.value("document.querySelector('button').click()")
    tab.wait(DONE)
    assert tab.value("document.querySelector('#text').textContent") != f"the sea {text}"


@needs_browser
@needs_modules
def test_numbers_that_are_none_are_told(pages: Path, tab: Page, tmp_path: Path) -> None:
    def opens(name: str, given: str) -> str:
        page = tmp_path / f"{name}.html"  # to go to another hash of the same page loads nothing
        page.write_bytes((pages / "characters.html").read_bytes())
        tab.open(page, given)
        tab.wait(DONE)
        return str(tab.value("document.querySelector('#speed').textContent"))

    for i, (given, said) in enumerate(
        (
            ("length=-5", "The length is “-5”; expected a whole number from 1 to 100000."),
            ("length=2.5", "The length is “2.5”; expected a whole number from 1 to 100000."),
            ("temperature=nan", "The temperature is “nan”; expected a number from 0 to 1.5."),
            ("temperature=", "The temperature is “”; expected a number from 0 to 1.5."),
            ("length=9&seed=x", f"The seed is “x”; expected a whole number from -{2**53} to {2**53}."),
        )
    ):
        assert opens(str(i), given) == ""
        assert tab.value("document.querySelector('#text').textContent") == said
    assert "∞" not in opens("one", "length=1&temperature=0")


@needs_browser
@needs_modules
def test_the_page_colours_words_and_fits_a_telephone(pages: Path, tab: Page) -> None:
    tab.looks(390, 800, dark=True)
    text = "I am so happy today"
    tab.open(pages / "one.html", f"text={quote(text)}")
    tab.wait("document.querySelectorAll('mark').length > 3")
    assert tab.value("document.querySelector('#words').textContent") == text
    (answer,) = load(pages / "one.elman").predict([text])
    assert tab.value("document.querySelector('.said b').textContent") == answer["label"]
    shown = tab.value("[...document.querySelectorAll('.bar')].map((bar) => bar.innerText.split('\\n'))")
    assert {name: float(p) for name, *_, p in shown} == pytest.approx(answer["probabilities"], abs=1e-3)
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert _darkness(tab.picture()) > 0.5
    tab.looks(1000, 800)
    assert _darkness(tab.picture()) < 0.5
    field = "document.querySelector('textarea')"
    tab.value(f"{field}.value = '', {field}.dispatchEvent(new Event('input'))")
    tab.wait("document.querySelector('#answer').hidden")


def _darkness(png: bytes) -> float:
    """How dark a picture is, from its first row: 0 to 1."""
    data, at = b"", 8
    while at < len(png):
        (size,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        data += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    # The first pixel of the first row is itself, whatever the filter.
    return 1 - sum(zlib.decompress(data)[1:4]) / (3 * 255)
