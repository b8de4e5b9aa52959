"""Where ClickHouse is: the section `store` of rater.yaml and what its DSN means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from rater.store.errors import StoreSettingsError

__all__ = ["DATABASE", "EmbeddedTarget", "ServerTarget", "StoreSettings", "store_target"]

DATABASE = "rater"
MEMORY = ":memory:"
_FORMS = "chdb://DIRECTORY, chdb:///absolute/DIRECTORY, chdb://:memory:, http://HOST:PORT/DATABASE or https://…"


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `store` of rater.yaml."""

    dsn: Annotated[str, Meta(min_length=1, max_length=2000)] = "chdb://var/clickhouse"
    """`chdb://DIRECTORY` runs the engine inside the process, `http(s)://HOST:PORT/DATABASE` uses a server."""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    """Certificate authority of an https server, if the system does not know it."""
    answer_timeout: Annotated[int, Meta(ge=1, le=3600)] = 300
    """Seconds without a byte after which a statement on a server is given up; an insert is repeated then."""


class EmbeddedTarget(msgspec.Struct, frozen=True):
    """The engine in this process; `directory` is None for one that keeps its data for this process only."""

    directory: Path | None

    def __str__(self) -> str:
        return f"chdb://{self.directory or MEMORY}"


class ServerTarget(msgspec.Struct, frozen=True):
    """A server, reached by HTTP."""

    host: str
    port: int
    secure: bool
    database: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}/{self.database}"


def store_target(settings: StoreSettings) -> EmbeddedTarget | ServerTarget:
    """What `store.dsn` names. Raises StoreSettingsError; a password in it is refused and not repeated."""
    scheme, separator, rest = settings.dsn.partition("://")
    if separator and scheme == "chdb":
        return _embedded(rest)
    if separator and scheme in {"http", "https"}:
        return _server(settings.dsn, scheme == "https")
    raise StoreSettingsError(f"store.dsn {_shown(settings.dsn)!r} is no address of a store: write {_FORMS}")


def _embedded(rest: str) -> EmbeddedTarget:
    if rest in {MEMORY, "memory"}:
        return EmbeddedTarget(None)
    if not rest or "?" in rest or "\0" in rest:
        raise StoreSettingsError(f"store.dsn 'chdb://{rest}' names no directory: write {_FORMS}")
    return EmbeddedTarget(Path(rest).resolve())


def _server(dsn: str, secure: bool) -> ServerTarget:
    try:
        parts = urlsplit(dsn)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise StoreSettingsError(f"store.dsn {_shown(dsn)!r} is no address: write {_FORMS}") from None
    if "@" in parts.netloc:
        raise StoreSettingsError(
            f"store.dsn {_shown(dsn)!r} holds a user or a password: set store.username and store.password_file instead"
        )
    if not host or parts.query or parts.fragment:
        raise StoreSettingsError(f"store.dsn {_shown(dsn)!r} is no address: write {_FORMS}")
    database = unquote(parts.path.strip("/")) or DATABASE
    if "/" in database:
        raise StoreSettingsError(f"store.dsn {_shown(dsn)!r}: {database!r} is no name of a database: write {_FORMS}")
    return ServerTarget(host, port or (8443 if secure else 8123), secure, database)


def _shown(dsn: str) -> str:
    """The DSN without what stands before an @, which may be a password."""
    scheme, separator, rest = dsn.partition("://")
    if not separator:
        scheme, rest = "", dsn
    return f"{scheme}{separator}{'***@' if '@' in rest else ''}{rest.rpartition('@')[2]}"
