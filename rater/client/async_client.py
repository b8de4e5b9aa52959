"""The client for programs with an event loop: gathers, numbers, keeps, sends and repeats until it is acknowledged."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from rater.client.errors import (
    BatchInfo,
    ClosedError,
    InvalidItemError,
    NotAcknowledgedError,
    RefusedError,
    SpoolError,
)
from rater.client.gather import Batch, Gatherer, encoded, normal_collection, normal_plan, normal_sample
from rater.client.http import Again, Connection, Outcome
from rater.client.spool import Spool, State
from rater.client.wire import Problem, PushedCollection, PushedPlan, PushedSample

__all__ = ["AsyncClient"]

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0  # seconds between attempts, before chance


class _Waiting:
    """A request that is not acknowledged. Its bytes are in memory, or in the spool, or in both."""

    def __init__(self, number: int, batch: Batch | None, *, stored: bool) -> None:
        self.number = number
        self.batch = batch
        self.stored = stored
        self.ready = stored
        """May be sent: it is in the spool, or cannot be."""


class AsyncClient:
    """Pushes usage: `async with AsyncClient(url, source="meter") as client: await client.push(samples)`.

    Leaving the block waits for all acknowledgements. All calls belong to one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        token: str = "",
        spool: Path | str | None = None,
        batch_samples: int = 1000,
        max_delay: float = 5.0,
        max_bytes: int = 64 * 1024 * 1024,
        timeout: float = 30.0,
        close_seconds: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`source` names who measures. `spool` is a directory of this program's own.

        A scope's samples are sent when there are `batch_samples` of them, or the first is `max_delay` seconds old.
        `max_bytes` bounds what waits in memory; `timeout` is of one attempt, `close_seconds` of leaving the block.
        """
        if not 1 <= len(source) <= 255:
            raise InvalidItemError(f"source {source!r}: give 1 to 255 characters")
        if not url.startswith(("http://", "https://")):
            raise InvalidItemError(f"url {url!r}: give http://host:port or https://host:port")
        self._source = source
        self._connect: Callable[[], Connection] = lambda: Connection(url, token, timeout, tls)
        self._directory = Path(spool) if spool is not None else None
        self._batch_samples = batch_samples
        self._max_delay = max_delay
        self._max_bytes = max_bytes
        self._close_seconds = close_seconds
        self._spool: Spool | None = None
        self._gatherer = Gatherer(source, uuid4().hex, {}, 0, batch_samples=batch_samples, max_delay=max_delay)
        self._waiting: deque[_Waiting] = deque()
        self._refused: list[tuple[BatchInfo, Problem]] = []
        self._trouble = ""
        self._spool_trouble = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._storing = asyncio.Lock()
        self._waiting_bytes = 0
        """Of requests that are in memory."""
        self._connection: Connection | None = None
        self._open = False

    # --- life

    async def __aenter__(self) -> AsyncClient:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except (NotAcknowledgedError, RefusedError) as lost:
            if fault is None:
                raise
            log.error("while leaving because of another error: %s", lost)  # noqa: TRY400 - the other one is raised

    async def start(self) -> None:
        """Begin; with a spool, with what waits in it. Raises SpoolError."""
        if self._directory is not None:
            self._spool = await asyncio.to_thread(Spool, self._directory)
            try:
                state, waiting = await asyncio.to_thread(self._spool.open)
            except SpoolError:
                self._spool.close(None)
                raise
            self._gatherer = Gatherer(
                self._source,
                state.producer_id,
                state.sequences,
                state.batches,
                batch_samples=self._batch_samples,
                max_delay=self._max_delay,
            )
            self._waiting.extend(_Waiting(number, None, stored=True) for number in waiting)
        self._open = True
        self._tasks = [asyncio.create_task(self._send_all()), asyncio.create_task(self._seal_ripe())]

    async def close(self) -> None:
        """Send what there is, wait `close_seconds` for it, disconnect.

        Raises NotAcknowledgedError, but not with a spool, which keeps it for the next start; RefusedError.
        """
        if not self._open:
            return
        try:
            await self.flush(self._close_seconds)
        except NotAcknowledgedError as fault:
            if not all(waiting.stored for waiting in self._waiting):
                raise
            log.warning("%s; they stay in %s", fault, self._directory)
        finally:
            self._open = False
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._notify()
            await self._connection_closed()
            if self._spool is not None:
                made, spool = self._gatherer, self._spool
                await asyncio.to_thread(spool.close, State(made.producer_id, made.sequences, made.batches))

    # --- what callers give

    async def push(self, samples: PushedSample | Iterable[PushedSample]) -> None:
        """Take samples of metrics with `proof: samples`. Waits while too much waits for the service.

        Raises InvalidItemError for the first one that no service would take: those before it were taken. Raises
        ClosedError.
        """
        loop = asyncio.get_running_loop()
        for sample in [samples] if isinstance(samples, PushedSample) else samples:
            normal = normal_sample(sample)
            raw = encoded(normal)
            if not self._open or self._bytes() >= self._max_bytes:
                await self._room()
            ready = self._gatherer.add(normal, raw, loop.time())
            if ready:
                await self._keep(ready)

    async def push_collection(self, collection: PushedCollection) -> None:
        """Take a whole answer with what it covers. Raises as `push`."""
        normal = normal_collection(collection)
        raw = encoded(normal)
        await self._room()
        await self._keep(self._gatherer.collection(normal, raw))

    async def push_plan(self, plan: PushedPlan) -> None:
        """Take a plan: what is expected of a scope from when on. Plans are sent in order. Raises as `push`."""
        normal = normal_plan(plan)
        raw = encoded(normal)
        await self._room()
        await self._keep([self._gatherer.plan(normal, raw)])

    async def save(self) -> None:
        """Return when all that was taken is in the spool, on the disk: from then on a crash loses nothing of it.

        Raises SpoolError, also if there is no spool.
        """
        if self._spool is None:
            raise SpoolError("this client has no spool: give it a directory, or use flush")
        await self._keep(self._gatherer.ripe())
        async with self._storing:  # whatever others are about to store
            missing = [waiting.number for waiting in self._waiting if not waiting.stored]
        if missing:
            raise SpoolError(f"requests {missing} are in memory only: {self._spool_trouble}")

    async def flush(self, seconds: float | None = None) -> None:
        """Return when all that was taken is acknowledged.

        Raises NotAcknowledgedError when the time is up; RefusedError if the service refused something since the last
        call.
        """
        await self._keep(self._gatherer.ripe())
        last = self._gatherer.batches
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: not self._waits_until(last))
        except TimeoutError:
            raise NotAcknowledgedError(await self.unacknowledged(), self._trouble) from None
        if self._refused:
            refused, self._refused = self._refused, []
            raise RefusedError(refused)

    async def unacknowledged(self) -> list[BatchInfo]:
        """The requests that were made and are not acknowledged, oldest first; what is only gathered is not in it."""
        found = []
        for waiting in list(self._waiting):
            try:
                found.append((await self._load(waiting)).info)
            except SpoolError:  # its file is damaged or gone; `trouble` says so when its turn comes
                found.append(BatchInfo(waiting.number, "", {}, 0))
        return found

    @property
    def trouble(self) -> str:
        """Why the oldest request was not acknowledged yet, as last seen; empty if nothing stands in the way."""
        return self._trouble

    # --- from samples to requests

    def _bytes(self) -> int:
        return self._gatherer.bytes + self._waiting_bytes

    def _waits_until(self, last: int) -> bool:
        return bool(self._waiting) and self._waiting[0].number <= last

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _room(self) -> None:
        """Waits until there is room. Raises ClosedError."""
        if self._open and self._bytes() >= self._max_bytes and not self._waiting:
            await self._keep(self._gatherer.ripe())
        async with self._changed:
            await self._changed.wait_for(lambda: not self._open or self._bytes() < self._max_bytes)
        if not self._open:
            raise ClosedError("the client is not started, or was closed")

    async def _keep(self, batches: list[Batch]) -> None:
        """Queues requests, in the order of their numbers; with a spool it returns when they are on the disk."""
        made = [_Waiting(batch.info.number, batch, stored=False) for batch in batches]
        self._waiting.extend(made)
        self._waiting_bytes += sum(len(batch.body) for batch in batches)
        async with self._storing:
            for waiting in made:
                if self._spool is not None:
                    await self._store(self._spool, waiting)
                waiting.ready = True
        await self._notify()

    async def _store(self, spool: Spool, waiting: _Waiting) -> None:
        assert waiting.batch is not None, "what was just made is in memory"
        try:
            await asyncio.to_thread(spool.write, waiting.batch)
        except SpoolError as fault:
            self._spool_trouble = str(fault)
            log.error("request %d is in memory only: %s", waiting.number, fault)  # noqa: TRY400 - the text says it all
            return
        waiting.stored = True
        if self._waiting_bytes > self._max_bytes // 2:
            self._drop(waiting)

    def _drop(self, waiting: _Waiting) -> None:
        """Out of memory."""
        if waiting.batch is not None:
            self._waiting_bytes -= len(waiting.batch.body)
            waiting.batch = None

    async def _load(self, waiting: _Waiting) -> Batch:
        """Raises SpoolError."""
        if waiting.batch is not None:
            return waiting.batch
        assert self._spool is not None, "only a spool takes requests out of memory"
        return await asyncio.to_thread(self._spool.read, waiting.number)

    async def _seal_ripe(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = self._gatherer.due()
            await asyncio.sleep(self._max_delay / 4 if due is None else max(due - loop.time(), 0.001))
            ready = self._gatherer.ripe(loop.time())
            if ready:
                await self._keep(ready)

    # --- from requests to acknowledgements

    async def _send_all(self) -> None:
        connection = self._connection = self._connect()
        attempt = 0
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._waiting) and self._waiting[0].ready)
            waiting = self._waiting[0]
            try:
                batch = await self._load(waiting)
                outcome: Outcome = await connection.send(batch)
                if not isinstance(outcome, Again):
                    await self._settle(waiting, batch, outcome)
            except SpoolError as fault:
                outcome = Again(str(fault))
            if isinstance(outcome, Again):
                await self._pause(waiting, outcome, attempt)
                attempt += 1
            else:
                attempt, self._trouble = 0, ""

    async def _pause(self, waiting: _Waiting, again: Again, attempt: int) -> None:
        if again.reason != self._trouble:
            log.warning("request %d is sent again: %s", waiting.number, again.reason)
        self._trouble = again.reason
        pause = min(_FIRST_PAUSE * 2 ** min(attempt, 10), _LONGEST_PAUSE)
        pause *= 0.5 + random.random()  # noqa: S311 - no secret: many clients must not come back at the same moment
        await asyncio.sleep(max(pause, again.after or 0.0))

    async def _settle(self, waiting: _Waiting, batch: Batch, problem: Problem | None) -> None:
        """The service has it, or will not have it."""
        if problem is not None:
            log.error("request %d was refused: %d %s", waiting.number, problem.status, problem.detail)
        if self._spool is not None:
            if problem is None:
                await asyncio.to_thread(self._spool.done, waiting.number)
            else:
                await asyncio.to_thread(self._spool.refuse, batch, problem)
        if problem is not None:
            self._refused.append((batch.info, problem))
        assert self._waiting[0] is waiting, "one request is under way at a time"
        self._waiting.popleft()
        self._drop(waiting)
        await self._notify()

    async def _connection_closed(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
