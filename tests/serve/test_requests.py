"""Whole requests over HTTP: the answers of the model alone, and a code and a sentence for all that is refused."""

import contextlib
import json
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from elman.runtime import load
from tests.serve.serving import Running, serving, until

Files = dict[str, Path]
# One for all: a client of its own for each request would read all certificates of the system each time.
CLIENT = httpx.Client(timeout=30, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


@pytest.fixture(scope="module")
def server(files: Files) -> Any:
    with serving(files, "book", "words", "reviews", "layer", longest=300, length=200, body=5000) as running:
        yield running


def ask(server: Running, path: str, **body: Any) -> Any:
    found = CLIENT.post(f"{server.url}/models/{path}", json=body)
    assert found.status_code == 200, found.text
    return found.json()


def pieces(server: Running, path: str, **body: Any) -> tuple[str, list[tuple[str, Any]]]:
    """The text of the pieces, and all events but these."""
    text, others = "", []
    with CLIENT.stream(
        "POST", f"{server.url}/models/{path}", json=body | {"stream": True}, timeout=30
    ) as found:
        assert found.headers["content-type"].startswith("text/event-stream")
        for event in "".join(found.iter_text()).strip().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in event.split("\n"))
            data = json.loads(lines["data"])
            if "event" in lines:
                others.append((lines["event"], data))
            else:
                text += data["text"]
    return text, others


CASES = [
    {"prompt": "the sea", "length": 50, "temperature": 0},
    {"prompt": "", "length": 30, "seed": 5},
    {"prompt": "a ship, ", "length": 25, "temperature": 0.7, "top_k": 3, "seed": 9},
    {"prompt": "a", "length": 1, "seed": 2},
    {"prompt": "a", "length": 0},
]


@pytest.mark.parametrize("name", ["book", "words"])
@pytest.mark.parametrize("case", CASES)
def test_text_is_that_of_the_model_alone(
    server: Running, files: Files, name: str, case: dict[str, Any]
) -> None:
    expected = load(files[name]).generate(**case)
    assert ask(server, f"{name}/generate", **case) == {"text": expected, "tokens": case["length"]}
    assert pieces(server, f"{name}/generate", **case) == (expected, [("done", {"tokens": case["length"]})])


def test_many_at_once_are_each_as_if_alone(server: Running, files: Files) -> None:
    model, labels = load(files["book"]), load(files["reviews"])
    jobs = [{"prompt": "abc" * (i % 4), "length": 20 + i, "seed": i} for i in range(60)]
    texts = [[f"so happy {i}", "sad " * (i % 9)] for i in range(60)]
    with ThreadPoolExecutor(16) as pool:
        written = list(pool.map(lambda job: ask(server, "book/generate", **job)["text"], jobs))
        said = list(pool.map(lambda given: ask(server, "reviews/classify", texts=given)["answers"], texts))
    assert written == [model.generate(**job) for job in jobs]
    assert said == [labels.predict(given) for given in texts]


def test_the_surprise_of_a_text(server: Running, files: Files) -> None:
    model = load(files["book"])
    texts = ["the sea and the ship", "", "a", "zzzz"]
    for text, found in zip(texts, ask(server, "book/score", texts=texts)["scores"], strict=True):
        row = [model.tokenizer.start, *model.tokenizer.encode(text)]
        nats = 0.0
        if text:
            logits = model.run(np.array(row[:-1]).reshape(-1, 1)).y[:, 0].astype(float)
            p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
            nats = -np.log(p[np.arange(len(text)), row[1:]]).sum()
        assert found["tokens"] == len(text)
        assert found["nats"] == pytest.approx(nats, rel=1e-12)
        assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / max(len(text), 1))


def test_what_there_is(server: Running, files: Files) -> None:
    found = {entry["name"]: entry for entry in CLIENT.get(f"{server.url}/models").json()}
    assert found["book"]["requests"] == ["generate", "score"]
    assert found["book"]["stream"] == "text"
    assert found["reviews"]["requests"] == ["classify"]
    assert found["reviews"]["stream"] is None
    assert found["layer"]["input"] == {"shape": [5], "dtype": "float32"}
    assert len({entry["hash"] for entry in found.values()}) == 4
    assert CLIENT.get(f"{server.url}/healthz").text == "ok\n"
    assert CLIENT.get(f"{server.url}/readyz").text == "ready\n"


