"""Answers that are sent in chunks while they are made."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp import web

from rater.rating import RuleBook
from rater.reports import Choice, PointRow, StoreError, StoreView
from tests.unit.api.cloudkitty.world import RANGE, filled_store, serving

BOOK = RuleBook.empty()


class _Failing(StoreView):
    """Breaks off after some points."""

    after = 0

    def points(self, choice: Choice) -> Iterator[PointRow]:
        for number, row in enumerate(super().points(choice)):
            if number == self.after:
                raise StoreError("the disk is gone")
            yield row


async def test_what_is_long_is_sent_in_chunks_and_whole() -> None:
    with filled_store(hours=300) as store:
        async with serving(StoreView(store), BOOK) as world:
            found = await world.get("/v1/storage/dataframes", RANGE)

    assert len(found["dataframes"]) == 300 * 2 + 150
    assert [frame["begin"] for frame in found["dataframes"]] == sorted(frame["begin"] for frame in found["dataframes"])


async def test_a_fault_before_the_first_rows_is_an_answer_and_a_later_one_breaks_off() -> None:
    with filled_store(hours=300) as store:
        view = _Failing(store)
        async with serving(view, BOOK) as world:
            early = await world.ask("/v1/storage/dataframes", RANGE)
            view.after = 900
            with pytest.raises(aiohttp.ClientPayloadError):
                await world.ask("/v1/storage/dataframes", RANGE)

    assert (early.status, early.headers["Retry-After"]) == (503, "2")
    assert early.body["faultcode"] == "Server"
    assert "disk" not in early.body["faultstring"]


@pytest.mark.parametrize("fault", [ConnectionError("Connection lost"), ConnectionResetError()])
async def test_a_reader_that_hangs_up_is_no_error(
    fault: ConnectionError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def lost(self: web.StreamResponse, data: bytes) -> None:
        raise fault

    with filled_store() as store:
        async with serving(StoreView(store), BOOK) as world:
            monkeypatch.setattr(web.StreamResponse, "write", lost)
            with pytest.raises(aiohttp.ClientError):
                await world.ask("/v1/storage/dataframes", RANGE)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
