"""`elman serve RUN...`: models made ready, a port bound, a process for each core; all of them looked after."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from elman.config import UserError, require
from elman.serve.settings import Serve

__all__ = ["serve"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# A process that dies is started again, but not for ever.
MOST_RESTARTS, WITHIN = 5, 60.0
# Connections that the system keeps for a process that is busy.
BACKLOG = 2048


def serve(settings: Serve) -> Iterator[str]:
    """Serve until SIGTERM or Ctrl-C. UserError, before anything listens, for what cannot be served."""
    if not settings.runs:
        raise UserError("elman serve needs a run folder or a frozen file: elman serve RUN ...")
    for module in ("starlette", "uvicorn", "websockets"):
        require(module, extra="serve", what="elman serve")
    _check_states(settings)
    token = _token(settings)
    names = _names(settings.runs)
    with tempfile.TemporaryDirectory(prefix="elman-serve-") as folder:
        count = _processes(settings)
        models = [
            (name, _ready(Path(run), name, settings, Path(folder)))
            for name, run in zip(names, settings.runs, strict=True)
        ]
        listeners = _bind(settings, count)
        address = _address(settings.host, listeners[0].getsockname()[1])
        fleet = Fleet(models, settings, token, listeners, Path(folder) / "counts")
        with fleet:
            plural = "" if count == 1 else "es"
            yield f"serving {', '.join(names)} on {address} with {count} process{plural}\n"
            fleet.watch()


def _processes(settings: Serve) -> int:
    """As many as there are cores, or as asked for. UserError for more than are of any use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if settings.processes > 2 * cores + 2:
        raise UserError(
            f"--processes {settings.processes}: this machine has {cores} cores; give at most as many, or leave it out"
        )
    return settings.processes or cores


def _check_states(settings: Serve) -> None:
    try:
        if settings.states:
            Path(settings.states).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--states {settings.states} is no folder that can be made: {error}") from None


def _token(settings: Serve) -> str:
    if not settings.token_file:
        if settings.host not in LOOPBACK:
            sys.stderr.write(f"--host {settings.host} without --token-file: anyone who reaches it may ask\n")
        return ""
    try:
        token = Path(settings.token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {settings.token_file} cannot be read: {error}") from None
    if not re.fullmatch(r"[\w.~+/=-]{8,}", token):
        raise UserError(
            f"--token-file {settings.token_file}: a token is 8 or more of the letters, digits and -._~+/="
        )
    return token


def _names(runs: tuple[str, ...]) -> list[str]:
    """What the models are called: as their folders or files, without the ending."""
    names: list[str] = []
    for run in runs:
        path = Path(run).resolve()
        name = re.sub(r"[^\w.-]", "-", path.name if path.is_dir() else path.stem, flags=re.ASCII)
        if name in names:
            raise UserError(f"{runs[names.index(name)]} and {run} are both called {name}: rename one of them")
        names.append(name)
    return names


def _ready(path: Path, name: str, settings: Serve, folder: Path) -> Path:
    """The frozen file of a run, or of what is one; the run itself, where it needs torch; seen to be one that can be
    served."""
    from elman.serve.models import check_model
    from elman.serve.translating import is_translator

    if not path.exists():
        raise UserError(f"no such run folder or frozen file: {path}")
    if path.is_dir() and not is_translator(path, settings):
        path = _frozen(path, settings, folder / f"{name}.elman")
    check_model(path, settings)
    return path.resolve()


def _frozen(path: Path, settings: Serve, to: Path) -> Path:
    from elman.tasks.base import load_run, open_run
    from elman.tasks.verbs import EXPORTS

    run, task = open_run(path, trust=settings.allow_code)
    trained = load_run(run, task, checkpoint=settings.checkpoint, device="cpu")
    try:
        EXPORTS["frozen"].write(trained, to)
    except (UserError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}, a run of {task.name}, cannot be served: {error}") from error
    return to


def _bind(settings: Serve, count: int) -> list[socket.socket]:
    """A listener for each process on the same port: the system shares the connections out among them."""
    host, port = settings.host, settings.port
    listeners: list[socket.socket] = []
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            # Listeners that share a port would share it with another server of the same user too.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
        for _ in range(count):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((address[0], port, *address[2:]))
            port = listener.getsockname()[1]
            listener.listen(BACKLOG)
            listener.set_inheritable(True)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another by --port"
        ) from None
    return listeners


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Fleet:
    """The processes. Entered, all take requests; left, all have ended."""

    def __init__(
        self,
        models: list[tuple[str, Path]],
        settings: Serve,
        token: str,
        listeners: list[socket.socket],
        board: Path,
    ) -> None:
        self.models, self.settings, self.token = models, settings, token
        self.listeners, self.board = listeners, board
        self.children: list[subprocess.Popen[bytes]] = []
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Fleet:
        from elman.serve.metrics import Board

        Board([name for name, _ in self.models], self.board, processes=len(self.listeners))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._stop)
        try:
            started = [self._start(i) for i in range(len(self.listeners))]
            self.children = [child for child, _ in started]
            for child, told in started:
                self._await(child, told)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing new; what is in progress is ended; whoever does not end is ended."""
        for listener in self.listeners:
            listener.close()
        for child in self.children:
            child.terminate()
        ends = time.monotonic() + self.settings.drain + 5
        for child in self.children:
            try:
                child.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self) -> None:
        """Until a signal. A process that dies is started again; UserError where that does not help."""
        deaths: list[float] = []
        while not self.signal:
            time.sleep(0.1)
            for i, child in enumerate(self.children):
                if child.poll() is None or self.signal:
                    continue
                now = time.monotonic()
                deaths = [*(death for death in deaths if now - death < WITHIN), now]
                if len(deaths) > MOST_RESTARTS:
                    raise UserError(
                        f"{len(deaths)} processes died within {WITHIN:g} s: nothing is served any more"
                    )
                sys.stderr.write(f"process {child.pid} died ({child.returncode}) and is started again\n")
                self.children[i], told = self._start(i)
                # One that ends at once is found dead again.
                with contextlib.suppress(UserError):
                    self._await(self.children[i], told)
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def _start(self, i: int) -> tuple[subprocess.Popen[bytes], int]:
        """A process, and where it will say that it takes requests."""
        told, telling = os.pipe()
        listener = self.listeners[i].fileno()
        child = subprocess.Popen(
            [sys.executable, "-m", "elman.serve.process"], stdin=subprocess.PIPE, pass_fds=(listener, telling)
        )
        os.close(telling)
        plan = {
            "models": [(name, str(path)) for name, path in self.models],
            "settings": asdict(self.settings),
            "token": self.token,
            "listener": listener,
            "told": telling,
            "board": str(self.board),
            "process": i,
            "processes": len(self.listeners),
        }
        assert child.stdin is not None
        child.stdin.write(msgspec.json.encode(plan) + b"\n")
        child.stdin.flush()
        return child, told

    def _await(self, child: subprocess.Popen[bytes], told: int) -> None:
        try:
            while not select.select([told], [], [], 0.1)[0] and not self.signal:
                pass
            if not self.signal and not os.read(told, 1):
                raise UserError(
                    f"a process ended before it took requests ({child.wait()}); what it said stands above"
                )
        finally:
            os.close(told)
