"""How often somebody may ask: a token bucket for each identity, and for each address where nobody is known.

Libraries for asyncio make whoever is too fast wait, or keep a bucket for everybody there ever was: an answer 429 and
bounded memory are wanted here.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from rater.api.audit_log import Trail
from rater.api.faults import RefusalError
from rater.api.transport_settings import RateSettings

__all__ = ["BURST_SECONDS", "MAX_BUCKETS", "Buckets", "RateLimits", "Unknown"]

BURST_SECONDS = 10
"""What was not used of so much time may be used at once."""
MAX_BUCKETS = 10_000
"""Of each kind. The one that was not asked for longest is forgotten, and is full when it comes again."""


class Buckets:
    """A bucket for each key: `rate` tokens a second flow into it, and it holds those of BURST_SECONDS."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._size = max(1.0, rate * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, tokens: float = 1.0) -> float:
        """Takes that many tokens; seconds until they will be there if they are not, and nothing is taken then."""
        if not self._rate:
            return 0.0
        now = self._clock()
        held, at = self._buckets.get(key, (self._size, now))
        held = min(self._size, held + (now - at) * self._rate)
        missing = 1.0 - held  # to ask for none is to ask whether there is one
        if missing <= 0:
            held -= tokens
        self._buckets[key] = (held, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return max(0.0, missing / self._rate)


class Unknown:
    """Requests of an address whose sender is not known: they come before anybody has looked at a token."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(rate, clock)

    def check(self, trail: Trail) -> None:
        """Before it is found out who it is. Raises RefusalError 429."""
        _refuse(self._buckets.wait(_address(trail), 0.0), "this address")

    def count(self, trail: Trail) -> None:
        """After the answer: counts it if nobody knows whose it was."""
        if trail.identity is None:
            self._buckets.wait(_address(trail))


class RateLimits:
    """The limits of the settings."""

    def __init__(self, settings: RateSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._reads, self._writes = Buckets(settings.reads, clock), Buckets(settings.writes, clock)
        self.unknown = Unknown(settings.reads, clock)

    def identified(self, trail: Trail) -> None:
        """Once it is known who it is. Raises RefusalError 429."""
        user = trail.identity.user if trail.identity is not None else ""
        buckets = self._writes if trail.writes else self._reads
        _refuse(buckets.wait(f"user {user}" if user else _address(trail)), repr(user) if user else "this address")


def _refuse(seconds: float, whom: str) -> None:
    if seconds > 0:
        said = f"too many requests of {whom}: ask more slowly, or have api.rate_limits raised"
        raise RefusalError(429, said, retry_after=math.ceil(seconds))


def _address(trail: Trail) -> str:
    """A network of IPv6 is one: whoever has one of its addresses has them all."""
    try:
        address = ipaddress.ip_address(trail.address)
    except ValueError:
        return trail.address
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return trail.address
