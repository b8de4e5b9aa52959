"""Readers of a store that another process has open, and readers that have it to themselves."""

from __future__ import annotations

import asyncio
import fcntl
import io
import logging
import stat
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

from rater.model.rated import ClosedBy, FrameStatus, Line, MetricTotal, RatedFrame
from rater.reports import (
    Attribute,
    Choice,
    Condition,
    ExportRequest,
    Kind,
    PointsRequest,
    RemoteView,
    RevisionRequest,
    ReworkRequest,
    ScopeRequest,
    Selection,
    StoreView,
    SumsRequest,
    month_interval,
    open_view,
    report_of,
    socket_of,
    view,
)
from rater.reports.desk import serve_desk
from rater.store import (
    Batch,
    FrameRow,
    LineRow,
    Store,
    StoreError,
    StoreLockedError,
    StoreSettings,
    StoreUnavailableError,
    migrate,
    write,
)
from rater.store.engine_lock import LOCK_FILE

BEGIN = 1_767_571_200  # 2026-01-05T00:00:00Z
HOURS = 300


def frame(scope_id: str, hour: int) -> RatedFrame:
    price = Decimal("0.00000000000000000000000000000000000001")
    lines = [Line(f"{number:032x}", "cpu", "core", Decimal(2), price, {"id": str(number)}) for number in range(4)]
    begin = BEGIN + hour * 3600
    return RatedFrame(
        scope_id=scope_id,
        period_begin=begin,
        period_end=begin + 3600,
        revision=0,
        status=FrameStatus.RATED,
        closed_by=ClosedBy.COMPLETE,
        weak=False,
        rule_version=1,
        closed_at=begin + 3600,
        part=0,
        parts=1,
        lines=lines,
        totals=[MetricTotal("cpu", "core", Decimal(8), 4 * price, 4)],
        coverage=[],
        gaps=[],
        quarantined=[],
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / ("too-long-for-the-address-of-a-socket" * 4)


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    with Store(StoreSettings(dsn=f"chdb://{directory}")) as opened:
        migrate(opened)
        batch = Batch()
        for scope_id in ("projA", "projB"):
            for hour in range(HOURS):
                batch.add_lines(frame(scope_id, hour))
                batch.add_frame(frame(scope_id, hour), 4)
        write(opened, batch)
        yield opened


@pytest.fixture
async def remote(store: Store, directory: Path) -> AsyncIterator[RemoteView]:
    async with serve_desk(StoreView(store), socket_of(directory)):
        yield RemoteView(socket_of(directory))


async def test_the_holder_answers_as_the_store_itself(store: Store, remote: RemoteView) -> None:
    # given
    direct = StoreView(store)
    chosen = Selection("projA", BEGIN, BEGIN + 20 * 3600)
    # when / then
    assert await asyncio.to_thread(remote.answers)
    assert await asyncio.to_thread(lambda: list(remote.frames(chosen))) == list(direct.frames(chosen))
    assert await asyncio.to_thread(lambda: list(remote.gaps(Selection()))) == []
    assert await asyncio.to_thread(remote.scopes) == direct.scopes()
    # sums and points
    choice = Choice(BEGIN, BEGIN + 20 * 3600, (Condition(Attribute(Kind.SCOPE), ("projA",)),))
    sums, page = SumsRequest(choice, (Attribute(Kind.METRIC),)), PointsRequest(choice, 3, 5)
    assert (await asyncio.to_thread(remote.sums, sums)).rows == direct.sums(sums).rows != []
    assert await asyncio.to_thread(remote.point_page, page) == direct.point_page(page)
    assert await asyncio.to_thread(lambda: list(remote.points(choice))) == list(direct.points(choice))
    assert await asyncio.to_thread(remote.scope_states) == direct.scope_states()
    # one revision, which is there, and one that is not
    asked, unknown = RevisionRequest("projA", BEGIN, 0), RevisionRequest("projA", BEGIN, 7)
    assert await asyncio.to_thread(remote.frame_at, asked) == next(direct.frames(chosen))
    assert await asyncio.to_thread(remote.frame_at, unknown) is None
    assert await asyncio.to_thread(lambda: list(remote.lines_at(asked))) == list(direct.lines_at(asked))
    assert await asyncio.to_thread(lambda: list(remote.reworks(ReworkRequest()))) == []
    assert await asyncio.to_thread(remote.reused_numbers, ScopeRequest("projA")) == []
    # an export of many blocks
    answers = [io.BytesIO(), io.BytesIO()]
    request = ExportRequest("lines", "jsonl")
    await asyncio.to_thread(remote.export, request, answers[0])
    direct.export(request, answers[1])
    assert answers[0].getvalue() == answers[1].getvalue()
    assert answers[0].getvalue().count(b"\n") == 2 * HOURS * 4


async def test_a_report_by_way_of_the_holder_is_exact(remote: RemoteView) -> None:
    report = await asyncio.to_thread(report_of, remote, "projB", month_interval("2026-01"), 0)
    assert report.price == 4 * HOURS * Decimal("1e-38")
    assert (report.known_begin, report.known_end) == (BEGIN, BEGIN + HOURS * 3600)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_only_the_owner_may_ask_and_a_socket_left_behind_is_replaced(store: Store, directory: Path) -> None:
    # given what a killed process left
    socket_of(directory).touch()
    # when
    async with serve_desk(StoreView(store), socket_of(directory)):
        # then
        assert mode_of(socket_of(directory)) == 0o600
        assert await asyncio.to_thread(RemoteView(socket_of(directory)).answers)
    assert not socket_of(directory).exists()


async def test_a_fault_of_the_store_reaches_the_reader_in_words(tmp_path: Path) -> None:
    # given a store without tables
    with Store(StoreSettings(dsn=f"chdb://{tmp_path}")) as empty:
        empty.ping()
        async with serve_desk(StoreView(empty), socket_of(tmp_path)):
            remote = RemoteView(socket_of(tmp_path))
            # when / then
            with pytest.raises(StoreError, match="run `rater migrate`"):
                await asyncio.to_thread(remote.scopes)


class _Broken(StoreView):
    """Breaks off in the middle of a long answer."""

    def frames(self, selection: Selection) -> Iterator[FrameRow]:
        for number, row in enumerate(super().frames(selection)):
            if number == 500:
                raise StoreUnavailableError("the disk is gone")
            yield row


class _Large(StoreView):
    def lines(self, selection: Selection) -> Iterator[LineRow]:
        for row in super().lines(selection):
            yield from [row] * 50_000  # more than sockets hold


async def test_a_reader_that_hangs_up_is_no_error(
    store: Store, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # given an answer of many blocks, of which the reader wants one row
    async with serve_desk(_Large(store), socket_of(directory)):
        rows = RemoteView(socket_of(directory)).lines(Selection())
        await asyncio.to_thread(next, rows)
        await asyncio.to_thread(rows.close)  # type: ignore[attr-defined]  # a generator
    # then nobody is told of a fault
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_reader_that_hangs_up_while_a_block_waits_is_no_error(
    store: Store, directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a connection that is lost while the socket is full: aiohttp says so with a plain ConnectionError."""

    async def lost(self: web.StreamResponse, data: bytes) -> None:
        raise ConnectionError("Connection lost")

    monkeypatch.setattr(web.StreamResponse, "write", lost)
    async with serve_desk(StoreView(store), socket_of(directory)):
        with pytest.raises(StoreUnavailableError):
            await asyncio.to_thread(lambda: list(RemoteView(socket_of(directory)).lines(Selection())))
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_answer_that_breaks_off_is_never_taken_for_whole(store: Store, directory: Path) -> None:
    async with serve_desk(_Broken(store), socket_of(directory)):
        remote = RemoteView(socket_of(directory))
        with pytest.raises(StoreUnavailableError, match="broke off"):
            await asyncio.to_thread(lambda: list(remote.frames(Selection())))


async def test_a_reader_that_hangs_up_stops_the_reading(remote: RemoteView) -> None:
    # given a reader that takes the first row of many and leaves
    for _ in range(5):
        rows = remote.frames(Selection())
        await asyncio.to_thread(next, rows)
        rows.close()  # type: ignore[attr-defined]  # a generator
    # then others are served
    assert len(await asyncio.to_thread(remote.scopes)) == 2


async def test_what_is_no_request_is_refused(remote: RemoteView) -> None:
    with pytest.raises(StoreError, match="the request cannot be read"):
        await asyncio.to_thread(lambda: list(remote._rows("frames", ExportRequest("lines", "csv"), FrameRow)))


def test_a_store_nobody_holds_is_opened_straight(store: Store, directory: Path) -> None:
    store.close()
    with open_view(StoreSettings(dsn=f"chdb://{directory}")) as found:
        assert isinstance(found, StoreView)
        assert [scope.scope_id for scope in found.scopes()] == ["projA", "projB"]


def test_a_directory_without_store_is_not_made_by_looking(tmp_path: Path) -> None:
    directory = tmp_path / "none"
    with (
        pytest.raises(StoreUnavailableError, match="there is no store in"),
        open_view(StoreSettings(dsn=f"chdb://{directory}")),
    ):
        pass
    assert not directory.exists()


def test_a_store_that_somebody_holds_without_answering_is_an_error_after_a_while(
    store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given another holder, as the lock sees it
    store.close()
    monkeypatch.setattr(view, "WAIT_SECONDS", 0.3)
    with (directory / LOCK_FILE).open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        # when / then
        with (
            pytest.raises(StoreLockedError, match="in use by another process"),
            open_view(StoreSettings(dsn=f"chdb://{directory}")),
        ):
            pass
    # and when it lets go, the store is opened
    with open_view(StoreSettings(dsn=f"chdb://{directory}")) as found:
        assert len(found.scopes()) == 2