JSON = {"content-type": "application/json"}
REFUSED = [
    ("POST", "/models/nobody/generate", JSON, "{}", 404, "there is no model 'nobody'; there is book"),
    ("POST", "/models/reviews/generate", JSON, "{}", 404, "reviews has no 'generate'; it has classify"),
    ("POST", "/models/layer/generate", JSON, "{}", 404, "no request as a whole, only streams"),
    ("GET", "/nowhere", {}, "", 404, "there is no /nowhere"),
    ("GET", "/models/book/generate", {}, "", 405, "asked for by POST"),
    ("DELETE", "/models", {}, "", 405, "asked for by GET, HEAD, not by DELETE"),
    ("POST", "/models/book/generate", {}, "{}", 415, "application/json"),
    ("POST", "/models/book/generate", JSON, "{", 400, "no JSON"),
    ("POST", "/models/book/generate", JSON, b"\xff\xfe", 400, "no UTF-8"),
    ("POST", "/models/book/generate", JSON, "[" * 4000, 422, "not what is expected"),
    ("POST", "/models/book/generate", JSON, '{"prompt": 3}', 422, "$.prompt"),
    ("POST", "/models/book/generate", JSON, '{"prompts": ""}', 422, "unknown field `prompts`"),
    ("POST", "/models/book/generate", JSON, '{"temperature": -1}', 422, "$.temperature"),
    ("POST", "/models/book/generate", JSON, '{"temperature": NaN}', 400, "no JSON"),
    ("POST", "/models/book/generate", JSON, '{"length": 201}', 413, "200 are allowed"),
    ("POST", "/models/book/generate", JSON, '{"length": -1}', 422, "$.length"),
    ("POST", "/models/book/generate", JSON, '{"seed": -1}', 422, "$.seed"),
    ("POST", "/models/book/generate", JSON, json.dumps({"prompt": "a" * 301}), 413, "301 characters"),
    ("POST", "/models/book/generate", JSON, json.dumps({"prompt": "a" * 6000}), 413, "5000 bytes"),
    ("POST", "/models/book/generate", JSON, '{"prompt": "\\u2603"}', 422, "never seen"),
    ("POST", "/models/book/score", JSON, '{"texts": []}', 422, "length >= 1"),
    ("POST", "/models/book/score", JSON, '{"texts": ["X"]}', 422, "never seen"),
    ("POST", "/models/reviews/classify", JSON, "{}", 422, "texts"),
    ("POST", "/models/reviews/classify", JSON, '{"texts": "abc"}', 422, "texts"),
    ("GET", "/models", {"host": "evil.example"}, "", 403, "loopback alone"),
    ("GET", "/models", {"origin": "http://evil.example"}, "", 403, "may not ask"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "code", "sentence"), REFUSED)
def test_refused_with_a_code_and_a_sentence(
    server: Running, method: str, path: str, headers: dict[str, str], body: str, code: int, sentence: str
) -> None:
    before = server.count(f'requests_total{{code="{code}"}}')
    found = CLIENT.request(method, server.url + path, headers=headers, content=body)
    assert found.status_code == code
    assert sentence in found.json()["error"]
    until(lambda: server.count(f'requests_total{{code="{code}"}}') == before + 1)


def test_a_body_in_chunks_is_measured_too(server: Running) -> None:
    found = CLIENT.post(
        f"{server.url}/models/book/generate", headers=JSON, content=(b" " * 1000 for _ in range(50))
    )
    assert found.status_code == 413


def test_drawn_bytes_do_no_harm(server: Running) -> None:
    draw = np.random.default_rng(0)
    good = b"POST /models/book/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    body = b'{"prompt": "a", "length": 2}'
    whole = good + b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    for _ in range(120):
        sent = bytearray(whole)
        for _ in range(draw.integers(1, 12)):
            place = draw.integers(len(sent))
            kind = draw.integers(3)
            if kind == 0:
                sent[place] = draw.integers(256)
            elif kind == 1:
                del sent[place : place + draw.integers(1, 9)]
            else:
                sent[place:place] = draw.bytes(draw.integers(1, 9))
        client = server.raw()
        client.sendall(bytes(sent))
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65536)
        client.close()
        assert not answer or answer.startswith(b"HTTP/1.1 "), answer
        assert not answer.startswith(b"HTTP/1.1 500"), (sent, answer)
        if answer and not answer.startswith(b"HTTP/1.1 200"):
            assert b"content-type: application/json" in answer, (sent, answer)
    assert len(ask(server, "book/generate", length=3)["text"]) == 3
    until(lambda: server.application.active == 0)
    until(lambda: server.count('sessions{model="book"}') == 0)


def test_the_token(files: Files) -> None:
    with serving(files, "book", token="not-for-everyone") as server:
        url = f"{server.url}/models/book/generate"
        for headers in ({}, {"authorization": "Bearer not-for-everyon"}, {"authorization": "Bearer \xe9"}):
            found = CLIENT.post(url, json={}, headers={k: v.encode("latin-1") for k, v in headers.items()})
            assert found.status_code == 401
            assert found.headers["www-authenticate"] == "Bearer"
        assert CLIENT.get(f"{server.url}/metrics").status_code == 401
        assert CLIENT.get(f"{server.url}/readyz").status_code == 200
        found = CLIENT.post(url, json={"length": 3}, headers={"authorization": "Bearer not-for-everyone"})
        assert found.status_code == 200


