"""One process that serves: `python -m elman.serve.process`, started by `starting`.

It reads its plan, a line of JSON, from standard input, says on a pipe that it takes requests, and goes on until
SIGTERM, SIGINT, or the end of standard input, which is the end of who started it. Then it ends what is in progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import uvicorn

from elman.serve.application import Application
from elman.serve.metrics import Board
from elman.serve.models import Served
from elman.serve.protocols import protocols
from elman.serve.settings import Serve

__all__ = ["Plan", "Serving", "main"]

# Seconds. Threads that compute come back from the core a thousand times a second, and would wait 5 ms for the loop.
SWITCH = 0.0005
# Connections beside those of sessions: whole requests, and those that ask for pages.
SPARE = 1024
# Files of the process that are no connections.
OWN_FILES = 64


class Plan(msgspec.Struct):
    """What a process is to do. models: names and files. listener, told: file descriptors. board: file of the counts."""

    models: list[tuple[str, str]]
    settings: dict[str, Any]
    token: str
    listener: int
    told: int
    board: str
    process: int
    processes: int


class Serving(uvicorn.Server):
    """uvicorn, ended gently. started: is called when requests are taken."""

    def __init__(self, application: Application, started: Callable[[], None] = lambda: None) -> None:
        settings = application.settings
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(SPARE + settings.sessions * len(application.models), max(files - OWN_FILES, 1))
        http, websocket = protocols(settings.slow, most, application.board.answered)
        super().__init__(
            uvicorn.Config(
                application.asgi,
                http=http,
                ws=websocket,
                lifespan="off",
                log_config=None,
                # Its warnings are of requests that are none: each is answered, and counted.
                log_level="error",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                ws_max_size=settings.body,
                ws_ping_interval=settings.slow,
                ws_ping_timeout=settings.slow,
                ws_per_message_deflate=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=2,
            )
        )
        self.application, self.when_started = application, started
        application.connections = lambda: len(self.server_state.connections)
        application.give_up = self.give_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin."""
        self.application.start()
        await super().startup(sockets)
        self.when_started()

    def give_up(self) -> None:
        """Nothing is computed any more: who started this process starts another."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asked to end: not to be raised again when that is done."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """New connections go to other processes, or nowhere; what is in progress is ended."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await self.application.drain()
        await super().shutdown(None)
        await self.application.stop()


def main() -> None:
    """Carry out the plan on standard input."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    sys.setswitchinterval(SWITCH)
    # As many connections as the system allows at all.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = Serve(**{**plan.settings, "runs": ()})
    models = [Served(name, Path(path), settings) for name, path in plan.models]
    names = [served.name for served in models]
    board = Board(names, Path(plan.board), process=plan.process, processes=plan.processes)
    application = Application(models, settings, board, plan.token)
    listener = socket.socket(fileno=plan.listener)

    def started() -> None:
        os.write(plan.told, b"\n")
        os.close(plan.told)
        loop = asyncio.get_running_loop()
        loop.add_reader(0, orphaned, loop)

    def orphaned(loop: asyncio.AbstractEventLoop) -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            server.should_exit = True

    server = Serving(application, started)
    # What is here now stays: a look for garbage that went over all of it would hold up every session.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if application.broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
