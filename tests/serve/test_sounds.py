"""Sessions that hear sound: what is heard of the whole recording, however it is cut into messages."""

from __future__ import annotations

import base64
import json
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from elman.runtime import load
from tests.serve.serving import Running, serving, until
from tests.serve.test_streams import Client, say
from tests.speech.untrained import RATE, cuts, noise, whole

Files = dict[str, Path]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def server(files: Files, reader: Path) -> Any:
    known = {**files, "ear": reader}
    with serving(known, "ear", "layer", longest=300, length=40, body=120_000, widest=4, turn=3) as running:
        yield running


def heard(client: Client, data: list[bytes], *, ahead: bool = False) -> list[dict[str, Any]]:
    """What is said of messages and of the end. ahead: all are sent before the first answer is read."""
    said, messages = [], [*data, json.dumps({"finish": True})]
    if ahead:
        for message in messages:
            client.send(message)
    for message in messages:
        if not ahead:
            client.send(message)
        answer = json.loads(client.recv(timeout=20))
        assert "error" not in answer, answer
        said += answer["heard"]
    assert answer["finished"]
    return said


def raw(sound: np.ndarray, form: str) -> bytes:
    return (sound if form == "s16le" else (sound / 2**15).astype("<f4")).tobytes()


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["s16le", "f32le"]), st.booleans())
def test_the_numbers_are_those_of_the_recording(
    server: Running, reader: Path, seed: int, form: str, ahead: bool
) -> None:
    model, draw = load(reader), np.random.default_rng(seed)
    sound = noise(seed % 997, int(draw.choice([1, 150, 201, draw.integers(1, 14_000)])))
    expected = whole(model, (sound / 2**15).astype(np.float32))
    with Client(server, "ear") as client:
        for endpoint in (0, 0.06):
            given = {"rate": RATE, "form": form, "endpoint": endpoint}
            assert say(client, sound=given) == {"sound": given}
            data = [raw(sound[a:b], form) for a, b in pairwise(cuts(draw, len(sound))) if a < b]
            said = heard(client, data, ahead=ahead)
            final = [entry for entry in said if entry["final"]]
            assert all(entry["text"] for entry in said)
            if endpoint == 0:
                assert [entry["text"] for entry in final] == ([expected["text"]] if expected["text"] else [])
                assert [word for entry in final for word in entry["words"]] == expected["words"]
                continue
            listener = model.listen(endpoint=endpoint)
            updates = [*listener((sound / 2**15).astype(np.float32)), *listener.finish()]
            texts = [update.heard.text for update in updates if update.final and update.heard.text]
            assert [entry["text"] for entry in final] == texts


def test_many_at_once_beside_streams_that_do_not_end(server: Running, reader: Path) -> None:
    """Sessions interleaved message by message, more than step at once, each as if alone."""
    model, draw = load(reader), np.random.default_rng(7)
    sounds = [noise(i, 6000) for i in range(9)]
    clients = [Client(server, "ear") for _ in sounds]
    try:
        for client in clients:
            say(client, sound={"rate": RATE, "endpoint": 0})
        pieces = [np.array_split(sound, 6) for sound in sounds]
        for k in range(6):
            for i in draw.permutation(len(clients)):
                clients[i].send(pieces[i][k].tobytes())
        for client, sound in zip(clients, sounds, strict=True):
            for _ in range(6):
                client.recv(timeout=20)
            (final,) = say(client, finish=True)["heard"]
            assert final["words"] == whole(model, (sound / 2**15).astype(np.float32))["words"]
    finally:
        for client in clients:
            client.close()


@settings(max_examples=10)
@given(SEEDS)
def test_a_state_travels(server: Running, reader: Path, seed: int) -> None:
    """From one session to another, with what the features, the level and the utterance carry."""
    draw, sound = np.random.default_rng(seed), noise(seed % 997, 8000)
    at = int(draw.integers(0, 8001))
    expected = whole(load(reader), (sound / 2**15).astype(np.float32))
    with Client(server, "ear") as one, Client(server, "ear") as other:
        say(one, sound={"rate": RATE, "endpoint": 0})
        say(other, sound={"rate": RATE, "form": "f32le"})
        other.send(raw(noise(1, 3000), "f32le"))
        other.recv()
        if at:
            one.send(sound[:at].tobytes())
            one.recv()
        kept = say(one, state=True)["state"]
        assert say(other, restore=kept) == {"restored": True}
        for client in (other, one):
            said = heard(client, [sound[at:].tobytes()] if at < len(sound) else [])
            assert [word for entry in said if entry["final"] for word in entry["words"]] == expected["words"]


