"""Everything that may go wrong with the store, as one tree below RaterError.

    RaterError
    └── StoreError
        ├── StoreSettingsError      `store.dsn` or a file it needs is wrong
        ├── StoreAccessError        password, user, database or rights: a person has to act
        ├── StoreUnavailableError   may work later without any change: away, busy, disk full, read-only
        │   └── StoreLockedError    another process has the embedded engine's directory open
        ├── StoreSchemaError        tables are missing, changed, or made by a newer rater
        ├── UnstorableError         a value that no column can hold
        ├── ReadConflictError       frames were replaced again and again while their lines were read
        └── BeyondRetentionError    what was asked for was removed, since it is kept no longer (exit status 3)

Every message is one line that says what to do, and never holds a password.
"""

from __future__ import annotations

import re

from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from rater.model.errors import RaterError

__all__ = [
    "BeyondRetentionError",
    "ReadConflictError",
    "StoreAccessError",
    "StoreError",
    "StoreLockedError",
    "StoreSchemaError",
    "StoreSettingsError",
    "StoreUnavailableError",
    "UnstorableError",
    "store_error",
]

MESSAGE_LENGTH = 400


class StoreError(RaterError):
    """The store refuses something or cannot do it."""


class StoreSettingsError(StoreError):
    """The settings cannot be used."""


class StoreAccessError(StoreError):
    """The server refuses us: user, password, database or rights."""


class StoreUnavailableError(StoreError):
    """It does not work now and may later; nothing was lost, try again."""


class StoreLockedError(StoreUnavailableError):
    """The directory of the embedded engine belongs to another process."""


class StoreSchemaError(StoreError):
    """The tables are not those of this rater."""


class UnstorableError(StoreError):
    """A value that no column can hold exactly."""


class ReadConflictError(StoreError):
    """Lines and their frame did not fit together in any of the attempts."""


class BeyondRetentionError(StoreError):
    """It was there and is kept no longer: `store.retention`."""

    exit_status = 3


# numbers of ClickHouse's src/Common/ErrorCodes.cpp
_ACCESS = {
    192: "the user is unknown: set store.username",
    193: "the password is wrong: see store.password_file",
    194: "a password is needed: set store.password_file",
    497: "the user lacks a right: grant it",
    516: "user or password is wrong: set store.username and store.password_file",
    81: "the database does not exist: create it (CREATE DATABASE …) or correct store.dsn",
}
_LATER = {
    74: "the disk cannot be read",
    75: "the disk cannot be written: is it full?",
    76: "a file cannot be opened: rights, or no space left?",
    159: "it took too long",
    164: "it is read-only",
    198: "a host name cannot be resolved",
    201: "a quota is used up",
    202: "too many queries at once",
    203: "no free connection",
    209: "the connection timed out",
    210: "the connection was lost",
    225: "the coordination service (Keeper) is away",
    241: "it is out of memory",
    242: "the table is read-only",
    243: "the disk is full: make room",
    252: "too many parts: it cannot keep up with merging",
    319: "whether the insert was taken is unknown",
    425: "a system call failed",
    999: "the coordination service (Keeper) failed",
    1001: "the engine met an error of the system: is the disk full?",
}
_SCHEMA = {
    16: "a column is missing",
    47: "a column is unknown",
    60: "a table is missing",
}


_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([^')\"]+)")


def store_error(fault: Exception, target: str, doing: str, secrets: tuple[str, ...] = ()) -> StoreError:
    """The error of ours for what the client raised while `doing`; `target` names the store without its password."""
    code = getattr(fault, "code", None)
    said = _one_line(fault, secrets)
    if code in _ACCESS:
        return StoreAccessError(f"ClickHouse at {target}: {_ACCESS[code]} ({said})")
    if code in _LATER:
        return StoreUnavailableError(f"ClickHouse at {target} cannot {doing} now: {_LATER[code]} ({said})")
    if code in _SCHEMA:
        return StoreSchemaError(f"ClickHouse at {target}: {_SCHEMA[code]}: run `rater migrate` ({said})")
    if isinstance(fault, OSError):
        return StoreUnavailableError(f"ClickHouse at {target} cannot {doing} now: {said}")
    if code is None and isinstance(fault, OperationalError):
        reason = _SYSTEM_ERROR.search(said)  # the rest is the names of three nested exceptions
        return StoreUnavailableError(
            f"ClickHouse at {target} cannot be reached: is it running, is store.dsn right? "
            f"({reason[1] if reason else said})"
        )
    if isinstance(fault, UnicodeEncodeError):
        return UnstorableError(f"ClickHouse at {target}: a text is no Unicode: {said}")
    if isinstance(fault, ClickHouseError):
        return StoreError(f"ClickHouse at {target} refused to {doing}: {said}")
    return StoreError(f"ClickHouse at {target}: {doing} failed: {type(fault).__name__}: {said}")


def _one_line(fault: Exception, secrets: tuple[str, ...]) -> str:
    text = " ".join(str(fault).split())
    text = re.split(r",? Stack trace| \(version \d|\.? In scope ", text)[0]
    for secret in secrets:
        text = text.replace(secret, "***")
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"
