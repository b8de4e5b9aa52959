"""HTTP's Retry-After (RFC 9110, 10.2.3): for how long a server asks to be left in peace."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

__all__ = ["seconds_asked_for"]

_MOST = 366 * 86400.0


def seconds_asked_for(header: str, clock: Callable[[], float] = time.time) -> float:
    """The seconds that a Retry-After asks for, as a number or a date; 0 if it is neither, or over."""
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(_MOST, float(text[:12]))
    try:
        return min(_MOST, max(0.0, parsedate_to_datetime(text).timestamp() - clock()))
    except (ValueError, OverflowError):
        return 0.0
