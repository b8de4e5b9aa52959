"""The processes of a chaos run as a supervisor keeps them: started again when they end, with a record of every end.

Kills, signals and orders at named points come from the faults; an end that none of them caused is a finding.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

ROOT = Path(__file__).parents[2]
KINDS = ("worker", "sink", "collector")
SUSPECT = ("never awaited", "Task exception was never retrieved", "Task was destroyed", "AssertionError")
"""What in a log is a finding although everything goes on."""


class Key(NamedTuple):
    """The n-th process of a kind."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.number}"


@dataclass
class Roles:
    """`wanted` says how many of each kind there are. Options are what `role_main` takes."""

    directory: Path
    options: dict[str, Any]
    wanted: dict[str, int]
    ends: list[str] = field(default_factory=list)
    """Every end of a process that a fault caused."""
    surprises: list[str] = field(default_factory=list)
    """Every other end, with the last lines of the log."""
    _running: dict[Key, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ending: dict[int, int] = field(default_factory=dict)
    """Signals sent to processes, by process id."""
    _keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Roles:
        self.orders.mkdir()
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._keeping is not None
        self._keeping.cancel()
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    @property
    def orders(self) -> Path:
        """Where orders for named points lie."""
        return self.directory / "orders"

    def log_of(self, key: Key) -> Path:
        """What a process, and those before it, said."""
        return self.directory / f"{key}.log"

    def logs(self) -> list[Path]:
        """All logs."""
        return sorted(self.directory.glob("*-*.log"))

    def suspect_lines(self) -> list[str]:
        """Lines of the logs that no fault explains."""
        return [
            f"{path.name}: {line.strip()}"
            for path in self.logs()
            for line in path.read_text(errors="replace").splitlines()
            if any(sign in line for sign in SUSPECT)
        ]

    def those(self, kind: str) -> list[Key]:
        """The processes of a kind that run."""
        return [key for key, process in self._running.items() if key.kind == kind and process.poll() is None]

    # --- what faults do

    def signal(self, key: Key, number: signal.Signals) -> bool:
        """Sends a signal; False if the process has ended. After SIGKILL and SIGTERM the supervisor starts it again."""
        process = self._running.get(key)
        if process is None or process.poll() is not None:
            return False
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._ending[process.pid] = number
        process.send_signal(number)
        return True

    def scale(self, kind: str, count: int) -> None:
        """So many of a kind from now on; the surplus is ended in order."""
        self.wanted[kind] = count
        for key in self.those(kind):
            if key.number >= count:
                self.signal(key, signal.SIGTERM)

    async def ended(self, kind: str, seconds: float = 60) -> None:
        """Waits until no process of the kind runs; `scale` it to 0 before."""
        async with asyncio.timeout(seconds):
            while self.those(kind):
                await asyncio.sleep(0.1)

    def order(self, point: str, action: str) -> None:
        """Whoever comes to that point next does it. See `role_main`."""
        aside = self.orders / f".{point}"
        aside.write_text(action)
        aside.rename(self.orders / point)

    def taken_back(self, point: str) -> bool:
        """Takes an order back; False if somebody has it already."""
        try:
            (self.orders / point).unlink()
        except FileNotFoundError:
            return False
        return True

    async def carried_out(self, point: str, seconds: float) -> bool:
        """Waits for somebody to take the order; it is taken back after `seconds`."""
        ends = asyncio.get_running_loop().time() + seconds
        while (self.orders / point).exists():
            if asyncio.get_running_loop().time() > ends:
                return not self.taken_back(point)
            await asyncio.sleep(0.1)
        return True

    # --- the supervisor

    async def _keep(self) -> None:
        while True:
            for kind in KINDS:
                for number in range(self.wanted[kind]):
                    if Key(kind, number) not in self._running:
                        self._start(Key(kind, number))
            for key, process in list(self._running.items()):
                if process.poll() is not None:
                    self._note_end(key, process)
                    del self._running[key]
            await asyncio.sleep(0.3)

    def _start(self, key: Key) -> None:
        options = self.directory / f"{key.kind}.json"
        if not options.exists():
            options.write_bytes(msgspec.json.encode({**self.options, "role": key.kind, "orders": str(self.orders)}))
        with self.log_of(key).open("ab") as log:
            command = [sys.executable, "-W", "default", "-m", "tests.chaos.role_main", str(options)]
            self._running[key] = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    def _note_end(self, key: Key, process: subprocess.Popen[bytes]) -> None:
        code = process.returncode
        sent = self._ending.pop(process.pid, None)
        ordered = any(path.read_text() == "kill" for path in self._orders_of(process.pid))
        if code == -signal.SIGKILL and (sent is not None or ordered):
            self.ends.append(f"{key} kill -9")
        elif sent is not None and code in (0, -signal.SIGTERM):  # by the signal itself: it had not started yet
            self.ends.append(f"{key} SIGTERM")
        else:
            said = self.log_of(key).read_text(errors="replace").splitlines()[-12:]
            self.surprises.append("\n    ".join([f"{key} ended with {code}", *said]))

    def _orders_of(self, process_id: int) -> Iterator[Path]:
        return self.orders.glob(f"done.*.{process_id}")


__all__ = ["KINDS", "ROOT", "Key", "Roles"]