def test_another_rate(server: Running, reader: Path) -> None:
    """Brought to the model's, the same for all cuts; but its state is not to be had."""
    pytest.importorskip("soxr")
    sound, said = noise(3, 20_000), []
    with Client(server, "ear") as client:
        for seed in range(3):
            say(client, sound={"rate": 16_000, "endpoint": 0})
            places = cuts(np.random.default_rng(seed), len(sound))
            found = heard(client, [sound[a:b].tobytes() for a, b in pairwise(places) if a < b])
            said.append(found[-1])
        assert said[0] == said[1] == said[2]
        assert said[0]["text"]
        assert "state" in say(client, state=True)
        client.send(sound[:999].tobytes())
        client.recv()
        refused = say(client, state=True)
        assert refused["code"] == 422
        assert "comes at 16000 Hz" in refused["error"]
        assert "send sound at 8000 Hz" in refused["error"]


REFUSED: list[tuple[bytes | str, int, str]] = [
    (b"", 422, "0 bytes are no whole samples of s16le, 2 bytes each"),
    (bytes(101), 422, "101 bytes are no whole samples"),
    (bytes(2 * 160 * 301), 413, "are 301 steps; 300 are allowed in a message"),
    ('{"sound": {"rate": 0}}', 422, "$.sound.rate"),
    ('{"sound": {"rate": 999}}', 422, "$.sound.rate"),
    ('{"sound": {"rate": 8000.5}}', 422, "$.sound.rate"),
    ('{"sound": {"rate": 1e9}}', 422, "$.sound.rate"),
    ('{"sound": {}}', 422, "missing required field `rate`"),
    ('{"sound": {"rate": 8000, "form": "mp3"}}', 422, "$.sound.form"),
    ('{"sound": {"rate": 8000, "endpoint": -1}}', 422, "$.sound.endpoint"),
    ('{"sound": {"rate": 8000}, "finish": true}', 422, "it has 2"),
    ('{"rows": [[1]]}', 422, "ear is fed audio, not rows"),
    ('{"text": "a"}', 422, "ear is fed audio, not text"),
]


@pytest.mark.parametrize(("message", "code", "sentence"), REFUSED)
def test_what_is_refused_and_the_sound_goes_on(
    server: Running, reader: Path, message: bytes | str, code: int, sentence: str
) -> None:
    sound = noise(11, 5000)
    with Client(server, "ear") as client:
        say(client, sound={"rate": RATE, "endpoint": 0})
        client.send(sound[:2001].tobytes())
        client.recv()
        client.send(message)
        found = json.loads(client.recv())
        assert found["code"] == code
        assert sentence in found["error"]
        (final,) = [entry for entry in heard(client, [sound[2001:].tobytes()]) if entry["final"]]
        assert final["words"] == whole(load(reader), (sound / 2**15).astype(np.float32))["words"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e9])
def test_samples_that_are_none_are_refused(server: Running, reader: Path, bad: float) -> None:
    sound = (noise(12, 5000) / 2**15).astype("<f4")
    with Client(server, "ear") as client, Client(server, "ear") as other:
        for one in (client, other):
            say(one, sound={"rate": RATE, "form": "f32le", "endpoint": 0})
        client.send(sound[:800].tobytes())
        client.recv()
        wrong = sound[800:1600].copy()
        wrong[400] = bad
        client.send(wrong.tobytes())
        found = json.loads(client.recv())
        assert found["code"] == 422
        assert "0.15 s from its start" in found["error"]
        expected = whole(load(reader), sound)["words"]
        for one, rest in ((client, sound[800:]), (other, sound)):
            (final,) = [entry for entry in heard(one, [rest.tobytes()]) if entry["final"]]
            assert final["words"] == expected


def test_sound_before_it_is_said_what_it_is(server: Running, files: Files) -> None:
    with Client(server, "ear") as client:
        assert client.hello["stream"] == "audio"
        assert (client.hello["rate"], client.hello["seconds"]) == (RATE, 0.02)
        client.send(bytes(100))
        refused = json.loads(client.recv())
        assert refused["code"] == 422
        assert 'first say what sound comes: {"sound": {"rate": 8000' in refused["error"]
        assert say(client, finish=True)["code"] == 422
    with Client(server, "layer") as client:
        assert "layer is fed rows, not audio" in say(client, sound={"rate": 8000})["error"]
        assert "layer is fed rows, not audio" in say(client, finish=True)["error"]


