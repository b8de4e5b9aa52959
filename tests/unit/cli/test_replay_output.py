"""What `rater collect replay` says: how far it is, what it did, and what to do after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from collectors.replay.intake import LineFault
from collectors.replay.words import ReplayProgress, ReplayReport
from rater.cli import replay
from rater.cli.app import cli

REPORT = ReplayReport(
    "replay", 1000, 1_767_225_600, 1_767_229_200, ("p1", "p2"), ("cpu",), 7, 4, 3, 1,
    (LineFault(2, "this is no JSON", "b.jsonl"),), 2, ("d: left out",),
)  # fmt: skip
SEEN = [
    ReplayProgress("reading", 1000, 2_000_000, 5),
    ReplayProgress("reading", 2_000_000, 2_000_000, 7000),
    ReplayProgress("publishing", 6000, 7000, 7000),
]


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str, fault: BaseException | None = None) -> Any:
    given: list[Any] = []

    async def replay_files(paths: Any, kafka: Any, options: Any, catalog: Any, watch: Any) -> ReplayReport:
        given[:] = [paths, options]
        for seen in SEEN:
            watch(seen)
        if fault:
            raise fault
        return REPORT

    monkeypatch.setattr("collectors.replay.run.replay_files", replay_files)
    monkeypatch.setattr(replay, "_SHOWN_EACH_SECONDS", 0.0)
    monkeypatch.setattr(replay, "PLAIN_SECONDS", 0.0)
    monkeypatch.delenv("RATER_CONFIG", raising=False)
    found = CliRunner().invoke(cli, ["collect", "replay", *arguments], standalone_mode=False)
    return found, given


def test_the_summary_for_people_and_for_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found, given = _call(monkeypatch, "a.jsonl", "b.jsonl", "--rate", "100", "--format", "csv", "--anew")

    assert found.return_value == 1
    assert found.stdout.strip() == (
        "2 files: 7 samples of 2 scopes and 1 metrics, 2026-01-01 00:00 to 2026-01-01 01:00 UTC, in 4 collections, "
        "3 of them published before the interruption"
    )
    assert found.stderr.splitlines()[-3:] == [
        "d: left out",
        "b.jsonl:2: this is no JSON",
        "2 files: 1 lines were rejected; they lie in topic rejected, with the reason",
    ]
    paths, options = given
    assert (paths, options.rate, options.form, options.anew) == (("a.jsonl", "b.jsonl"), 100.0, "csv", True)

    found, _ = _call(monkeypatch, "usage")
    assert found.stdout.startswith("usage (2 files): 7 samples")

    found, _ = _call(monkeypatch, "a.jsonl", "--out", "json")
    summary = json.loads(found.stdout)
    assert summary.pop("seconds") >= 0
    assert summary == {
        "source": "replay", "attempt": 1000, "begin": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z", "files": 2,
        "scopes": 2, "metrics": 1, "samples": 7, "collections": 4, "already": 3, "rejected": 1,
    }  # fmt: skip


def test_progress_into_a_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found, _ = _call(monkeypatch, "a.jsonl")

    assert found.stderr.splitlines()[:3] == [
        "reading: 1 000 of 2 000 000 bytes, 5 samples",
        "reading: 2 000 000 of 2 000 000 bytes, 7 000 samples",
        "publishing: 6 000 of 7 000 samples",
    ]


def test_an_interruption_says_what_stays_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found, _ = _call(monkeypatch, "a.jsonl", fault=KeyboardInterrupt())

    assert "6 000 of 7 000 samples were confirmed, and stay: the same command goes on after them" in found.stderr


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    with replay._bars() as show:
        for seen in SEEN:
            show(seen)

    shown = capsys.readouterr().err
    assert "reading" in shown
    assert "2 000 000 of 2 000 000 bytes, 7 000 samples" in shown
    assert "6 000 of 7 000 samples" in shown


@pytest.mark.parametrize(
    "wrong", [("--rate", "0"), ("--rate", "-1"), ("--format", "xml"), ("--covers", "2026-01-01"), ("--out", "yaml")]
)
def test_wrong_options_are_told(wrong: tuple[str, str]) -> None:
    found = CliRunner().invoke(cli, ["collect", "replay", "a.jsonl", *wrong])

    assert found.exit_code == 2
