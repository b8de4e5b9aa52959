"""The scopes of a state in pieces: each checkpoint writes a segment of those that changed, and reads nothing back.

What changed is not marked by whoever changes it, it is found: the pieces of every touched scope are encoded, and those
that are not as they were last time are written. So a change that nobody noted cannot get lost. A touched scope costs
about 0.1 µs a point that way, one that was not touched costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

import msgspec

from rater.engine.pieces import encode_block, encode_entry, encode_frame, encode_head
from rater.engine.state import PartitionState, Scope

__all__ = ["Cut", "Held", "Known", "Ledger", "Limits", "Place", "digest_of", "digest_of_series"]

LOOK = 2_000  # bytes that are encoded in the time that a scope costs which has hardly anything in it


class Limits(msgspec.Struct, frozen=True):
    """When and how much is written again though it has not changed. Tests take smaller ones."""

    segments: int = 32
    """Above it the smallest are merged: a start has to find each of them."""
    renew_seconds: int = 12 * 3600
    """Topic checkpoints keeps a week: what lies there half a day is written again."""
    renewed_bytes: int = 8 * 1024 * 1024
    """Of what is old, in one checkpoint."""
    merged_bytes: int = 256 * 1024
    """Of the rest, in one checkpoint; more, if it writes more anyway."""
    block_series: int = 20_000
    """In one piece: about 3 MB."""
    entry_bytes: int = 1024 * 1024
    """Of pieces that are put together: what is copied in one go."""


class Place(NamedTuple):
    """Where a piece is, and what it is known by."""

    segment: int
    size: int
    digest: bytes
    series: int = 0
    """How many, if it is a block of them."""


class Known(NamedTuple):
    """Where the pieces of one scope are."""

    number: int
    """Scopes are kept in the order in which they came."""
    head: Place
    frames: dict[int, Place]
    """By period begin."""
    blocks: list[Place]
    """In the order of the series."""

    def places(self) -> Iterator[Place]:
        """Of all pieces."""
        yield self.head
        yield from self.frames.values()
        yield from self.blocks


class Held(msgspec.Struct):
    """A segment that somebody still needs."""

    written_at: int
    """Seconds."""
    size: int = 0
    live: int = 0
    """Bytes of it that hold."""
    scopes: list[str] = []
    """That have a piece in it, or had."""


def digest_of(raw: bytes) -> bytes:
    """What a piece is known by."""
    return blake2b(raw, digest_size=16).digest()


def digest_of_series(ids: Iterable[bytes]) -> bytes:
    """What a block of series is known by: each id is a digest of its series."""
    return digest_of(b"".join(ids))


class Ledger:
    """Where every piece of a state is, which scopes may have changed since, and which segments are worn."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.touched: dict[str, int] = {}
        """Scopes that may differ from their pieces, in the order in which they were touched, and their numbers."""
        self.next_number = 0
        self.held: dict[int, Held] = {}
        """By number."""
        self._known: dict[str, Known] = {}
        self._scopes = 0

    def touch(self, scope_id: str) -> None:
        """The scope, which is in the state, may have changed."""
        if scope_id not in self.touched:
            known = self._known.get(scope_id)
            self.touched[scope_id] = known.number if known is not None else self._scopes + 1
            self._scopes = max(self._scopes, self.touched[scope_id])

    def known(self, scope_id: str) -> Known | None:
        """Where the pieces of a scope are; None if it has none."""
        return self._known.get(scope_id)

    def is_ageing(self, now: int) -> bool:
        """Whether something has to be written again because of its age alone."""
        return any(held.written_at <= now - self.limits.renew_seconds for held in self.held.values())

    def cut(self, state: PartitionState, now: int) -> Cut:
        """What has to be written of the state as it is at this moment; `now` in seconds.

        It ends with `commit` or `abandon`, and before there is no other. Until its steps are through, `Cut.before` has
        to be called for each scope that is about to change.
        """
        old = {n for n, held in self.held.items() if held.written_at <= now - self.limits.renew_seconds}
        worn = old | {n for n, held in self.held.items() if held.live * 2 < held.size}
        if len(self.held) > self.limits.segments:
            by_size = sorted(self.held, key=lambda n: self.held[n].live)
            worn.update(by_size[: len(by_size) - self.limits.segments // 2])
        budget = self.limits.renewed_bytes if old else self.limits.merged_bytes
        number, self.next_number = self.next_number, self.next_number + 1
        self.held[number] = Held(now)
        touched, self.touched = self.touched, {}
        return Cut(self, state, number, touched, worn, budget)

    def commit(self, cut: Cut) -> None:
        """What points at the segment of the cut is safe; segments of which nothing holds any more are forgotten."""
        cut.end()
        self.held[cut.number].size = cut.size
        self.held = {number: held for number, held in self.held.items() if held.live}

    def still_needed(self) -> list[int]:
        """Numbers of the segments that a commit would leave, ascending."""
        return sorted(number for number, held in self.held.items() if held.live)

    def abandon(self, cut: Cut) -> None:
        """The segment of the cut counts for nothing: all that was to be in it has to be written anew."""
        cut.end()
        again = {scope_id: self._known[scope_id].number for scope_id in cut.replaced}
        for scope_id, before in cut.replaced.items():
            if before is None:
                self._count(self._known.pop(scope_id), -1)
            else:
                self.enter(scope_id, before)
        self.touched = {**again, **cut.waiting, **self.touched}
        del self.held[cut.number]

    def enter(self, scope_id: str, known: Known) -> None:
        """The pieces of the scope are there now."""
        before = self._known.get(scope_id)
        if before is not None:
            self._count(before, -1)
        self._count(known, 1)
        self._known[scope_id] = known
        self._scopes = max(self._scopes, known.number)
        was_in = {place.segment for place in before.places()} if before is not None else set()
        for number in {place.segment for place in known.places()} - was_in:
            self.held[number].scopes.append(scope_id)

    def _count(self, known: Known, sign: int) -> None:
        for place in known.places():
            self.held[place.segment].live += sign * place.size


class Cut:
    """One segment in the making: the state as it was at one moment, though the log goes on meanwhile."""

    def __init__(
        self, ledger: Ledger, state: PartitionState, number: int, touched: dict[str, int], worn: set[int], budget: int
    ) -> None:
        self.number = number
        self.size = 0
        """Bytes of all pieces so far."""
        self.entries: list[bytes] = []
        """To be taken away by the caller and written, in this order."""
        self.waiting = touched
        """Scopes that are still to be looked at."""
        self.replaced: dict[str, Known | None] = {}
        """Scopes of which something was written, and where their pieces were before."""
        self._ledger = ledger
        self._state = state
        self._worn = worn
        self._budget = budget
        self._moved = 0
        self._current: str | None = None
        self._pieces: Iterator[int] = iter(())
        self._aside: list[tuple[int, str]] = []

    def steps(self) -> Iterator[int]:
        """Encodes piece by piece; yields about how many bytes each step was. The state may change between them."""
        for scope_id in list(self.waiting):
            yield from self._look(scope_id)
        for number in sorted(self._worn):
            scopes = self._ledger.held[number].scopes
            while scopes and self._has_room:
                scope_id = scopes.pop()
                known = self._ledger.known(scope_id)
                if known is not None and any(place.segment == number for place in known.places()):
                    if scope_id in self._ledger.touched or scope_id in self.replaced:
                        self._aside.append((number, scope_id))  # changed since the moment of the cut, or no room before
                    else:
                        self.waiting[scope_id] = known.number
                        yield from self._look(scope_id)
                yield LOOK // 10

    def before(self, scope_id: str) -> None:
        """The scope is about to change: what the segment needs of it is taken now."""
        if scope_id == self._current:
            for _ in self._pieces:
                pass
        elif scope_id in self.waiting:
            for _ in self._encode(scope_id):
                pass

    def end(self) -> None:
        """No more steps."""
        self._pieces = iter(())
        for number, scope_id in self._aside:
            self._ledger.held[number].scopes.append(scope_id)
        self._aside.clear()

    @property
    def _has_room(self) -> bool:
        """Whether more that has not changed may be written again."""
        return self._moved < max(self._budget, self.size - self._moved)

    def _look(self, scope_id: str) -> Iterator[int]:
        if scope_id in self.waiting:
            self._current, self._pieces = scope_id, self._encode(scope_id)
            yield from self._pieces
            self._current = None

    def _encode(self, scope_id: str) -> Iterator[int]:
        """Writes the pieces of a scope that are not where they were last time."""
        scope = self._state.scopes[scope_id]  # once there, a scope stays
        before = self._ledger.known(scope_id)
        limits = self._ledger.limits
        writer = _Writer(self, scope_id, self._worn if self._has_room else set(), limits.entry_bytes)
        frames: dict[int, Place] = {}
        for period_begin, frame in scope.frames.items():
            raw = encode_frame(frame)
            at = before.frames.get(period_begin) if before is not None else None
            frames[period_begin] = writer.frame(period_begin, raw, at)
            yield len(raw)
        blocks: list[Place] = []
        known_blocks = before.blocks if before is not None else []
        were = sum(at.series for at in known_blocks)
        for first, ids, at in _blocks(scope, known_blocks, writer.worn, limits.block_series):
            if at is None:
                raw = encode_block({identity: scope.series[identity] for identity in ids})
                at = writer.block(first, raw, ids, moved=first < were)
            blocks.append(at)
            yield at.size if at.segment == self.number else 16 * len(ids)
        raw = encode_head(
            self.waiting[scope_id],
            [(period_begin, at.segment) for period_begin, at in frames.items()],
            [(at.segment, at.series) for at in blocks],
            scope,
        )
        head = writer.head(raw, before.head if before is not None else None)
        number = self.waiting.pop(scope_id)
        if head is not None:
            self.replaced[scope_id] = before
            self._ledger.enter(scope_id, Known(number, head, frames, blocks))
        yield LOOK + len(raw)

    def moved(self, size: int) -> None:
        """So many bytes were written again that had not changed."""
        self._moved += size


class _Writer:
    """Puts the pieces of one scope into entries."""

    def __init__(self, cut: Cut, scope_id: str, worn: set[int], entry_bytes: int) -> None:
        self.worn = worn
        self._entry_bytes = entry_bytes
        self._cut = cut
        self._scope_id = scope_id
        self._frames: list[tuple[int, bytes]] = []
        self._blocks: list[tuple[int, bytes]] = []
        self._size = 0

    def frame(self, period_begin: int, raw: bytes, at: Place | None) -> Place:
        """Where the frame is from now on."""
        digest = digest_of(raw)
        if at is not None and at.digest == digest:
            if at.segment not in self.worn:
                return at
            self._cut.moved(len(raw))
        self._frames.append((period_begin, raw))
        return self._written(raw, digest)

    def block(self, first: int, raw: bytes, ids: list[bytes], *, moved: bool) -> Place:
        """Where a block of series is from now on, the first of which has that place among all of the scope."""
        if moved:
            self._cut.moved(len(raw))
        self._blocks.append((first, raw))
        return self._written(raw, digest_of_series(ids))._replace(series=len(ids))

    def head(self, raw: bytes, at: Place | None) -> Place | None:
        """Where the head is from now on; None if nothing of the scope has changed."""
        digest = digest_of(raw)
        if at is not None and at.digest == digest and at.segment not in self.worn:
            return None
        self._cut.size += len(raw)
        self._flush(raw)
        return Place(self._cut.number, len(raw), digest)

    def _written(self, raw: bytes, digest: bytes) -> Place:
        self._cut.size += len(raw)
        self._size += len(raw)
        if self._size > self._entry_bytes:
            self._flush(None)
        return Place(self._cut.number, len(raw), digest)

    def _flush(self, head: bytes | None) -> None:
        self._cut.entries.append(encode_entry(self._scope_id, self._frames, self._blocks, head))
        self._frames, self._blocks, self._size = [], [], 0


def _blocks(
    scope: Scope, before: list[Place], worn: set[int], limit: int
) -> Iterator[tuple[int, list[bytes], Place | None]]:
    """The series in blocks: place of the first one, line ids, and where the block is if it need not be written.

    From the first block on that is not as it was, all are made anew: `decide` drops series only when they are many.
    """
    ids = iter(list(scope.series))
    first = 0
    fresh: list[bytes] = []
    for at in before:
        part = list(islice(ids, at.series))
        is_same = len(part) == at.series and digest_of_series(part) == at.digest
        if is_same and at.segment not in worn:
            yield from _cut_up(first - len(fresh), fresh, limit)
            fresh = []
            yield first, part, at
        else:
            fresh += part
        first += len(part)
        if not is_same:
            break
    yield from _cut_up(first - len(fresh), fresh + list(ids), limit)


def _cut_up(first: int, ids: list[bytes], limit: int) -> Iterator[tuple[int, list[bytes], Place | None]]:
    for start in range(0, len(ids), limit):
        yield first + start, ids[start : start + limit], None