def test_an_utterance_without_an_end_is_refused(server: Running) -> None:
    """Rather than kept for ever; finished, the session goes on."""
    with Client(server, "ear") as client:
        say(client, sound={"rate": RATE, "endpoint": 0})
        for seed in range(40):
            client.send(noise(seed, 8000).tobytes())
            said = json.loads(client.recv())
            if "error" in said:
                break
        assert said["code"] == 413
        assert "40 are allowed: finish the sound" in said["error"]
        assert say(client, finish=True)["heard"][0]["final"]
        client.send(noise(1, 8000).tobytes())
        assert "heard" in json.loads(client.recv())


def test_states_of_others_are_refused(server: Running) -> None:
    """Each part changed by drawn bytes: a sentence, and the sound goes on as it was."""
    draw, sound = np.random.default_rng(3), noise(2, 4000)
    with Client(server, "ear") as client:
        say(client, sound={"rate": RATE, "endpoint": 0})
        client.send(sound.tobytes())
        client.recv()
        kept = base64.b64decode(say(client, state=True)["state"])
        start, head, row = kept.split(b"\n", 2)
        codes = set()
        for _ in range(150):
            changed, place = bytearray(head), int(draw.integers(len(head)))
            changed[place : place + draw.integers(0, 3)] = bytes(draw.integers(32, 127, draw.integers(0, 3)))
            data = b"\n".join((start, bytes(changed), row))
            said = say(client, restore=base64.b64encode(data).decode())
            codes.add(said.get("code", 200))
        assert codes <= {200, 422} and 422 in codes
        other = row[:-4] + b"abcd"
        head = head.replace(b'"check": %d' % zlib.crc32(row), b'"check": %d' % zlib.crc32(other))
        say(client, restore=base64.b64encode(b"\n".join((start, head, other))).decode())
        assert say(client, restore=base64.b64encode(kept).decode()) == {"restored": True}
        assert say(client, finish=True)["heard"][-1]["words"]


def test_a_sound_is_kept_when_the_server_stops(reader: Path, tmp_path: Path) -> None:
    sound = noise(9, 9000)
    expected = whole(load(reader), (sound / 2**15).astype(np.float32))["words"]
    states = str(tmp_path / "states")
    with (
        serving({"ear": reader}, "ear", states=states) as server,
        Client(server, "ear") as client,
        Client(server, "ear") as other,
    ):
        say(client, sound={"rate": RATE, "endpoint": 0})
        say(other, sound={"rate": 2 * RATE, "endpoint": 0})
        for one in (client, other):
            one.send(sound[:4321].tobytes())
            one.recv()
        server.server.should_exit = True
        said = json.loads(client.recv(timeout=10))
        # What is in a resampler cannot be kept, and nothing is handed out in its place.
        assert json.loads(other.recv(timeout=10)) == {"closing": "the server is going down"}
    with (
        serving({"ear": reader}, "ear", states=states) as server,
        Client(server, "ear", f"?resume={said['resume']}") as client,
    ):
        assert client.hello["resumed"]
        (final,) = [entry for entry in heard(client, [sound[4321:].tobytes()]) if entry["final"]]
        assert final["words"] == expected


def test_room_that_is_lacking(reader: Path) -> None:
    """No room: refused before anything is heard. None for a part: waited for, until it is late."""
    sound = noise(4, 16_000)
    with serving({"ear": reader}, "ear", waiting=1, timeout=0.7) as server:
        server.slow_down("ear", 0.01)
        with Client(server, "ear") as one, Client(server, "ear") as other:
            for client in (one, other):
                say(client, sound={"rate": RATE, "endpoint": 0})
            one.send(sound[:3000].tobytes())
            until(lambda: server.count('waiting{model="ear"}') == 1)
            other.send(sound[:800].tobytes())
            refused = json.loads(other.recv())
            assert refused["code"] == 503
            assert "1 requests wait" in refused["error"]
            assert "heard" in json.loads(one.recv())
            other.send(sound[:800].tobytes())
            assert json.loads(other.recv())["seconds"] == 0.1
            # A message that takes longer than it may closes its session, and no other.
            one.send(sound[3000:].tobytes())
            one.recv()
            with pytest.raises(ConnectionClosed):
                one.recv()
            assert one.protocol.close_code == 4504
            other.send(sound[:80].tobytes())
            assert "heard" in json.loads(other.recv())
