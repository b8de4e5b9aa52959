"""An event loop whose clock is virtual, and processes on it that can be killed and frozen.

Nothing waits: when no callback is ready, the clock jumps to the next timer. Everything that happens follows from the
seed: callbacks run in the order in which they were made ready, tasks and futures hash by their number and not by their
address, and what production runs in a thread runs inline, after a delay.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any

HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class Host:
    """One process: what runs in it, how wrong its clock is, and whether it lives."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.skew = 0.0
        self.dead = False
        self.frozen = False
        self.context: Context = copy_context()
        self.context.run(HOST.set, self)
        self._parked: deque[Any] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._frozen_at = self._thawed_at = 0.0
        self.on_silent: list[Callable[[Host], None]] = []

    def clock(self) -> float:
        """What this process believes to be the time."""
        return self.loop.time() + self.skew

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs something in this process."""
        return self.context.run(self.loop.create_task, work)

    def kill(self) -> None:
        """kill -9: nothing of it ever runs again, but for clean-up that reaches nobody."""
        if self.dead:
            return
        self.dead = True
        self.thaw()
        for task in self._tasks:
            task.cancel()
        for told in self.on_silent:
            told(self)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen, self._frozen_at = True, self.loop.time()
        for told in self.on_silent:
            told(self)

    def silent_for(self, seconds: float) -> bool:
        """Whether it has been frozen for so long."""
        return self.frozen and self.loop.time() - self._frozen_at >= seconds - 0.001

    def thaw(self) -> None:
        """SIGCONT: goes on as if nothing had happened."""
        self.frozen, self._thawed_at = False, self.loop.time()
        self.loop.resume(self._parked)
        self._parked.clear()

    def awake_for(self) -> float:
        """Seconds since it was last frozen."""
        return self.loop.time() - self._thawed_at

    def park(self, handle: Any) -> None:
        """Keeps a callback until the process is awake."""
        self._parked.append(handle)

    def note(self, task: asyncio.Task[Any]) -> None:
        """A task of this process."""
        self._tasks = [known for known in self._tasks if not known.done()] if len(self._tasks) > 64 else self._tasks
        self._tasks.append(task)


class _Task(asyncio.Task):  # type: ignore[type-arg]  # generic only for type checkers
    def __init__(self, coro: Any, *, loop: SimLoop, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future):  # type: ignore[type-arg]  # generic only for type checkers
    def __init__(self, *, loop: SimLoop, number: int) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """The loop. `seed` decides everything that is not decided by the code that runs on it."""

    def __init__(self, seed: int, begin: float) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.faults: list[str] = []
        self._now = begin
        self._numbers = count()
        self._clock_resolution = 1e-9
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_exception)

    def time(self) -> float:
        return self._now

    def _make_task(self, loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = _Task(coro, loop=self, number=next(self._numbers), **options)
        host = HOST.get()
        if host is not None:
            host.note(task)
            if host.dead:
                task.cancel()
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self, number=next(self._numbers))

    def _note_exception(self, loop: Any, context: dict[str, Any]) -> None:
        """What nobody awaited. A process that was killed leaves much of that behind; a living one must not."""
        task = context.get("future") or context.get("task")
        error = context.get("exception")
        if error is None or isinstance(error, asyncio.CancelledError):
            return
        self.faults.append(f"{context.get('message')}: {error!r} in {task!r}")

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Inline, some time later; the answer comes some time after that."""
        future = self.create_future()
        host = HOST.get()

        def work() -> None:
            if future.cancelled() or (host is not None and host.dead):
                return
            try:
                result = func(*args)
            except (asyncio.CancelledError, StopIteration):
                future.cancel()
            except Exception as fault:  # noqa: BLE001  whatever it is, it belongs to whoever waits for it
                self.call_later(self.rng.expovariate(10.0), _settle, future, None, fault)
            else:
                self.call_later(self.rng.expovariate(10.0), _settle, future, result, None)

        self.call_later(self.rng.expovariate(10.0), work)
        return future

    def resume(self, handles: Any) -> None:
        """Puts callbacks of a process that woke up back, in order."""
        self._ready.extend(handles)

    def _run_once(self) -> None:
        timers, ready = self._scheduled, self._ready
        if not ready:
            while timers and timers[0]._cancelled:
                heapq.heappop(timers)._scheduled = False
            if not timers:
                raise RuntimeError("nothing will ever happen again: everybody waits for somebody")
            self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            host = handle._context.get(HOST)
            if host is not None and host.frozen:
                host.park(handle)
            else:
                handle._run()

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread that could wake us."""

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""


def _settle(future: asyncio.Future[Any], result: Any, fault: Exception | None) -> None:
    if future.done():
        return
    if fault is not None:
        future.set_exception(fault)
    else:
        future.set_result(result)


@contextmanager
def running(loop: SimLoop) -> Iterator[SimLoop]:
    """Makes the loop the current one; at the end everything on it is ended."""
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        _end_all(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _end_all(loop: SimLoop) -> None:
    waiting = sorted((t for t in asyncio.all_tasks(loop) if not t.done()), key=hash)
    for task in waiting:
        task.cancel()
    if waiting:
        loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
    events._set_running_loop(None)
