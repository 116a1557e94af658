"""HTTP: whole requests, `POST /models/NAME/generate` and the like; text as it comes by server-sent events."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from elman.runtime import FrozenError
from elman.serve.batcher import Batcher, RefusalError
from elman.serve.metrics import Board
from elman.serve.models import Served
from elman.serve.refusals import RefusedError, code_of, decoded, refused
from elman.serve.settings import Serve
from elman.serve.translating import Line, Translate
from elman.serve.whole import Asked
from elman.serve.works import Reading, Writing

__all__ = ["Generate", "Requests", "checked_length", "plain", "promise"]

# Tokens, where a request does not say how many.
LENGTH = 400
# Texts, or series, of one request.
MOST = 1024
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Generate(msgspec.Struct, forbid_unknown_fields=True):
    """Write on from a prompt, as `elman.runtime` does."""

    prompt: str = ""
    length: Whole | None = None
    temperature: NonNegative = 1.0
    top_k: Whole = 0
    seed: Whole | None = None
    stream: bool = False

    def tokens(self, settings: Serve) -> int:
        """How many are to be written. RefusedError for more than are allowed."""
        length = min(LENGTH, settings.length) if self.length is None else self.length
        if length > settings.length:
            raise RefusedError(413, f"{length} tokens are asked for; {settings.length} are allowed")
        return length


class Texts(msgspec.Struct, forbid_unknown_fields=True):
    """Texts to classify, or to tell the surprise of."""

    texts: Annotated[list[str], msgspec.Meta(min_length=1)]


class Series(msgspec.Struct, forbid_unknown_fields=True):
    """Series of numbers, or of lists of numbers, one a channel; null is a gap."""

    series: Annotated[list[list[Any]], msgspec.Meta(min_length=1)]


def promise() -> tuple[asyncio.Future[Any], Callable[[Any, RefusalError | None], None]]:
    """A future of this loop, and the function by which another thread keeps it."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    # What nobody waits for any more is no fault to be told of.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def settle(value: Any, error: RefusalError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def tell(value: Any, error: RefusalError | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    return future, tell


