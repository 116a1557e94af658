"""WebSockets: a session of a model for each connection, several steps a message (docs/serving.md)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from elman.runtime import FrozenError
from elman.runtime.listening import Update
from elman.serve.batcher import FullError, GoneError, LateError, RefusalError, Session
from elman.serve.metrics import Board
from elman.serve.models import Served
from elman.serve.refusals import RefusedError, code_of, decoded
from elman.serve.requests import Generate, checked_length, plain, promise
from elman.serve.settings import Serve
from elman.serve.sounds import Declared, Sound, told
from elman.serve.states import Kept, new_name, pack, unpack
from elman.serve.works import Reading, Rows, Writing

__all__ = ["Message", "Streams"]

# Why a connection is closed, beside the codes that all WebSockets have.
GOING_DOWN, FULL, FAULT, UNKNOWN, IDLE, LATE = 1012, 1013, 1011, 4404, 4408, 4504
# So much of a text is remembered as decides how the next token is spelled.
BEFORE = 64
# Seconds after which a sound of which a part is heard asks again for room.
AGAIN = 0.01


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One of these."""

    rows: list[Any] | None = None
    text: str | None = None
    sound: Declared | None = None
    finish: bool | None = None
    generate: Generate | None = None
    state: bool | None = None
    restore: str | None = None
    reset: bool | None = None


class EndingError(Exception):
    """The connection is to be closed. state: of its session, where it is closed already; empty: in the midst of work,
    so that it has none."""

    def __init__(self, code: int, sentence: str, state: bytes | None = None) -> None:
        super().__init__(sentence)
        self.code, self.state = code, state


class Streams:
    """All connections of a process."""

    def __init__(self, models: Mapping[str, Served], settings: Serve, board: Board) -> None:
        self.models, self.settings, self.board = models, settings, board
        self.kept = Kept(Path(settings.states), settings.keep) if settings.states else None
        self.connections: dict[Session, Connection] = {}

    async def answer(self, websocket: WebSocket) -> None:
        """`/models/NAME/stream`."""
        served = self.models.get(websocket.path_params["model"])
        await websocket.accept()
        if served is None or not served.streams:
            name = websocket.path_params["model"]
            known = ", ".join(served.verbs) if served else ", ".join(self.models)
            await close(
                websocket,
                UNKNOWN,
                f"{name} has no stream; it has {known}"
                if served
                else f"there is no model {name!r}; there is {known}",
            )
            return
        with contextlib.suppress(WebSocketDisconnect):
            await Connection(self, served, websocket).run()

    async def unknown(self, websocket: WebSocket) -> None:
        """A WebSocket somewhere else."""
        await websocket.accept()
        await close(
            websocket, UNKNOWN, f"there is no stream {websocket.url.path}; there is /models/NAME/stream"
        )

    def evict(self) -> None:
        """Close the sessions that nobody has asked anything for too long."""
        for name, served in self.models.items():
            if served.batcher is None:
                continue
            for session, state in served.batcher.evict(self.settings.idle):
                self.board.add(f'evicted_total{{model="{name}"}}')
                if session in self.connections:
                    sentence = f"the session was idle for {self.settings.idle:g} seconds"
                    self.connections[session].end(EndingError(IDLE, sentence, state))

    async def drain(self, ends: float) -> None:
        """Close all sessions behind what they are doing, and save their states."""
        for connection in list(self.connections.values()):
            connection.end(EndingError(GOING_DOWN, "the server is going down"))
        while self.connections and time.monotonic() < ends:
            await asyncio.sleep(0.02)


