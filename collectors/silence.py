"""When a source has proven nothing for longer than expected, and when it is back: told before periods are closed."""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

from collectors.times import iso
from rater.model.codec import encode_json
from rater.model.interval import period_of
from rater.model.rated import Alert, AlertKind

__all__ = ["AlertLog", "Silence"]


class AlertLog(Protocol):
    """Where alerts go."""

    async def alert(self, alert: Alert) -> None:
        """Publish an alert of a source. Raises PublishError."""


class Silence:
    """What was heard of one source, by this replica. `look` gives the alert that is due, which the caller publishes.

    The id of an alert is made of the source and of what was last proven, so that replicas, and one that was started
    anew, tell the same silence under the same id. Nothing else is kept: if the source comes back while no collector
    runs, nobody says so.
    """

    def __init__(self, source: str, silent_after: int, period_seconds: int, started_at: float) -> None:
        """`silent_after` in seconds; before so long after the start nothing is told."""
        self._source = source
        self._silent_after = silent_after
        self._period = period_seconds
        self._heard_at = started_at
        self._told: Alert | None = None

    def heard(self, now: float) -> None:
        """It proved something."""
        self._heard_at = now

    @property
    def is_told(self) -> bool:
        """Whether it was told last that the source is silent."""
        return self._told is not None

    def look(self, now: float, waiting: int, proven_until: int, fault: str) -> Alert | None:
        """SOURCE_SILENT if nothing was proven for `silent_after`, SOURCE_BACK after that.

        `waiting`: how many periods of a scope and metric that are not long over are not proven; without any, nothing
        was to be heard. `proven_until`: the latest instant of which anything was proven, 0 if nothing was; `fault` is
        the last one. Call `told` with the alert when it was published.
        """
        is_silent = now - self._heard_at > self._silent_after
        if self._told is None and is_silent and waiting:
            return self._silent(int(now), waiting, proven_until, fault)
        if self._told is not None and not is_silent:
            reason = f"source {self._source} proves usage again, since {iso(int(self._heard_at))}"
            return self._alert(AlertKind.SOURCE_BACK, int(now), self._told.begin, reason)
        return None

    def told(self, alert: Alert) -> None:
        """The alert was published."""
        self._told = alert if alert.kind is AlertKind.SOURCE_SILENT else None

    def _silent(self, now: int, waiting: int, proven_until: int, fault: str) -> Alert:
        since = f"since {iso(proven_until)}" if proven_until else "so far"
        why = f"; last: {fault}" if fault else ""
        reason = f"source {self._source} has proven nothing {since}; {waiting} periods wait for it{why}"
        return self._alert(AlertKind.SOURCE_SILENT, now, proven_until, reason)

    def _alert(self, kind: AlertKind, now: int, begin: int, reason: str) -> Alert:
        identity = blake2b(encode_json(["source", self._source, begin]), digest_size=16).hexdigest()
        period_begin = period_of(begin, self._period).begin
        return Alert(identity, kind, "", "", self._source, period_begin, begin, now, 0, now, reason[:2000])
