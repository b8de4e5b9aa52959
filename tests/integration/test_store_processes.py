"""The embedded engine among threads and processes: who may open it, who reads while it is written, who kills it."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from rater.store import (
    Batch,
    Store,
    StoreError,
    StoreLockedError,
    StoreSettings,
    StoreSettingsError,
    StoreUnavailableError,
    delete_superseded,
    frames,
    lines,
    migrate,
    totals,
    write,
)
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_line

SCOPES, HOURS = ["alpha", "beta", "gamma"], [-1, 0, 1]
WRITER = """
import sys
from rater.store import Store, StoreSettings, migrate
from tests.integration.test_store_processes import write_revision

with Store(StoreSettings(sys.argv[1])) as store:
    migrate(store)
    for revision in range(int(sys.argv[2]), 1_000_000):
        print("begin", revision, flush=True)
        write_revision(store, revision, lines=400)
        print("done", revision, flush=True)
"""


def line_count(revision: int, most: int) -> int:
    """Another one in each revision, so that a mixture of two shows."""
    return most - revision % 7


def write_revision(store: Store, revision: int, lines: int) -> None:
    """The next revision of every frame, each line priced with the number of the revision."""
    batch = Batch()
    for scope_id in SCOPES:
        for hour in HOURS:
            rated = [a_line(n, price=str(revision)) for n in range(line_count(revision, lines))]
            frame = a_frame(scope_id, JANUARY + hour * HOUR, revision, rated)
            batch.add_lines(frame)
            batch.add_frame(frame, len(rated))
    write(store, batch)


def read_revisions(store: Store, most: int) -> dict[tuple[str, int], int]:
    """The revision of each frame, when all of its lines and nothing else were there."""
    found: dict[tuple[str, int], int] = {}
    counted: Counter[tuple[str, int]] = Counter()
    for line in lines(store):
        key = (line.scope_id, line.period_begin)
        assert found.setdefault(key, line.revision) == line.revision
        assert line.price == line.revision
        counted[key] += 1
    assert counted == {key: line_count(revision, most) for key, revision in found.items()}
    return found


@contextmanager
def writer(dsn: str, first_revision: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, dsn, str(first_revision)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_directory_belongs_to_one_process(tmp_path: Path) -> None:
    # given a process that has the engine open
    dsn = f"chdb://{tmp_path}/clickhouse"
    with writer(dsn, 0) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "begin 0\n"

        # when another one wants it, then the error names directory and owner
        with Store(StoreSettings(dsn)) as store:
            with pytest.raises(StoreLockedError, match=rf"{tmp_path}/clickhouse .*pid {other.pid}"):
                store.ping()

            # and when the first one is gone, it is free
            other.kill()
            other.wait()
            store.ping()


def test_a_process_has_one_directory(tmp_path: Path) -> None:
    with Store(StoreSettings(f"chdb://{tmp_path}/one")) as one, Store(StoreSettings(f"chdb://{tmp_path}/one/")) as same:
        one.ping()
        same.ping()
        two = Store(StoreSettings(f"chdb://{tmp_path}/two"))
        with two, pytest.raises(StoreSettingsError, match=f"{tmp_path}/one"):
            two.ping()
        one.close()
        same.ping()
        with pytest.raises(StoreError, match="closed"):
            one.ping()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    store = Store(StoreSettings(f"chdb://{tmp_path}/{place}"))
    with store, pytest.raises(StoreUnavailableError, match=rf"{tmp_path}/{place} .*cannot be used"):
        store.ping()


def test_memory_is_a_store_too() -> None:
    with Store(StoreSettings("chdb://:memory:")) as store:
        migrate(store)
        write_revision(store, 1, lines=10)
        assert len(read_revisions(store, most=10)) == 9


def test_readers_see_whole_revisions_while_they_are_written_and_pruned(tmp_path: Path) -> None:
    # given a writer that replaces every frame again and again, and removes what it replaced at once
    most, done, failures = 20, threading.Event(), list[BaseException]()
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as store:
        migrate(store)
        write_revision(store, 0, most)

        def write_on() -> None:
            revision = 0
            try:
                while not done.is_set():
                    revision += 1
                    write_revision(store, revision, most)
                    if revision % 20 == 0:
                        delete_superseded(store, 1)
            except BaseException as fault:
                failures.append(fault)
                raise

        writing = threading.Thread(target=write_on)
        writing.start()

        # when it is read as often as not to meet a moment in between
        newest: dict[tuple[str, int], int] = {}
        try:
            for _ in range(60):
                found = read_revisions(store, most)

                # then no frame is missing, mixed or older than it was, and totals are those of whole revisions
                assert len(found) == len(SCOPES) * len(HOURS)
                assert all(found[key] >= revision for key, revision in newest.items())
                newest = found
                assert all(
                    frame.totals[0].price == frame.revision * line_count(frame.revision, most)
                    for frame in frames(store)
                )
                [total] = totals(store, "beta", JANUARY, JANUARY + HOUR)
                known = found["beta", JANUARY]
                assert any(
                    (total.n, total.price) == (line_count(revision, most), revision * line_count(revision, most))
                    for revision in range(known, known + 1000)
                )
        finally:
            done.set()
            writing.join()
    assert failures == []
    assert max(newest.values()) > 0


def test_no_kill_leaves_half_a_frame_or_loses_an_acknowledged_one(tmp_path: Path) -> None:
    # given a process that replaces nine frames with one batch after the other, over two months
    dsn, acknowledged, chance = f"chdb://{tmp_path}/clickhouse", -1, random.Random(7)
    for _ in range(5):
        with writer(dsn, acknowledged + 1) as process:
            assert process.stdout is not None

            # when it is killed somewhere in the midst of one
            for _ in range(chance.randrange(1, 8)):
                acknowledged = _followed(process.stdout.readline(), acknowledged)
                acknowledged = _followed(process.stdout.readline(), acknowledged)
            threading.Event().wait(chance.random() * 0.05)
            process.kill()
            for line in process.stdout:
                acknowledged = _followed(line, acknowledged)

        # then each frame is whole, in the last acknowledged revision or the one that was being written
        with Store(StoreSettings(dsn)) as store:
            found = read_revisions(store, most=400)
            assert len(found) == len(SCOPES) * len(HOURS)
            assert set(found.values()) <= {acknowledged, acknowledged + 1}
            assert {row.revision for row in frames(store)} == set(found.values())
            assert [total.price for total in totals(store)] == [
                sum((Decimal(r * line_count(r, 400)) for r in found.values()), Decimal(0))
            ]
    assert acknowledged >= 5


def _followed(line: str, acknowledged: int) -> int:
    """The last revision that the writer said was stored; a line that the kill cut off says nothing."""
    what, _, revision = line.partition(" ")
    return int(revision) if what == "done" and line.endswith("\n") else acknowledged
