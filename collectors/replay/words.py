"""What a replay is asked to do, how far it is, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from collectors.replay.intake import LineFault
from collectors.replay.usage_inputs import Form
from rater.model.interval import Interval

__all__ = ["ReplayOptions", "ReplayProgress", "ReplayReport", "Watcher"]

Watcher: TypeAlias = Callable[["ReplayProgress"], None]


class ReplayOptions(msgspec.Struct, frozen=True):
    """How files are replayed."""

    period_seconds: int = 3600
    source: str = "replay"
    covers: tuple[Interval, ...] = ()
    """`--covers`: what the files cover for all scopes and metrics they name, besides their covers lines."""
    attempt: int | None = None
    """Milliseconds since the epoch; default: now. A later attempt replaces what an earlier one said of the same."""
    memory_samples: int = 300_000
    form: Form | None = None
    """What the files hold, where their names or first bytes do not tell it."""
    rate: float | None = None
    """At most so many samples a second; an empty collection counts as one. None: as fast as it goes."""
    anew: bool = False
    """Publish everything, also if the same replay was interrupted."""


class ReplayProgress(msgspec.Struct, frozen=True):
    """How far a replay is: bytes of the files while reading, samples while publishing. `total` 0: unknown."""

    stage: Literal["reading", "publishing"]
    done: int
    total: int
    samples: int = 0
    """Read so far."""


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay did. Times in seconds since the epoch."""

    source: str
    attempt: int
    begin: int
    end: int
    scopes: tuple[str, ...]
    metrics: tuple[str, ...]
    samples: int
    collections: int
    already: int
    """Of these collections, how many had been published before the replay was interrupted."""
    rejected: int
    faults: tuple[LineFault, ...]
    """The first hundred refused lines; all of them lie in topic `rejected`."""
    files: int = 1
    remarks: tuple[str, ...] = ()
