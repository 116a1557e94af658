"""The page at /, tried in a browser."""

import base64
import io
import json
import wave
from pathlib import Path

import httpx
import numpy as np
import pytest

from elman.runtime import load
from tests.serve.browser import CHROMIUM, tab
from tests.serve.serving import serving
from tests.speech.untrained import RATE, noise, whole

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def test_the_page(files: dict[str, Path], tmp_path: Path) -> None:
    with (
        serving(files, "book", "reviews", "layer", length=300) as server,
        tab(server.url, tmp_path / "profile") as page,
    ):
        page.wait("models.length === 3")
        assert page.value("[...$('model').options].map(o => o.value)") == ["book", "reviews", "layer"]
        assert page.value("[...$('request').options].map(o => o.value)") == ["generate", "score"]
        page.value(
            "$('text').value = 'the sea'; $('length').value = 40; $('seed').value = 3; $('go').click()"
        )
        page.wait("$('answer').dataset.done")
        written = load(files["book"]).generate("the sea", length=40, temperature=0.7, seed=3)
        assert page.value("$('answer').textContent") == "the sea" + written

        page.value("delete $('answer').dataset.done; $('text').value = '\\u2603'; $('go').click()")
        page.wait("$('answer').dataset.done")
        assert "never seen" in page.value("document.querySelector('.fault').textContent")

        page.value("delete $('answer').dataset.done; $('model').value = 'reviews'; choose()")
        page.value("$('text').value = 'so happy\\nsad news'; $('go').click()")
        page.wait("$('answer').dataset.done")
        answers = load(files["reviews"]).predict(["so happy", "sad news"])
        said = page.value("[...document.querySelectorAll('#answer p')].map(p => p.textContent)")
        assert said == [f"{answer['text']}: {answer['label']}" for answer in answers]
        assert page.value("document.querySelectorAll('.bar').length") == 6

        page.value("delete $('answer').dataset.done; $('model').value = 'layer'; choose()")
        assert page.value("$('request').value") == "stream"
        page.value("$('text').value = ''; $('go').click()")
        page.wait("$('answer').dataset.done")
        sizes = page.value("[...document.querySelectorAll('canvas')].map(c => [c.width, c.height])")
        assert sizes == [[120, 5], [120, 7]]
        # Nothing is loaded from elsewhere, and nothing has gone wrong but the request that was to be refused.
        hosts = page.value("performance.getEntriesByType('resource').map(e => new URL(e.name).host)")
        assert set(hosts) <= {f"127.0.0.1:{server.port}"}
        assert [said for said in page.complaints if "422" not in said and "favicon" not in said] == []


def test_the_page_with_a_token(files: dict[str, Path], tmp_path: Path) -> None:
    with (
        serving(files, "book", "layer", token="not-for-everyone") as server,
        tab(f"{server.url}/?model=layer", tmp_path / "profile") as page,
    ):
        page.wait("!$('token-field').hidden")
        page.value("$('token').value = 'not-for-everyone'; list()")
        page.wait("models.length === 2")
        page.value("$('model').value = 'layer'; choose(); $('go').click()")
        page.wait("$('answer').dataset.done")
        assert page.value("document.querySelectorAll('canvas').length") == 2


def wav(sound: np.ndarray, rate: int) -> bytes:
    """A file of one channel in sixteen bits."""
    found = io.BytesIO()
    with wave.open(found, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())
    return found.getvalue()


CHOOSE = """(() => {{
  const bytes = Uint8Array.from(atob("{data}"), c => c.charCodeAt(0)), chosen = new DataTransfer();
  chosen.items.add(new File([bytes], "{name}"));
  $("file").files = chosen.files;
  $("go").click();
}})()"""


def test_a_recording_is_heard(files: dict[str, Path], reader: Path, tmp_path: Path) -> None:
    """The texts and words of the whole recording, through the browser's own decoder."""
    sound = noise(21, 24_000)
    with (
        serving({**files, "ear": reader}, "ear", "layer") as server,
        tab(f"{server.url}/?model=ear&endpoint=0", tmp_path / "profile") as page,
    ):
        page.wait("models.length === 2")
        assert page.value("$('request').value") == "listen"
        assert page.value("$('text-field').hidden && !$('file-field').hidden && $('endpoint').value === '0'")
        page.value("$('go').click()")
        page.wait("$('answer').dataset.done")
        assert page.value("$('answer').textContent") == "choose a recording first"
        for name, data in (("a.wav", wav(sound, RATE)), ("b.wav", b"no sound at all")):
            page.value("delete $('answer').dataset.done")
            page.value(CHOOSE.format(data=base64.b64encode(data).decode(), name=name))
            page.wait("$('answer').dataset.done")
            if name == "b.wav":
                assert page.value("$('answer').textContent") == "this browser cannot play b.wav"
                continue
            expected = whole(load(reader), (sound / 2**15).astype(np.float32))
            assert page.value("document.querySelector('#answer > p').textContent") == expected["text"]
            words = page.value("[...document.querySelectorAll('mark')].map(m => m.textContent)")
            assert words == [word["word"] for word in expected["words"]]
            page.picture(tmp_path / "heard.png")
        assert [said for said in page.complaints if "favicon" not in said] == []


def test_lines_are_translated(translator: Path, tmp_path: Path) -> None:
    texts = ["ein hund sieht das haus .", "das haus ist rot ."]
    with (
        serving({"de-en": translator}, "de-en") as server,
        tab(f"{server.url}/?model=de-en&best=2&beam=3", tmp_path / "profile") as page,
    ):
        page.wait("models.length === 1")
        page.value(f"$('text').value = {json.dumps(chr(10).join(texts))}; $('go').click()")
        page.wait("$('answer').dataset.done")
        asked = {"texts": texts, "beam": 3, "n_best": 2}
        answers = httpx.post(f"{server.url}/models/de-en/translate", json=asked, trust_env=False).json()[
            "answers"
        ]
        said = page.value(
            "[...document.querySelectorAll('.pair')].map(e => [...e.querySelectorAll('p')].map(p => p.firstChild.data))"
        )
        assert said == [
            [answer["source"], *(one["translation"] for one in answer["n_best"])] for answer in answers
        ]
        page.picture(tmp_path / "translated.png")
        assert [said for said in page.complaints if "favicon" not in said] == []
