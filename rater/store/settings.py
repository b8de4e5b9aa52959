"""Where ClickHouse is: the section `store` of rater.yaml and what its DSN means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from rater.store.errors import StoreSettingsError

__all__ = [
    "DATABASE",
    "EmbeddedTarget",
    "FocusSettings",
    "RetentionSettings",
    "ServerTarget",
    "StoreSettings",
    "store_target",
]

DATABASE = "rater"
MEMORY = ":memory:"
ServiceCategory: TypeAlias = Literal[
    "AI and Machine Learning",
    "Analytics",
    "Business Applications",
    "Compute",
    "Databases",
    "Developer Tools",
    "Multicloud",
    "Identity",
    "Integration",
    "Internet of Things",
    "Management and Governance",
    "Media",
    "Migration",
    "Mobile",
    "Networking",
    "Security",
    "Storage",
    "Web",
    "Other",
]
"""Those that FOCUS allows."""
_FORMS = "chdb://DIRECTORY, chdb:///absolute/DIRECTORY, chdb://:memory:, http://HOST:PORT/DATABASE or https://…"


Months: TypeAlias = Annotated[int, Meta(ge=0, le=1200)]
"""Whole months of UTC that are kept beside the running one; 0 is for ever."""
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]


class RetentionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many months are kept, of each table that grows. What is older is removed, and readers are told so."""

    frames: Months = 0
    """What was billed: frames with their totals, posted lines, gaps and reworks."""
    lines: Months = 0
    """Single lines; 0 is as long as their frames, whose totals stay without them."""
    usage: Months = 0
    """Samples as they were collected; without them nothing can be rated again."""

    def __post_init__(self) -> None:
        if 0 < self.frames < self.lines:
            raise ValueError(
                f"lines ({self.lines} months) are kept no longer than frames ({self.frames}), without which they count "
                "for nothing: lower one, or raise the other"
            )


class FocusSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What FOCUS (the FinOps Foundation's format for costs) asks for and rater does not know."""

    billing_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "XXX"
    """ISO 4217. XXX says that prices have no currency; nothing is ever converted."""
    provider: Name = "rater"
    """Who offers the services."""
    publisher: Annotated[str, Meta(max_length=255)] = ""
    """Who makes them; empty: the provider."""
    invoice_issuer: Annotated[str, Meta(max_length=255)] = ""
    """Who writes the bills; empty: the provider."""
    service_categories: dict[str, ServiceCategory] = {}
    """FOCUS' category by metric; `Other` for all that are not named."""
    resource_label: Annotated[str, Meta(max_length=255)] = "id"
    """The label that names the resource of a line, in `groupby` or `metadata`."""


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
    cluster: Annotated[str, Meta(pattern=r"^[\w.-]{0,255}$")] = ""
    """Name of a cluster as the server's `remote_servers` has it: tables are replicated and distributed over it. Empty:
    plain tables on one server. Chosen before the first `rater migrate`.
    """
    replica_path: Annotated[str, Meta(pattern="^/.*{shard}.*{table}.*$|^/.*{table}.*{shard}.*$", max_length=500)] = (
        "/clickhouse/tables/{shard}/{database}/{table}"
    )
    """Where replicas of a table meet in ZooKeeper or Keeper, of macros that the servers know; for `cluster` alone."""
    replica_name: Annotated[str, Meta(pattern="^[^'\\\\]+$", max_length=255)] = "{replica}"
    """What differs between the replicas of a shard."""
    insert_quorum: Annotated[str, Meta(pattern="^(auto|[0-9]{1,2})$")] = "auto"
    """How many replicas of a shard must have an insert before it counts; `auto` is more than half of them."""
    retention: RetentionSettings = RetentionSettings()
    focus: FocusSettings = FocusSettings()


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
