"""The client for programs without an event loop: the asynchronous one, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rater.client.async_client import AsyncClient
from rater.client.errors import BatchInfo, ClosedError
from rater.client.wire import PushedCollection, PushedPlan, PushedSample

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Pushes usage: `with Client(url, source="meter") as client: client.push(samples)`.

    Calls are safe from any thread, and block where `AsyncClient`'s wait. A call costs some 50 µs whatever it is given:
    give lists of samples. Not to be used across a fork.
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
        """As AsyncClient."""
        self._async = AsyncClient(
            url,
            source=source,
            token=token,
            spool=spool,
            batch_samples=batch_samples,
            max_delay=max_delay,
            max_bytes=max_bytes,
            timeout=timeout,
            close_seconds=close_seconds,
            tls=tls,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._async.__aexit__(kind, fault, trace))
        finally:
            self._end()

    def start(self) -> None:
        """Begin; with a spool, with what waits in it. Raises SpoolError."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rater-client", daemon=True)
        self._thread.start()
        try:
            self._call(self._async.start())
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Send what there is, wait for it, disconnect. Raises as AsyncClient.close."""
        if self._loop is None:
            return
        try:
            self._call(self._async.close())
        finally:
            self._end()

    def push(self, samples: PushedSample | Iterable[PushedSample]) -> None:
        """Take samples of metrics with `proof: samples`. Raises InvalidItemError, ClosedError."""
        self._call(self._async.push(samples if isinstance(samples, PushedSample) else list(samples)))

    def push_collection(self, collection: PushedCollection) -> None:
        """Take a whole answer with what it covers. Raises as `push`."""
        self._call(self._async.push_collection(collection))

    def push_plan(self, plan: PushedPlan) -> None:
        """Take a plan: what is expected of a scope from when on. Raises as `push`."""
        self._call(self._async.push_plan(plan))

    def save(self) -> None:
        """Return when all that was taken is in the spool, on the disk. Raises SpoolError."""
        self._call(self._async.save())

    def flush(self, seconds: float | None = None) -> None:
        """Return when all that was taken is acknowledged. Raises NotAcknowledgedError, RefusedError."""
        self._call(self._async.flush(seconds))

    def unacknowledged(self) -> list[BatchInfo]:
        """The requests that were made and are not acknowledged, oldest first."""
        return self._call(self._async.unacknowledged())

    @property
    def trouble(self) -> str:
        """Why the oldest request was not acknowledged yet, as last seen; empty if nothing stands in the way."""
        return self._async.trouble

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise ClosedError("the client is not started, or was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
