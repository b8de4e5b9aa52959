"""`rater audit` as it is called: what it says of a store with nothing to look at, and what its last line says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rater.audit import Invariant, Violation
from rater.audit.auditor import Counts
from rater.cli.audit import _tell


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a store without any row is."""
    made = tmp_path_factory.mktemp("audited")
    assert rater(made, "migrate").returncode == 0
    return made


def rater(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    return subprocess.run(
        [sys.executable, "-m", "rater", *arguments],
        cwd=directory,
        env=plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_scope_that_is_written_wrongly_is_not_called_sound(directory: Path) -> None:
    done = rater(directory, "audit", "--scope", "nobody")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: nothing was checked: there are no frames of scope 'nobody': see `rater frames list`\n"
    )


def test_of_an_empty_store_it_is_said_that_nothing_was_checked(directory: Path) -> None:
    done = rater(directory, "audit", "--month", "2026-01")

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("nothing was checked: there are no frames of that time\n")


def test_the_last_line_names_what_is_broken_and_what_was_checked(capfd: pytest.CaptureFixture[str]) -> None:
    found = Violation(Invariant.PRICES_FOLLOW_RULES, "A", 0, "cpu", "price 1", "price 2", ())

    _tell(Counts(frames=1), (), [found], prices=False)

    assert ": 1 violations of prices_follow_rules; checked: every_sample_once, " in capfd.readouterr().err
