"""A directory in which requests wait until they are acknowledged, so that a restart of the program loses none.

A request is one file, written beside, synced and renamed. Numbers go on after an orderly end, which leaves them in
`state.json`; whoever finds no such file begins a new producer, since nobody knows which numbers were used.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from uuid import uuid4

import msgspec

from rater.client.errors import SpoolError
from rater.client.gather import Batch
from rater.client.wire import Problem

__all__ = ["Spool", "State"]

_SUFFIX = ".batch"
_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode


class State(msgspec.Struct, frozen=True):
    """What the next start goes on from."""

    producer_id: str
    sequences: dict[str, int]
    """By scope, the next number."""
    batches: int
    """The number of the last request."""


_decode_state = msgspec.json.Decoder(State).decode


class Spool:
    """The directory, locked against other processes until `close`. All calls block on the disk."""

    def __init__(self, directory: Path) -> None:
        """Raises SpoolError if it cannot be used, or another process uses it."""
        self.directory = directory
        self._refused = directory / "refused"
        try:
            self._refused.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise SpoolError(f"spool {directory} cannot be used: {fault.strerror}") from fault
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(self._lock)
            raise SpoolError(f"spool {directory} is used by another process: give each its own") from fault

    def open(self) -> tuple[State, list[int]]:
        """Where the numbers go on, and the numbers of the requests that wait, oldest first. Raises SpoolError."""
        try:
            for torn in self.directory.glob("*.tmp"):
                torn.unlink()
            waiting = sorted(int(file.stem) for file in self.directory.glob(f"*{_SUFFIX}"))
            state = self._take_state()
            last = max([state.batches, *waiting, *(int(file.stem) for file in self._refused.glob(f"*{_SUFFIX}"))])
        except OSError as fault:
            raise SpoolError(f"spool {self.directory} cannot be read: {fault.strerror}") from fault
        except (ValueError, msgspec.DecodeError) as fault:
            raise SpoolError(f"spool {self.directory} holds what is not ours: {fault}") from fault
        return msgspec.structs.replace(state, batches=last), waiting

    def _take_state(self) -> State:
        file = self.directory / "state.json"
        try:
            state = _decode_state(file.read_bytes())
        except FileNotFoundError:
            return State(uuid4().hex, {}, 0)
        file.unlink()  # before its numbers are used: after a crash they must not be used again
        self._sync(self.directory)
        return state

    def write(self, batch: Batch) -> None:
        """Keep a request; it is on the disk when this returns. Raises SpoolError."""
        self._write(self._file(batch.info.number), _encode(batch))

    def read(self, number: int) -> Batch:
        """A request that waits. Raises SpoolError."""
        try:
            return _decode_batch(self._file(number).read_bytes())
        except OSError as fault:
            raise SpoolError(f"{self._file(number)} cannot be read: {fault.strerror}") from fault
        except msgspec.DecodeError as fault:
            raise SpoolError(f"{self._file(number)} is damaged ({fault}): move it away to go on without it") from fault

    def done(self, number: int) -> None:
        """Forget a request that was acknowledged. After a crash before that it is sent again, which changes nothing."""
        try:
            self._file(number).unlink(missing_ok=True)
            self._sync(self.directory)
        except OSError as fault:
            raise SpoolError(f"{self._file(number)} cannot be removed: {fault.strerror}") from fault

    def refuse(self, batch: Batch, problem: Problem) -> None:
        """Put a request aside that was refused, with the reasons beside it. Raises SpoolError."""
        number = batch.info.number
        self._write(self._refused / f"{number:012}.json", msgspec.json.format(msgspec.json.encode(problem)))
        self._write(self._refused / f"{number:012}{_SUFFIX}", _encode(batch))
        self.done(number)

    def close(self, state: State | None) -> None:
        """Leave the state for the next start, if the end is an orderly one, and unlock."""
        try:
            if state is not None:
                self._write(self.directory / "state.json", msgspec.json.encode(state))
        finally:
            os.close(self._lock)

    def _file(self, number: int) -> Path:
        return self.directory / f"{number:012}{_SUFFIX}"

    def _write(self, file: Path, content: bytes) -> None:
        beside = file.with_name(f"{file.name}.tmp")
        try:
            with beside.open("wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            beside.replace(file)
            self._sync(file.parent)
        except OSError as fault:
            raise SpoolError(f"{file} cannot be written: {fault.strerror}") from fault

    @staticmethod
    def _sync(directory: Path) -> None:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