class Requests:
    """The answers to whole requests."""

    def __init__(self, models: Mapping[str, Served], settings: Serve, board: Board) -> None:
        self.models, self.settings, self.board = models, settings, board
        self.ways: dict[str, Callable[[Served, Request], Awaitable[Response]]] = {
            "generate": self.generate,
            "score": self.score,
            **dict.fromkeys(("classify", "tag", "forecast"), self.inputs),
            "translate": self.translate,
        }

    async def answer(self, request: Request) -> Response:
        """`POST /models/NAME/REQUEST`."""
        began = time.perf_counter()
        name, word = request.path_params["model"], request.path_params["request"]
        try:
            served = self.models.get(name)
            if served is None:
                raise RefusedError(404, f"there is no model {name!r}; there is {', '.join(self.models)}")
            if word not in served.verbs:
                known = ", ".join(served.verbs) or "no request as a whole, only streams"
                raise RefusedError(404, f"{name} has no {word!r}; it has {known}")
            found = await self.ways[word](served, request)
            if isinstance(found, Events):
                found.took = lambda: self.took(name, word, began)
                return found
        except ClientDisconnect:
            return Response(status_code=499)
        except (RefusedError, RefusalError, FrozenError) as error:
            return refused(code_of(error), str(error), getattr(error, "headers", None))
        self.took(name, word, began)
        return found

    def took(self, name: str, word: str, began: float) -> None:
        """A request is over."""
        self.board.took("request_seconds", f'model="{name}",request="{word}"', time.perf_counter() - began)

    @property
    def deadline(self) -> float:
        """When a request that begins now has to be done."""
        return time.monotonic() + self.settings.timeout

    async def generate(self, served: Served, request: Request) -> Response:
        """Text, whole or piece by piece."""
        asked = await self.read(request, Generate)
        checked_length(self.settings, asked.prompt)
        asked.length = asked.tokens(self.settings)
        asked.stream = asked.stream or "text/event-stream" in request.headers.get("accept", "")
        text = Text(served, asked, self.deadline)
        text.begin()
        if asked.stream:
            return Events(text)
        try:
            await unless_gone(request, text.future)
            return JSONResponse({"text": text.whole(), "tokens": asked.length})
        finally:
            text.end()

    async def score(self, served: Served, request: Request) -> Response:
        """How surprising texts are, in nats and bits."""
        texts = (await self.read(request, Texts)).texts
        checked_count(texts, MOST)
        checked_length(self.settings, *texts)
        assert served.batcher is not None
        tokens = [
            [served.model.tokenizer.start, *served.model.tokens(text, f"texts[{i}]")]
            for i, text in enumerate(texts)
        ]
        session, found = served.batcher.open(), []
        try:
            for text, row in zip(texts, tokens, strict=True):
                nats = 0.0
                if len(row) > 1:
                    served.batcher.put_state(session, None)
                    future, tell = promise()
                    served.batcher.submit(session, Reading(row, tell, deadline=self.deadline))
                    nats = float((await unless_gone(request, future)).nats.sum())
                each = nats / math.log(2) / len(text) if text else 0.0
                found.append({"tokens": len(row) - 1, "nats": nats, "bits_per_character": each})
        finally:
            served.batcher.close(session)
        return JSONResponse({"scores": plain(found)})

    async def inputs(self, served: Served, request: Request) -> Response:
        """An answer to each text, or to each series."""
        given: Any
        if served.series:
            given = [as_series(values) for values in (await self.read(request, Series)).series]
            if (count := sum(values.size for values in given)) > self.settings.longest:
                raise RefusedError(
                    413, f"{count} numbers are given; {self.settings.longest} are allowed in a request"
                )
        else:
            given = (await self.read(request, Texts)).texts
            checked_length(self.settings, *given)
        return await self.answered(served, given, request)

    async def translate(self, served: Served, request: Request) -> Response:
        """A translation of each line, or the best of them."""
        asked = await self.read(request, Translate)
        checked_length(self.settings, *asked.texts)
        if asked.beam > self.settings.widest:
            raise RefusedError(
                413, f"a beam of {asked.beam} is asked for; {self.settings.widest} are allowed"
            )
        if asked.n_best > asked.beam:
            raise RefusedError(
                422, f"the {asked.n_best} best of a beam of {asked.beam} are asked for; give a wider beam"
            )
        flags = asked.flags()
        return await self.answered(served, [Line(text, flags) for text in asked.texts], request)

    async def answered(self, served: Served, given: Sequence[Any], request: Request) -> Response:
        """All answers, when the last is there."""
        assert served.whole is not None
        checked_count(given, min(MOST, served.whole.limit))
        future, tell = promise()
        asked = Asked(given, tell, self.deadline)
        served.whole.submit(asked)
        try:
            return JSONResponse({"answers": plain(await unless_gone(request, future))})
        finally:
            served.whole.drop(asked)

    async def read(self, request: Request, kind: type[Any]) -> Any:
        """The body of a request, checked."""
        check_head(request.headers)
        try:
            async with asyncio.timeout(self.settings.slow):
                body = await self.body(request)
        except TimeoutError:
            raise RefusedError(408, f"the body did not come within {self.settings.slow:g} seconds") from None
        return decoded("the body", body, kind)

    async def body(self, request: Request) -> bytes:
        """All of it, unless it is more than is allowed."""
        too_much = RefusedError(
            413, f"the body is longer than the {self.settings.body} bytes that are allowed"
        )
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self.settings.body:
            raise too_much
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self.settings.body:
                raise too_much
        return bytes(body)


def check_head(headers: Mapping[str, str]) -> None:
    """RefusedError for a body that is not said to be JSON in UTF-8, as it is."""
    kind, *options = (word.strip().lower() for word in headers.get("content-type", "").split(";"))
    if kind != "application/json":
        raise RefusedError(415, "the body has to be JSON: Content-Type: application/json")
    charset = next(
        (word.removeprefix("charset=") for word in options if word.startswith("charset=")), "utf-8"
    )
    if charset.strip('"') not in ("utf-8", "utf8", "us-ascii"):
        raise RefusedError(415, f"JSON is read as UTF-8, and the body is said to be {charset}")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise RefusedError(
            415,
            f"the body is said to be encoded by {coding}; send it as it is",
            {"accept-encoding": "identity"},
        )


