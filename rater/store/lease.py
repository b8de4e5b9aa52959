"""Who may change the tables of a server: one at a time, and nobody for ever.

ClickHouse has no locks for its clients. What it does atomically is to drop an insert whose token it has seen: who
claims the next generation first has it, and everybody reads back who that was. The holder says every few seconds that
it is still there; one that has said nothing for LEASE_SECONDS is dead, and the next generation is free for others.
A holder that was only stalled finds the newer generation before its next statement, and stops.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rater.store.client import Column, Store
from rater.store.errors import StoreError, StoreLockedError

__all__ = ["LEASE_SECONDS", "Lease", "leased"]

log = logging.getLogger(__name__)

LEASE_SECONDS = 60
BEAT_SECONDS = 10.0
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 600.0

TABLE = """
CREATE TABLE IF NOT EXISTS migration_lock (
    generation UInt64, holder String, said LowCardinality(String), said_at DateTime('UTC') DEFAULT now()
) ENGINE = MergeTree ORDER BY generation SETTINGS non_replicated_deduplication_window = 1000
"""
_NEWEST = """
SELECT generation, min(if(said = 'claimed', holder, '~')), countIf(said = 'released') > 0,
    dateDiff('second', max(said_at), now())
FROM migration_lock
WHERE generation = (SELECT max(generation) FROM migration_lock)
GROUP BY generation
"""


class _Newest(NamedTuple):
    generation: int
    holder: str
    is_released: bool
    silent_seconds: int


class Lease:
    """The right to change the tables. `check` raises StoreLockedError once somebody else has it."""

    def __init__(self, store: Store, generation: int, holder: str) -> None:
        self._store = store
        self._generation = generation
        self._holder = holder

    def check(self) -> None:
        """Raises StoreLockedError if another one thinks that we are dead."""
        newest = _newest(self._store)
        if newest.generation != self._generation or newest.holder != self._holder:
            raise StoreLockedError(
                f"{newest.holder} took the tables in {self._store.target} over, since nothing was heard of us for "
                f"{LEASE_SECONDS} s: run `rater migrate` again"
            )

    def say(self, what: str) -> None:
        """Adds a row: `claimed`, `there` or `released`."""
        _say(self._store, self._generation, self._holder, what)


@contextlib.contextmanager
def leased(
    store: Store,
    *,
    lease_seconds: int = LEASE_SECONDS,
    patience: float = PATIENCE_SECONDS,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Lease]:
    """Waits for the right to change the tables, and keeps it while the block runs.

    Raises StoreLockedError if others have it for longer than `patience` seconds, and StoreError.
    """
    lease = _claimed(store, lease_seconds, patience, pause)
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(lease, ended), name="rater-lease", daemon=True)
    beats.start()
    try:
        yield lease
    finally:
        ended.set()
        beats.join()
        try:
            lease.say("released")
        except StoreError as fault:  # what the block raised is more important, and the lease ends by itself
            log.warning("the right to change the tables could not be given back: %s", fault)


def _claimed(store: Store, lease_seconds: int, patience: float, pause: Callable[[float], None]) -> Lease:
    for statement in [TABLE.strip()] if store.cluster is None else store.cluster.rendered(TABLE.strip()):
        store.command(statement)
    me = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    waited = 0.0
    while True:
        newest = _newest(store)
        if newest.is_released or newest.silent_seconds >= lease_seconds:
            following = newest.generation + 1
            _say(store, following, me, "claimed")
            newest = _newest(store)
            if (newest.generation, newest.holder) == (following, me):
                return Lease(store, following, me)
        if waited >= patience:
            raise StoreLockedError(
                f"{newest.holder} has been changing the tables in {store.target} for {waited:.0f} s: wait for it, or "
                f"stop it, and try again {lease_seconds} s later"
            )
        if not waited:
            log.info("%s changes the tables in %s: waiting for it", newest.holder, store.target)
        pause(POLL_SECONDS)
        waited += POLL_SECONDS


def _newest(store: Store) -> _Newest:
    if store.cluster is not None:  # this server may be behind the one that took the newest claim
        store.command("SYSTEM SYNC REPLICA migration_lock")
    found = store.rows(_NEWEST)
    return _Newest(*found[0]) if found else _Newest(0, "", True, 0)


def _say(store: Store, generation: int, holder: str, what: str) -> None:
    token = f"lock-{generation}" if what == "claimed" else f"lock-{generation}-{secrets.token_hex(8)}"
    store.insert(
        "migration_lock",
        [
            Column("generation", "UInt64", [generation]),
            Column("holder", "String", [holder]),
            Column("said", "String", [what]),
        ],
        token,
    )


def _beat(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        try:
            lease.say("there")
        except StoreError as fault:
            log.info("could not say that the tables are still being changed: %s", fault)
