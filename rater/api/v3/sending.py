"""Parts of answers on their way out: to readers who may be slow, gone, or stay for days."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.faults import RefusalError
from rater.api.v3.operations import EVENTS, Event

__all__ = ["SEND_SECONDS", "break_off", "send", "send_events"]

log = logging.getLogger(__name__)

SEND_SECONDS = 30.0
"""In which a reader has to take the next part: who takes longer is cut off."""
BEAT_SECONDS = 15.0
"""After so long without an event a comment is sent, so that whoever stands between keeps the connection."""
LOOK_SECONDS = 1.0
"""Within which a listener who hung up makes room for another one."""


async def send(request: web.Request, response: web.StreamResponse, part: bytes) -> None:
    """Raises ConnectionError for a reader that is gone or too slow."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.write(part)
    except TimeoutError:
        log.info("a reader of %r took nothing for %g s: cut off", request.path, SEND_SECONDS)
        raise ConnectionResetError("too slow") from None


def break_off(request: web.Request) -> None:
    """Half an answer must not look like a whole one."""
    if request.transport is not None:
        request.transport.abort()


async def send_events(
    request: web.Request, events: AsyncIterator[Event], headers: Mapping[str, str], ending: asyncio.Event
) -> web.StreamResponse:
    """Sends events until the reader goes, is too slow, or `ending` is set. Closes `events`."""
    response = web.StreamResponse(
        headers={
            **headers,
            "Content-Type": EVENTS,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # else nginx holds events back
        }
    )
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            await _send_all(request, response, events, ending)
        await response.write_eof()
    except ConnectionError:
        log.debug("a listener hung up")
        break_off(request)
    except (RefusalError, ApiFaultError) as fault:
        log.info("a listener is cut off, it may come back: %s", fault)
        break_off(request)
    finally:
        close: Callable[[], Any] | None = getattr(events, "aclose", None)
        if close is not None:
            await close()
    return response


async def _send_all(
    request: web.Request, response: web.StreamResponse, events: AsyncIterator[Event], ending: asyncio.Event
) -> None:
    waiting: asyncio.Future[Event] | None = None
    sent_at = time.monotonic()
    try:
        while not ending.is_set():
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("gone")
            waiting = waiting or asyncio.ensure_future(anext(events))
            await asyncio.wait([waiting], timeout=LOOK_SECONDS)
            if waiting.done():
                event, waiting = waiting.result(), None
                await send(request, response, _text(event))
            elif time.monotonic() - sent_at > BEAT_SECONDS:
                await send(request, response, b": still here\n\n")
            else:
                continue
            sent_at = time.monotonic()
    except StopAsyncIteration:
        return
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def _text(event: Event) -> bytes:
    assert b"\n" not in event.data, "an event's data is one line"
    head = "".join(f"{name}: {value}\n" for name, value in (("id", event.id), ("event", event.event)) if value)
    return head.encode() + b"data: " + event.data + b"\n\n"
