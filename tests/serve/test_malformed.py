"""Bodies, messages, heads and handshakes that are none, drawn: a code and a sentence for each, and harm for nobody."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from elman.serve.metrics import CODES
from elman.serve.refusals import RefusedError, decoded
from elman.serve.requests import Texts
from tests.serve.serving import Running, serving, until

Files = dict[str, Path]
CLIENT = httpx.Client(timeout=30, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
JSON = {"content-type": "application/json"}
PIECES = [
    "a",
    "\\\\",
    "\\n",
    "\\ud800",
    "\\uDBFF",
    "\\udc00",
    "\\uDFFF",
    "\\u0041",
    "\u00e9",
    "ud800",
    "\U0001f600",
]


@pytest.fixture(scope="module")
def server(files: Files) -> Any:
    with serving(files, "book", "reviews", "layer", longest=300, length=20, body=5000) as running:
        yield running


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_half_a_surrogate_pair_is_named(pieces: list[str]) -> None:
    """Exactly where Python's own reader finds a text that no UTF-8 can hold."""
    text = '{"texts": ["' + "".join(pieces) + '"]}'
    expected = json.loads(text)["texts"]
    try:
        expected[0].encode()
    except UnicodeEncodeError as error:
        half = ord(expected[0][error.start])
        with pytest.raises(RefusedError) as refused:
            decoded("the body", text.encode(), Texts)
        assert refused.value.code == 400
        assert f"\\u{half:04x} is half of a surrogate pair" in str(refused.value).lower()
    else:
        assert decoded("the body", text.encode(), Texts).texts == expected


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is no JSON: it is empty"),
        (b" \n", "the body is no JSON: it is empty"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
        (b'{"prompt": "\xff"}', "the body is no UTF-8: byte 12 is 0xff"),
        (b'{"prompt": "\xed\xa0\x80"}', "the body is no UTF-8: byte 12 is 0xed"),
        (b'{"prompt": "\\udc00"}', "\\udc00 is half of a surrogate pair, and no character by itself"),
    ],
)
def test_what_is_no_json(server: Running, body: bytes, sentence: str) -> None:
    found = CLIENT.post(f"{server.url}/models/book/generate", headers=JSON, content=body)
    assert found.status_code == 400
    assert sentence in found.json()["error"]


def test_a_character_is_blamed_on_what_it_stands_in(server: Running) -> None:
    for word, body, where in (
        ("generate", {"prompt": "a\u2603"}, "the prompt"),
        ("score", {"texts": ["a", "\u2603"]}, "texts[1]"),
    ):
        found = CLIENT.post(f"{server.url}/models/book/{word}", json=body).json()
        assert found["error"] == f"{where} has '\u2603', a character that the model has never seen"
    with connect(f"{server.ws}/models/book/stream") as client:
        client.recv()
        client.send('{"text": "\u2603"}')
        assert "the text has '\u2603'" in json.loads(client.recv())["error"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "identity, br"}, 415),
        ({"content-encoding": "Identity"}, 200),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": 'Application/JSON; charset="UTF-8"'}, 200),
        ({"content-type": "text/json"}, 415),
    ],
)
def test_a_body_is_json_in_utf8_as_it_is(server: Running, headers: dict[str, str], code: int) -> None:
    found = CLIENT.post(f"{server.url}/models/book/generate", headers=JSON | headers, content=b"{}")
    assert found.status_code == code
    if code == 415:
        assert len(found.json()["error"]) > 20
        assert ("accept-encoding" in found.headers) == ("content-encoding" in headers)


def mutated(draw: np.random.Generator, good: bytes) -> bytes:
    """Some bytes changed, gone, doubled or put in."""
    sent = bytearray(good)
    for _ in range(draw.integers(1, 4)):
        place = draw.integers(len(sent) + 1)
        kind = draw.integers(4)
        if kind == 0 and place < len(sent):
            sent[place] = draw.integers(256)
        elif kind == 1:
            del sent[place : place + draw.integers(1, 6)]
        elif kind == 2:
            sent[place:place] = sent[place : place + draw.integers(1, 9)] * draw.integers(1, 4)
        else:
            more = [b"\\ud83d", b"\\", b"null", b"-1", b"1e999", b"[", b'"', b"NaN", b"\xc3", b"\x00"]
            sent[place:place] = more[draw.integers(len(more))]
    return bytes(sent)