def test_the_name_of_a_proxy(files: Files) -> None:
    with serving(files, "book", name=("models.example",)) as server:
        for headers, code in (
            ({"host": "models.example"}, 200),
            ({"host": "models.example", "origin": "https://models.example"}, 200),
            ({"host": "127.0.0.1:9", "origin": "https://models.example"}, 200),
            ({"host": "models.example", "origin": "https://evil.example"}, 403),
            ({"host": "evil.example"}, 403),
            ({"host": "[::1]:80"}, 200),
        ):
            assert CLIENT.get(f"{server.url}/models", headers=headers).status_code == code, headers


def test_as_many_as_are_allowed(files: Files) -> None:
    with serving(files, "book", "reviews", sessions=1, waiting=2) as server:
        server.slow_down("book", 0.002)
        with CLIENT.stream(
            "POST", f"{server.url}/models/book/generate", json={"length": 4096, "stream": True}
        ) as one:
            assert one.status_code == 200
            written = one.iter_bytes()
            next(written)
            found = CLIENT.post(f"{server.url}/models/book/generate", json={})
            assert (found.status_code, found.headers["retry-after"]) == (503, "1")
            assert "1 sessions are open" in found.json()["error"]
        until(
            lambda: server.count('sessions{model="book"}') == 0
        )  # the client is gone, and so is its session
        found = CLIENT.post(f"{server.url}/models/reviews/classify", json={"texts": ["a"] * 3})
        assert found.status_code == 413  # it could never be taken, however long one waits
        assert "2 are allowed" in found.json()["error"]
        assert (
            CLIENT.post(f"{server.url}/models/reviews/classify", json={"texts": ["a"] * 2}).status_code == 200
        )


def test_as_long_as_is_allowed(files: Files) -> None:
    with serving(files, "book", timeout=0.1) as server:
        server.slow_down("book", 0.001)
        found = CLIENT.post(f"{server.url}/models/book/generate", json={"length": 4096})
        assert found.status_code == 504
        assert "time" in found.json()["error"]
        _, events = pieces(server, "book/generate", length=4096)
        assert [(kind, data["code"]) for kind, data in events] == [("error", 504)]
        assert server.count('sessions{model="book"}') == 0


def test_who_sends_nothing_is_cut_off(files: Files) -> None:
    head = b"POST /models/book/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with serving(files, "book", slow=0.4) as server:
        nothing, half, later, body = (server.raw() for _ in range(4))
        half.sendall(head[:30])
        later.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += later.recv(4096)
        later.sendall(head[:30])
        body.sendall(head + b"Content-Length: 20\r\n\r\n{")
        for client in (nothing, half, later):
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(4096) == b""
            client.close()
        assert body.recv(4096).startswith(b"HTTP/1.1 408 ")
        body.close()
        until(lambda: not server.server.server_state.connections)


def test_what_is_in_progress_is_ended_when_the_server_stops(files: Files) -> None:
    with serving(files, "book") as server:
        server.slow_down("book", 0.002)
        url = f"{server.url}/models/book/generate"
        with CLIENT.stream("POST", url, json={"length": 200, "stream": True, "seed": 1}) as found:
            pieces = found.iter_text()
            first = next(pieces)
            server.server.should_exit = True
            until(lambda: server.application.draining)
            with pytest.raises(httpx.ConnectError):
                CLIENT.post(url, json={})
            text = first + "".join(pieces)
        assert text.endswith('event: done\ndata: {"tokens": 200}\n\n')


def test_requests_are_counted(server: Running) -> None:
    label = 'model="book",request="generate"'
    before = server.count(f"request_seconds_count{{{label}}}")
    steps = server.count('steps_total{model="book"}')
    for _ in range(3):
        ask(server, "book/generate", length=5)
    assert server.count(f"request_seconds_count{{{label}}}") == before + 3
    assert server.count('steps_total{model="book"}') == steps + 15
    shown = CLIENT.get(f"{server.url}/metrics")
    assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'elman_request_seconds_bucket{{{label},le="+Inf"}} {before + 3:.0f}\n' in shown.text


def test_who_leaves_before_the_first_piece_leaves_nothing(files: Files) -> None:
    head = b"POST /models/book/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    body = b'{"length": 4096, "stream": true}'
    with serving(files, "book", idle=1e6) as server:
        server.slow_down("book", 0.01)
        for _ in range(20):
            client = server.raw()
            client.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            client.close()
        until(
            lambda: (
                server.count('requests_total{code="200"}') + server.count('requests_total{code="500"}') >= 10
            )
        )
        until(lambda: server.count('sessions{model="book"}') == server.count('waiting{model="book"}') == 0)
        until(lambda: server.application.active == 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_ends_the_process(files: Files) -> None:
    with serving(files, "book") as server:
        batcher = server.application.models["book"].batcher
        batcher.step = lambda: (_ for _ in ()).throw(SystemExit)
        with contextlib.suppress(httpx.HTTPError):
            CLIENT.post(f"{server.url}/models/book/generate", json={"length": 5}, timeout=0.3)
        until(lambda: server.application.broken and server.server.should_exit)
