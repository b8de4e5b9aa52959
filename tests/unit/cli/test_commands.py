"""The command line: help that is quick and true, exit statuses, one line for every error."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from rater.cli import exits
from rater.cli.app import COMMANDS, _run
from rater.cli.work import run
from rater.stream.interfaces import StreamUnavailableError

RULES = Path(__file__).parents[3] / "rater" / "demo" / "data" / "rules.yaml"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `rater …` in this process, in an empty directory: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = _run(list(arguments))
        told = capfd.readouterr()
        return status, told.out, told.err

    return run


def every_command() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                yield from walk(f"{path} {name}", child)

    for name, (place, _) in COMMANDS.items():
        module, _, function = place.partition(":")
        yield from walk(name, getattr(importlib.import_module(module), function))


def test_help_names_every_command_and_the_exit_statuses(call: Call) -> None:
    status, out, err = call("--help")
    assert (status, err) == (exits.OK, "")
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in out
        assert text in out
    for number in (exits.OK, exits.FAILED, exits.USAGE, exits.REFUSED, exits.INTERRUPTED):
        assert f"\n    {number} " in out


def test_help_imports_none_of_the_large_libraries() -> None:
    code = (
        "import sys; from rater.cli.app import _run; assert _run(['--help']) == 0\n"
        "heavy = {'aiokafka', 'faust', 'chdb', 'clickhouse_connect', 'pyarrow', 'aiohttp', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("path", "command"), list(every_command()), ids=[path for path, _ in every_command()])
def test_every_command_has_help_and_those_that_do_something_an_example(path: str, command: click.Command) -> None:
    text = command.help or ""
    assert text.strip()
    quick_read_only = path in {"config check", "config show"}  # their group shows how
    assert quick_read_only or "Example" in text
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_is_that_of_the_command(name: str, call: Call) -> None:
    status, out, _ = call(name, "--help")
    assert status == exits.OK
    assert f"Usage: rater {name}" in out


@pytest.mark.parametrize(
    "command",
    [("whatif", "--rules", str(RULES)), ("export", "lines"), ("frames", "list"), ("gaps",), ("report", "--scope", "a")],
)
@pytest.mark.parametrize("end", ["2026-01-05", "2026-01-01T09:00"])
def test_a_span_without_any_time_is_wrong_usage(call: Call, command: tuple[str, ...], end: str) -> None:
    status, out, err = call(*command, "--from", "2026-01-05", "--to", end)
    assert (status, out) == (exits.USAGE, "")
    assert f"--from 2026-01-05 00:00 is not before --to {end[:10]} {end[11:] or '00:00'}: no time lies between" in err


def test_wrong_usage_is_status_2(call: Call) -> None:
    for arguments in (
        ("nothing",),
        ("report",),
        ("report", "--scope", "a"),
        ("report", "--scope", "a", "--from", "2026-01-01T00:30", "--to", "2026-01-02"),
        ("report", "--scope", "a", "--month", "2026-01", "--to", "2026-01-02"),
        ("report", "--scope", "a", "--month", "2026-13"),
        ("rerate", "--all", "--month", "January", "--reason", "r"),
        ("audit", "--month", "2026"),
        ("api", "--listen", "nonsense"),
        ("worker", "--listen", "127.0.0.1:99999"),
        ("frames", "list", "--from", "yesterday"),
        ("frames", "close", "--scope", "a", "--period", "2026-01-01T00:30", "--reason", "r"),
        ("export", "everything"),
        ("collect", "replay"),
        ("collect", "replay", "x", "--covers", "2026-01-02/2026-01-01"),
    ):
        status, out, err = call(*arguments)
        assert (status, out) == (exits.USAGE, ""), arguments
        assert "Error: " in err


def test_an_error_is_one_line_without_traceback(call: Call) -> None:
    for arguments, expected in (
        (("report", "--scope", "a", "--month", "2026-01"), "error: there is no store in "),
        (("gaps",), "error: there is no store in "),
        (("rules", "check", "none.yaml"), "error: none.yaml cannot be read: No such file or directory"),
        (("--config", "none.yaml", "gaps"), "error: none.yaml: cannot be read: No such file or directory"),
    ):
        status, out, err = call(*arguments)
        assert (status, out) == (exits.FAILED, ""), arguments
        assert err.startswith(expected)
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "list"),
        ("topics", "create"),
        ("rules", "log"),
        ("rules", "export"),
        ("rules", "apply", str(RULES), "--yes"),
        ("recover",),
        ("frames", "close", "--scope", "a", "--period", "2026-01-01", "--reason", "r"),
    ],
    ids=" ".join,
)
def test_kafka_away_is_one_line_that_names_it(
    arguments: tuple[str, ...], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATER_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    status, out, err = call(*arguments)
    assert (status, out) == (exits.FAILED, "")
    assert "127.0.0.1:1" in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("mysql://x", "store.dsn"),
        ("http://me:hunter2@127.0.0.1:1/rater", "store.username"),
        ("http://127.0.0.1:1/rater", "127.0.0.1:1"),
    ],
)
def test_a_wrong_store_is_one_line_without_the_password(
    dsn: str, expected: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATER_STORE__DSN", dsn)
    status, _, err = call("migrate")
    assert status == exits.FAILED
    assert expected in err
    assert "hunter2" not in err
    assert err.count("\n") == 1


def test_trouble_with_the_store_is_one_line_also_after_work_with_kafka(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATER_STORE__DSN", "http://127.0.0.1:1/rater")

    async def nothing() -> None: ...

    run(nothing())
    status, out, err = call("audit")

    assert (status, out) == (exits.FAILED, "")
    assert err.startswith("error: ClickHouse at http://127.0.0.1:1/rater cannot be reached")
    assert err.count("\n") == 1
    assert logging.getLogger("urllib3").level == logging.CRITICAL


def test_an_error_is_told_also_if_a_client_ends_as_if_it_were_cancelled() -> None:
    async def hung() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    async def work() -> None:
        try:
            raise StreamUnavailableError("Kafka at x is away")
        finally:
            await hung()

    with pytest.raises(StreamUnavailableError, match="Kafka at x is away"):
        run(work())
    with pytest.raises(asyncio.CancelledError):
        run(hung())


def test_every_fault_of_the_settings_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rater.yaml").write_text("kafka: {partitions: 0}\nengine: {period: 1}\n")
    status, _, err = call("config", "check")
    assert status == exits.FAILED
    assert "rater.yaml:1: kafka.partitions" in err
    assert "rater.yaml:2: engine.period" in err


def test_settings_are_shown_as_yaml_that_can_be_read_again(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rater.yaml").write_text("engine: {settle: 7}\n")
    _, shown, _ = call("config", "show")
    (tmp_path / "rater.yaml").write_text(shown)
    status, again, _ = call("config", "show")
    assert status == exits.OK
    assert again == shown
    assert "settle: 7" in shown


def test_rule_documents_are_checked_and_compared_without_kafka(call: Call, tmp_path: Path) -> None:
    # given
    changed = tmp_path / "changed.yaml"
    changed.write_text(RULES.read_text().replace('"0.0028"', '"0.003"').replace("value: hdd", "value: nvme"))
    # when / then
    assert call("rules", "check", str(RULES))[:2] == (
        exits.OK,
        f"{RULES}: 4 services, 4 fields, 12 mappings, 5 thresholds, no faults\n",
    )
    status, out, _ = call("rules", "diff", str(RULES), str(changed))
    assert status == exits.OK
    assert out.splitlines()[-1] == "1 to add, 1 to change, 1 to remove"
    assert any(line.startswith("~ mapping") and "0.0028" in line and "0.003" in line for line in out.splitlines())
    assert "no changes" in call("rules", "diff", str(RULES), str(RULES))[1]
    # given a document with faults
    changed.write_text("hashmap: {services: [{name: a, mappings: [{cost: x}]}, {nam: b}]}")
    status, _, err = call("rules", "check", str(changed))
    assert status == exits.FAILED
    assert err.count("changed.yaml:1: ") == 3


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    work = f"cd {tmp_path} && {sys.executable} -m rater config show | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr


def test_the_doctor_says_what_to_do_and_knows_of_reworks_audits_and_tls(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setenv("RATER_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    (tmp_path / "rater.yaml").write_text("api: {certificate_file: none.pem, key_file: none.pem}\n")
    # when
    status, out, _ = call("doctor")
    # then
    assert status == exits.FAILED
    lines = {line[4:].split()[0]: line for line in out.splitlines() if line[:3] in ("ok ", "RED")}
    assert "is Kafka running" in lines["kafka"]
    assert lines["api"] == "RED  api         api.certificate_file none.pem cannot be read: No such file or directory"
    assert "frames can be rated again from stored usage; late usage is rated by itself" in lines["rework"]
    assert lines["rework"].endswith("`rater reprocess` has no source (section collect is not set)")
    assert lines["audit"] == "ok   audit       every 3600 s in the sink's process; of everything: `rater audit`"
    # given what is switched off
    (tmp_path / "rater.yaml").write_text("sink: {usage: false}\naudit: {interval: 0}\n")
    # when / then
    _, out, _ = call("doctor")
    assert "no frame can be rated again" in out
    assert "the sink makes none" in out
