"""A run of a translator over HTTP: the answers of `elman predict`, in turns that leave room for others."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from command import elman
from elman.errors import UserError
from elman.serve.models import check_model
from elman.serve.settings import Serve
from elman.serve.starting import _ready
from tests.serve.serving import Running, serving
from tests.serve.test_streams import Client, steps
from tests.translation.small_language import sentences

Files = dict[str, Path]
CLIENT = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


@pytest.fixture(scope="module")
def server(files: Files, translator: Path) -> Any:
    with serving({**files, "de-en": translator}, "de-en", "layer", widest=8, longest=2000) as running:
        yield running


def ask(server: Running, **body: Any) -> httpx.Response:
    return CLIENT.post(f"{server.url}/models/de-en/translate", json=body)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beam": 1},
        {"beam": 4, "n_best": 3, "length_penalty": 1.0},
        {"beam": 3, "n_best": 2, "coverage_penalty": 0.2, "no_repeat": 2, "detokenized": True},
        {"beam": 2, "tokenize": True, "copy_unknown": False},
    ],
)
def test_answers_are_those_of_predict(
    server: Running, translator: Path, tmp_path: Path, options: Any
) -> None:
    texts = [*sentences(20, 3), "", "  ", "ein unbekanntes haus .", "Ein Hund."]
    (tmp_path / "texts.de").write_text("".join(f"{text}\n" for text in texts))
    flags = [
        word
        for name, value in options.items()
        for word in (
            [f"--{'' if value else 'no-'}{name.replace('_', '-')}"]
            if isinstance(value, bool)
            else [f"--{name.replace('_', '-')}", value]
        )
    ]
    done = elman("predict", translator, tmp_path / "texts.de", "--json", *flags)
    assert done.code == 0, done.err
    expected = [json.loads(line) for line in done.out.splitlines()]
    found = ask(server, texts=texts, **options)
    assert found.status_code == 200, found.text
    assert len({own["translation"] for own in found.json()["answers"]}) > 10
    for own, other in zip(found.json()["answers"], expected, strict=True):
        other.pop("place")
        assert own.keys() == other.keys()
        assert own["source"] == other["source"]
        assert own["translation"] == other["translation"]
        assert own["log_probability"] == pytest.approx(other["log_probability"], abs=2e-4)
        for one, two in zip(own.get("n_best", []), other.get("n_best", []), strict=True):
            assert one["translation"] == two["translation"]
            assert one["score"] == pytest.approx(two["score"], abs=2e-4)


def test_answers_do_not_depend_on_who_else_asks(server: Running) -> None:
    """To the last digit: lines of different requests are never side by side."""
    given = [{"texts": sentences(9, k), "beam": 2 + k % 3, "n_best": 2} for k in range(8)]
    alone = [ask(server, **body).json() for body in given]
    found: list[Any] = [None] * len(given)

    def one(k: int) -> None:
        found[k] = ask(server, **given[k]).json()

    threads = [threading.Thread(target=one, args=(k,)) for k in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_others_have_their_turns(server: Running) -> None:
    """A short request, and the steps of another model, beside one of many lines."""
    done: list[float] = []

    def many() -> None:
        assert ask(server, texts=["ein hund ."] * 180).status_code == 200
        done.append(time.monotonic())

    worker = server.application.models["de-en"].whole
    predict = worker.predict
    worker.predict = lambda lines: (time.sleep(0.05), predict(lines))[1]
    try:
        thread = threading.Thread(target=many)
        thread.start()
        with Client(server, "layer") as client:
            while worker.steps < 1 and not worker.waiting:
                time.sleep(0.001)
            longest = 0.0
            for _ in range(20):
                began = time.monotonic()
                steps(client, np.ones((3, 5), np.float32))
                longest = max(longest, time.monotonic() - began)
        assert ask(server, texts=["ein haus ."]).status_code == 200
        assert not done, "the short request waited for the long one"
        thread.join()
        assert longest < 0.8
    finally:
        worker.predict = predict


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({}, 422, "texts"),
        ({"texts": []}, 422, "length >= 1"),
        ({"texts": [1]}, 422, "$.texts[0]"),
        ({"texts": ["a"], "beam": 0}, 422, "$.beam"),
        ({"texts": ["a"], "beam": 9}, 413, "a beam of 9 is asked for; 8 are allowed"),
        ({"texts": ["a"], "beam": 2, "n_best": 3}, 422, "the 3 best of a beam of 2"),
        ({"texts": ["a"], "length_penalty": -1}, 422, "$.length_penalty"),
        ({"texts": ["a" * 2001]}, 413, "2001 characters"),
        ({"texts": [""] * 1025}, 413, "1024 are allowed"),
        ({"texts": ["a"], "to": "fr"}, 422, "unknown field `to`"),
    ],
)
def test_what_is_refused(server: Running, body: Any, code: int, sentence: str) -> None:
    found = ask(server, **body)
    assert found.status_code == code
    assert sentence in found.json()["error"]


def test_what_there_is(server: Running) -> None:
    (found,) = [entry for entry in CLIENT.get(f"{server.url}/models").json() if entry["name"] == "de-en"]
    assert (found["task"], found["requests"], found["stream"]) == ("translation", ["translate"], None)
    assert len(found["hash"]) == 64


def test_a_run_is_looked_at_before_anything_listens(translator: Path, tmp_path: Path) -> None:
    settings = Serve()
    assert _ready(translator, "de-en", settings, tmp_path) == translator
    (tmp_path / "lost").mkdir()
    for path in translator.iterdir():
        if path.suffix in {".json", ".txt"}:
            (tmp_path / "lost" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError):
        check_model(tmp_path / "lost", settings)
