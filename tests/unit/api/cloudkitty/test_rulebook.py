"""The rule book of requests, over a log that fails: opened again, never half read, and nobody waits in line for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import rater.api.cloudkitty.rulebook
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rulebook import RuleBooks
from rater.rating import RuleBook
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_reader import RulesReader


class Log:
    """Stands for topic `rules`: counts who opens it, fails as often as told. The real one: test_cloudkitty_api."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.opened = self.closed = self.asked = 0
        self.book = RuleBook.empty()

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


async def test_a_log_that_fails_is_opened_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rater.api.cloudkitty.rulebook, "PAUSE_SECONDS", 0.2)
    log = Log(failures=1)
    books = RuleBooks(log.open)
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
    books = RuleBooks(log.open)
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
