"""The same store by HTTP: another process has the engine, with a password, and may be away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rater.store import (
    Batch,
    Store,
    StoreAccessError,
    StoreSchemaError,
    StoreSettings,
    StoreUnavailableError,
    check_schema,
    delete_superseded,
    frames,
    gaps,
    lines,
    migrate,
    totals,
    write,
)
from tests.integration.clickhouse_http import PASSWORD, USER, Server, clickhouse_server
from tests.unit.store.builders import (
    HOUR,
    JANUARY,
    a_collection,
    a_frame,
    a_gap_alert,
    a_hit_frame,
    a_line,
    store_frames,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with clickhouse_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def settings(server: Server, tmp_path: Path, password: str = PASSWORD, database: str = "rater") -> StoreSettings:
    (tmp_path / "password").write_text(f"{password}\n")
    dsn = f"http://127.0.0.1:{server.port}/{database}"
    return StoreSettings(dsn, username=USER, password_file=str(tmp_path / "password"))


def test_a_server_holds_the_same_as_the_embedded_engine(server: Server, tmp_path: Path) -> None:
    # given tables on the server
    with Store(settings(server, tmp_path)) as store:
        migrate(store)
        check_schema(store)

        # when everything that can be written is written
        store_frames(store, a_hit_frame(), a_frame("it's", lines=[a_line(1), a_line(2, price="1E-38")]))
        batch = Batch()
        batch.add_alert(a_gap_alert(True, 0))
        batch.add_collection(a_collection())
        for _ in range(2):
            write(store, batch, "token")

        # then it can be read and pruned
        assert [row.scope_id for row in frames(store)] == ["alpha", "it's"]
        assert [str(row.price) for row in lines(store, "it's")] == ["0.5", "1E-38"]
        assert [str(row.price) for row in totals(store, "it's")] == ["0.5" + "0" * 36 + "1"]
        assert [row.is_open for row in gaps(store)] == [True]
        assert store.rows("SELECT count() FROM usage FINAL") == [(2,)]
        assert delete_superseded(store) == 0


def test_what_the_client_sends_in_several_blocks_is_stored_whole(server: Server, tmp_path: Path) -> None:
    # given more rows than the client puts into one block
    count = 40_000
    with Store(settings(server, tmp_path)) as store:
        migrate(store)
        store_frames(store, a_frame("wide", lines=[a_line(number) for number in range(count)]))

        # then all of them are there
        assert sum(1 for _ in lines(store, scope_id="wide")) == count


def test_a_page_of_many_frames_is_asked_for_by_their_keys(server: Server, tmp_path: Path) -> None:
    with Store(settings(server, tmp_path)) as store:
        migrate(store)
        store_frames(store, *(a_frame("é" * 120, JANUARY + n * HOUR, lines=[a_line(1)]) for n in range(1500)))

        assert len(list(lines(store, "é" * 120))) == 1500


def test_a_wrong_password_is_said_and_not_shown(server: Server, tmp_path: Path) -> None:
    store = Store(settings(server, tmp_path, password="pa55-is-wrong"))
    with store, pytest.raises(StoreAccessError, match=r"store\.username and store\.password_file") as raised:
        store.ping()
    assert "pa55-is-wrong" not in str(raised.value)


def test_an_unknown_database_is_named(server: Server, tmp_path: Path) -> None:
    store = Store(settings(server, tmp_path, database="nowhere"))
    with store, pytest.raises(StoreAccessError, match=r"database does not exist.*nowhere"):
        store.ping()


def test_a_server_without_tables_says_what_to_run(server: Server, tmp_path: Path) -> None:
    with (
        Store(settings(server, tmp_path, database="default")) as store,
        pytest.raises(StoreSchemaError, match="migrate"),
    ):
        list(frames(store))


def test_a_store_outlives_its_server(tmp_path: Path) -> None:
    with clickhouse_server(tmp_path / "own") as server, Store(settings(server, tmp_path)) as store:
        migrate(store)
        store_frames(store, a_frame(lines=[a_line(1)]))

        # when the server is killed
        server.kill()

        # then every use says so in one line, until it is back, with what was acknowledged
        with pytest.raises(StoreUnavailableError, match="is it running") as raised:
            list(lines(store))
        assert "\n" not in str(raised.value)
        with pytest.raises(StoreUnavailableError):
            store_frames(store, a_frame(lines=[a_line(1)]))
        server.start()
        assert len(list(lines(store))) == 1


def test_a_server_that_was_never_there(tmp_path: Path) -> None:
    with (
        Store(StoreSettings("http://127.0.0.1:1/rater")) as store,
        pytest.raises(StoreUnavailableError, match="running"),
    ):
        store.ping()


def test_a_server_that_falls_silent_is_given_up() -> None:
    # given something that takes connections and says nothing
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"http://127.0.0.1:{silent.getsockname()[1]}/rater"
        settings, given_up = (
            StoreSettings(dsn, answer_timeout=1),
            pytest.raises(StoreUnavailableError, match="timeout=1"),
        )
        with Store(settings) as store, given_up:
            # when / then
            store.rows("SELECT 1")
