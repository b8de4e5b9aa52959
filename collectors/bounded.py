"""Many small jobs, some at a time; and questions that are asked once, whoever wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TypeVar

__all__ = ["remembered", "run_all"]

T = TypeVar("T")


async def run_all(jobs: Iterable[Callable[[], Awaitable[None]]], at_once: int) -> int:
    """Runs the jobs and returns how many there were; the first that fails ends all of them and is raised."""
    room = asyncio.Semaphore(at_once)
    count = 0

    async def run(job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                await room.acquire()
                tasks.create_task(run(job))
                count += 1
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return count


def remembered(job: Coroutine[None, None, T]) -> asyncio.Future[T]:
    """The job under way, for several waiters. Await it shielded: a waiter that is cancelled must not end it.

    If it fails when nobody waits any more, as at a stop, that is no fault worth a log line.
    """
    task = asyncio.ensure_future(job)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
