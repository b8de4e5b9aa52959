"""Sums read from both versions of the API: every page, tried again where that helps, refused where it does not."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from collectors.http.tokens import Credentials
from rater.cloudkitty import (
    Amount,
    CloudKittyError,
    Connection,
    Group,
    Side,
    Sums,
    Wanted,
    from_file,
    nobody,
    of_token,
    read_both,
    read_sums,
)
from rater.cloudkitty import summaries as under_test
from rater.model.interval import Interval
from tests.unit.cloudkitty.fake_api import FakeApi, Rows

JANUARY = Interval(1_767_225_600, 1_769_904_000)
ROWS: Rows = {(f"p{number}", metric): (number + 0.5, 0.1) for number in range(3) for metric in ("cpu", "net")}


async def no_pause(seconds: float) -> None:
    """In place of sleeping."""


def side(url: str, credentials: Credentials | None = None, sleep: Callable[..., Any] = no_pause) -> Side:
    return Side("CloudKitty", url, credentials or nobody(), Connection(timeout=5), "where is it?", sleep)


async def read(
    fake: FakeApi, wanted: Wanted | None = None, credentials: Credentials | None = None, **changed: Any
) -> Sums:
    async with fake.running():
        asking = side(fake.url, credentials, **changed)
        try:
            return await read_sums(asking, JANUARY, wanted or Wanted(), lambda read, total: None)
        finally:
            await asking.close()


async def test_every_page_is_read() -> None:
    fake = FakeApi(ROWS)
    found = await read(fake)
    assert found.version == 2
    assert found.rows == {Group(*key): Amount(Decimal(str(qty)), Decimal("0.1")) for key, (qty, _) in ROWS.items()}
    assert [query["offset"] for _, query, _ in fake.asked] == ["0", "2", "4"]
    assert fake.asked[0][1]["begin"] == "2026-01-01T00:00:00"
    assert fake.asked[0][1]["end"] == "2026-02-01T00:00:00"


async def test_nothing_at_all() -> None:
    assert await read(FakeApi({})) == Sums(2, {})


async def test_scopes_are_filtered_there_and_metrics_here() -> None:
    fake = FakeApi(ROWS)
    found = await read(fake, Wanted(scope_key="tenant", scopes=("p1", "p2"), metrics=("net",)))
    assert set(found.rows) == {("p1", "net"), ("p2", "net")}
    assert [query["filters"] for _, query, _ in fake.asked] == ["tenant:p1", "tenant:p2"]
    assert fake.asked[0][1]["groupby"] == "tenant,type"


async def test_a_scope_that_no_filter_can_name_is_picked_out() -> None:
    fake = FakeApi(ROWS | {("a:b", "cpu"): (1.0, 2.0)})
    found = await read(fake, Wanted(scopes=("a:b",)))
    assert set(found.rows) == {("a:b", "cpu")}
    assert all("filters" not in query for _, query, _ in fake.asked)


async def test_version_1_tells_prices() -> None:
    fake = FakeApi(ROWS, versions=(1,))
    found = await read(fake)
    assert found.version == 1
    assert found.rows["p1", "cpu"] == Amount(None, Decimal("0.1"))  # type: ignore[index] # a Group is this tuple
    assert len(found.rows) == len(ROWS)
    path, query, _ = fake.asked[-1]
    assert (path, query["all_tenants"], query["begin"]) == ("v1/report/summary", "true", "2026-01-01T00:00:00")


async def test_a_summary_of_version_1_that_was_cut_off_is_read_scope_by_scope() -> None:
    fake = FakeApi({(f"p{number:04}", "cpu"): (1.0, float(number)) for number in range(1001)}, versions=(1,))
    found = await read(fake)
    assert len(found.rows) == 1001
    assert found.rows[Group("p1000", "cpu")].rate == 1000


async def test_a_list_that_changes_between_pages_is_read_again() -> None:
    fake = FakeApi(dict(ROWS))
    fake.grows = True
    with pytest.raises(CloudKittyError, match="changed each of the 3 times"):
        await read(fake)


async def test_a_service_that_knows_no_pages_is_found_out() -> None:
    fake = FakeApi(ROWS)
    fake.knows_pages = False
    with pytest.raises(CloudKittyError, match="or it knows no pages"):
        await read(fake)


async def test_what_may_pass_is_tried_again() -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    fake = FakeApi(ROWS)
    fake.faults = [
        web.Response(status=500),
        web.Response(status=503, headers={"Retry-After": "7"}),
        web.Response(status=429, headers={"Retry-After": "86400"}),
    ]
    assert len((await read(fake, sleep=pause)).rows) == len(ROWS)
    assert 0.25 <= pauses[0] <= 0.5
    assert pauses[1:] == [7, 60]


async def test_in_the_end_it_is_given_up() -> None:
    fake = FakeApi(ROWS)
    fake.faults = [web.Response(status=503, text="secret") for _ in range(5)]
    with pytest.raises(CloudKittyError, match=r"CloudKitty: GET http://127.*v2/summary: status 503") as caught:
        await read(fake)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (web.Response(status=401), "status 401: it does not accept these credentials"),
        (web.Response(status=403), "status 403: these credentials may not read all scopes"),
        (web.Response(status=400), "status 400: its own log says why"),
        (web.Response(text="<html>"), "not that of CloudKitty's API"),
        (web.Response(text="[" * 100_000), "not that of CloudKitty's API"),
        (web.Response(text='{"total": 1, "columns": ["qty"], "results": [[1]]}'), "not that of CloudKitty's API"),
        (web.Response(text='{"total": "x"}'), "not that of CloudKitty's API"),
    ],
)
async def test_answers_that_are_no_sums(fault: web.Response, message: str) -> None:
    fake = FakeApi(ROWS)
    fake.faults = [fault]
    with pytest.raises(CloudKittyError, match=message):
        await read(fake)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e999999", '"x"', "true", "[]"])
async def test_what_is_no_amount(amount: str) -> None:
    fake = FakeApi(ROWS)
    columns = '["qty", "rate", "project_id", "type"]'
    text = f'{{"total": 1, "columns": {columns}, "results": [[{amount}, 1, "a", "cpu"]]}}'
    fake.faults = [web.Response(text=text)]
    with pytest.raises(CloudKittyError, match="not that of CloudKitty's API"):
        await read(fake)


async def test_neither_version() -> None:
    with pytest.raises(CloudKittyError, match=r"/v1/report/summary: status 404: where is it\?"):
        await read(FakeApi(ROWS, versions=()))


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_GROUPS", 5)
    with pytest.raises(CloudKittyError, match="more than 5 scopes and metrics: compare some of them"):
        await read(FakeApi(ROWS))


async def test_tokens_are_sent_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    fake = FakeApi(ROWS)
    fake.faults = [web.Response(status=401)]
    credentials = from_file(str(tmp_path / "token"), "--cloudkitty-token-file")
    (tmp_path / "token").write_text("second\n")  # as somebody who renews it
    await read(fake, credentials=credentials)
    assert [headers["X-Auth-Token"] for _, _, headers in fake.asked[:2]] == ["first", "second"]
    with pytest.raises(CloudKittyError, match="VARIABLE holds no token of one line") as caught:
        of_token("two\nlines", "VARIABLE")
    assert "lines" not in str(caught.value).removeprefix("VARIABLE holds no token of one line")
    with pytest.raises(CloudKittyError, match="cannot be read"):
        from_file(str(tmp_path / "nothing"), "--rater-token-file")


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://user:pass@host", "http://host:port"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(CloudKittyError, match="CloudKitty: ") as caught:
        side(url)
    assert "pass@" not in str(caught.value)


async def test_both_at_once_and_the_fault_of_one_ends_the_other() -> None:
    one, other = FakeApi(ROWS), FakeApi(ROWS)
    told: list[tuple[int, int]] = []
    async with one.running(), other.running():
        sides = side(one.url), Side("rater", other.url, nobody(), Connection(timeout=5), "", no_pause)
        first, second = await read_both(*sides, JANUARY, Wanted(), lambda *done: told.append(done))
        assert first == second
        assert told[-1] == (12, 12)
        one.faults = [web.Response(status=403)]
        with pytest.raises(CloudKittyError, match="status 403"):
            await read_both(*sides, JANUARY, Wanted(), lambda *_: None)
        for asking in sides:
            await asking.close()
