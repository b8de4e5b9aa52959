"""What CI's verdict rests on: the runner of steps and the check of generated files."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# Stands for make: the name of the target says what happens. Called as `fake --no-print-directory TARGET`.
FAKE_MAKE = """#!/bin/sh
case "$2" in
  good) exit 0 ;;
  bad) exit 3 ;;
  hangs) touch "$REPORTS/started"; trap 'touch "$REPORTS/interrupted"; exit 1' INT; while :; do sleep 0.1; done ;;
  leaves) sleep 600 & echo $! > "$REPORTS/left"; exit 0 ;;
  long) sleep 2 ;;
  tests) echo it says this; cp "$REPORTS/source" "$REPORTS/tests.xml" ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    make = tmp_path / "fake-make"
    make.write_text(FAKE_MAKE)
    make.chmod(0o755)
    return make


def steps(fake: Path, *arguments: str, minutes: float = 1, ci: bool = False) -> subprocess.CompletedProcess[str]:
    reports = fake.parent
    command = [
        sys.executable,
        str(SCRIPTS / "steps.py"),
        f"--make={fake}",
        f"--reports={reports}",
        f"--minutes={minutes}",
    ]
    environment = {**os.environ, "REPORTS": str(reports), "CI": "true" if ci else ""}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def report(fake: Path, *, tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> None:
    suite = f'<testsuite tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"/>'
    (fake.parent / "source").write_text(f"<testsuites>{suite}</testsuites>")


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """step -> its line in the summary."""
    lines = done.stdout.split("=== summary\n")[1].splitlines()
    return {line.split()[0]: line for line in lines}


def test_all_steps_good_is_zero(fake: Path) -> None:
    done = steps(fake, "good:9", "good:9")

    assert done.returncode == 0, done.stdout
    assert summary(done)["good"].endswith("ok")


def test_a_failed_step_fails_the_whole_and_the_others_still_run(fake: Path) -> None:
    report(fake, tests=7)

    done = steps(fake, "bad:9", "tests:9")

    assert done.returncode == 1
    assert summary(done)["bad"].endswith("FAILED (exit 3)")
    assert "7 passed, 0 failed, 0 skipped" in summary(done)["tests"]


def test_nothing_runs_without_what_all_need(fake: Path) -> None:
    done = steps(fake, "--first=bad:9", "good:9")

    assert done.returncode == 1
    assert summary(done)["good"].endswith("NOT RUN")


def test_a_step_over_its_time_is_interrupted_and_fails(fake: Path) -> None:
    done = steps(fake, "hangs:2", "good:9")

    assert done.returncode == 1
    assert (fake.parent / "interrupted").exists()
    assert "not done in 2 s" in summary(done)["hangs"]
    assert summary(done)["good"].endswith("ok")


def test_a_step_that_the_budget_does_not_reach_fails(fake: Path) -> None:
    done = steps(fake, "hangs:60", "good:9", minutes=0.03)

    assert done.returncode == 1
    assert "NOT RUN" in summary(done)["good"]


def test_what_a_step_leaves_running_is_ended(fake: Path) -> None:
    done = steps(fake, "leaves:9")

    assert done.returncode == 0
    left = (fake.parent / "left").read_text().strip()
    waited = time.monotonic() + 20
    while (state := process_state(left)) not in ("", "Z") and time.monotonic() < waited:
        time.sleep(0.05)
    assert state in ("", "Z")


def test_a_second_lane_runs_beside_a_step_and_counts(fake: Path) -> None:
    # given a step of two seconds, and two beside it, one of which fails
    report(fake, tests=5)
    begun = time.monotonic()
    done = steps(fake, "--during=long", "--beside=tests:9", "--beside=bad:9", "good:9", "long:9", "good:9")

    # then all ran, at the same time, and the failure counts
    assert done.returncode == 1
    assert "5 passed, 0 failed, 0 skipped" in summary(done)["tests"]
    assert summary(done)["bad"].endswith("FAILED (exit 3)")
    assert summary(done)["long"].endswith("ok")
    assert "it says this" in done.stdout
    assert done.stdout.index("=== tests (at most") < done.stdout.index("=== long: ok")
    assert time.monotonic() - begun < 20


def test_the_last_step_of_the_second_lane_is_waited_for(fake: Path) -> None:
    done = steps(fake, "--during=good", "--beside=long:9", "good:9")
    assert (done.returncode, summary(done)["long"].endswith("ok")) == (0, True)


def test_a_step_beside_over_its_time_fails(fake: Path) -> None:
    done = steps(fake, "--during=good", "--beside=hangs:2", "--beside=good:9", "good:9")
    assert done.returncode == 1
    assert (fake.parent / "interrupted").exists()
    assert "not done in 2 s" in summary(done)["hangs"]


def test_a_second_lane_that_never_began_fails(fake: Path) -> None:
    done = steps(fake, "--first=bad:9", "--during=good", "--beside=tests:9", "good:9")
    assert summary(done)["tests"].endswith("NOT RUN")


def process_state(pid: str) -> str:
    """One letter as `ps` has it, empty when there is no such process; Z has ended and waits for its parent."""
    return subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout[:1]


def test_tests_are_summed_up_in_a_line_of_their_own(fake: Path) -> None:
    report(fake, tests=10, failures=1, errors=2, skipped=3)

    done = steps(fake, "tests:9")

    assert done.stdout.splitlines()[-1] == "tests: 4 passed, 3 failed, 3 skipped"


@pytest.mark.parametrize(("ci", "code"), [(False, 0), (True, 1)])
def test_a_skipped_test_fails_ci_only(fake: Path, ci: bool, code: int) -> None:
    report(fake, tests=2, skipped=1)

    done = steps(fake, "tests:9", ci=ci)

    assert done.returncode == code, done.stdout


def test_a_report_of_an_earlier_run_does_not_count(fake: Path) -> None:
    report(fake, tests=2)
    (fake.parent / "good.xml").write_text((fake.parent / "source").read_text())

    done = steps(fake, "good:9")

    assert done.stdout.splitlines()[-1] == "tests: 0 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("printf same > $1/kept", 0),
        ("printf other > $1/kept", 1),
        ("touch $1/added", 1),
        ("rm $1/kept", 1),
        ("exit 7", 7),
    ],
)
def test_generated_files_must_be_up_to_date(tmp_path: Path, command: str, code: int) -> None:
    (tmp_path / "kept").write_text("same")

    call = [sys.executable, str(SCRIPTS / "unchanged.py"), str(tmp_path), "sh", "-c", command, "sh", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)

    assert done.returncode == code, done.stderr


def test_each_defect_of_a_promise_can_be_planted() -> None:
    """`make mutants` replaces exact texts: whoever changes one of them brings scripts/promises.py up to date."""
    spec = importlib.util.spec_from_file_location("promises", SCRIPTS / "promises.py")
    assert spec is not None
    assert spec.loader is not None
    promises = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(promises)

    assert len(promises.DEFECTS) >= 12
    for defect in promises.DEFECTS:
        assert all((SCRIPTS.parent / test).exists() for test in defect.tests), defect.name
        for edit in defect.edits:
            assert (SCRIPTS.parent / edit.path).read_text().count(edit.old) == 1, f"{defect.name}: {edit.path}"
