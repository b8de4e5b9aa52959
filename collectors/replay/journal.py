"""What replays have published so far, read back from topic `usage`: that is where an interrupted one goes on.

A replay gives its collections names that tell what it was called with, what its files held, when it began, and which
of its collections this is; the last one tells that it is the last. So no state is kept beside the topic, and the same
command goes on wherever it is started.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collectors.errors import ReplayError
from collectors.plans import PlanBook
from collectors.progress import CollectionHead
from collectors.times import iso
from rater.model.usage import ScopePlan

__all__ = ["Done", "Journal", "ReplayRun", "arguments_digest", "collection_id"]

_LAST = "/end"
_NAME = re.compile(r"replay-([0-9a-f]{16})-([0-9a-f]{16})-([0-9]{1,16})/([0-9]{1,9})(/end)?")


class ReplayRun(NamedTuple):
    """One replay: digests of what it was called with and of what its files held, and the attempt it publishes as."""

    arguments: str
    content: str
    attempt: int

    @property
    def producer_id(self) -> str:
        """As which it publishes, also after an interruption."""
        return f"replay-{self.arguments}-{self.content}-{self.attempt}"


class Done:
    """Which collections of a replay lie whole in the topic, by their numbers, and what there is of others."""

    def __init__(self) -> None:
        self.finished = False
        self.whole = 0
        self._bits = bytearray()
        self._parts: dict[int, set[int]] = {}

    def take(self, number: int, part: int, parts: int) -> None:
        """Note a part; repeated ones are welcome."""
        if self.is_whole(number):
            return
        if parts > 1:
            seen = self._parts.setdefault(number, set())
            seen.add(part)
            if len(seen) < parts:
                return
            del self._parts[number]
        if len(self._bits) <= number // 8:
            self._bits.extend(bytes(number // 8 + 1024 - len(self._bits)))
        self._bits[number // 8] |= 1 << number % 8
        self.whole += 1

    def is_whole(self, number: int) -> bool:
        """Whether all parts of a collection are there."""
        return number // 8 < len(self._bits) and bool(self._bits[number // 8] >> number % 8 & 1)

    def parts_of(self, number: int) -> frozenset[int]:
        """The parts that are there of a collection that is not whole."""
        return frozenset(self._parts.get(number, ()))


class Journal:
    """What one source has said: its plans, and its replays that were called with the same arguments."""

    def __init__(self, source: str, arguments: str) -> None:
        self.plans = PlanBook()
        self.newest = 0
        """The latest attempt of the source, of a replay or not."""
        self._source = source
        self._arguments = arguments
        self._runs: dict[ReplayRun, Done] = {}
        self._contents: set[str] = set()

    def take(self, head: CollectionHead | ScopePlan) -> None:
        """Note a record of topic `usage`; those of other sources and of reworks say nothing here."""
        if head.source != self._source:
            return
        if isinstance(head, ScopePlan):
            self.plans.take(head)
            return
        if head.rework_id:
            return
        self.newest = max(self.newest, head.attempt)
        found = _NAME.fullmatch(head.collection_id)
        if found is None:
            return
        self._contents.add(found[2])
        if found[1] == self._arguments:
            done = self._runs.setdefault(ReplayRun(found[1], found[2], int(found[3])), Done())
            done.take(int(found[4]), head.part, head.parts)
            done.finished = done.finished or (found[5] is not None and done.is_whole(int(found[4])))

    def run(self, content: str, now_ms: int, *, anew: bool, adding: Sequence[str] = ()) -> tuple[ReplayRun, Done]:
        """The replay to go on with, and what it has published; a new one if none was interrupted, or if `anew`.

        A replay is not gone on with if its source has published something newer, which it would have to replace.
        `adding` are metrics whose samples add up and replace nothing (`proof: samples`). Raises ReplayError if the
        interrupted one read something else, or if samples of such a metric were published before.
        """
        last = max(self._runs, key=lambda run: run.attempt, default=None)
        if last is None or anew or self._runs[last].finished or last.attempt < self.newest:
            if adding and (self._runs or content in self._contents):
                raise ReplayError(
                    f"this was replayed before, and samples of {', '.join(adding)} would count twice: of a metric with "
                    "`proof: samples` they add up. Replay files without what was published. Nothing was published now"
                )
            return ReplayRun(self._arguments, content, max(now_ms, self.newest + 1)), Done()
        if last.content != content:
            raise ReplayError(
                f"the same replay was interrupted (begun {iso(last.attempt // 1000)}, {self._runs[last].whole} "
                "collections confirmed), and its files or metrics.yml say something else by now. Bring back what it "
                "read to go on with it, or give --anew to publish all of what is there now in its place. Nothing was "
                "published now"
            )
        return last, self._runs[last]


def arguments_digest(arguments: Iterable[object]) -> str:
    """What a replay was called with, as 16 hexadecimal digits."""
    return hashlib.blake2b(repr(list(arguments)).encode(), digest_size=8).hexdigest()


def collection_id(run: ReplayRun, number: int, *, last: bool) -> str:
    """The name of a collection of a replay."""
    return f"{run.producer_id}/{number}{_LAST if last else ''}"
