"""Sessions over WebSockets: the numbers of each alone, states that travel, and an end for all that would pile up."""

import asyncio
import base64
import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from elman.runtime import load
from tests.serve.serving import Running, serving, until

Files = dict[str, Path]


@pytest.fixture(scope="module")
def server(files: Files) -> Any:
    with serving(
        files, "book", "words", "reviews", "layer", longest=300, length=200, body=20_000, turn=3, widest=4
    ) as running:
        yield running


class Client:
    """A connection; hello: what it is told first."""

    def __init__(
        self, server: Running, name: str, query: str = "", *, greeted: bool = True, **how: Any
    ) -> None:
        url = f"{server.ws}/models/{name}/stream{query}"
        self.manager = connect(url, max_size=None, compression=None, **how)
        self.inner = self.manager.__enter__()
        self.send, self.recv, self.protocol = self.inner.send, self.inner.recv, self.inner.protocol
        self.hello = json.loads(self.recv()) if greeted else {}

    def close(self) -> None:
        self.manager.__exit__(None, None, None)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


begin = Client


def say(client: Client, **message: Any) -> Any:
    client.send(json.dumps(message))
    return json.loads(client.recv())


def steps(client: Client, x: np.ndarray) -> np.ndarray:
    client.send(x.tobytes())
    return np.frombuffer(client.recv(), x.dtype).reshape(len(x), 7)


def ended(client: Client) -> tuple[Any, int, str]:
    """What was said last, and how the connection was closed."""
    said = json.loads(client.recv())
    with pytest.raises(ConnectionClosed):
        client.recv()
    return said, client.protocol.close_code, client.protocol.close_reason


def alone(stream: Any, x: np.ndarray) -> np.ndarray:
    return np.stack([stream(row[None])[0] for row in x])


def test_interleaved_sessions_are_each_as_if_alone(server: Running, files: Files) -> None:
    """Forty clients who come and go, some with numbers that are none, some who leave in the middle."""
    model = load(files["layer"])

    async def client(seed: int) -> int:
        draw = np.random.default_rng(seed)
        stream, compared = model.stream(1), 0
        async with async_connect(f"{server.ws}/models/layer/stream", compression=None) as socket_:
            await socket_.recv()
            for _ in range(draw.integers(1, 9)):
                x = draw.standard_normal((draw.integers(1, 30), 5)).astype(np.float32)
                if seed % 7 == 0:
                    x[draw.integers(len(x))] = np.nan
                await socket_.send(x.tobytes())
                if draw.random() < 0.05:
                    return compared  # it leaves without its answer
                if draw.random() < 0.2:
                    await asyncio.sleep(draw.random() / 50)
                y = np.frombuffer(await socket_.recv(), np.float32).reshape(-1, 7)
                np.testing.assert_array_equal(y, alone(stream, x))
                compared += 1
        return compared

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*map(client, range(40)))

    assert sum(asyncio.run(all_of_them())) > 100
    until(lambda: server.count('sessions{model="layer"}') == 0)


def test_rows_as_json(server: Running, files: Files) -> None:
    stream = load(files["layer"]).stream(1)
    x = np.random.default_rng(1).standard_normal((6, 5))
    with begin(server, "layer") as client:
        assert client.hello["stream"] == "rows"
        found = say(client, rows=x.tolist())["rows"]
        np.testing.assert_array_equal(np.array(found, np.float32), alone(stream, x.astype(np.float32)))


def test_messages_may_be_sent_ahead(server: Running, files: Files) -> None:
    stream = load(files["layer"]).stream(1)
    xs = np.random.default_rng(2).standard_normal((30, 4, 5)).astype(np.float32)
    with begin(server, "layer") as client:
        for x in xs:
            client.send(x.tobytes())
        for x in xs:
            y = np.frombuffer(client.recv(), np.float32).reshape(-1, 7)
            np.testing.assert_array_equal(y, alone(stream, x))


