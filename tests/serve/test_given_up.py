"""What is not done when the time to go down is over, and what clients get wrong in ways that must cost nobody else."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from elman.errors import UserError
from elman.serve.settings import Serve
from elman.serve.starting import _check_states
from serve.serving import serving, until

Files = dict[str, Path]


def going_down(server: Any) -> threading.Thread:
    """Told to end, as by SIGTERM."""
    thread = threading.Thread(target=lambda: setattr(server.server, "should_exit", True))
    thread.start()
    return thread


@pytest.mark.parametrize("stream", [False, True])
def test_text_that_is_not_done_is_told(files: Files, stream: bool) -> None:
    """503 with a sentence, or an event, soon behind the time that is allowed."""
    with serving(files, "book", drain=0.5, length=10**7) as server:
        server.slow_down("book", 0.002)
        timer = threading.Timer(0.5, lambda: going_down(server))
        timer.start()
        began = time.monotonic()
        given = {"length": 10**6, "stream": stream}
        found = httpx.post(f"{server.url}/models/book/generate", json=given, timeout=20)
        assert 0.9 < time.monotonic() - began < 3
        if stream:
            last = found.text.strip().split("\n\n")[-1].split("\n")
            assert last[0] == "event: error"
            assert json.loads(last[1].removeprefix("data: ")) == {
                "error": "the server is going down",
                "code": 503,
            }
        else:
            assert (found.status_code, found.json()) == (503, {"error": "the server is going down"})


def test_a_session_in_the_midst_of_work_is_told(files: Files) -> None:
    """Without a state, which it has none of; with the sentence as the reason."""
    with serving(files, "book", drain=0.5, length=10**7) as server:
        server.slow_down("book", 0.002)
        with connect(f"{server.ws}/models/book/stream") as client:
            client.recv()
            client.send(json.dumps({"generate": {"length": 10**6}}))
            until(lambda: server.count('waiting{model="book"}') == 1)
            going_down(server)
            said = json.loads(client.recv(timeout=10))
            assert said == {"closing": "the server is going down"}
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=10)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "the server is going down")


def test_a_kept_state_outlives_a_resume_at_another_model(files: Files, tmp_path: Path) -> None:
    """It is refused there, and taken where it is of."""
    with (
        serving(files, "layer", states=str(tmp_path)) as server,
        connect(f"{server.ws}/models/layer/stream") as client,
    ):
        client.recv()
        client.send(np.ones((3, 5), np.float32).tobytes())
        client.recv()
        going_down(server)
        name = json.loads(client.recv(timeout=10))["resume"]
    with serving(files, "book", "layer", states=str(tmp_path)) as server:
        with (
            connect(f"{server.ws}/models/book/stream?resume={name}") as other,
            pytest.raises(ConnectionClosed) as closed,
        ):
            other.recv(timeout=10)
        assert closed.value.rcvd.code == 4404
        assert "another model" in closed.value.rcvd.reason
        with connect(f"{server.ws}/models/layer/stream?resume={name}") as client:
            assert json.loads(client.recv(timeout=10))["resumed"]


def test_many_small_inputs_are_refused(files: Files) -> None:
    """Empty texts too: others would wait for them."""
    with serving(files, "book", "reviews") as server:
        for word in ("book/score", "reviews/classify"):
            found = httpx.post(f"{server.url}/models/{word}", json={"texts": [""] * 1025}, timeout=20)
            assert found.status_code == 413
            assert found.json()["error"] == "1025 inputs are given; 1024 are allowed in a request"
        found = httpx.post(f"{server.url}/models/book/score", json={"texts": [""] * 1024}, timeout=20)
        assert len(found.json()["scores"]) == 1024


def test_streams_that_are_none(files: Files) -> None:
    """Told by code and sentence, and not counted as faults of the server."""
    with serving(files, "book") as server:
        with connect(f"{server.ws}/models/book/strea") as client, pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert closed.value.rcvd.code == 4404
        assert httpx.get(f"{server.url}/models/book/stream").status_code == 426
        assert httpx.get(f"{server.url}/models/").status_code == 404
        assert httpx.get(f"{server.url}/models/book/generate").headers["allow"] == "POST"
        assert server.count('requests_total{code="500"}') == 0


def test_states_that_are_no_folder(tmp_path: Path) -> None:
    """Before anything starts."""
    file = tmp_path / "a.txt"
    file.write_text("no folder", encoding="utf-8")
    with pytest.raises(UserError, match="--states"):
        _check_states(Serve(states=str(file)))
