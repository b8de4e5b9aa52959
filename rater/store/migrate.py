"""Creates and updates the tables by the numbered files in `migrations/`, each applied once and in order.

A file that was applied is never edited: what changes is written as the next number. Statements are written so that
repeating them does no harm, since a crash may come between a statement and the note that it was made. One process at a
time changes the tables: the embedded engine belongs to one anyway, on a server `rater.store.lease` sees to it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from importlib.resources import files

import msgspec

from rater.store.client import Column, Store
from rater.store.errors import StoreSchemaError
from rater.store.focus import note_focus
from rater.store.lease import leased

__all__ = ["Migration", "NewerTablesError", "check_schema", "migrate", "migrations", "missing_migrations"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_LEDGER = """
CREATE TABLE IF NOT EXISTS migrations (
    number UInt32, name String, checksum FixedString(64), applied_at DateTime('UTC')
) ENGINE = ReplacingMergeTree ORDER BY number
""".strip()


class Migration(msgspec.Struct, frozen=True):
    """One file of statements."""

    number: int
    name: str
    checksum: str
    """SHA-256 of the file, hexadecimal."""
    statements: list[str]


def migrations() -> list[Migration]:
    """The migrations that this rater brings, in order."""
    found = []
    for entry in files("rater.store").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            text = entry.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), match[2], checksum, _statements(text)))
    found.sort(key=lambda migration: migration.number)
    assert [m.number for m in found] == list(range(1, len(found) + 1)), "migrations count up from 1"
    return found


def _statements(text: str) -> list[str]:
    """The statements of a file: each ends with a semicolon at the end of a line; comment lines are left out."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in re.split(r";\s*$", code, flags=re.MULTILINE) if statement.strip()]


class NewerTablesError(StoreSchemaError):
    """The tables were made by a newer rater."""


def migrate(store: Store, known: Sequence[Migration] | None = None, *, newer_is_fine: bool = False) -> list[Migration]:
    """Applies what is missing, in order; returns what was applied, nothing if the store is up to date.

    Puts what views need of the settings into the store, too.
    `newer_is_fine`: tables of a newer rater are left as they are, for services: a migration takes nothing away that
    the version before it needs. Raises StoreSchemaError if a file that was applied has changed since, or if the store
    was made by a newer rater; StoreLockedError if another process goes on changing the tables for minutes.
    """
    try:
        applied = _brought_up(store, known)
    except NewerTablesError as fault:
        if not newer_is_fine:
            raise
        log.warning("%s; this one goes on with them", fault)
        return []
    if known is None:
        note_focus(store)
    return applied


def _brought_up(store: Store, known: Sequence[Migration] | None) -> list[Migration]:
    if not missing_migrations(store, known):
        return []
    if store.is_embedded:
        return _apply(store, known, lambda: None)
    with leased(store) as lease:
        return _apply(store, known, lease.check)


def _apply(store: Store, known: Sequence[Migration] | None, check: Callable[[], None]) -> list[Migration]:
    """`check` is called before each statement, and raises if another process has begun to change the tables."""
    for statement in _rendered(store, _LEDGER):
        store.command(statement)
    missing = missing_migrations(store, known)
    for migration in missing:
        for written in migration.statements:
            for statement in _rendered(store, written):
                check()
                store.command(statement)
        check()
        store.insert(
            "migrations",
            [
                Column("number", "UInt32", [migration.number]),
                Column("name", "String", [migration.name]),
                Column("checksum", "FixedString(64)", [migration.checksum.encode()]),
                Column("applied_at", "UInt32", [int(time.time())]),
            ],
        )
    return missing


def _rendered(store: Store, statement: str) -> list[str]:
    return [statement] if store.cluster is None else store.cluster.rendered(statement)


def missing_migrations(store: Store, known: Sequence[Migration] | None = None) -> list[Migration]:
    """The migrations that `migrate` would apply. Raises StoreSchemaError as it does."""
    known = migrations() if known is None else known
    applied = _applied(store)
    newest = max(applied, default=0)
    if newest > len(known):
        raise NewerTablesError(
            f"the tables in {store.target} are of migration {newest}, this rater knows {len(known)}: "
            "use the rater that made them, or a newer one"
        )
    for migration in known:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise StoreSchemaError(
                f"migration {migration.number:04}_{migration.name}.sql is not the one that was applied to "
                f"{store.target}: put the file back as it was and write the change as a new migration"
            )
    return [migration for migration in known if migration.number not in applied]


def check_schema(store: Store) -> None:
    """Raises StoreSchemaError unless every migration of this rater, and no other, is applied."""
    missing = missing_migrations(store)
    if missing:
        raise StoreSchemaError(
            f"the tables in {store.target} lack {len(missing)} migration(s), first {missing[0].number:04}_"
            f"{missing[0].name}: run `rater migrate`"
        )


def _applied(store: Store) -> dict[int, str]:
    """Checksum by number. Raises StoreSchemaError if the tables are plain and should not be, or the other way round."""
    found = store.rows("SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = 'migrations'")
    if not found:
        return {}
    is_replicated = str(found[0][0]).startswith("Replicated")
    if is_replicated != (store.cluster is not None):
        there, wanted = ("replicated", "empty") if is_replicated else ("plain", f"{store.settings.cluster!r}")
        raise StoreSchemaError(
            f"the tables in {store.target} are {there}, and store.cluster is {wanted}: put the setting back, or use "
            "another database; rater does not turn one into the other"
        )
    if store.cluster is not None:
        store.command("SYSTEM SYNC REPLICA migrations")
    return {
        number: bytes(checksum).decode() for number, checksum in store.rows("SELECT number, checksum FROM migrations")
    }
