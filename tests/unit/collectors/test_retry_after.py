"""Retry-After as a number, a date, or neither."""

from __future__ import annotations

import pytest

from collectors.http.retry_after import seconds_asked_for

NOW = 1_767_225_600  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120), (" 5 ", 5), ("0", 0), ("", 0), ("soon", 0), ("-3", 0), ("1.5", 0), ("9" * 400, 366 * 86400),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120), ("Wed, 31 Dec 2025 23:00:00 GMT", 0), ("٣", 0),
        ("Fri, 01 Jan 9999 00:00:00 GMT", 366 * 86400),
    ],
)  # fmt: skip
def test_what_is_asked_for(header: str, seconds: float) -> None:
    assert seconds_asked_for(header, lambda: NOW) == seconds
