"""`elman serve` as processes: what is refused before anything listens, two processes on one port, their end."""

import json
import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

import elman as package
from command import begin, elman
from elman.frozen import export
from elman.runtime import load
from tests.speech.untrained import noise

Files = dict[str, Path]


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.slow
def test_two_processes_of_a_run_and_a_frozen_file(files: Files, run: Path, tmp_path: Path) -> None:
    with begin("serve", run, files["book"], "--port", 0, "--processes", 2) as server:
        try:
            said = server.stdout.readline()
            found = re.fullmatch(r"serving moods, book on (http://127.0.0.1:\d+) with 2 processes\n", said)
            assert found, said + server.stderr.read()
            texts = ["so happy", "sad and angry"]
            done = elman("export", run, "--file", tmp_path / "moods.elman")
            assert done.code == 0, done.err
            expected = load(tmp_path / "moods.elman").predict(texts)
            for _ in range(6):  # connections are shared out
                said = httpx.post(f"{found[1]}/models/moods/classify", json={"texts": texts}, trust_env=False)
                assert said.json()["answers"] == expected
            metrics = httpx.get(f"{found[1]}/metrics", trust_env=False).text
            assert 'elman_request_seconds_count{model="moods",request="classify"} 6\n' in metrics
            # A process that dies is replaced, and none of them has torch.
            first, second = children(server.pid)
            assert not has_torch(first) and not has_torch(second)
            os.kill(first, signal.SIGKILL)
            ends = time.monotonic() + 30
            while (now := children(server.pid)) == [first, second] or len(now) < 2:
                assert time.monotonic() < ends
                time.sleep(0.05)
            time.sleep(0.1)
            for _ in range(4):
                assert httpx.get(f"{found[1]}/readyz", trust_env=False, timeout=60).status_code == 200
        finally:
            server.send_signal(signal.SIGTERM)
            _, err = server.communicate(timeout=60)
    assert server.returncode == 0, err
    assert f"process {first} died (-9) and is started again" in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in (*now, first))


def test_a_frozen_file_is_served_without_torch(files: Files, reader: Path) -> None:
    with begin("serve", files["book"], reader, "--port", 0, "--processes", 1) as server:
        try:
            address = re.search(r"http\S+", server.stdout.readline())[0]
            said = httpx.post(
                f"{address}/models/book/generate", json={"length": 5, "seed": 1}, trust_env=False
            )
            assert said.json()["text"] == load(files["book"]).generate(length=5, seed=1)
            with connect(f"{address.replace('http', 'ws')}/models/ear/stream") as client:
                client.recv()
                for message in ('{"sound": {"rate": 8000}}', noise(5, 8000).tobytes(), '{"finish": true}'):
                    client.send(message)
                    heard = client.recv(timeout=20)
                assert json.loads(heard)["finished"]
            (child,) = children(server.pid)
            assert not has_torch(server.pid) and not has_torch(child)
            taken = elman("serve", files["book"], "--port", address.rsplit(":", 1)[1])
            assert taken.code == 2
            assert "Address already in use; choose another by --port" in taken.err
            server.kill()  # whoever started the process is gone: it ends by itself
            ends = time.monotonic() + 20
            while Path(f"/proc/{child}").exists() and Path(f"/proc/{child}/maps").read_bytes():
                assert time.monotonic() < ends
                time.sleep(0.05)
        finally:
            server.kill()
            server.communicate()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer that reads from both ends."""
    return export(package.LSTM(2, 3, bidirectional=True), tmp_path_factory.mktemp("both") / "both")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs a run folder or a frozen file"),
        (["{nowhere}"], "no such run folder or frozen file"),
        (["{text}"], "damaged or no frozen model"),
        (["{both}"], "answers no requests and takes no single steps"),
        (["{book}", "{book}"], "both called book"),
        (["{book}", "--token-file", "{nowhere}"], "cannot be read"),
        (["{book}", "--token-file", "{text}"], "a token is 8 or more"),
        (["{book}", "--port", "70000"], "--port"),
        (["{book}", "--host", "no.such.host.invalid"], "cannot listen on"),
        (["{folder}"], "run"),
        (["{book}", "--processes", "1000"], "give at most as many"),
        (["{book}", "--keep", "5"], "--keep has no effect without --states"),
    ],
)
def test_what_is_refused_before_anything_listens(
    files: Files, both: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    known = {name: tmp_path / name for name in ("nowhere", "text", "folder")} | {"both": both}
    known["text"].write_text("short")
    known["folder"].mkdir()
    done = elman("serve", *[word.format(**known, **files) for word in words])
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def test_help_is_light() -> None:
    done = elman("serve", "--help")
    assert done.code == 0
    assert "--token-file" in done.out
