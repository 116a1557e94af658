"""Connections of uvicorn that end when the other side does nothing, and say why in JSON where they refuse it.

uvicorn waits without end for a request's head, and for a client that reads nothing: such connections would pile up.
Here a head, and room to write in, have to come within `slow` seconds; else the connection is cut off. What never
becomes a request (a malformed head, a handshake that is none) is answered, and counted, as what is refused later on.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Response

__all__ = ["Patience", "protocols"]

_JSON = (("content-type", "application/json"),)
_FAILED = "Failed to open a WebSocket connection"


class Patience:
    """One timer of a connection: it is cut off unless what is waited for comes."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self.transport, self.seconds = transport, seconds
        self._timer: asyncio.TimerHandle | None = None
        raw = transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT") and raw.family != socket.AF_UNIX:
            # A peer that is gone, or whose window stays shut, is given up by the system too.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))

    def begin(self) -> None:
        """Wait, unless that is being done."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self.transport.abort)

    def end(self) -> None:
        """It came."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Reading(asyncio.Protocol):
    """What a client has to do with its answers: read them."""

    room: Patience
    refused: Callable[[int], None] = staticmethod(lambda code: None)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        self.room.begin()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self.room.end()


class Http(Reading, H11Protocol):
    """A connection that waits for requests."""

    slow, most = 10.0, 2048

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        if len(self.connections) >= self.most:
            transport.abort()
        super().connection_made(transport)
        self.head, self.room = Patience(transport, self.slow), Patience(transport, self.slow)
        self.head.begin()

    def data_received(self, data: bytes) -> None:
        """A part of a request, or all of it."""
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            self.head.end()  # a WebSocket from now on
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self.head.begin()  # a part of the next head
        else:
            self.head.end()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. An answer that has begun is cut off with its connection."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        cycle: Any = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            # Whoever was to answer is told that nobody waits, and is counted.
            cycle.disconnected = True
            cycle.message_event.set()
        else:
            self.refused(400)
        body = _sentence("what came is no HTTP/1.1 request: its head, or the form of its body, is malformed")
        headers = [*_JSON, ("content-length", str(len(body))), ("connection", "close")]
        answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        parts = [self.conn.send(event) for event in (answer, h11.Data(data=body), h11.EndOfMessage())]
        self.transport.write(b"".join(part or b"" for part in parts))
        self.transport.close()

    def on_response_complete(self) -> None:
        """One request is over."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.head.begin()

    def timeout_keep_alive_handler(self) -> None:
        """No other has come."""
        super().timeout_keep_alive_handler()
        self.head.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.head.end()
        self.room.end()
        super().connection_lost(exc)


class WebSocket(Reading, WebSocketsSansIOProtocol):
    """A connection that has become a WebSocket."""

    slow = 10.0

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(transport)
        self.closing, self.room = Patience(transport, self.slow), Patience(transport, self.slow)
        self._reject = self.conn.reject
        self.conn.reject = self.rejected  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        """A part of a message; before that the handshake, all of which is here."""
        super().data_received(data)
        if not self.handshake_initiated:
            # Its head is none, or too long: what is said of it would lie here for ever.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def rejected(self, status: Any, text: str) -> Response:
        """The answer to a handshake that is none, or is refused."""
        answer = self._reject(status, "")
        if text.startswith(_FAILED):
            self.refused(answer.status_code)
        sentence = (
            text.removeprefix(_FAILED).strip(": .\n").split("\n", maxsplit=1)[0] or answer.reason_phrase
        )
        answer.body = _sentence(f"this is no handshake of a WebSocket: {sentence}")
        for name, value in (*_JSON, ("content-length", str(len(answer.body)))):
            del answer.headers[name]
            answer.headers[name] = value
        return answer

    def send_receive_event_to_app(self) -> None:
        """A message; RFC 6455 has the connection end for a text that is no UTF-8."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError as error:
                self.conn.send_close(1007, f"the message is no UTF-8 at byte {error.start}")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has done with it: now the connection has to go."""
        super().on_task_complete(task)
        if not self.disconnected:
            self.closing.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.closing.end()
        self.room.end()
        super().connection_lost(exc)


def _sentence(text: str) -> bytes:
    return json.dumps({"error": text}, ensure_ascii=False).encode()


def protocols(
    slow: float, most: int, refused: Callable[[int], None]
) -> tuple[type[asyncio.Protocol], type[asyncio.Protocol]]:
    """The classes for HTTP and for WebSockets. most: connections that may be open; others are cut off at once.
    refused: is told the code of each answer to what never became a request."""
    shared = {"slow": slow, "refused": staticmethod(refused)}
    return type("Http", (Http,), {**shared, "most": most}), type("WebSocket", (WebSocket,), shared)
