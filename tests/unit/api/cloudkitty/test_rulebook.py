"""The rule book of requests, over a log that fails: opened again, never half read, and nobody waits in line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import rater.api.cloudkitty.rulebook
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rulebook import RuleBooks
from rater.model.rules import Change, ModuleSet, RuleEvent
from rater.rating import Applied, Ignored, IgnoredReason, Outcome, RuleBook
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_reader import RulesReader
from rater.stream.rules_writer import RuleConflictError, RulesAppender

ON = ModuleSet("hashmap", True)


class Log:
    """Stands for topic `rules`: counts who opens it, fails as often as told. The real one: test_cloudkitty_api."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.opened = self.closed = self.asked = 0
        self.book = RuleBook.empty()
        self.last_event: RuleEvent | None = None
        self.others = 0
        """How often somebody else writes first."""
        self.fault: Exception | None = None
        self.verdict: Outcome | None = None
        self.connected = True
        self.written: list[RuleEvent] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RulesReader]:
        self.opened += 1
        try:
            yield cast(RulesReader, self)
        finally:
            self.closed += 1

    async def start(self) -> None:
        await asyncio.sleep(0.01)

    async def end(self) -> int:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise StreamUnavailableError("away")
        return 7

    async def fold_to(self, end: int) -> None:
        assert end == 7

    @asynccontextmanager
    async def appender(self) -> AsyncIterator[RulesAppender]:
        yield cast(RulesAppender, self)

    async def connect(self) -> None:
        if not self.connected:
            raise OSError("no way there")

    async def append(self, reader: object, event: RuleEvent) -> Outcome:
        assert reader is self
        if self.fault is not None:
            raise self.fault
        if self.verdict is not None:
            return self.verdict
        if self.others:
            self.others -= 1
            self._take(RuleEvent(self.book.version, "ann", "first", 0, (ModuleSet(f"m{self.others}", True),)))
        return self._take(event)

    def _take(self, event: RuleEvent) -> Outcome:
        self.book, outcome = self.book.apply(event)
        if isinstance(outcome, Applied):
            self.written.append(event)
            self.last_event = event
        return outcome


def books_of(log: Log) -> RuleBooks:
    return RuleBooks(log.open, log.appender)


def switched_on(book: RuleBook) -> tuple[Change, ...]:
    return () if book.module("hashmap").enabled else (ON,)


async def test_a_log_that_fails_is_opened_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rater.api.cloudkitty.rulebook, "PAUSE_SECONDS", 0.2)
    log = Log(failures=1)
    books = books_of(log)
    # when many ask at once
    answers: list[Any] = await asyncio.gather(*(books.book() for _ in range(20)), return_exceptions=True)
    # then one of them tried, and all are told
    assert {type(answer) for answer in answers} == {ApiFaultError}
    assert {answer.status for answer in answers} == {503}
    assert (log.opened, log.closed, log.asked) == (1, 1, 1)
    # when the while is over
    await asyncio.sleep(0.3)
    assert await books.book() is log.book
    assert await books.book() is log.book
    assert (log.opened, log.closed, log.asked) == (2, 1, 3)
    await books.close()
    assert log.closed == 2


async def test_who_gives_up_while_it_is_read_leaves_nothing_half_read() -> None:
    log = Log(failures=0)
    books = books_of(log)
    asking = asyncio.create_task(books.book())
    await asyncio.sleep(0)
    while not log.opened:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert log.closed == 1
    assert await books.book() is log.book
    assert log.opened == 2
    await books.close()


async def test_a_change_that_others_come_before_is_made_on_the_newest_book() -> None:
    log = Log(failures=0)
    log.others = 3
    seen: list[int] = []

    def decide(book: RuleBook) -> tuple[Change, ...]:
        seen.append(book.version)
        return switched_on(book)

    book = await books_of(log).write("bob", "why", 5, decide)
    assert seen == [0, 1, 2, 3]
    assert book.version == 4
    assert log.written[-1] == RuleEvent(3, "bob", "why", 5, (ON,))


async def test_what_is_so_already_is_not_written() -> None:
    log = Log(failures=0)
    books = books_of(log)
    assert (await books.write("bob", "why", 5, switched_on)).version == 1
    assert (await books.write("bob", "why", 5, switched_on)).version == 1
    assert len(log.written) == 1


async def test_who_never_comes_first_is_told_who_did() -> None:
    log = Log(failures=0)
    log.others = 1000
    with pytest.raises(ApiFaultError, match=r"not changed: expects version 19 .* at 20.* by ann") as told:
        await books_of(log).write("bob", "why", 5, switched_on)
    assert told.value.status == 409
    assert {event.author for event in log.written} == {"ann"}


async def test_a_change_that_the_book_does_not_take_is_tried_once() -> None:
    log = Log(failures=0)
    log.verdict = Ignored(IgnoredReason.INVALID, "no such thing")
    with pytest.raises(ApiFaultError, match="the rules were not changed: no such thing") as told:
        await books_of(log).write("bob", "why", 5, switched_on)
    assert told.value.status == 409


async def test_a_refusal_of_the_request_leaves_the_connection_alone() -> None:
    log = Log(failures=0)
    books = books_of(log)

    def refuse(_: RuleBook) -> tuple[Change, ...]:
        raise ApiFaultError(400, "not so")

    with pytest.raises(ApiFaultError, match="not so"):
        await books.write("bob", "why", 5, refuse)
    log.fault = RuleConflictError("it is too large")
    with pytest.raises(ApiFaultError, match="it is too large") as told:
        await books.write("bob", "why", 5, switched_on)
    assert told.value.status == 400
    assert (log.opened, log.closed) == (1, 0)


@pytest.mark.parametrize(
    ("spoil", "said", "retries"),
    [
        ({"failures": 1}, "the rules were not changed, Kafka is away: ask again", True),
        ({"connected": False}, "the rules were not changed, Kafka is away: ask again", True),
        ({"fault": StreamUnavailableError("no word")}, "whether the rules were changed is not known", False),
    ],
)
async def test_a_log_that_is_away_says_what_may_have_happened(
    monkeypatch: pytest.MonkeyPatch, spoil: dict[str, Any], said: str, retries: bool
) -> None:
    monkeypatch.setattr(rater.api.cloudkitty.rulebook, "PAUSE_SECONDS", 0.05)
    log = Log(failures=0)
    for name, value in spoil.items():
        setattr(log, name, value)
    books = books_of(log)
    with pytest.raises(ApiFaultError, match=said) as told:
        await books.write("bob", "why", 5, switched_on)
    assert (told.value.status, "Retry-After" in told.value.headers) == (503, retries)
    assert log.closed == log.opened
    # and after a while it goes on
    log.connected, log.fault = True, None
    await asyncio.sleep(0.1)
    assert (await books.write("bob", "why", 5, switched_on)).version == 1
