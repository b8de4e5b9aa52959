from __future__ import annotations

import re
from pathlib import Path

import pytest

from rater.config import ConfigError, load_config
from rater.store import EmbeddedTarget, ServerTarget, Store, StoreAccessError, StoreSettings, StoreSettingsError
from rater.store.errors import StoreSchemaError, StoreUnavailableError, UnstorableError, store_error
from rater.store.settings import store_target


@pytest.mark.parametrize(
    ("dsn", "target", "text"),
    [
        ("chdb:///srv/ch", EmbeddedTarget(Path("/srv/ch")), "chdb:///srv/ch"),
        ("chdb://var/ch", EmbeddedTarget(Path.cwd() / "var/ch"), f"chdb://{Path.cwd()}/var/ch"),
        ("chdb://:memory:", EmbeddedTarget(None), "chdb://:memory:"),
        ("http://ch:9000/bills", ServerTarget("ch", 9000, False, "bills"), "http://ch:9000/bills"),
        ("http://ch", ServerTarget("ch", 8123, False, "rater"), "http://ch:8123/rater"),
        ("https://[::1]/a%20b/", ServerTarget("::1", 8443, True, "a b"), "https://[::1]:8443/a b"),
    ],
)
def test_what_a_dsn_means(dsn: str, target: object, text: str) -> None:
    assert store_target(StoreSettings(dsn)) == target
    assert str(store_target(StoreSettings(dsn))) == text


@pytest.mark.parametrize(
    "dsn",
    [
        "clickhouse://x",
        "var/ch",
        "chdb://",
        "chdb://a?b=c",
        "http://",
        "http://ch:port/x",
        "http://ch/a/b",
        "http://ch/?x=y",
    ],
)
def test_what_is_no_dsn_says_how_one_looks(dsn: str) -> None:
    with pytest.raises(StoreSettingsError, match=r"chdb://DIRECTORY|no name of a database") as raised:
        Store(StoreSettings(dsn))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dsn", ["http://me:hunter2@ch/x", "https://hunter2@ch", "postgres://me:hunter2@ch/x"])
def test_a_password_in_the_dsn_is_refused_and_not_repeated(dsn: str) -> None:
    with pytest.raises(StoreSettingsError) as raised:
        Store(StoreSettings(dsn))
    assert "hunter2" not in str(raised.value)


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "password")
    store = Store(StoreSettings("http://127.0.0.1:1/x", password_file=missing))
    with store, pytest.raises(StoreSettingsError, match=r"store\.password_file .*No such file"):
        store.ping()


class _CodedError(Exception):
    def __init__(self, text: str, code: int | None) -> None:
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize(
    ("code", "kind"),
    [(516, StoreAccessError), (81, StoreAccessError), (243, StoreUnavailableError), (60, StoreSchemaError)],
)
def test_an_error_of_the_server_becomes_one_line_without_the_password(code: int, kind: type[Exception]) -> None:
    fault = _CodedError("Code: 1.\nDB::Exception: hunter2 is wrong, Stack trace (when copying): 0. main", code)

    said = store_error(fault, "http://ch:8123/x", "read", ("hunter2",))

    assert type(said) is kind
    assert "hunter2" not in str(said)
    assert "Stack" not in str(said)
    assert "\n" not in str(said)


def test_errors_of_the_system_may_pass_and_faulty_text_will_not() -> None:
    assert type(store_error(OSError(28, "No space left"), "x", "insert")) is StoreUnavailableError
    assert type(store_error(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), "x", "insert")) is UnstorableError


def test_the_settings_on_the_page_are_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "store.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "rater.yaml").write_text(block)
        settings = load_config(tmp_path / "rater.yaml", {}).settings.store
        assert settings != StoreSettings(settings.dsn)
        Store(settings)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("RETENTION", "{frames: 2, lines: 3}", r"lines \(3 months\) are kept no longer than frames \(2\)"),
        ("CLUSTER", "my cluster", "cluster"),
        ("REPLICA_PATH", "/tables/{table}", "replica_path"),
        ("INSERT_QUORUM", "most", "insert_quorum"),
        ("FOCUS", "{billing_currency: euro}", "billing_currency"),
        ("FOCUS", "{service_categories: {cpu: Computing}}", "service_categories"),
    ],
)
def test_what_cannot_be_set_is_named(tmp_path: Path, name: str, value: str, fault: str) -> None:
    (tmp_path / "rater.yaml").write_text(f"store: {{{name.lower()}: {value if value[0] == '{' else repr(value)}}}\n")
    with pytest.raises(ConfigError, match=fault):
        load_config(tmp_path / "rater.yaml", {})
