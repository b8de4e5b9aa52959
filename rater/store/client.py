"""The connection to ClickHouse: one client per thread, opened when first used, every error turned into ours."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from rater.store.cluster import Cluster, cluster_settings
from rater.store.engine_lock import lock_directory, unlock_directory
from rater.store.errors import StoreError, StoreSettingsError, store_error
from rater.store.settings import DATABASE, EmbeddedTarget, ServerTarget, StoreSettings, store_target

__all__ = ["Column", "Store"]

CONNECT_SECONDS = 10

# Every failure reaches our caller as an exception with its reason; the library logs the same once more with a
# traceback, at every repetition of an insert that waits for a server.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)

_SETTINGS: dict[str, Any] = {
    # an acknowledged insert is stored: 26.9 buffers inserts by default
    "async_insert": 0,
    # rows of one key are rare within a block, and FINAL finds them: looking for them costs half of an insert
    "optimize_on_insert": 0,
    # every key holds the time that partitions are cut by, so rows of two partitions never replace each other
    "do_not_merge_across_partitions_select_final": 1,
}


class Column(NamedTuple):
    """One column of a block to insert."""

    name: str
    wire_type: str
    """The ClickHouse type of `values`; the engine converts it to the type of the table's column."""
    values: Sequence[Any]


class Store:
    """ClickHouse, embedded or a server. May be shared by threads: each gets a client of its own.

    Nothing is opened before the first use, so that a service can start while the server is away. Every method raises
    a StoreError. An open embedded store keeps its directory from other processes until `close()`.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self.target: EmbeddedTarget | ServerTarget = store_target(settings)
        self.cluster = _cluster(settings, self.target)
        """What the tables are spread over; None if they are plain."""
        self._secrets: tuple[str, ...] = ()
        self._local = threading.local()
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._locked = False
        self._closed = False
        self.has_posted = False
        """Whether anything is known to be in table `posted`: see `posting.any_posted`."""
        self.posted_asked_at = 0.0

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return isinstance(self.target, EmbeddedTarget)

    @property
    def settings(self) -> StoreSettings:
        """As they were given."""
        return self._settings

    def changing(self, table: str) -> str:
        """What stands for the table in a statement that deletes rows or drops partitions."""
        return table if self.cluster is None else self.cluster.changing(table)

    def ping(self) -> None:
        """Opens the store if need be and asks it something."""
        self.rows("SELECT 1")

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows that a statement answers, all of them."""
        columns = self.columns(sql, parameters)
        return list(zip(*columns, strict=True))

    def columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Sequence[Any]]:
        """The columns that a statement answers, each whole; none if there is no row."""
        with self._errors("read"):
            result = self._client().query(sql, parameters=dict(parameters or {}), column_oriented=True)
            return list(result.result_columns)

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Runs a statement that answers nothing."""
        with self._errors("run a statement"):
            self._client().command(sql, parameters=dict(parameters or {}))

    def insert(self, table: str, columns: Sequence[Column], token: str = "") -> None:
        """Inserts one block and returns when it is stored. A repeated `token` is dropped by the engine, while it
        remembers it.
        """
        names, types, values = zip(*columns, strict=True)
        settings = {"insert_deduplication_token": token} if token else {}
        with self._errors(f"insert into {table}"):
            self._client().insert(
                table,
                values,
                column_names=names,
                column_type_names=types,
                column_oriented=True,
                settings=settings,
            )
        self.has_posted = self.has_posted or table == "posted"

    def close(self) -> None:
        """Closes the clients of all threads and gives the directory free. The store cannot be used again."""
        with self._guard:
            self._closed = True
            for client in list(self._clients):
                with contextlib.suppress(ClickHouseError, OSError):  # it is being thrown away
                    client.close()
            self._clients.clear()
            if self._locked:
                assert isinstance(self.target, EmbeddedTarget)
                unlock_directory(self.target.directory)
                self._locked = False

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            with self._guard:
                if self._closed:
                    raise StoreError(f"the store {self.target} was closed: open another one")
                client = self._open()
                self._clients.add(client)
            self._local.client = client
        return client

    def _open(self) -> Client:
        if isinstance(self.target, ServerTarget):
            return self._open_server(self.target)
        directory = self.target.directory
        if not self._locked:
            lock_directory(directory)
            self._locked = True
        path = str(directory) if directory else ":memory:"
        client = clickhouse_connect.get_client(interface="chdb", path=path, settings=_SETTINGS)
        client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        client.database = DATABASE
        return client

    def _open_server(self, target: ServerTarget) -> Client:
        password = self._password()
        return clickhouse_connect.get_client(
            interface="https" if target.secure else "http",
            host=target.host,
            port=target.port,
            database=target.database,
            username=self._settings.username or "default",
            password=password,
            ca_cert=self._settings.ca_file or None,
            settings=_SETTINGS | cluster_settings(self._settings),
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=self._settings.answer_timeout,
            autogenerate_session_id=False,  # no statement of ours needs a session, and a session is a lock
            compress="lz4",
        )

    def _password(self) -> str:
        path = self._settings.password_file
        if not path:
            return ""
        try:
            password = Path(path).read_text(encoding="utf-8").strip()
        except OSError as fault:
            raise StoreSettingsError(f"store.password_file {path!r} cannot be read: {fault.strerror}") from fault
        self._secrets = (password,) if password else ()
        return password

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ClickHouseError, OSError, UnicodeError, RuntimeError) as fault:  # chdb raises RuntimeError, too
            raise store_error(fault, str(self.target), doing, self._secrets) from None


def _cluster(settings: StoreSettings, target: EmbeddedTarget | ServerTarget) -> Cluster | None:
    """Raises StoreSettingsError for an embedded engine that should be one."""
    if not settings.cluster:
        return None
    if isinstance(target, EmbeddedTarget):
        raise StoreSettingsError(
            f"store.cluster {settings.cluster!r} needs a server, and store.dsn is {target}: write "
            "http://HOST:PORT/DATABASE, or leave store.cluster empty"
        )
    return Cluster(settings.cluster, target.database, settings.replica_path, settings.replica_name)
