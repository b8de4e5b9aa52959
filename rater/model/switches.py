"""When a scope is not billed, since it is switched off or was: a fold over its switches, for all who need it."""

from __future__ import annotations

import msgspec

from rater.model.interval import Interval, union
from rater.model.requests import ScopeSwitched
from rater.model.usage import ScopeSwitch

__all__ = ["NEVER", "Pauses", "SwitchBook"]

NEVER = 253_402_300_800  # the year 10000: a scope that is on goes off then


class Pauses(msgspec.Struct, frozen=True, array_like=True):
    """Stretches of whole periods in which nothing is expected of a scope and nothing of it is taken."""

    skipped: list[Interval] = []
    """Those that are over and stay unbilled, as a normal list."""
    since: int = NEVER
    """From when on it is off; NEVER if it is on."""
    number: int = 0
    """Of the last switch."""

    def after(self, number: int, begin: int, period_seconds: int, *, active: bool, skips: bool) -> Pauses:
        """The same after a switch at `begin`; itself for one that came before.

        A period counts by its begin: one that began before the switch is as it was. A scope that is switched on is
        billed for the time that it was off, unless it `skips`.
        """
        if number <= self.number:
            return self
        at = -(-begin // period_seconds) * period_seconds
        if not active:
            return Pauses(self.skipped, min(self.since, at), number)
        over = [Interval(self.since, at)] if skips and self.since < at else []
        return Pauses(union([*self.skipped, *over]), NEVER, number)

    @property
    def is_off(self) -> bool:
        """Whether it is switched off, now or soon."""
        return self.since < NEVER

    @property
    def stretches(self) -> list[Interval]:
        """All of them, as a normal list; the last one has no end while the scope is off."""
        return union([*self.skipped, Interval(self.since, NEVER)]) if self.is_off else self.skipped

    def holds(self, instant: int) -> bool:
        """Whether it is not billed then."""
        return instant >= self.since or any(begin <= instant < end for begin, end in self.skipped)


class SwitchBook:
    """The switches of topic `requests`, as every reader of it numbers them. Changed by `take` alone."""

    def __init__(self) -> None:
        self.switches: list[ScopeSwitch] = []
        """Those that changed something, in order, as they go to topic `usage`."""
        self._last: dict[str, tuple[int, ScopeSwitched]] = {}

    def take(self, switched: ScopeSwitched, recorded_at: int) -> ScopeSwitch | None:
        """The next one; None if the scope is so already. `recorded_at` is the broker's time of the record, in seconds.

        It begins no later than that: the engine refuses a switch that is far ahead, and were the clock of the API so,
        the API and the collectors would take the scope for on while the engine goes on refusing its usage.
        """
        if switched.active == self.is_active(switched.scope_id):
            return None
        switched = msgspec.structs.replace(switched, begin=min(switched.begin, recorded_at))
        number = self._last[switched.scope_id][0] + 1 if switched.scope_id in self._last else 1
        self._last[switched.scope_id] = number, switched
        made = ScopeSwitch(
            switched.scope_id, number, switched.active, switched.begin, switched.author, switched.inactive_time
        )
        self.switches.append(made)
        return made

    def is_active(self, scope_id: str) -> bool:
        """Whether it is on. Every scope is, until it is switched off."""
        return scope_id not in self._last or self._last[scope_id][1].active

    def last(self, scope_id: str) -> ScopeSwitched | None:
        """The last switch that changed something; None if there never was one."""
        return self._last[scope_id][1] if scope_id in self._last else None
