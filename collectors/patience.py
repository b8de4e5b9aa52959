"""When something that was asked in vain is asked again, and when a source that fails is left in peace.

Pauses grow and are never the same for everybody: what failed together would come back together, and fail again. What
is kept here is lost with the process, which costs a question too early and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from collectors.errors import SourceAwayError

__all__ = ["Breaker", "Key", "Patience", "spread"]

Key: TypeAlias = tuple[str, str, int]
"""Scope, public name of the metric, begin of the period."""

_SOON = 30
_FIRST_PAUSE, _LONGEST_PAUSE = 60, 6 * 3600
_AWAY_PAUSES = (5, 10, 20, 40, 60)
_LONGEST_AWAY = 900  # a server that asks for a longer rest is asked again all the same
_RECALL_SECONDS = 300  # between two times that pauses are cut short: a source that comes and goes is not overrun
_RECALL_MOST = 10_000  # open periods at a time, the oldest; the others keep their pauses
_GIVE_UP = 10  # failures of one metric in a row; each may have cost the whole timeout
_GIVE_UP_ALL = 3 * _GIVE_UP  # failures in a row, whatever the metric


class _Attempts(msgspec.Struct):
    """How often something was asked in vain, and when to ask again."""

    count: int = 0
    again_at: float = 0.0
    reason: str = ""


def spread(pause: float) -> float:
    """A pause between three quarters and five quarters of that one."""
    return pause * random.uniform(0.75, 1.25)  # noqa: S311  nobody gains by guessing it


class Patience:
    """The pauses of one source and of all that it was asked in vain."""

    def __init__(self, clock: Callable[[], float], spread: Callable[[float], float] = spread) -> None:
        self._clock = clock
        self._spread = spread
        self._attempts: dict[Key, _Attempts] = {}
        self._times_away = 0
        self._away_until = 0.0
        self._is_back = False
        self._recalled_at = -_RECALL_SECONDS * 1.0

    # --- one question

    def is_due(self, key: Key) -> bool:
        """Whether it may be asked now."""
        attempts = self._attempts.get(key)
        return attempts is None or attempts.again_at <= self._clock()

    def times(self, key: Key) -> int:
        """How often it was asked in vain."""
        attempts = self._attempts.get(key)
        return attempts.count if attempts else 0

    def soon(self, key: Key, since: float) -> None:
        """Asked too early, at `since`: that is no failure."""
        self._of(key).again_at = since + _SOON

    def later(self, key: Key) -> None:
        """Asked in vain: each pause is twice as long as the last one."""
        attempts = self._of(key)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempts.count, 20))
        attempts.count += 1
        attempts.again_at = self._clock() + self._spread(pause)

    def spare(self, key: Key) -> None:
        """Not asked, since it would have failed, too: that does not make its pauses longer."""
        self._of(key).again_at = self._clock() + self._spread(_FIRST_PAUSE)

    def done(self, key: Key) -> None:
        """Answered whole."""
        self._attempts.pop(key, None)

    def is_told(self, key: Key, reason: str) -> bool:
        """Whether this reason was the last that was told of it."""
        attempts = self._attempts.get(key)
        return attempts is not None and attempts.reason == reason

    def told(self, key: Key, reason: str) -> None:
        """The reason was told."""
        self._of(key).reason = reason

    def forget(self, is_wanted: Callable[[Key], bool]) -> None:
        """Keep only what is wanted."""
        self._attempts = {key: attempts for key, attempts in self._attempts.items() if is_wanted(key)}

    def _of(self, key: Key) -> _Attempts:
        return self._attempts.setdefault(key, _Attempts())

    # --- the source

    def is_away(self) -> bool:
        """Whether the source is left in peace now."""
        return self._clock() < self._away_until

    def away(self, fault: SourceAwayError) -> float:
        """It is away: how many seconds nothing is asked. What it asks for itself is respected."""
        pause = self._spread(_AWAY_PAUSES[min(self._times_away, len(_AWAY_PAUSES) - 1)])
        pause = max(pause, min(fault.retry_after, _LONGEST_AWAY))
        self._times_away += 1
        self._away_until = self._clock() + pause
        return pause

    def answers(self) -> None:
        """It answered something, after it was away or failed with some metric."""
        self._is_back = True

    def there(self) -> None:
        """It answered when it was asked for scopes: if it was away, it is back."""
        self._is_back = self._is_back or self._times_away > 0

    def all_well(self) -> None:
        """A round came to its end."""
        self._times_away = 0

    def recall(self) -> int:
        """If the source is back, what was asked in vain meanwhile is due at once, the oldest first: how many."""
        now = self._clock()
        if not self._is_back or now - self._recalled_at < _RECALL_SECONDS:
            return 0
        self._is_back, self._recalled_at = False, now
        paused = [(key[2], attempts) for key, attempts in self._attempts.items() if attempts.again_at > now]
        paused.sort(key=lambda item: item[0])
        for _, attempts in paused[:_RECALL_MOST]:
            attempts.again_at = now
        return min(len(paused), _RECALL_MOST)


class Breaker:
    """Of one period: a metric that fails for scope after scope is given up, and all if nothing is answered any more.

    So others get their turn. What was not asked comes first the next time, before what failed: a few that always fail
    cannot starve the rest.
    """

    def __init__(self) -> None:
        self.is_off = False
        """Nothing is asked any more: the source is away."""
        self._in_a_row: dict[str, int] = {}
        self._all_in_a_row = 0
        self._last = ""

    def gives_up(self, metric: str) -> str:
        """Why the metric is not asked for any more in this period; empty if it is."""
        of_metric = self._in_a_row.get(metric, 0)
        if of_metric < _GIVE_UP and self._all_in_a_row < _GIVE_UP_ALL:
            return ""
        return f"not asked: {max(of_metric, self._all_in_a_row)} questions in a row failed, the last one: {self._last}"

    def answered(self, metric: str) -> None:
        """There was an answer."""
        self._in_a_row.pop(metric, None)
        self._all_in_a_row = 0

    def failed(self, metric: str, reason: str) -> None:
        """There was none."""
        self._in_a_row[metric] = self._in_a_row.get(metric, 0) + 1
        self._all_in_a_row += 1
        self._last = reason
