"""The demonstration as a user runs it, and its every line against the slow reference."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from rater.config import load_config
from rater.rating import Chain, NoScripts, RuleBook, parse, plan
from rater.reports import open_view
from rater.store import Store
from rater.trial import Comparison, Explainer, LineExplained, StoredFrames, WhatIf
from tests.e2e.demo_prometheus import prometheus_of
from tests.e2e.reference import Line, expected_lines

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180
HOLE = "2026-01-06 09:10 to 2026-01-06 11:10 UTC"
METRICS = ("instance", "network.incoming", "network.outgoing", "storage.objects.size", "volume.size")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}


class Told(NamedTuple):
    directory: Path
    stdout: str
    stderr: str
    seconds: float


def rater(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rater", *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def tell(directory: Path) -> Told:
    began = time.monotonic()
    done = rater("demo", "--dir", str(directory))
    assert done.returncode == 0, done.stdout + done.stderr
    return Told(directory, done.stdout, done.stderr, time.monotonic() - began)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A demonstration that was run twice in the same place."""
    directory = tmp_path_factory.mktemp("demo") / "cloud"
    first = tell(directory)
    second = tell(directory)
    assert _without_moments(first.stdout) == _without_moments(second.stdout)
    return second


def _without_moments(story: str) -> str:
    return re.sub(r'"(raised_at)":\d+', r'"\1":0', story)


