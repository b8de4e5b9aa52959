"""Limits of connections, below HTTP: how many, how slowly a head may come, how long an answer waits for its reader.

aiohttp bounds the size of a head and closes what idles; how slowly a head comes and an answer goes is watched here,
around its protocol and by asyncio's own callbacks, so for every path and every kind of answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["HEAD_SECONDS", "IDLE_SECONDS", "READ_SECONDS", "Connection", "Connections"]

HEAD_SECONDS = 15.0
"""From the first byte of a request, or from the connection, to the end of its head."""
IDLE_SECONDS = 75.0
"""Between two requests: longer than load balancers keep a connection that they might use."""
READ_SECONDS = 30.0
"""In which a reader has to make room for more of an answer: 48 KiB, as asyncio buffers."""


class Connections:
    """All connections of the service. `cut` is told why one was: `head`, `reader`, `address` or `all`."""

    def __init__(
        self, most: int, most_of_address: int, is_proxy: Callable[[str], bool], cut: Callable[[str], None]
    ) -> None:
        """`is_proxy`: whether an address stands for many clients, and is no reason to refuse a connection."""
        self._most, self._most_of_address, self._is_proxy, self._cut = most, most_of_address, is_proxy, cut
        self._of_address: Counter[str] = Counter()
        self._by_transport: WeakKeyDictionary[asyncio.BaseTransport, Connection] = WeakKeyDictionary()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._of_address.total()

    def protocol(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """For a new connection; `factory` makes what speaks HTTP on it."""
        return Connection(self, factory)

    def begun(self, transport: asyncio.BaseTransport | None) -> None:
        """A request's head has come."""
        if transport is not None and (found := self._by_transport.get(transport)) is not None:
            found.begun()

    def ended(self, transport: asyncio.BaseTransport | None) -> None:
        """The request is answered."""
        if transport is not None and (found := self._by_transport.get(transport)) is not None:
            found.ended()

    def admit(self, connection: Connection, transport: asyncio.BaseTransport, address: str) -> bool:
        """Whether there is room for it, which it then has."""
        if self.open >= self._most:
            self._cut("all")
            return False
        if self._of_address[address] >= self._most_of_address and not self._is_proxy(address):
            self._cut("address")
            return False
        self._of_address[address] += 1
        self._by_transport[transport] = connection
        return True

    def release(self, address: str) -> None:
        """One has gone."""
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def cut(self, reason: str) -> None:
        """Counts one that is broken off."""
        self._cut(reason)


class Connection(asyncio.Protocol):
    """One connection: hands everything on to the protocol that speaks HTTP, and breaks off who is too slow."""

    def __init__(self, connections: Connections, factory: Callable[[], asyncio.Protocol]) -> None:
        self._connections, self._factory = connections, factory
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._answering = False
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins, or ends at once if there is no room."""
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._connections.admit(self, transport, self._address):
            transport.abort()
            return
        self._transport = transport
        _end_dead_ones(transport.get_extra_info("socket"))
        self._inner = self._factory()
        self._inner.connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        if self._inner is not None:
            if not self._answering and self._head is None:
                self._await_head()
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Nothing more will come."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """The reader is behind."""
        if self._inner is not None:
            self._inner.pause_writing()
            self._reader = asyncio.get_running_loop().call_later(READ_SECONDS, self._break_off, "reader")

    def resume_writing(self) -> None:
        """The reader has made room."""
        _cancel(self._reader)
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        _cancel(self._head)
        _cancel(self._reader)
        if self._inner is not None:
            self._connections.release(self._address)
            self._inner.connection_lost(exc)

    def begun(self) -> None:
        """A request's head is complete."""
        self._answering = True
        _cancel(self._head)
        self._head = None

    def ended(self) -> None:
        """The request is answered. The next byte begins another head."""
        self._answering = False

    def _await_head(self) -> None:
        self._head = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._break_off, "head")

    def _break_off(self, reason: str) -> None:
        self._connections.cut(reason)
        if self._transport is not None:
            self._transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _end_dead_ones(connected: Any) -> None:
    """What stays in the socket after the answer, too little to pause for, does not stay for ever."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is not None and connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, option, int(READ_SECONDS * 1000))
