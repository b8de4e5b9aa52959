"""What all versions read of a request in the same way: which route its path stands for, and its body, in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from aiohttp import web

from rater.api.faults import RefusalError

__all__ = ["PathTable", "body_of"]

R = TypeVar("R")

BODY_SECONDS = 30.0
"""In which a body has to arrive: who sends slower holds a place that others need."""


class PathTable(Generic[R]):
    """Routes by the number of segments of their paths; those without `{names}` first."""

    def __init__(self, routes: Iterable[R], path_of: Callable[[R], str]) -> None:
        self._by_length: dict[int, list[tuple[list[str], R]]] = {}
        for route in routes:
            pattern = path_of(route).split("/")
            self._by_length.setdefault(len(pattern), []).append((pattern, route))
        for found in self._by_length.values():
            found.sort(key=lambda entry: [segment.startswith("{") for segment in entry[0]])

    def matching(self, segments: Sequence[str]) -> Iterator[tuple[R, dict[str, str]]]:
        """The routes that a path may stand for, the best first, each with what stands for its names."""
        for pattern, route in self._by_length.get(len(segments), ()):
            named = _matched(pattern, segments)
            if named is not None:
                yield route, named


def _matched(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    """The named segments; None if this is another path."""
    named: dict[str, str] = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if not wanted.startswith("{"):
            if wanted != segment:
                return None
        elif not segment:
            return None
        else:
            named[wanted[1:-1]] = segment
    return named


async def body_of(request: web.Request, too_large: str) -> bytes:
    """The body as it was sent, at most `api.max_body_bytes`.

    Raises RefusalError: 408 for one that takes too long, 413 with the text `too_large`, 400 for what breaks off.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise RefusalError(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise RefusalError(413, too_large) from None
    except (web.RequestPayloadError, ConnectionError) as fault:
        raise RefusalError(400, f"the body cannot be read: {fault}") from fault
