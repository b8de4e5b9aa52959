"""Runs `make` targets one after another, each within a time limit, and sums them up: `make test` is one call of this.

While the target of `--during` runs, which mostly waits, those of `--beside` run one after another, too; what they print
comes when they have ended.

Every step runs even after one failed, so that one run tells everything; only without those of `--first` there is no
point in going on. A step that was not reached in the whole budget counts as failed, and so does a skipped test where
CI=true: nothing is left out silently.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent

# How long a process group may take to end after each signal: pytest stops brokers and engines when interrupted.
_ENDINGS = ((signal.SIGINT, 45.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))

# The command line of the outer make reaches the inner ones by exported variables; its job server cannot.
_OUTER_MAKE = frozenset({"MAKEFLAGS", "MFLAGS", "MAKELEVEL"})


class Tests(NamedTuple):
    """What pytest's report of a step says."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: object) -> Tests:
        if not isinstance(other, Tests):
            return NotImplemented
        return Tests(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


class Result(NamedTuple):
    """One step: `verdict` is `ok` or the reason of the failure."""

    step: str
    verdict: str
    seconds: float
    tests: Tests | None


def main() -> int:
    """0 when every step ended with 0 in time, 1 otherwise; 130 after Ctrl-C."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # also where a shell started us with SIGINT ignored
    deadline = time.monotonic() + options.minutes * 60
    for old in options.reports.glob("*.xml"):
        old.unlink()
    steps: list[tuple[str, float]] = [*options.first, *options.steps]
    results: list[Result] = []
    beside = _Beside(options, deadline)
    try:
        for step, limit in steps:
            if step == options.during:
                beside.start()
            results.append(_run(_command(options, step), options.reports, min(limit, deadline - time.monotonic())))
            if len(results) <= len(options.first) and results[-1].verdict != "ok":
                break
        beside.join()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return 130
    finally:
        beside.end()
        results += [Result(step, "NOT RUN", 0.0, None) for step, _ in steps[len(results) :]]
        results += beside.results
        results += [Result(step, "NOT RUN", 0.0, None) for step, _ in options.beside[len(beside.results) :]]
        _sum_up(results)
    return 0 if all(result.verdict == "ok" for result in results) else 1


class _Beside:
    """The second lane: a thread that runs its steps and prints of each what it said when it has ended."""

    def __init__(self, options: argparse.Namespace, deadline: float) -> None:
        self.results: list[Result] = []
        self._options = options
        self._deadline = deadline
        self._thread = threading.Thread(target=self._work)
        self._running: list[subprocess.Popen[bytes]] = []
        self._ended = False

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Waits for the last step."""
        while self._thread.is_alive():  # by pieces, so that Ctrl-C is heard
            self._thread.join(1)

    def end(self) -> None:
        """Interrupts what runs, and begins nothing more."""
        self._ended = True
        for process in self._running:
            _end(process)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        for step, limit in self._options.beside:
            if self._ended:
                break
            with tempfile.TemporaryFile() as said:
                left = min(limit, self._deadline - time.monotonic())
                self.results.append(
                    _run(_command(self._options, step), self._options.reports, left, said, self._running)
                )
                said.seek(0)
                print(said.read().decode(errors="replace"), flush=True)


def _command(options: argparse.Namespace, step: str) -> list[str]:
    return [options.make, "--no-print-directory", step]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--make", default="make", help="the make to call; default: %(default)s")
    parser.add_argument(
        "--reports", type=Path, default=ROOT / ".cache" / "reports", help="where pytest's TARGET.xml lie"
    )
    parser.add_argument(
        "--first", action="append", type=_step, default=[], metavar="TARGET:SECONDS", help="what all others need"
    )
    parser.add_argument(
        "--beside", action="append", type=_step, default=[], metavar="TARGET:SECONDS", help="a step of the second lane"
    )
    parser.add_argument("--during", default="", metavar="TARGET", help="the step with which the second lane begins")
    parser.add_argument("--minutes", type=float, required=True, help="budget of all steps together")
    parser.add_argument("steps", nargs="+", type=_step, metavar="TARGET:SECONDS")
    return parser.parse_args()


def _step(text: str) -> tuple[str, float]:
    target, _, seconds = text.rpartition(":")
    return target, float(seconds)


def _run(
    command: list[str],
    reports: Path,
    limit: float,
    output: IO[bytes] | None = None,
    running: list[subprocess.Popen[bytes]] | None = None,
) -> Result:
    """One step. What it prints goes to `output`, if there is one; its process is in `running` as long as it runs."""
    step = command[-1]
    report = reports / f"{step}.xml"
    if limit <= 0:
        return Result(step, "NOT RUN: the time of all steps was used up", 0.0, None)
    print(f"\n=== {step} (at most {limit:.0f} s)", flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in _OUTER_MAKE}
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
    )
    if running is not None:
        running[:] = [process]
    try:
        code = process.wait(limit)
        verdict = "ok" if code == 0 else f"FAILED (exit {code})"
    except subprocess.TimeoutExpired:
        verdict = f"FAILED (not done in {limit:.0f} s)"
    finally:
        _end(process)
    tests = _tests(report)
    if verdict == "ok" and tests and tests.skipped and os.environ.get("CI") == "true":
        verdict = "FAILED (skipped tests)"
    seconds = time.monotonic() - begun
    print(f"=== {step}: {verdict}, {seconds:.1f} s", flush=True)
    return Result(step, verdict, seconds, tests)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the step's process group: gently first, because tests own brokers and directories."""
    for number, patience in _ENDINGS:
        if process.poll() is not None:
            break
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left, as Linux and macOS say it
        os.killpg(process.pid, signal.SIGKILL)


def _tests(report: Path) -> Tests | None:
    """The counts of a JUnit report, None if the step wrote none."""
    if not report.exists():
        return None
    total = Tests()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # written by our own pytest
        ran, failed, errors, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
        total += Tests(ran - failed - errors - skipped, failed + errors, skipped)
    return total


def _sum_up(results: list[Result]) -> None:
    print("\n=== summary")
    total = Tests()
    for step, verdict, seconds, tests in results:
        counts = f"{tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped" if tests else ""
        print(f"{step:<16}{seconds:>8.1f} s  {counts:<36}{verdict}")
        total += tests or Tests()
    print(f"{'total':<16}{sum(result.seconds for result in results):>8.1f} s")
    print(f"tests: {total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)


if __name__ == "__main__":
    sys.exit(main())
