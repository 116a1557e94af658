"""The page at /, tried in a browser."""

from pathlib import Path

import pytest

from elman.runtime import load
from tests.serve.browser import CHROMIUM, tab
from tests.serve.serving import serving

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
