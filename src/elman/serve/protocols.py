"""Connections of uvicorn that end when the other side does nothing.

uvicorn waits without end for a request's head, and for a client that reads nothing: such connections would pile up.
Here a head, and room to write in, have to come within `slow` seconds; else the connection is cut off.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["Patience", "protocols"]


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


def protocols(slow: float, most: int) -> tuple[type[asyncio.Protocol], type[asyncio.Protocol]]:
    """The classes for HTTP and for WebSockets. most: connections that may be open; others are cut off at once."""
    return type("Http", (Http,), {"slow": slow, "most": most}), type(
        "WebSocket", (WebSocket,), {"slow": slow}
    )
