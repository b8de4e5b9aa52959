"""Sends what belongs to a rework, frame by frame, and waits for what becomes of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

import msgspec

from rater.model.codec import encode_msgpack
from rater.model.rated import Alert, AlertKind
from rater.model.usage import REWORK_PRODUCER
from rater.reports import ReworkRequest, Selection, View
from rater.rework.values import Bracket, FrameKey, Left, Material, Wanted
from rater.store import FrameRow

__all__ = ["Finished", "ReworkLog", "Runner", "run_rework"]

T = TypeVar("T")

OPEN_FRAMES = 500  # sent and not answered; an answer comes with the worker's next checkpoint
OPEN_BYTES = 64 * 1024 * 1024  # of them
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 960.0  # without any answer: the engine gives a bracket up after 900
STORE_SECONDS = 30.0  # that the sink may take to store what was answered
STORE_PAUSE = 0.25
ROUNDS = 3  # of frames that got another revision between reading and sending


class ReworkLog(Protocol):
    """Topics `usage` and `alerts` as a rework needs them."""

    async def send(self, scope_id: str, values: Sequence[bytes]) -> None:
        """Writes records of a scope in order; returns when all are confirmed. Raises StreamUnavailableError."""

    async def answers(self, seconds: float) -> list[Alert]:
        """The answers to reworks that came since the last call; waits this long for the first."""


class Finished(msgspec.Struct):
    """What became of the frames of a rework."""

    answers: dict[FrameKey, Alert] = {}
    left: list[Left] = []
    remarks: dict[str, int] = {}
    """Of what was not sent; how many frames each is about."""
    unanswered: list[FrameKey] = []
    stored: bool = True
    """Whether the store has all of it by now."""

    def of_kind(self, kind: AlertKind) -> list[Alert]:
        """The answers of one kind, by scope and period."""
        return [alert for _, alert in sorted(self.answers.items()) if alert.kind is kind]

    @property
    def went_well(self) -> bool:
        """Whether every frame was rated again."""
        return not self.left and not self.unanswered and len(self.of_kind(AlertKind.REWORK_DONE)) == len(self.answers)


class Runner:
    """The frames of one rework on their way. A bounded number of them is open, that is sent and not answered."""

    def __init__(
        self,
        wanted: Wanted,
        log: ReworkLog,
        *,
        open_frames: int = OPEN_FRAMES,
        patience: float = PATIENCE_SECONDS,
        on_answer: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """`patience`: seconds without any answer after which the rest counts as unanswered."""
        self.answers: dict[FrameKey, Alert] = {}
        self._wanted = wanted
        self._log = log
        self._most = open_frames
        self._patience = patience
        self._on_answer = on_answer
        self._open: dict[FrameKey, int] = {}
        self._numbers: dict[str, tuple[str, int]] = {}
        self._producer_id = uuid.uuid4().hex
        self._producers = 0
        self._heard_at = self._now()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    @property
    def is_given_up(self) -> bool:
        """Whether no answer has come for too long."""
        return bool(self._open) and self._now() - self._heard_at >= self._patience

    @property
    def unanswered(self) -> list[FrameKey]:
        """What was sent and has no answer."""
        return sorted(self._open)

    async def send(self, bracket: Bracket) -> bool:
        """Sends one frame, once there is room; False if no answer has come for too long.

        Raises StreamUnavailableError.
        """
        while len(self._open) >= self._most or sum(self._open.values()) >= OPEN_BYTES:
            if self.is_given_up:
                return False
            await self._listen(POLL_SECONDS)
        scope_id = bracket.begun.scope_id
        producer_id, first = self._numbers.get(scope_id) or self._new_producer()
        values = [encode_msgpack(record) for record in bracket.records(producer_id, first)]
        self._numbers[scope_id] = producer_id, first + len(bracket.collections)
        if not self._open:
            self._heard_at = self._now()
        self._open[bracket.key] = sum(map(len, values))
        await self._log.send(scope_id, values)
        await self._listen(0)
        return True

    def _new_producer(self) -> tuple[str, int]:
        self._producers += 1
        return f"{REWORK_PRODUCER}{self._producer_id}-{self._producers}", 0

    async def finish(self) -> None:
        """Waits for the answers to all that was sent, as long as there is hope."""
        while self._open and not self.is_given_up:
            await self._listen(POLL_SECONDS)

    async def _listen(self, seconds: float) -> None:
        for alert in await self._log.answers(seconds):
            key = alert.scope_id, alert.period_begin
            if alert.rework is None or alert.rework.rework_id != self._wanted.rework_id or key not in self._open:
                continue
            del self._open[key]
            self.answers[key] = alert
            self._heard_at = self._now()
            if alert.kind is not AlertKind.REWORK_DONE:  # its numbers were not taken: others must not seem lost
                self._numbers.pop(alert.scope_id, None)
            self._on_answer(len(self.answers))


async def run_rework(
    view: View,
    thread: Executor,
    runner: Runner,
    wanted: Wanted,
    found: Iterable[Material],
    again: Callable[[FrameKey], Iterable[Material]],
    make: Callable[[Material], Awaitable[Bracket | Left]],
) -> Finished:
    """Has all of `found` rated again. The store is read in `thread`, `make` runs in the event loop.

    A frame that got another revision by itself between reading and sending is read `again` and sent once more.
    Raises StoreError, StreamUnavailableError.
    """
    finished = Finished()
    await _send_all(thread, runner, found, make, finished)
    for _ in range(ROUNDS):
        stale = await _in_thread(thread, lambda: _stale(view, runner.answers))
        if not stale:
            break
        for key in stale:
            del runner.answers[key]
        await _send_all(thread, runner, (one for key in stale for one in again(key)), make, finished)
    finished.answers, finished.unanswered = runner.answers, runner.unanswered
    finished.stored = await _until_stored(view, thread, wanted, len(finished.answers))
    return finished


async def _send_all(
    thread: Executor,
    runner: Runner,
    found: Iterable[Material],
    make: Callable[[Material], Awaitable[Bracket | Left]],
    finished: Finished,
) -> None:
    reading: Iterator[Material] = iter(found)
    while (material := await _in_thread(thread, lambda: next(reading, None))) is not None:
        made = await make(material)
        if isinstance(made, Left):
            finished.left.append(made)
            continue
        for remark in made.remarks:
            finished.remarks[remark] = finished.remarks.get(remark, 0) + 1
        if not await runner.send(made):
            finished.left.append(Left(*made.key, "no answer came to the frames before it: is a worker running?"))
    await runner.finish()


async def _in_thread(thread: Executor, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, call)


def _stale(view: View, answers: dict[FrameKey, Alert]) -> list[FrameKey]:
    """The frames that were refused since they got another revision meanwhile, and not by another rework."""
    found = []
    for key, alert in sorted(answers.items()):
        if alert.kind is AlertKind.REWORK_REFUSED and alert.rework is not None:
            frame = _frame(view, key)
            if frame is not None and frame.revision > alert.rework.base_revision and not frame.rework_id:
                found.append(key)
    return found


def _frame(view: View, key: FrameKey) -> FrameRow | None:
    scope_id, begin = key
    return next(iter(view.frames(Selection(scope_id, begin, begin + 1))), None)


async def _until_stored(view: View, thread: Executor, wanted: Wanted, count: int) -> bool:
    """Whether the sink has stored as many records of the rework as there are answers; waits for it a little."""
    ends = asyncio.get_running_loop().time() + STORE_SECONDS
    request = ReworkRequest(rework_id=wanted.rework_id)
    while True:
        stored = await _in_thread(thread, lambda: sum(1 for _ in view.reworks(request)))
        if stored >= count:
            return True
        if asyncio.get_running_loop().time() >= ends:
            return False
        await asyncio.sleep(STORE_PAUSE)
