"""`rater compare-cloudkitty`: its options, what it writes, and its exit status."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rater.cli import exits
from rater.cli.app import _run
from rater.cli.compare_reasons import Holes, reached_text
from rater.model.interval import Interval
from rater.model.rated import FrameStatus
from rater.store import Store, StoreSettings, migrate
from tests.unit.cloudkitty.fake_api import FakeApi, Rows
from tests.unit.store.builders import HOUR, JANUARY, a_frame, store_frames

ROWS: Rows = {("projA", "cpu"): (3.0, 0.30000000000000004), ("projA", "disk"): (1.0, 0.0), ("projB", "cpu"): (2.0, 0.2)}
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs `rater compare-cloudkitty …` in an empty directory: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("RATER_", "OS_", "CLOUDKITTY"))]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = _run(["compare-cloudkitty", *arguments])
        told = capfd.readouterr()
        return status, told.out, told.err

    return run


@contextmanager
def running(*fakes: FakeApi) -> Iterator[tuple[str, ...]]:
    """The services, in a thread, since the command has an event loop of its own; as options."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    contexts = [fake.running() for fake in fakes]
    try:
        for context in contexts:
            asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(20)
        yield ("--cloudkitty", fakes[0].url, "--rater", fakes[-1].url, "--month", "2026-01")
    finally:
        for context in contexts:
            asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_the_same_up_to_floats_is_status_0(call: Call) -> None:
    with running(FakeApi(ROWS), FakeApi(ROWS | {("projA", "cpu"): (3.0, 0.3)})) as both:
        status, out, err = call(*both)
        assert (status, out) == (exits.OK, "")
        assert "3 scopes and metrics compared, 0 differ; price of all together: CloudKitty 0.50000000000000004" in err
        assert "tolerance: 1e-9 of the larger amount, or 0\n" in err
        status, out, _ = call(*both, "--relative", "0", "--out", "json")
        assert status == exits.FAILED
        row = json.loads(out)
        assert (row["scope_id"], row["metric"], row["verdict"]) == ("projA", "cpu", "differs")
        assert (row["rate_difference"], row["rate_relative"]) == ("-0.00000000000000004", "-1.333e-16")
        assert call(*both, "--relative", "0", "--absolute", "1e-12")[0] == exits.OK


def test_what_differs_is_listed_and_status_1(call: Call) -> None:
    ours = {key: value for key, value in ROWS.items() if key != ("projB", "cpu")} | {("projC", "cpu"): (1.0, 5.0)}
    with running(FakeApi(ROWS), FakeApi(ours)) as both:
        status, out, _ = call(*both, "--out", "csv")
        assert status == exits.FAILED
        found = list(csv.DictReader(out.splitlines()))
        assert [(row["scope_id"], row["verdict"]) for row in found] == [
            ("projB", "only CloudKitty"),
            ("projC", "only rater"),
        ]
        assert (found[0]["rater_rate"], found[0]["rate_difference"]) == ("", "-0.2")
        status, out, err = call(*both, "--all")
        assert "only rater" in out
        assert out.count("equal") == 2
        assert "holes in our frames are not looked for: there is no store in" in err
        status, out, _ = call(*both, "--scope", "projA", "--metric", "disk", "--all", "--out", "json")
        assert status == exits.OK
        assert json.loads(out)["verdict"] == "equal"


def test_nothing_on_either_side_is_said(call: Call) -> None:
    with running(FakeApi({}), FakeApi({})) as both:
        status, out, err = call(*both, "--by", "day")
    assert (status, out) == (exits.OK, "")
    assert "neither side has anything of that time" in err


