"""The application: what stands before each request, and the few pages that every server has."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elman.serve.metrics import Board
from elman.serve.models import Served
from elman.serve.refusals import refused
from elman.serve.requests import Requests
from elman.serve.settings import Serve
from elman.serve.streams import Streams

__all__ = ["Application"]

OPEN_TO_ALL = ("/", "/healthz", "/readyz")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
# Nothing runs on the page but the script that it comes with, and it speaks to this server alone.
SCRIPT = hashlib.sha256(PAGE.split("<script>")[1].split("</script>")[0].encode()).digest()
POLICY = (
    f"default-src 'none'; script-src 'sha256-{base64.b64encode(SCRIPT).decode()}'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# How often sessions are looked after, in seconds.
ROUND = 0.25
# How long those whose work was given up may take to be told so, in seconds.
FAREWELL = 1.0


class Application:
    """Models, limits, and the ASGI application `asgi` around them."""

    def __init__(self, models: Sequence[Served], settings: Serve, board: Board, token: str = "") -> None:
        self.models = {served.name: served for served in models}
        self.settings, self.board, self.token = settings, board, token
        self.draining, self.broken = False, False
        # What the server around it knows: how many connections there are, and how to end.
        self.connections: Callable[[], int] = lambda: 0
        self.give_up: Callable[[], None] = lambda: None
        self.active = 0
        self.requests = Requests(self.models, settings, board)
        self.streams = Streams(self.models, settings, board)
        routes: list[BaseRoute] = [
            Route("/", self.page),
            Route("/healthz", self.health),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
            Route("/models", self.listed),
            Route("/models/{model}/{request}", self.requests.answer, methods=["POST"]),
            Route("/models/{model}/stream", _is_a_stream, methods=["GET"]),
            WebSocketRoute("/models/{model}/stream", self.streams.answer),
            WebSocketRoute("/{path:path}", self.streams.unknown),
        ]
        inner = Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})
        inner.router.redirect_slashes = False
        self.asgi: ASGIApp = Guard(self, inner)
        self._tending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to compute, in threads, and to look after the sessions."""
        for served in self.models.values():
            for worker in served.workers:
                worker.start()
        self._tending = asyncio.get_running_loop().create_task(self._tend())

    async def drain(self) -> None:
        """Take nothing new, and wait for what is in progress, as long as is allowed."""
        self.draining = True
        ends = time.monotonic() + self.settings.drain
        await self.streams.drain(ends)
        await self._until_quiet(ends)
        for served in self.models.values():
            for worker in served.workers:
                worker.give_up()
        await self._until_quiet(time.monotonic() + FAREWELL)

    async def _until_quiet(self, ends: float) -> None:
        while (self.active or self.streams.connections) and time.monotonic() < ends:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End the threads."""
        if self._tending is not None:
            self._tending.cancel()
        for served in self.models.values():
            for worker in served.workers:
                await asyncio.to_thread(worker.stop)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(ROUND)
            for served in self.models.values():
                if served.batcher is not None:
                    served.batcher.expire()
            self.streams.evict()
            self.note()
            if any(worker.broken for served in self.models.values() for worker in served.workers):
                self.broken = True
                self.give_up()

    def note(self) -> None:
        """The numbers that are not counted as they happen."""
        self.board.put("connections", self.connections())
        for name, served in self.models.items():
            label = f'{{model="{name}"}}'
            self.board.put(f"sessions{label}", served.batcher.sessions if served.batcher else 0)
            self.board.put(f"waiting{label}", sum(worker.waiting for worker in served.workers))
            for kind in ("steps", "rows"):
                self.board.put(
                    f"{kind}_total{label}", sum(getattr(worker, kind) for worker in served.workers)
                )
            self.board.put(f"step_seconds_total{label}", sum(worker.seconds for worker in served.workers))

    async def page(self, request: Request) -> Response:
        """To try the models in a browser."""
        return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})

    async def health(self, request: Request) -> Response:
        """The process answers, and computes."""
        if self.broken:
            return PlainTextResponse("a thread that computes has ended\n", 500)
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """It takes new requests."""
        if self.draining:
            return PlainTextResponse("the server is going down\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        """Counts of all processes."""
        self.note()
        return PlainTextResponse(self.board.text(), media_type="text/plain; version=0.0.4")

    async def listed(self, request: Request) -> Response:
        """What there is."""
        return JSONResponse([served.described() for served in self.models.values()])


async def _is_a_stream(request: Request) -> Response:
    return refused(426, f"{request.url.path} is a WebSocket", {"upgrade": "websocket"})


async def _unknown(request: Request, error: Exception) -> Response:
    code = getattr(error, "status_code", 404)
    if code == 405:
        methods = (getattr(error, "headers", None) or {}).get("Allow", "")
        allowed = ", ".join(sorted(methods.split(", ")))
        sentence = f"{request.url.path} is asked for by {allowed}, not by {request.method}"
        return refused(405, sentence, {"allow": allowed})
    return refused(404, f"there is no {request.url.path}; /models lists what there is")


class Guard:
    """Who may ask, when, and how the answers are counted."""

    def __init__(self, application: Application, inner: ASGIApp) -> None:
        self.application, self.inner = application, inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        of = self.application
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"].endswith("response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 200
            elif message["type"] == "websocket.close" and status == 500:
                status = 403  # before it was accepted
            await send(message)

        of.active += scope["type"] == "http"
        try:
            denied = self._denied(scope)
            await (denied or self.inner)(scope, receive, counted)
        finally:
            of.active -= scope["type"] == "http"
            of.board.answered(status)

    def _denied(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        of, host = self.application, headers.get("host", "")
        known = (*LOOPBACK, *of.settings.name)
        if of.settings.host in LOOPBACK and _name(host) not in known:
            # A page of another site whose name was made to lead here.
            return refused(
                403, f"this server answers on loopback alone, and was asked as {host!r}; see --name"
            )
        origin = headers.get("origin")
        if origin is not None and not self._own(origin.split("://")[-1], host):
            return refused(403, f"pages of {origin} may not ask this server")
        if of.token and scope["path"] not in OPEN_TO_ALL and not self._shown(scope, headers):
            denied = refused(401, "this server wants its token: Authorization: Bearer TOKEN")
            denied.headers["www-authenticate"] = "Bearer"
            return denied
        if of.draining and scope["path"].startswith("/models/"):
            return refused(503, "the server is going down")
        return None

    def _own(self, origin: str, host: str) -> bool:
        """Whether a page is one of this server, or of a proxy in front of it."""
        return origin == host or _name(origin) in self.application.settings.name

    def _shown(self, scope: Scope, headers: dict[str, str]) -> bool:
        """In the header, or, since a browser's WebSocket has none, in the query."""
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        given = [shown if scheme.lower() == "bearer" else ""]
        if scope["type"] == "websocket":
            query: Any = scope["query_string"].decode("latin-1").split("&")
            given += [word.removeprefix("token=") for word in query if word.startswith("token=")]
        return any(hmac.compare_digest(word.encode(), self.application.token.encode()) for word in given)


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].split("]", maxsplit=1)[0]
    return host.split(":", maxsplit=1)[0]
