"""What was found out about tokens, for a while. Bounded, and without the tokens themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Generic, TypeVar

__all__ = ["Believed"]

T = TypeVar("T")


class Believed(Generic[T]):
    """Values by token. The one that was not asked for the longest goes when there are too many."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        """`clock` is in seconds."""
        self._most, self._clock = most, clock
        self._found: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, token: str) -> T | None:
        """What is believed of it now."""
        digest = _digest(token)
        until, value = self._found.get(digest, (0.0, None))
        if value is None:
            return None
        if self._clock() >= until:
            del self._found[digest]
            return None
        self._found.move_to_end(digest)
        return value

    def put(self, token: str, value: T, seconds: float) -> None:
        """Believes it for so long."""
        if seconds <= 0:
            return
        self._found[_digest(token)] = (self._clock() + seconds, value)
        self._found.move_to_end(_digest(token))
        while len(self._found) > self._most:
            self._found.popitem(last=False)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