class Connection:
    """One client, its session, and what belongs to its state beside the core's."""

    def __init__(self, streams: Streams, served: Served, websocket: WebSocket) -> None:
        assert served.batcher is not None
        self.streams, self.served, self.websocket = streams, served, websocket
        self.settings, self.board, self.batcher = streams.settings, streams.board, served.batcher
        self.label = f'model="{served.name}"'
        self.name = new_name()
        self.ending: EndingError | None = None
        self.resting = False
        self.task = asyncio.current_task()
        self.pending, self.before = 0, ""
        self.spell: Any = None
        self.sound: Sound | None = None
        if served.streams == "text":
            self.begin_text(served.model.tokenizer.start, "")

    def begin_text(self, pending: int, before: str) -> None:
        """pending: the token that was written or read last, and has not gone through the network yet."""
        self.pending, self.before = pending, before
        self.spell = self.served.model.tokenizer.stream(before)

    async def run(self) -> None:
        """Until one of both sides ends it."""
        try:
            resumed = self.open()
        except FullError as error:
            await close(self.websocket, FULL, str(error))
            return
        except (GoneError, FrozenError, RefusedError) as error:
            code = GOING_DOWN if isinstance(error, GoneError) else UNKNOWN
            await close(self.websocket, code, str(error))
            return
        self.streams.connections[self.session] = self
        self.board.add(f"sessions_total{{{self.label}}}")
        try:
            await self.say({"session": self.name, "resumed": resumed, **self.served.described()})
            while True:
                await self.one()
        except EndingError as ending:
            await self.farewell(ending)
        finally:
            del self.streams.connections[self.session]
            self.batcher.close(self.session)

    def open(self) -> bool:
        """A session: a new one, or one that was kept."""
        name = self.websocket.query_params.get("resume")
        if name is None:
            self.session = self.batcher.open()
            return False
        data = self.streams.kept.take(name) if self.streams.kept else None
        if data is None:
            raise RefusedError(404, f"no session {name!r} is kept here")
        try:
            row, more = unpack(self.served.hash, data)
            beside = self.beside(more)
            self.session = self.batcher.open(row)
        except (FullError, FrozenError):  # it stays for whom it is of
            assert self.streams.kept is not None
            self.streams.kept.save(name, data)
            raise
        self.name = name
        self.adopt(beside)
        return True

    def end(self, ending: EndingError) -> None:
        """Close the connection behind what it is doing."""
        self.ending = ending
        if self.resting and self.task is not None:
            self.task.cancel()

    def _told(self) -> EndingError | None:
        return self.ending

    async def receive(self) -> Any:
        """The next message."""
        if self.ending is not None:
            raise self.ending
        self.resting = True
        try:
            message = await self.websocket.receive()
        except asyncio.CancelledError:
            ending = self._told()
            if ending is None or self.task is None:
                raise
            self.task.uncancel()
            raise ending from None
        finally:
            self.resting = False
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return message

    async def one(self) -> None:
        """One message and its answer."""
        message = await self.receive()
        began = time.perf_counter()
        try:
            data = message.get("bytes")
            if data is not None and self.served.streams == "audio":
                await self.say(await self.hear(data))
            elif data is not None:
                answer = await self.steps(self.from_bytes(data))
                await self.websocket.send({"type": "websocket.send", "bytes": answer.tobytes()})
            else:
                await self.carry_out(as_message(message["text"]))
        except (RefusedError, RefusalError, FrozenError) as error:
            self.board.add(f"refused_total{{{self.label}}}")
            if self.session.closed is not None:
                codes: dict[type[Exception], int] = {LateError: LATE, GoneError: GOING_DOWN}
                code = codes.get(type(error), FAULT)
                raise EndingError(code, str(error), b"") from None
            await self.say({"error": str(error), "code": code_of(error)})
            return
        self.board.add(f"messages_total{{{self.label}}}")
        self.board.took("message_seconds", self.label, time.perf_counter() - began)

    async def carry_out(self, message: Message) -> None:
        """What a message of JSON asks for."""
        if message.rows is not None:
            y = await self.steps(self.from_list(message.rows))
            await self.say({"rows": plain(y.tolist())})
        elif message.text is not None:
            await self.say(await self.listen(message.text))
        elif message.generate is not None:
            await self.write(message.generate)
        elif message.sound is not None:
            self.check_kind("audio")
            self.begin_sound(Sound(self.served.model, message.sound))
            await self.say({"sound": msgspec.to_builtins(message.sound)})
        elif message.finish:
            await self.say(await self.finish())
        elif message.state:
            await self.say({"state": base64.b64encode(self.packed()).decode()})
        elif message.restore is not None:
            self.restore(message.restore)
            await self.say({"restored": True})
        else:
            self.batcher.put_state(self.session, None)
            if self.spell is not None:
                self.begin_text(self.served.model.tokenizer.start, "")
            if self.sound is not None:
                self.sound = Sound(self.served.model, self.sound.declared)
            await self.say({"reset": True})

    # Rows

    def from_bytes(self, data: bytes) -> Any:
        """Rows, one behind the other, little-endian."""
        self.check_kind("rows")
        one = self.served.model.inputs[0]
        size = one.dtype.itemsize * math.prod(one.shape)
        if not data or len(data) % size:
            raise RefusedError(
                422,
                f"{len(data)} bytes are no whole rows of {list(one.shape)} {one.dtype.name}, {size} bytes each",
            )
        return np.frombuffer(data, one.dtype.newbyteorder("<")).reshape(-1, *one.shape)

    def from_list(self, rows: list[Any]) -> Any:
        """Rows as lists of numbers."""
        self.check_kind("rows")
        one = self.served.model.inputs[0]
        try:
            kind = np.dtype(np.int64) if one.dtype.kind == "i" else np.dtype(np.float64)
            x = np.array(rows, kind, copy=True)
            fits = x.shape == (len(rows), *one.shape) and len(rows) > 0
        except (ValueError, TypeError, OverflowError):
            fits = False
        if not fits:
            raise RefusedError(422, f"the rows are not lists of the shape [steps, {str(list(one.shape))[1:]}")
        return x.astype(one.dtype)

    async def steps(self, x: Any) -> Any:
        """The outputs of some steps."""
        if len(x) > self.settings.longest:
            raise RefusedError(
                413, f"{len(x)} steps are given; {self.settings.longest} are allowed in a message"
            )
        future, tell = promise()
        self.batcher.submit(self.session, Rows(self.served.model, [x], tell, deadline=self.deadline))
        return (await future).ys[0]

    # Text

    async def listen(self, text: str) -> dict[str, Any]:
        """Read text: how surprising it was."""
        self.check_kind("text")
        checked_length(self.settings, text)
        tokens = self.served.model.tokens(text, "the text")
        nats = 0.0
        if tokens:
            future, tell = promise()
            work = Reading([self.pending, *tokens], tell, deadline=self.deadline)
            self.batcher.submit(self.session, work)
            nats = float((await future).nats.sum())
            self.begin_text(tokens[-1], (self.before + text)[-BEFORE:])
        return {"tokens": len(tokens), "nats": nats}

    async def write(self, asked: Generate) -> None:
        """Write on; in pieces where that is asked for."""
        self.check_kind("text")
        length = asked.tokens(self.settings)
        checked_length(self.settings, asked.prompt)
        prompt = self.served.model.tokens(asked.prompt)
        before = self.before + asked.prompt
        if prompt:
            self.spell = self.served.model.tokenizer.stream(before)
        if not length and not prompt:
            await self.say({"text": "", "done": 0})
            return
        if not length:
            await self.listen(asked.prompt)
            await self.say({"text": "", "done": 0})
            return
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not came.is_set():
                loop.call_soon_threadsafe(came.set)

        future, tell = promise()
        future.add_done_callback(lambda _: came.set())
        work = Writing(
            self.served.model, [self.pending, *prompt], self.spell, tell, length=length,
            temperature=asked.temperature, top_k=asked.top_k, seed=asked.seed, deadline=self.deadline,
            piece=(lambda _: wake()) if asked.stream else None,
        )  # fmt: skip
        self.batcher.submit(self.session, work)
        shown = 0
        while asked.stream and not future.done():
            await came.wait()
            came.clear()
            pieces = work.pieces[shown:]
            shown += len(pieces)
            if (text := "".join(pieces)) and not future.done():
                await self.say({"text": text})
            elif future.done():
                shown -= len(pieces)
        await future
        self.pending, self.before = work.last, (before + work.text)[-BEFORE:]
        await self.say({"text": "".join(work.pieces[shown:]), "done": length})

    # Sound

    def begin_sound(self, sound: Sound) -> None:
        """From where the model begins."""
        self.batcher.put_state(self.session, None)
        self.sound = sound

    def the_sound(self) -> Sound:
        """What is being heard. RefusedError before it was said what comes."""
        self.check_kind("audio")
        if self.sound is None:
            rate = self.served.model.rate
            raise RefusedError(
                422, f'first say what sound comes: {{"sound": {{"rate": {rate}, "form": "s16le"}}}}'
            )
        return self.sound

    async def hear(self, data: bytes) -> dict[str, Any]:
        """Samples: the utterances that have ended with them, and the one that goes on."""
        sound = self.the_sound()
        samples = sound.samples(data, self.settings.longest, self.settings.length)
        ended = await self.read_sound(sound, sound.steps(samples))
        found = [told(update) for update in ended]
        if text := sound.utterances.text:
            found.append({"final": False, "text": text})
        return {"heard": found, "seconds": sound.seconds}

    async def finish(self) -> dict[str, Any]:
        """The end of the sound; another may follow."""
        sound = self.the_sound()
        ended = await self.read_sound(sound, sound.rest())
        last = sound.utterances.finish()
        found = [*ended, last] if last.heard.text else ended
        self.begin_sound(Sound(self.served.model, sound.declared))
        return {"heard": [told(update) for update in found], "finished": True, "seconds": sound.seconds}

    async def read_sound(self, sound: Sound, pieces: Iterator[Any]) -> list[Update]:
        """Steps of the network, piece by piece. What is refused is refused before the first of them."""
        self.batcher.check_room()
        deadline, ended = self.deadline, []
        for steps in pieces:
            future, tell = promise()
            work = Rows(self.served.model, [steps], tell, deadline=deadline)
            while not self.submitted(work):
                await asyncio.sleep(AGAIN)
            ended += sound.read((await future).ys[0])
        return ended

    def submitted(self, work: Rows) -> bool:
        """Whether there was room for it. A sound of which a part is heard waits for room, until it is late."""
        try:
            self.batcher.submit(self.session, work)
        except FullError:
            if time.monotonic() > work.deadline:
                self.batcher.close(self.session, LateError("there was no room for the rest of the sound"))
            if self.session.closed is not None:
                raise self.session.closed from None
            return False
        return True

    # States

    def packed(self) -> bytes:
        """The state with what belongs to it."""
        state = self.batcher.state(self.session) if self.session.closed is None else self.session.state
        more: dict[str, Any] = {} if self.spell is None else {"pending": self.pending, "before": self.before}
        if self.sound is not None:
            more = {"sound": self.sound.state()}
        return pack(self.served.hash, state, more)

    def restore(self, text: str) -> None:
        """Go on from a state that was handed out."""
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise FrozenError("the state is not in base64") from None
        row, more = unpack(self.served.hash, data)
        beside = self.beside(more)
        self.batcher.put_state(self.session, row)
        self.adopt(beside)

    def beside(self, more: dict[str, Any]) -> tuple[int, str] | Sound | None:
        """What belongs to a state beside the core's. FrozenError for what never does."""
        if self.spell is not None:
            pending, before = more.get("pending"), more.get("before")
            size = self.served.model.tokenizer.size
            if not isinstance(pending, int) or not 0 <= pending < size or not isinstance(before, str):
                raise FrozenError("the state lacks the token that was read last")
            return pending, before[-BEFORE:]
        if self.served.streams == "audio" and more.get("sound") is not None:
            return Sound.from_state(self.served.model, more["sound"])
        return None

    def adopt(self, beside: tuple[int, str] | Sound | None) -> None:
        """Go on with that."""
        self.sound = beside if isinstance(beside, Sound) else None
        if isinstance(beside, tuple):
            self.begin_text(*beside)

    def last_state(self, ending: EndingError) -> bytes | None:
        """What the client may go on from; None where there is nothing that could be handed out."""
        if ending.code not in {GOING_DOWN, IDLE} or ending.state == b"":
            return None
        with contextlib.suppress(RefusedError):
            return self.packed()
        return None

    async def farewell(self, ending: EndingError) -> None:
        """Say why, and hand out the state, where there is one."""
        said: dict[str, Any] = {"closing": str(ending)}
        data = self.last_state(ending)
        if data is not None:
            if self.streams.kept is not None:
                await asyncio.to_thread(self.streams.kept.save, self.name, data)
                said["resume"] = self.name
            said["state"] = base64.b64encode(data).decode()
        try:
            await self.say(said)
            await close(self.websocket, ending.code, str(ending))
        except WebSocketDisconnect:
            pass

    # Shared

    @property
    def deadline(self) -> float:
        """When what begins now has to be done."""
        return time.monotonic() + self.settings.timeout

    def check_kind(self, kind: str) -> None:
        """RefusedError for rows to a model of text, and the other way round."""
        if self.served.streams != kind:
            raise RefusedError(422, f"{self.served.name} is fed {self.served.streams}, not {kind}")

    async def say(self, data: dict[str, Any]) -> None:
        """Send JSON."""
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        await self.websocket.send({"type": "websocket.send", "text": text})


def as_message(text: str) -> Message:
    """A message of JSON, checked."""
    message: Message = decoded("the message", text, Message)
    given = [name for name in Message.__struct_fields__ if getattr(message, name) not in (None, False)]
    if len(given) != 1:
        raise RefusedError(
            422, f"a message has one of {', '.join(Message.__struct_fields__)}; it has {len(given)}"
        )
    return message


async def close(websocket: WebSocket, code: int, sentence: str) -> None:
    """Close, saying why; a reason holds 123 bytes."""
    await websocket.close(code, sentence.encode()[:123].decode(errors="ignore"))
