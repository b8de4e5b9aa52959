"""Files that are read again when they change. One that is broken then leaves in force what was read before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rater.model.errors import RaterError

__all__ = ["WatchedFile"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_SECONDS = 1.0
_Mark = tuple[int, int, int]
_NOTHING: _Mark = (0, 0, 0)


class WatchedFile(Generic[T]):
    """What a file says. It is looked at when it is asked for, at most once in a second."""

    def __init__(
        self,
        path: str,
        read: Callable[[str], T],
        clock: Callable[[], float],
        also: Sequence[str] = (),
    ) -> None:
        """`read` gives what the file at a path says, and the files `also` with it; `clock` is in seconds.

        Raises what `read` does.
        """
        self._path, self._read, self._clock, self._also = path, read, clock, also
        self._mark = self._marks()  # before it is read: a change in between is seen the next time
        self._value = read(path)
        self._looked_at = clock()
        self._trouble = ""

    def value(self) -> T:
        """What it said when it last could be read."""
        now = self._clock()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            marks = self._marks()
            if marks != self._mark:
                self._mark = marks
                self._take()
        return self._value

    def red(self) -> str:
        """What is wrong with the file as it is now, and empty if nothing is."""
        self.value()
        return self._trouble

    def _marks(self) -> list[_Mark]:
        return [_mark(path) for path in (self._path, *self._also)]

    def _take(self) -> None:
        try:
            self._value = self._read(self._path)
        except RaterError as fault:
            self._trouble = f"{fault}; what was read before stays in force"
            log.error("%s", self._trouble)  # noqa: TRY400 - the fault says what is wrong; a traceback says no more
        else:
            self._trouble = ""
            log.info("%s was read again", self._path)


def _mark(path: str) -> _Mark:
    """Another value for each change: also for a file that another one was renamed to."""
    try:
        found = Path(path).stat()
    except OSError:
        return _NOTHING
    return found.st_mtime_ns, found.st_size, found.st_ino
