"""What the demonstration runs on: its directory and settings, a Kafka and a worker process of its own, the sink."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

import deploy.local.kafka
from deploy.local.kafka import LaptopKafka
from rater.config import Config, load_config
from rater.kafka import create_topics
from rater.model.errors import RaterError
from rater.observe import setup_logging
from rater.reports import RemoteView, StoreView, socket_of
from rater.services import LAPTOP_KAFKA_DIRECTORY, serve_sink
from rater.store import Store

__all__ = ["CONFIG", "DemoError", "Stage", "fresh_directory", "open_stage"]

CONFIG = "rater.yaml"
_MARK = "made-by-rater-demo"
_DATA = ("metrics.yml", "rules.yaml")
_WORKER_STOP_SECONDS = 20.0
_TAIL_LINES = 8
_SETTINGS = """\
# Written by `rater demo`; `rater --config THIS_FILE up --with-kafka` goes on with the same data.
kafka: {{bootstrap: "{bootstrap}", partitions: 4}}
store: {{dsn: "chdb://var/clickhouse"}}
# short, for the sake of the demonstration: an old frame closes 10 seconds after its last record
engine: {{settle: 10}}
worker: {{checkpoint_interval: 1}}
sink: {{max_delay: 0.2}}
metrics_conf: metrics.yml
metrics:
  volume.size: {{aggregation: max}}
  storage.objects.size: {{aggregation: last}}
"""


class DemoError(RaterError):
    """The demonstration cannot run here, or something in it did not happen in time."""


class Stage(msgspec.Struct, frozen=True):
    """The running demonstration."""

    directory: Path
    config: Config
    view: StoreView
    _worker: subprocess.Popen[bytes]
    _failure: asyncio.Future[None]

    def check(self) -> None:
        """Raises DemoError if the worker or the sink has ended."""
        if self._worker.poll() is not None:
            raise DemoError(f"the worker ended with status {self._worker.returncode}: {_tail(self.directory)}")
        if self._failure.done():
            self._failure.result()
            raise DemoError("the sink ended by itself")


def _tail(directory: Path) -> str:
    log = directory / "worker.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n  ".join([f"{log} ends with", *lines])


@contextmanager
def fresh_directory(directory: Path) -> Iterator[Path]:
    """An empty directory of the demonstration's own, which nobody else uses while the block runs.

    One that an earlier demonstration left is replaced. Raises DemoError for a directory with anything else in it.
    """
    mark = directory / _MARK
    if directory.exists() and not mark.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DemoError(f"{directory} is there and was not made by `rater demo`: choose another --dir, or remove it")
    directory.mkdir(parents=True, exist_ok=True)
    with mark.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError(f"another demonstration runs in {directory}: stop it, or choose another --dir") from None
        if RemoteView(socket_of(directory / "var" / "clickhouse")).answers():
            raise DemoError(f"a rater runs on the data in {directory}: stop it, or choose another --dir")
        for entry in directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != mark:
                entry.unlink()
        for name in _DATA:
            (directory / name).write_text(files("rater.demo").joinpath("data", name).read_text(encoding="utf-8"))
        yield directory


@asynccontextmanager
async def open_stage(directory: Path) -> AsyncIterator[Stage]:
    """Starts Kafka, sink and worker; ends them in order. Raises DemoError, LaptopKafkaError and others."""
    async with AsyncExitStack() as stack:
        log = stack.enter_context((directory / "demo.log").open("w", encoding="utf-8"))
        kafka = LaptopKafka(directory / LAPTOP_KAFKA_DIRECTORY)
        stack.push_async_callback(asyncio.to_thread, kafka.stop)
        await _to_the_end(kafka.start)
        (directory / CONFIG).write_text(_SETTINGS.format(bootstrap=kafka.bootstrap))
        config = load_config(directory / CONFIG, {})
        setup_logging(config.settings.observe, log)
        stack.callback(logging.getLogger().handlers.clear)
        await create_topics(config.settings.kafka)
        worker = stack.enter_context(_worker(directory))
        store, failure = await stack.enter_async_context(_sink(config))
        yield Stage(directory, config, StoreView(store), worker, failure)


async def _to_the_end(call: Callable[[], None]) -> None:
    """Runs what blocks in a thread and waits for it even if cancelled, since the thread cannot be."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


@asynccontextmanager
async def _sink(config: Config) -> AsyncIterator[tuple[Store, asyncio.Future[None]]]:
    """The sink in this process, which so has the embedded ClickHouse open."""
    stop = asyncio.Event()
    with Store(config.settings.store) as store:
        async with serve_sink(config, store, CollectorRegistry()) as service:
            task = asyncio.ensure_future(service.run(stop))
            try:
                yield store, task
            finally:
                stop.set()
                await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _worker(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`rater worker` as a process of its own, which does not outlive this one. Enter it in the main thread."""
    guard = Path(deploy.local.kafka.__file__).with_name("_die_with_parent.py")
    command = [sys.executable, "-m", "rater", "--config", str(directory / CONFIG), "worker"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    with (directory / "worker.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, str(guard), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to handle: the worker ends before its Kafka does
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_WORKER_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