@pytest.mark.parametrize("name", ["book", "words"])
def test_text(server: Running, files: Files, name: str) -> None:
    model = load(files[name])
    case = {"prompt": "the sea and ", "length": 40, "temperature": 0.8, "seed": 4}
    with begin(server, name) as client:
        assert say(client, generate=case) == {"text": model.generate(**case), "done": 40}
        assert say(client, reset=True) == {"reset": True}
        pieces = [say(client, generate=case | {"stream": True})]
        while "done" not in pieces[-1]:
            pieces.append(json.loads(client.recv()))
        assert "".join(piece["text"] for piece in pieces) == model.generate(**case)
        # Read in pieces, and written on: as if it were one prompt.
        assert say(client, reset=True) == {"reset": True}
        heard = [say(client, text=text) for text in ("the ", "sea", "", " and ")]
        found = say(client, generate={k: v for k, v in case.items() if k != "prompt"})
        assert found == {"text": model.generate(**case), "done": 40}
    tokens = [model.tokenizer.start, *model.tokens("the sea and ")]
    logits = model.run(np.array(tokens[:-1]).reshape(-1, 1)).y[:, 0].astype(float)
    nats = [np.log(np.exp(row).sum()) - row[token] for row, token in zip(logits, tokens[1:], strict=True)]
    assert sum(entry["nats"] for entry in heard) == pytest.approx(sum(nats))
    assert sum(entry["tokens"] for entry in heard) == len(nats)


def test_a_state_travels(server: Running, files: Files) -> None:
    x = np.random.default_rng(3).standard_normal((20, 5)).astype(np.float32)
    expected = alone(load(files["layer"]).stream(1), x)
    with begin(server, "layer") as one, begin(server, "layer") as other:
        np.testing.assert_array_equal(steps(one, x[:8]), expected[:8])
        kept = say(one, state=True)["state"]
        steps(other, x[3:9])
        assert say(other, restore=kept) == {"restored": True}
        np.testing.assert_array_equal(steps(other, x[8:]), expected[8:])
        np.testing.assert_array_equal(steps(one, x[8:]), expected[8:])
        assert say(one, reset=True) == {"reset": True}
        np.testing.assert_array_equal(steps(one, x), expected)
        damaged = bytearray(base64.b64decode(kept))
        damaged[-3] ^= 1
        for text, said in (
            ("%%%", "not in base64"),
            (base64.b64encode(b"abc").decode(), "no state"),
            (base64.b64encode(bytes(damaged)).decode(), "damaged"),
        ):
            found = say(one, restore=text)
            assert said in found["error"] and found["code"] == 422
    with begin(server, "book") as text, begin(server, "words") as stranger:
        say(text, text="the sea and")
        kept = say(text, state=True)["state"]
        expected = say(text, generate={"length": 30, "seed": 8})
        assert say(text, restore=kept) == {"restored": True}
        assert say(text, generate={"length": 30, "seed": 8}) == expected
        found = say(stranger, restore=kept)
        assert "another model" in found["error"]


MESSAGES = [
    ("layer", b"", 422, "no whole rows of [5] float32, 20 bytes"),
    ("layer", b"abc", 422, "3 bytes are no whole rows"),
    ("layer", bytes(20 * 301), 413, "301 steps are given; 300 are allowed"),
    ("layer", '{"rows": [[1, 2]]}', 422, "[steps, 5]"),
    ("layer", '{"rows": []}', 422, "[steps, 5]"),
    ("layer", '{"rows": [[1, 2, 3, 4, "x"]]}', 422, "[steps, 5]"),
    ("layer", '{"text": "a"}', 422, "layer is fed rows, not text"),
    ("layer", '{"generate": {}}', 422, "fed rows, not text"),
    ("layer", "{", 400, "no JSON"),
    ("layer", "[]", 422, "not what is expected"),
    ("layer", "{}", 422, "it has 0"),
    ("layer", '{"reset": true, "state": true}', 422, "it has 2"),
    ("layer", '{"step": 1}', 422, "unknown field"),
    ("book", b"abcd", 422, "book is fed text, not rows"),
    ("book", '{"rows": [[1]]}', 422, "fed text, not rows"),
    ("book", '{"text": "\\u2603"}', 422, "never seen"),
    ("book", json.dumps({"text": "a" * 301}), 413, "301 characters"),
    ("book", '{"generate": {"length": 201}}', 413, "200 are allowed"),
    ("book", '{"generate": {"temperature": -1}}', 422, "temperature"),
]


@pytest.mark.parametrize(("name", "message", "code", "sentence"), MESSAGES)
def test_what_is_refused_and_the_session_goes_on(
    server: Running, files: Files, name: str, message: bytes | str, code: int, sentence: str
) -> None:
    with begin(server, name) as client:
        client.send(message)
        found = json.loads(client.recv())
        assert found["code"] == code
        assert sentence in found["error"]
        if name == "layer":
            x = np.ones((3, 5), np.float32)
            np.testing.assert_array_equal(steps(client, x), alone(load(files["layer"]).stream(1), x))
        else:
            assert say(client, generate={"length": 5, "seed": 1})["text"] == load(files["book"]).generate(
                length=5, seed=1
            )


def test_no_stream(server: Running, files: Files) -> None:
    for name, said in (
        ("reviews", "reviews has no stream; it has classify"),
        ("nobody", "no model 'nobody'"),
    ):
        with begin(server, name, greeted=False) as client:
            with pytest.raises(ConnectionClosed):
                client.recv()
            assert client.protocol.close_code == 4404
            assert said in client.protocol.close_reason
    with serving(files, "layer", token="not-for-everyone") as other:
        for query in ("", "?token=not-for-anyone"):
            with pytest.raises(InvalidStatus) as refused:
                begin(other, "layer", query)
            assert refused.value.response.status_code == 401
        begin(other, "layer", "?token=not-for-everyone").close()
        with pytest.raises(InvalidStatus) as refused:
            begin(other, "layer", "?token=not-for-everyone", origin="http://evil.example")
        assert refused.value.response.status_code == 403


def test_a_message_that_is_too_long_ends_its_connection_alone(server: Running) -> None:
    with begin(server, "layer") as client, begin(server, "layer") as other:
        client.send(bytes(20_001))
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.protocol.close_code == 1009
        steps(other, np.ones((2, 5), np.float32))
    until(lambda: server.count('sessions{model="layer"}') == 0)


def test_drawn_frames_do_no_harm(server: Running, files: Files) -> None:
    """Connections on which drawn bytes follow the handshake, beside one whose numbers are watched."""
    draw = np.random.default_rng(5)
    hand = (
        b"GET /models/layer/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    stream = load(files["layer"]).stream(1)
    with begin(server, "layer") as watched:
        for _ in range(60):
            client = server.raw()
            client.sendall(hand)
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
            with contextlib.suppress(OSError):
                # A frame that is masked and right in its first byte goes further in.
                first = draw.choice([0x81, 0x82, 0x01, 0x80, 0x89, 0x88])
                client.sendall(
                    bytes([first, 0x80 | draw.integers(0, 126)]) + draw.bytes(draw.integers(1, 300))
                )
                client.sendall(draw.bytes(draw.integers(1, 300)))
            client.close()
            x = draw.standard_normal((3, 5)).astype(np.float32)
            np.testing.assert_array_equal(steps(watched, x), alone(stream, x))
    until(lambda: server.count('sessions{model="layer"}') == 0)


def test_as_many_sessions_as_are_allowed(files: Files) -> None:
    with serving(files, "layer", sessions=2) as server:
        one = begin(server, "layer")
        with begin(server, "layer"):
            with begin(server, "layer", greeted=False) as third:
                with pytest.raises(ConnectionClosed):
                    third.recv()
                assert third.protocol.close_code == 1013
                assert "2 sessions are open" in third.protocol.close_reason
            one.inner.socket.close()  # without a word
            until(lambda: server.count('sessions{model="layer"}') == 1)
            begin(server, "layer").close()
        with contextlib.suppress(Exception):
            one.close()


def test_idle_sessions_are_closed_with_their_states(files: Files, tmp_path: Path) -> None:
    x = np.random.default_rng(6).standard_normal((9, 5)).astype(np.float32)
    expected = alone(load(files["layer"]).stream(1), x)
    with serving(files, "layer", idle=0.3, states=str(tmp_path / "states")) as server:
        with begin(server, "layer") as client:
            steps(client, x[:4])
            said, code, reason = ended(client)
        assert code == 4408
        assert "idle for 0.3 seconds" in reason
        assert said["resume"] == client.hello["session"]
        assert server.count('evicted_total{model="layer"}') == 1
        with begin(server, "layer", f"?resume={said['resume']}") as client:
            assert client.hello["resumed"] and client.hello["session"] == said["resume"]
            np.testing.assert_array_equal(steps(client, x[4:6]), expected[4:6])
            assert say(client, restore=said["state"]) == {"restored": True}
            np.testing.assert_array_equal(steps(client, x[4:]), expected[4:])
        for name in (said["resume"], "../../etc/passwd", "A" * 24):
            with begin(server, "layer", f"?resume={name}", greeted=False) as client:
                with pytest.raises(ConnectionClosed):
                    client.recv()
                assert client.protocol.close_code == 4404
        assert not list((tmp_path / "states").iterdir())


def test_states_are_saved_when_the_server_stops(files: Files, tmp_path: Path) -> None:
    x = np.random.default_rng(7).standard_normal((40, 5)).astype(np.float32)
    expected = alone(load(files["layer"]).stream(1), x)
    folder = str(tmp_path / "states")
    with serving(files, "layer", "book", states=folder) as server:
        server.slow_down("layer", 0.005)
        resting, busy, writer = begin(server, "layer"), begin(server, "layer"), begin(server, "book")
        steps(resting, x[:9])
        say(writer, text="the sea")
        busy.send(x[:30].tobytes())
        until(lambda: server.count('waiting{model="layer"}') == 1)
        server.server.should_exit = True
        # What was begun is done, and belongs to the state.
        np.testing.assert_array_equal(np.frombuffer(busy.recv(), np.float32).reshape(-1, 7), expected[:30])
        names = []
        for client in (resting, busy, writer):
            said, code, _ = ended(client)
            assert (code, said["closing"]) == (1012, "the server is going down")
            names.append(said["resume"])
            client.close()
    with serving(files, "layer", "book", states=folder) as server:
        for name, done in zip(names, (9, 30), strict=False):
            with begin(server, "layer", f"?resume={name}") as client:
                np.testing.assert_array_equal(steps(client, x[done:]), expected[done:])
        with begin(server, "book", f"?resume={names[2]}") as client:
            found = say(client, generate={"length": 20, "seed": 3})["text"]
        assert found == load(files["book"]).generate("the sea", length=20, seed=3)


def test_as_long_as_is_allowed(files: Files) -> None:
    with serving(files, "layer", timeout=0.2) as server:
        server.slow_down("layer", 0.01)
        with begin(server, "layer") as client:
            client.send(np.ones((1000, 5), np.float32).tobytes())
            _, code, reason = ended(client)
            assert (code, "time" in reason) == (4504, True)
        until(lambda: server.count('sessions{model="layer"}') == 0)


def test_who_does_not_answer_or_does_not_read_is_cut_off(files: Files) -> None:
    hand = (
        b"GET /models/layer/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with serving(files, "layer", slow=0.5, body=1 << 20, longest=1 << 20) as server:
        silent = server.raw()
        silent.sendall(hand)
        until(lambda: server.count('sessions{model="layer"}') == 1)
        until(lambda: server.count('sessions{model="layer"}') == 0)  # no answer to a ping
        silent.close()
        server.server.config.ws_ping_interval = None
        deaf = server.raw(receive=4096)
        deaf.sendall(hand)
        until(lambda: server.count('sessions{model="layer"}') == 1)
        # Many steps, whose answers are never read: they fill the buffers of both sides, and no more.
        frame = bytes([0x82, 0xFF]) + (160_000).to_bytes(8, "big") + bytes(4) + bytes(160_000)
        deaf.settimeout(0.2)
        ends = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while server.count('sessions{model="layer"}') and time.monotonic() < ends:
                with contextlib.suppress(socket.timeout):
                    deaf.sendall(frame)
        until(lambda: server.count('sessions{model="layer"}') == 0)
        until(lambda: not server.server.server_state.connections)
        deaf.close()


@pytest.mark.parametrize("count", [150, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_sessions_leave_nothing_behind(files: Files, count: int) -> None:
    """Opened, used, closed: gently, without a word, by a fault. The memory of the process stays as it is."""
    page = 4096

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    x = np.ones((3, 5), np.float32).tobytes()

    async def one(server: Running, i: int) -> None:
        async with async_connect(f"{server.ws}/models/layer/stream", compression=None) as client:
            await client.recv()
            if i % 2:
                await client.send(x)
                await client.recv()
            if i % 5 == 0:
                await client.send("{")
                await client.recv()
            if i % 3 == 0:
                client.transport.abort()

    async def some(server: Running, many: int) -> None:
        async def row(start: int) -> None:
            for i in range(start, many, 20):
                with contextlib.suppress(ConnectionClosed):
                    await one(server, i)

        await asyncio.gather(*map(row, range(20)))

    with serving(files, "layer", sessions=64) as server:
        asyncio.run(some(server, 150))
        before = resident()
        asyncio.run(some(server, count))
        until(lambda: server.count('sessions{model="layer"}') == 0)
        until(lambda: not server.server.server_state.connections)
        assert server.count('sessions_total{model="layer"}') == 150 + count
        assert resident() - before < 16 << 20
