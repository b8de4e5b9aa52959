"""A server that tells who somebody is, and cannot be asked now: nobody is refused for it, and nobody let in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rater.api.faults import RefusalError

__all__ = ["Away"]

log = logging.getLogger(__name__)

_RED_SECONDS = 30.0  # without a further failure: a service that is red may be asked nothing that would show it is well
_PAUSE_SECONDS = 1.0


class Away:
    """What went wrong last. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said = ""
        self._since = 0.0

    def failed(self, said: str) -> None:
        """It could not be asked, or its answer says nothing."""
        if said != self._said:
            log.warning("nobody new can be recognised: %s", said)
        self._said, self._since = said, self._clock()

    def answered(self) -> None:
        """It could be asked."""
        if self._said:
            log.info("whoever asks can be recognised again")
        self._said = ""

    @property
    def pauses(self) -> bool:
        """Whether it failed just now: those who ask meanwhile need not wait to learn the same."""
        return bool(self._said) and self._clock() - self._since < _PAUSE_SECONDS

    def refusal(self) -> RefusalError:
        """What is answered meanwhile. It names nothing of the server."""
        return RefusalError(503, "it cannot be told now who you are: ask again", retry_after=2)

    def red(self) -> str:
        """What went wrong lately."""
        return self._said if self._said and self._clock() - self._since < _RED_SECONDS else ""