BODIES = [
    ("book/generate", b'{"prompt": "the sea", "length": 3, "temperature": 0.5, "top_k": 2, "seed": 1}'),
    ("book/score", b'{"texts": ["the sea", "and a ship"]}'),
    ("reviews/classify", b'{"texts": ["so happy", "sad \\u00e9 \\ud83d\\ude00"]}'),
]


def test_drawn_bodies(server: Running) -> None:
    draw, codes = np.random.default_rng(1), set()
    for i in range(300):
        path, good = BODIES[i % 3]
        body = mutated(draw, good)
        found = CLIENT.post(f"{server.url}/models/{path}", headers=JSON, content=body)
        assert found.status_code in {200, 400, 413, 422}, (body, found.text)
        if found.status_code != 200:
            assert len(found.json()["error"]) > 10, body
        codes.add(found.status_code)
    assert codes >= {200, 400, 422}
    until(lambda: server.count('sessions{model="book"}') == 0)


MESSAGES = [
    ("book", b'{"generate": {"prompt": "the", "length": 2, "seed": 3}}'),
    ("book", b'{"text": "the sea"}'),
    ("layer", b'{"rows": [[1, 2, 3, 4, 5], [null, 0.5, 1e-3, 0, 1]]}'),
    ("layer", b'{"restore": "ZWxtYW4="}'),
]


def test_drawn_messages(server: Running) -> None:
    """One session for many of them: each has one answer, and the session goes on."""
    draw, codes = np.random.default_rng(2), set()
    for name in ("book", "layer"):
        kinds = [good for of, good in MESSAGES if of == name]
        with connect(f"{server.ws}/models/{name}/stream") as client:
            client.recv()
            for i in range(200):
                message = mutated(draw, kinds[i % len(kinds)]).decode(errors="replace")
                client.send(message)
                said = json.loads(client.recv(timeout=10))
                codes.add(said.get("code", 200))
                assert "closing" not in said, message
            client.send('{"reset": true}')
            assert json.loads(client.recv(timeout=10)) == {"reset": True}
    assert codes >= {200, 400, 422}
    assert codes <= {200, 400, 413, 422}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_text_that_is_no_utf8_ends_its_session(server: Running) -> None:
    with connect(f"{server.ws}/models/book/stream") as client:
        client.recv(timeout=10)
        client.protocol.send_text(b'{"text": "\xff"}')
        client.socket.sendall(b"".join(client.protocol.data_to_send()))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            1007,
            "the message is no UTF-8 at byte 10",
        )


UPGRADE = (
    b"GET /models/book/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
)
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
HEADS = [
    (b"GET / HTP/1.1\r\n\r\n", 400),
    (b"\xff\xff\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: many\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (UPGRADE + b"\r\n", 400),
    (UPGRADE + KEY.replace(b"A==", b"==") + b"\r\n", 400),
    (UPGRADE + KEY.replace(b"13", b"12") + b"\r\n", 400),
    (UPGRADE.replace(b"GET", b"POST") + KEY + b"\r\n", 405),
    (UPGRADE + KEY + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    (UPGRADE + KEY + b"".join(b"X%d: a\r\n" % i for i in range(300)) + b"\r\n", 431),
]


@pytest.mark.parametrize(("head", "code"), HEADS)
def test_what_never_becomes_a_request_is_answered(server: Running, head: bytes, code: int) -> None:
    """In JSON, to the end of the connection, and counted once, not as a fault of the server."""

    def refusals() -> float:
        counts = [server.count(f'requests_total{{code="{known}"}}') for known in CODES if known != 500]
        return sum(counts)

    before = refusals()
    client = server.raw()
    client.sendall(head)
    client.shutdown(socket.SHUT_WR)
    answer = b""
    while piece := client.recv(65536):
        answer += piece
    client.close()
    top, _, body = answer.partition(b"\r\n\r\n")
    lines = top.lower().split(b"\r\n")
    assert lines[0].startswith(b"http/1.1 %d " % code)
    assert b"content-type: application/json" in lines
    assert len(json.loads(body)["error"]) > 20
    until(lambda: refusals() == before + 1)