def checked_count(given: Sequence[Any], most: int) -> None:
    """RefusedError for more inputs than are allowed: fewer at once, and the server has a turn for others."""
    if len(given) > most:
        raise RefusedError(413, f"{len(given)} inputs are given; {most} are allowed in a request")


def checked_length(settings: Serve, *texts: str) -> None:
    """RefusedError for more text than is allowed."""
    count = sum(map(len, texts))
    if count > settings.longest:
        raise RefusedError(413, f"{count} characters are given; {settings.longest} are allowed in a request")


def plain(value: Any) -> Any:
    """The same, fit for JSON: a number that is none is null."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_series(values: list[Any]) -> npt.NDArray[np.float64]:
    """`(T,)` or `(T, C)`. RefusedError."""
    try:
        found = np.array(values, dtype=np.float64)
    except (ValueError, TypeError):
        found = np.zeros(0)
    if not found.size or found.ndim > 2:
        raise RefusedError(
            422, "a series is a list of numbers, or of lists of as many numbers each; null is a gap"
        )
    return found


async def unless_gone(request: Request, future: asyncio.Future[Any]) -> Any:
    """What the future gives. ClientDisconnect where the client does not wait for it."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({future, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ClientDisconnect
        return future.result()
    finally:
        leaving.cancel()
        future.cancel()


class Text:
    """Text that is being written for one request."""

    def __init__(self, served: Served, asked: Generate, deadline: float) -> None:
        writer = served.model
        assert served.batcher is not None
        self.batcher: Batcher = served.batcher
        self.tokens = [writer.tokenizer.start, *writer.tokens(asked.prompt)]
        self.future, tell = promise()
        self.came = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.shown, self.length = 0, asked.length or 0
        self.spell = writer.tokenizer.stream(asked.prompt)
        self.work = Writing(
            writer, self.tokens, self.spell, tell, length=self.length, temperature=asked.temperature,
            top_k=asked.top_k, seed=asked.seed, piece=self._piece if asked.stream else None, deadline=deadline,
        )  # fmt: skip
        self.future.add_done_callback(lambda _: self.came.set())

    def _piece(self, text: str) -> None:
        if not self.came.is_set() and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.came.set)

    def begin(self) -> None:
        """Have it written. FullError, GoneError."""
        self.session = self.batcher.open()
        if not self.length:
            self.future.set_result(self.work)
            return
        try:
            self.batcher.submit(self.session, self.work)
        except RefusalError:
            self.batcher.close(self.session)
            raise

    def end(self) -> None:
        """Nobody waits for it any more."""
        self.batcher.close(self.session)
        if self.future.done() and not self.future.cancelled():
            self.future.exception()

    def whole(self) -> str:
        """All that was written."""
        ending: str = self.spell.close()
        return self.work.text + ending

    async def events(self) -> AsyncIterator[str]:
        """Pieces as they come; then how it ended."""
        over = False
        while not over:
            await self.came.wait()
            self.came.clear()
            over = self.future.done()
            pieces = self.work.pieces[self.shown :]
            self.shown += len(pieces)
            ending = self.spell.close() if over and self.future.exception() is None else ""
            if text := "".join(pieces) + ending:
                yield f"data: {json.dumps({'text': text}, ensure_ascii=False)}\n\n"
        error = self.future.exception()
        if error is None:
            yield f"event: done\ndata: {json.dumps({'tokens': self.length})}\n\n"
        else:
            yield f"event: error\ndata: {json.dumps({'error': str(error), 'code': code_of(error)})}\n\n"  # type: ignore[arg-type]


class Events(StreamingResponse):
    """Text as server-sent events. Whatever becomes of it, its session ends with it, even before the first piece."""

    def __init__(self, text: Text) -> None:
        headers = {"cache-control": "no-store"}
        super().__init__(text.events(), media_type="text/event-stream", headers=headers)
        self.text = text
        self.took: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.text.end()
            self.took()
