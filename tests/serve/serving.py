"""A server in a thread of this process, on a free port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elman.serve.application import Application
from elman.serve.metrics import Board
from elman.serve.models import Served
from elman.serve.process import Serving
from elman.serve.settings import Serve


class Running:
    """Where it is, and what is inside."""

    def __init__(self, server: Serving, port: int) -> None:
        self.server, self.application, self.port = server, server.application, port
        self.url, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    def count(self, series: str) -> float:
        """A number of /metrics."""
        self.application.note()
        found = [
            line for line in self.application.board.text().split("\n") if line.startswith(f"elman_{series} ")
        ]
        return float(found[0].split()[1])

    def slow_down(self, name: str, seconds: float) -> None:
        """Have each step of a model take longer."""
        batcher = self.application.models[name].batcher
        quick = batcher._stepped

        def slowly(*arguments: Any) -> Any:
            time.sleep(seconds)
            return quick(*arguments)

        batcher._stepped = slowly

    def raw(self, receive: int = 0) -> socket.socket:
        """A connection, with a small buffer if asked for."""
        client = socket.socket()
        if receive:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        client.settimeout(20)
        client.connect(("127.0.0.1", self.port))
        return client


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what has to come."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)


@contextmanager
def serving(files: dict[str, Path], *names: str, token: str = "", **limits: Any) -> Iterator[Running]:
    """A server of some of the files. limits: settings of `elman serve`."""
    settings = Serve(**limits)
    models = [Served(name, files[name], settings) for name in names]
    server = Serving(Application(models, settings, Board(names), token))
    # By its number, as a process of `elman serve` gets it: so it is known to be TCP, and waits for no fuller packets.
    listener = socket.socket(fileno=socket.create_server(("127.0.0.1", 0), backlog=512).detach())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        port = listener.getsockname()[1]
        until(lambda: server.started)
        yield Running(server, port)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