def test_tokens_come_from_files_and_variables(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs, ours = FakeApi(ROWS), FakeApi(ROWS)
    (tmp_path / "token").write_text("of-the-file\n")
    monkeypatch.setenv("CLOUDKITTY_TOKEN", "of-the-variable")
    with running(theirs, ours) as both:
        options = ("--cloudkitty-auth", "token", "--rater-auth", "token", "--rater-token-file", "token")
        assert call(*both, *options)[0] == exits.OK
    assert theirs.asked[0][2]["X-Auth-Token"] == "of-the-variable"
    assert ours.asked[0][2]["X-Auth-Token"] == "of-the-file"


@pytest.mark.filterwarnings("ignore:Support for InfluxDB")  # openstacksdk warns of its own statistics, which are off
def test_a_cloud_tells_the_place_and_the_token(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs, ours = FakeApi(ROWS), FakeApi(ROWS)
    with running(theirs, ours) as both:
        cloud = {"auth_type": "admin_token", "auth": {"endpoint": theirs.url, "token": "of-the-cloud"}}
        (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"prod": cloud}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        status, _, err = call("--os-cloud", "prod", "--rater-auth", "keystone", *both[2:])
        assert status == exits.OK, err
    assert theirs.asked[0][2]["X-Auth-Token"] == ours.asked[0][2]["X-Auth-Token"] == "of-the-cloud"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cloudkitty", "http://a"), "give --month, or --from and --to"),
        (("--cloudkitty", "http://a", "--month", "2026-13"), "is no month"),
        (("--cloudkitty", "http://a", "--month", "2026-01", "--to", "2026-02-01"), "give either --month"),
        (("--cloudkitty", "http://a", "--from", "2026-01-02", "--to", "2026-01-01"), "no time lies between them"),
        (("--month", "2026-01", "--cloudkitty-auth", "none"), "give --cloudkitty URL"),
        (("--month", "2026-01", "--cloudkitty", "http://a"), "give --rater URL"),
        (("--month", "2026-01", "--cloudkitty", "http://a", "--rater", "http://a/"), "both sides are http://a"),
        (
            ("--month", "2026-01", "--cloudkitty", "http://a", "--rater", "http://b", "--rater-auth", "token"),
            "no token for rater: give --rater-token-file, or set RATER_TOKEN",
        ),
        (
            ("--month", "2026-01", "--cloudkitty", "http://a", "--rater", "http://b", "--cloudkitty-token-file", "t"),
            "--cloudkitty-token-file is for --cloudkitty-auth token",
        ),
        (("--month", "2026-01", "--cloudkitty", "http://a", "--relative", "-1"), "give a number such as"),
        (("--month", "2026-01", "--server-timezone", "Mars/Olympus"), "is no time zone"),
    ],
)
def test_wrong_usage_is_status_2(call: Call, options: tuple[str, ...], message: str) -> None:
    status, out, err = call(*options)
    assert (status, out) == (exits.USAGE, "")
    assert message in " ".join(err.split())


def test_rater_is_where_its_settings_say(call: Call, tmp_path: Path) -> None:
    theirs, ours = FakeApi(ROWS), FakeApi(ROWS)
    with running(theirs, ours) as both:
        listen = ours.url.removeprefix("http://127.0.0.1")
        (tmp_path / "rater.yaml").write_text(
            f"api: {{listen: '127.0.0.1{listen}', cloudkitty: {{scope_key: tenant}}}}\n"
        )
        assert call(*both[:2], *both[4:])[0] == exits.OK
    assert ours.asked[0][1]["groupby"] == "tenant,type"


def test_a_service_that_is_not_there_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rater.cloudkitty.side.PAUSES", ())
    status, out, err = call("--cloudkitty", "http://127.0.0.1:1", "--rater", "http://127.0.0.1:2", "--month", "2026-01")
    assert (status, out) == (exits.FAILED, "")
    assert err.startswith(("error: CloudKitty: GET http://127.0.0.1:1/", "error: rater: GET http://127.0.0.1:2/"))
    assert err.count("\n") == 1


def test_holes_in_our_frames_are_named(tmp_path: Path) -> None:
    settings = StoreSettings(dsn=f"chdb://{tmp_path / 'store'}")
    with Store(settings) as store:
        migrate(store)
        statuses = [FrameStatus.RATED, FrameStatus.FAILED, FrameStatus.FAILED, FrameStatus.RATED]
        store_frames(store, *(a_frame("a", JANUARY + hour * HOUR, status=s) for hour, s in enumerate(statuses)))
    with Holes(settings) as holes:
        whole = Interval(JANUARY, JANUARY + 4 * HOUR)
        text = holes.text("a", "cpu", whole)
        assert "a: everything: 2026-01-01 01:00 to 2026-01-01 03:00 UTC (2 h): " in text
        assert holes.text("a", "cpu", Interval(JANUARY, JANUARY + HOUR)) == ""
        assert holes.text("b", "cpu", whole) == ""


def test_how_far_each_is_rated_is_told_where_it_matters() -> None:
    assert reached_text(JANUARY, JANUARY + HOUR, JANUARY + 9 * HOUR) == (
        "the last period that CloudKitty has rated begins 2026-01-01 00:00, ours 2026-01-01 01:00 UTC"
    )
    for theirs, ours, end in ((None, 1, 9), (1, None, 9), (1, 1, 9), (10, 11, 9)):
        assert reached_text(theirs, ours, end) == ""