def line_of(exported: dict[str, Any]) -> Line:
    begin = int(time.mktime(time.strptime(exported["period_begin"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone)
    return Line(**{**{name: exported[name] for name in Line._fields}, "period_begin": begin})


def test_the_story_comes_in_its_order(told: Told) -> None:
    # given what has to be shown, in order
    expected = [
        "100400 samples",
        "5 of them empty (nothing was used)",
        '"kind":"gap_opened","scope_id":"delphi"',
        *(f"gap_opened: delphi, {metric} from replay: {HOLE}" for metric in METRICS),
        "error: the report of delphi from 2026-01-01 00:00 to 2026-02-01 00:00 UTC is refused, it has 5 hole(s):",
        *(f"delphi: {metric} from replay: {HOLE} (2 h): no complete collection covers it" for metric in METRICS),
        '"kind":"gap_resolved","scope_id":"delphi"',
        *(f"gap_resolved: delphi, {metric} from replay: {HOLE}" for metric in METRICS),
        "The report of delphi is complete",
        "3 revised; rules 1",
        "SELECT scope_id, metric",
        f"Clean up: rm -r {told.directory}",
    ]
    # when / then
    place = 0
    for text in expected:
        found = told.stdout.find(text, place)
        assert found >= 0, f"{text!r} is not there, or not in its place:\n{told.stdout}"
        place = found
    # and nothing is complained of: on a slow machine a line tells how far a replay is
    assert [text for text in told.stderr.splitlines() if not re.search(r": [\d ]+ (of [\d ]+ )?\w+$", text)] == []


def test_every_exported_line_is_that_of_the_reference_to_the_last_digit(told: Told) -> None:
    # given
    files = [told.directory / "usage.jsonl", told.directory / "missing.jsonl"]
    expected = expected_lines(files, told.directory / "rules.yaml")
    assert len(expected) > 8000
    # when
    target = told.directory / "lines.jsonl"
    done = rater(
        "--config", str(told.directory / "rater.yaml"), "export", "lines", "--out", "jsonl", "--file", str(target)
    )
    assert done.returncode == 0, done.stderr
    lines = [line_of(json.loads(text)) for text in target.read_text().splitlines()]
    # then
    assert len(lines) == len(expected)
    wrong = [(got, wanted) for got, wanted in zip(lines, expected, strict=True) if got != wanted]
    assert wrong == []


def test_every_form_of_the_export_holds_the_same(told: Told) -> None:
    # given
    config = str(told.directory / "rater.yaml")
    only = ("--scope", "delphi", "--from", "2026-01-06T09:00", "--to", "2026-01-06T12:00")
    # when
    texts = {form: rater("--config", config, "export", "lines", *only, "--out", form) for form in ("jsonl", "csv")}
    parquet = told.directory / "lines.parquet"
    done = rater("--config", config, "export", "lines", *only, "--out", "parquet", "--file", str(parquet))
    # then
    assert done.returncode == 0, done.stderr
    plain = [json.loads(text) for text in texts["jsonl"].stdout.splitlines()]
    assert len(plain) == 48
    assert [(row["line_id"], row["price"]) for row in csv.DictReader(io.StringIO(texts["csv"].stdout))] == [
        (row["line_id"], row["price"]) for row in plain
    ]
    assert [row["line_id"] for row in pq.read_table(parquet).to_pylist()] == [row["line_id"] for row in plain]


def test_what_was_silent_and_what_was_empty_are_told_apart(told: Told) -> None:
    # given
    config = str(told.directory / "rater.yaml")
    # when
    frames = [
        json.loads(text) for text in rater("--config", config, "frames", "list", "--out", "json").stdout.splitlines()
    ]
    gaps = [
        json.loads(text) for text in rater("--config", config, "gaps", "--all", "--out", "json").stdout.splitlines()
    ]
    # then
    assert len(frames) == 8 * 72
    empty = [(frame["scope_id"], frame["period_begin"]) for frame in frames if frame["status"] == "empty"]
    assert empty == [("fjord", f"2026-01-06T0{hour}:00:00Z") for hour in range(1, 6)]
    revised = [(frame["scope_id"], frame["period_begin"]) for frame in frames if frame["revision"]]
    assert revised == [("delphi", f"2026-01-06T{hour}:00:00Z") for hour in ("09", "10", "11")]
    assert {frame["status"] for frame in frames} == {"rated", "empty"}
    assert {(gap["scope_id"], gap["state"]) for gap in gaps} == {("delphi", "resolved")}
    assert len(gaps) == 3 * len(METRICS)


def own_rules(told: Told, **changes: str) -> RuleBook:
    """The rules of the demonstration, with texts of the document changed."""
    text = (told.directory / "rules.yaml").read_text()
    for before, after in changes.items():
        text = text.replace(before, after)
    book, _ = RuleBook.empty().apply(plan(RuleBook.empty(), parse(text, "rules.yaml")).event("test", "", 0))
    assert book.version == 1
    return book


def test_every_line_explains_to_its_price(told: Told) -> None:
    # given
    config = load_config(told.directory / "rater.yaml", {})
    book = own_rules(told)
    explained: list[LineExplained] = []
    # when: whatever does not lead to the stored quantity and price raises
    with open_view(config.settings.store) as view:
        frames = StoredFrames(view, config.engine_context(), lambda _: False, samples=True)
        explainer = Explainer(view, config.engine_context(), lambda _: book, NoScripts(), {})
        for scope in view.scopes():
            for stored in frames.read(scope.scope_id, scope.begin, scope.end):
                assert stored.trouble == ""
                explained += explainer.explain(stored).lines
    # then
    expected = expected_lines(
        [told.directory / "usage.jsonl", told.directory / "missing.jsonl"], told.directory / "rules.yaml"
    )
    assert [(line.scope_id, line.metric, line.line_id, line.qty, line.price) for line in explained] == [
        (line.scope_id, line.metric, line.line_id, line.qty, line.price) for line in expected
    ]
    assert all(line.points[0].price == line.price for line in explained)
    files = [told.directory / "usage.jsonl", told.directory / "missing.jsonl"]
    assert sum(len(line.samples) for line in explained) == sum(file.read_text().count('"qty"') for file in files)


def test_what_if_gives_the_difference_of_an_independent_sum(told: Told) -> None:
    # given the same rules, and one price changed
    same, dearer = own_rules(told), own_rules(told, **{'cost: "0.00004"': 'cost: "0.00005"'})
    (told.directory / "dearer.yaml").write_text(
        (told.directory / "rules.yaml").read_text().replace('cost: "0.00004"', 'cost: "0.00005"')
    )
    files = [told.directory / "usage.jsonl", told.directory / "missing.jsonl"]
    # when
    found = {
        (name, by_lines): what_if(told, book, by_lines=by_lines)
        for name, book in (("same", same), ("dearer", dearer))
        for by_lines in (True, False)
    }
    # then
    old = sums(expected_lines(files, told.directory / "rules.yaml"))
    new = sums(expected_lines(files, told.directory / "dearer.yaml"))
    for by_lines in (True, False):
        total = found["same", by_lines].total()
        assert not total.difference
        assert (total.changed, total.newly_unrated, total.newly_rated) == (0, 0, 0)
        assert {key: (entry.old, entry.new) for key, entry in found["dearer", by_lines].by_key.items()} == {
            key: (old[key], new[key]) for key in old
        }
        first = found["dearer", by_lines].biggest_first()[0]
        assert first.difference == max(new[key] - old[key] for key in old) > 0


def what_if(told: Told, book: RuleBook, *, by_lines: bool) -> Comparison:
    config = load_config(told.directory / "rater.yaml", {})
    with open_view(config.settings.store) as view:
        frames = StoredFrames(view, config.engine_context(), lambda _: by_lines)
        work = WhatIf(frames, Chain(book), NoScripts())
        for scope in view.scopes():
            assert sum(work.scope(scope.scope_id, scope.begin, scope.end)) == scope.frames
    return work.found


def sums(lines: list[Line]) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = {}
    with localcontext(prec=100):
        for line in lines:
            key = (line.scope_id, line.metric)
            found[key] = found.get(key, Decimal(0)) + Decimal(line.price)
    return found


@contextmanager
def up(config: Path, log: Path) -> Iterator[str]:
    """`rater up` with a Kafka of its own while the block runs; gives the address of its health pages."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "rater", "--config", str(config), "up", "--with-kafka"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield _ready(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(PATIENCE_SECONDS)
    assert status == 0, log.read_text()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        found = re.search(r"health on (http://\S+)/readyz", log.read_text())
        if found:
            try:
                with urllib.request.urlopen(f"{found[1]}/readyz", timeout=10) as answer:
                    assert json.load(answer)["checks"] == {"topics": "ok", "worker": "ok", "sink": "ok"}
                    return found[1]
            except urllib.error.HTTPError:
                pass  # not ready yet
        time.sleep(0.2)
    raise AssertionError(f"never ready: {log.read_text()}")


def test_up_goes_on_with_the_same_data_and_other_shells_read_meanwhile(told: Told) -> None:
    # given `rater up` on what the demonstration left
    config = told.directory / "rater.yaml"
    alone = rater("--config", str(config), "export", "lines").stdout
    again = ("--config", str(config))
    with up(config, told.directory / "up.log") as url:
        # when / then everything can be read by way of the process that has the store open
        assert rater(*again, "export", "lines").stdout == alone
        report = rater(*again, "report", "--scope", "delphi", "--month", "2026-01", "--out", "json")
        assert report.returncode == 0
        assert [json.loads(text)["metric"] for text in report.stdout.splitlines()] == [*METRICS, "total"]
        frame = ("--scope", "delphi", "--period", "2026-01-06T09:00", "--metric", "instance")
        explained = rater(*again, "explain", *frame)
        assert explained.returncode == 0, explained.stderr
        assert explained.stdout.count(", the same\n") == 4
        compared = rater(*again, "whatif", "--rules", str(told.directory / "rules.yaml"), "--scope", "delphi")
        assert compared.returncode == 0, compared.stderr
        assert "72 frames, " in compared.stderr
        assert ", 0 of them change" in compared.stderr
        assert "cannot be read" not in compared.stderr
        audited = rater(*again, "audit", "--topics", "--prices")
        assert (audited.returncode, audited.stdout) == (0, ""), audited.stdout + audited.stderr
        assert "0 violations of every_sample_once, " in audited.stderr
        assert ", store_is_best_of_rated" in audited.stderr
        assert "not checked" not in audited.stderr
        doctor = rater(*again, "doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert "by way of the process that has it open" in doctor.stdout
        _check_sources(told)
        assert rater("demo", "--dir", str(told.directory)).stderr.startswith("error: a rater runs on the data in")
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            assert "rater_worker_frames" in answer.read().decode()
        # when a day without one project's usage comes in
        day = told.directory / "day.jsonl"
        day.write_text(
            '{"covers":{"scope_id":"newcomer","metric":"*","begin":"2026-02-01T00:00:00Z","end":"2026-02-01T02:00:00Z"}}\n'
            '{"scope_id":"newcomer","metric":"instance","begin":"2026-02-01T00:00:00Z","qty":"60","unit":"minute",'
            '"metadata":{"flavor":"m1.xlarge"}}\n'
            "this is no usage\n"
        )
        replay = rater(*again, "collect", "replay", str(day))
        # then the bad line is told, the rest counts
        assert replay.returncode == 1
        assert f"{day}:3: " in replay.stderr
        _until(lambda: rater(*again, "report", "--scope", "newcomer", "--month", "2026-02", "--out", "csv"), "0.168")
        # when a frame is closed by force, before anything of it is known
        closed = rater(
            *again, "frames", "close", "--scope", "newcomer", "--period", "2026-02-01T03:00", "--reason", "x"
        )
        assert closed.returncode == 0, closed.stderr
        listed = _until(lambda: rater(*again, "frames", "list", "--scope", "newcomer", "--out", "csv"), "forced")
        assert "2026-02-01T03:00:00Z" in listed
        # and a report with a frame that is not there is refused
        refused = rater(*again, "report", "--scope", "newcomer", "--month", "2026-02")
        assert refused.returncode == 3
        assert refused.stdout == ""
        assert "newcomer: everything: 2026-02-01 02:00 to 2026-02-01 03:00 UTC (1 h)" in refused.stderr


def _check_sources(told: Told) -> None:
    """`rater collect check` on a Prometheus that holds this cloud, and where its metrics.yml is wrong."""
    with prometheus_of(told.directory, told.directory) as settings:
        again = ("--config", str(settings), "collect", "check")
        sound = rater(*again, "--out", "json")
        metrics = told.directory / "metrics.yml"
        right = metrics.read_text()
        metrics.write_text(right.replace("openstack_volume_size:", "openstack_volumes_size:"))
        wrong = rater(*again)
        metrics.write_text(right)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    report = json.loads(sound.stdout)
    assert [(row["service"], row["verdict"], row["granularity_seconds"]) for row in report["metrics"]] == [
        (row["service"], "ok", 300.0) for row in report["metrics"]
    ]
    assert sorted(row["service"] for row in report["metrics"]) == list(METRICS)
    priced = {row["service"]: row["sample"]["charged"] for row in report["metrics"]}
    assert priced == {name: name != "network.incoming" for name in METRICS}
    assert all(Decimal(row["sample"]["price"]) > 0 for row in report["metrics"] if row["sample"]["charged"])
    assert wrong.returncode == 1
    assert "fail  volume.size: metric 'openstack_volumes_size' does not exist on http" in wrong.stdout


def _until(ask: Any, expected: str) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = ask()
        if expected in answer.stdout:
            return answer.stdout
        time.sleep(0.3)
    raise AssertionError(f"{expected!r} never came: {answer.stdout}{answer.stderr}")


CHANGES = {
    "lines": ("price", "price + 1", "scope_id = 'delphi' AND period_begin = {at} AND metric = 'instance'"),
    "frames": ("status", "'partial'", "scope_id = 'delphi' AND period_begin = {at}"),
    "usage": (
        "qty",
        "arrayMap(x -> '7', qty)",
        "scope_id = 'delphi' AND metric = 'volume.size' AND range_begin = {at}",
    ),
    "gaps": ("resolved", "''", "scope_id = 'delphi' AND period_begin = {at} AND metric = 'instance'"),
}
"""By table: a column, what it is changed to, and in which rows, of which the first one is taken."""
KEYS = {
    "lines": "scope_id, toUInt32(period_begin), revision, metric, lower(hex(line_id))",
    "frames": "scope_id, toUInt32(period_begin)",
    "usage": "scope_id, metric, source, toUInt32(range_begin), toUInt32(range_end), attempt, collection_id, part, n",
    "gaps": "scope_id, toUInt32(period_begin), metric, source, toUInt32(gap_begin), toUInt32(gap_end), "
    "lower(hex(gap_id))",
}


@pytest.mark.parametrize("table", list(CHANGES))
def test_an_audit_finds_nothing_and_then_exactly_the_row_that_was_changed_by_hand(told: Told, table: str) -> None:
    # given
    again = ("--config", str(told.directory / "rater.yaml"), "audit", "--scope", "delphi", "--out", "json")
    clean = rater(*again)
    assert (clean.returncode, clean.stdout) == (0, ""), clean.stdout + clean.stderr
    assert ": 0 violations of every_sample_once, " in clean.stderr
    settings = load_config(told.directory / "rater.yaml", {}).settings.store
    column, value, where = CHANGES[table]
    where = where.format(at=1_767_693_600)  # 2026-01-06T10:00:00Z, an hour of the hole
    with Store(settings) as store:
        newest = "ORDER BY revision DESC" if table in ("lines", "frames") else ""
        [key] = store.rows(f"SELECT {KEYS[table]} FROM {table} WHERE {where} {newest} LIMIT 1")
        picked = f"({KEYS[table]}) = {key!r}"
        if table == "frames":
            picked += f" AND revision = (SELECT max(revision) FROM frames WHERE {where})"
        store.command(f"CREATE TABLE kept AS {table}")
        store.command(f"INSERT INTO kept SELECT * FROM {table}")
        store.command(f"ALTER TABLE {table} UPDATE {column} = {value} WHERE {picked} SETTINGS mutations_sync = 1")
    # when
    found = rater(*again)
    with Store(settings) as store:
        store.command(f"TRUNCATE TABLE {table}")
        store.command(f"INSERT INTO {table} SELECT * FROM kept")
        store.command("DROP TABLE kept")
    # then
    assert found.returncode == 1, found.stderr
    rows = {(row["table"], row["key"]) for row in map(json.loads, found.stdout.splitlines())}
    assert [(name, re.findall(r"=([^,]*)(?:, |$)", text)) for name, text in rows] == [(table, [str(v) for v in key])]
    assert rater(*again).returncode == 0


def test_a_directory_that_is_no_demonstration_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    done = rater("demo", "--dir", str(tmp_path))
    assert done.returncode == 1
    assert "was not made by `rater demo`" in done.stderr
    assert (tmp_path / "precious").read_text() == "data"
