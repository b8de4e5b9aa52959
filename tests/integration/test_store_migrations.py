"""Migrations that are interrupted, that meet each other, and that must leave older services what they need."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rater.store import (
    Column,
    Store,
    StoreLockedError,
    StoreSchemaError,
    StoreSettings,
    lease,
    migrate,
    migrations,
    missing_migrations,
)
from tests.integration.clickhouse_http import PASSWORD, USER, Server, clickhouse_server

FIRST_UNDER_THE_RULE = 10
KILLED = """
import os, signal, sys
from rater.store import Store, StoreSettings, migrate

class Mortal(Store):
    left = int(sys.argv[2])
    def command(self, sql, parameters=None):
        super().command(sql, parameters)
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

with Mortal(StoreSettings(sys.argv[1])) as store:
    migrate(store)
"""
HOLDER = """
import sys, time
from rater.store import Store, StoreSettings
from rater.store.lease import leased
with Store(StoreSettings(sys.argv[1], username=sys.argv[2], password_file=sys.argv[3])) as store:
    with leased(store):
        print("held", flush=True)
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with clickhouse_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> StoreSettings:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    dsn = f"http://127.0.0.1:{server.port}/rater"
    return StoreSettings(dsn, username=USER, password_file=str(tmp_path / "password"))


def shape(store: Store) -> list[tuple[object, ...]]:
    """Every table and view with all of its columns."""
    return store.rows(
        "SELECT table, name, type, default_kind, default_expression, position FROM system.columns "
        "WHERE database = currentDatabase() AND table != 'migration_lock' ORDER BY table, position"
    )


def test_migrations_that_are_killed_between_statements_go_on_where_they_were(tmp_path: Path) -> None:
    # given a process that is killed after every seventh statement, started until it gets to the end
    dsn = f"chdb://{tmp_path}/clickhouse"
    ends = [
        subprocess.run([sys.executable, "-c", KILLED, dsn, "7"], check=False, timeout=120).returncode for _ in range(2)
    ]
    assert ends == [-signal.SIGKILL] * 2
    with Store(StoreSettings(dsn)) as store:
        assert 0 < store.rows("SELECT count() FROM migrations")[0][0] < len(migrations())

        # when it is run once more
        migrate(store)

        # then the tables are those of a store that was never interrupted
        assert missing_migrations(store) == []
        resumed = shape(store)
    with Store(StoreSettings(f"chdb://{tmp_path}/other")) as store:
        migrate(store)
        assert shape(store) == resumed


def test_of_two_that_change_the_tables_at_once_one_waits(settings: StoreSettings) -> None:
    # given two that begin together on an empty server
    order: list[str] = []

    def change(name: str) -> None:
        with Store(settings) as store, lease.leased(store) as held:
            held.check()
            order.append(f"{name} begins")
            time.sleep(0.3)
            held.check()
            order.append(f"{name} ends")

    both = [threading.Thread(target=change, args=(name,)) for name in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join(60)

    # then one has ended before the other begins
    assert order in [[f"{name} {what}" for name in names for what in ("begins", "ends")] for names in ("ab", "ba")]


def test_a_dead_holder_keeps_the_tables_for_a_minute_and_no_longer(settings: StoreSettings) -> None:
    # given a process that is killed while it has the right
    assert settings.password_file
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, settings.dsn, USER, settings.password_file], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()

    with Store(settings) as store:
        # when others come soon, then they wait for it
        waiting = lease.leased(store, patience=0.5, pause=lambda _: None)
        with pytest.raises(StoreLockedError, match=rf"{holder.pid}.* has been changing the tables"), waiting:
            pytest.fail("it is not free")

        # and when it has been silent for long enough, it is passed over
        with lease.leased(store, lease_seconds=0) as held:
            held.check()


def test_a_holder_that_was_only_stalled_changes_nothing_more(settings: StoreSettings) -> None:
    with Store(settings) as store, lease.leased(store) as stalled, lease.leased(store, lease_seconds=0) as successor:
        successor.check()
        with pytest.raises(StoreLockedError, match="took the tables"):
            stalled.check()


def test_of_two_that_claim_the_same_the_first_has_it(settings: StoreSettings) -> None:
    with Store(settings) as store:
        with lease.leased(store):
            pass
        lease._say(store, 1000, "second", "claimed")
        lease._say(store, 1000, "first by name", "claimed")

        assert lease._newest(store).holder == "second"
        lease._say(store, 1000, "second", "released")


def test_a_server_that_is_up_to_date_is_not_locked(settings: StoreSettings) -> None:
    with Store(settings) as store:
        migrate(store)
        before = store.rows("SELECT max(generation) FROM migration_lock")
        assert migrate(store) == []
        assert store.rows("SELECT max(generation) FROM migration_lock") == before


def test_services_go_on_with_the_tables_of_a_newer_rater(settings: StoreSettings) -> None:
    # given tables with a migration that this rater does not know
    newest = len(migrations()) + 1
    with Store(settings) as store:
        migrate(store)
        columns = {"number": newest, "name": "later", "checksum": b"f" * 64, "applied_at": 0}
        kinds = ("UInt32", "String", "FixedString(64)", "UInt32")
        store.insert("migrations", [Column(n, k, [v]) for (n, v), k in zip(columns.items(), kinds, strict=True)])
        try:
            # then a service takes them, and the command does not
            assert migrate(store, newer_is_fine=True) == []
            with pytest.raises(StoreSchemaError, match=f"migration {newest}"):
                migrate(store)
        finally:
            store.command(f"ALTER TABLE migrations DELETE WHERE number = {newest} SETTINGS mutations_sync = 1")


def test_migrations_only_add(tmp_path: Path) -> None:
    """While the hook of an upgrade has run and the old sinks still do, they need all that they had."""
    allowed = re.compile(
        r"CREATE TABLE IF NOT EXISTS \w+|CREATE OR REPLACE VIEW \w+"
        r"|ALTER TABLE \w+ ADD COLUMN IF NOT EXISTS \w+ \S+ DEFAULT "
    )
    known = migrations()
    later = [s for m in known if m.number >= FIRST_UNDER_THE_RULE for s in m.statements]
    assert later
    assert [statement[:80] for statement in later if not allowed.match(statement)] == []

    # and nothing that was there is gone: views begin with the columns that they had, tables have all of theirs
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as store:
        migrate(store, known[: FIRST_UNDER_THE_RULE - 1])
        before = columns_of(store)
        migrate(store)
        after = columns_of(store)
        views = {str(name) for [name] in store.rows("SELECT name FROM system.tables WHERE engine = 'View'")}
    for name, columns in before.items():
        there = after[name]
        if name in views:
            there = there[: len(columns)]
        assert [column for column in columns if column not in there] == []


def columns_of(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Of each table and view: name, type and default."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for table, *column in shape(store):
        found.setdefault(str(table), []).append(tuple(column[:4]))
    return found
