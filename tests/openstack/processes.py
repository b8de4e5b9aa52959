"""What the servers of these tests have in common: a process, its log, and patience until it is ready."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90  # two slow cores that others use, too


_FAULT = re.compile(r"^.*\n?^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*\S.*$", re.MULTILINE)
_SHOWN = 5  # faults of each log, the last ones
_INNERMOST = 16  # lines of each: most of the others are of web frameworks
_logs: dict[Path, int] = {}
"""How long the log of each process was when the test that runs now began."""


def begin_test() -> None:
    """From now on `faults` are those of another test."""
    for log in _logs:
        _logs[log] = log.stat().st_size if log.exists() else 0  # what has ended may have taken its log away


def faults() -> dict[Path, list[str]]:
    """What the processes wrote of faults since this test began, by their logs: the line before each, and its end."""
    found = {log: _FAULT.findall(_since(log, begin)) for log, begin in _logs.items() if log.exists()}
    return {log: [_shortened(text) for text in texts[-_SHOWN:]] for log, texts in found.items() if texts}


def _shortened(fault: str) -> str:
    lines = fault.splitlines()
    return fault if len(lines) <= _INNERMOST + 2 else "\n".join([*lines[:2], "  ...", *lines[-_INNERMOST:]])


def _since(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")


class Process:
    """A program that writes a log. Ends with `stop`; whoever waits for it hears at once when it has ended by itself."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
        ending: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._ending = ending
        _logs.setdefault(log, 0)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready`, which is asked often."""
        give_up_at = time.monotonic() + START_SECONDS
        while not ready():
            assert self.running, f"{self._process.args!r} ended:\n{self.log.read_text(errors='replace')[-5000:]}"
            assert time.monotonic() < give_up_at, f"not ready:\n{self.log.read_text(errors='replace')[-5000:]}"
            time.sleep(0.05)

    def forgive(self) -> None:
        """What it wrote up to now are no faults."""
        _logs[self.log] = self.log.stat().st_size

    def stop(self) -> None:
        """End it and wait for that; harmless when it has ended already."""
        if self.running:
            self._process.send_signal(self._ending)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def call(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, user: int | None = None
) -> str:
    """Run a command to its end; what it printed. AssertionError with its own words when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command!r} said {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout
