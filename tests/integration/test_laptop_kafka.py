"""The laptop Kafka on the real Java, Maven and broker: data survives, nothing is left behind, errors say what to do."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.kafka import LaptopKafka, LaptopKafkaError, install, launch, project_root
from deploy.local.kafka.install import require_pinned_jars

_PATIENCE_SECONDS = 60.0
_TOPIC = "usage"
_MESSAGES = [f"sample {number}".encode() for number in range(100)]


class OwnKafka(Protocol):
    """What fixture `own_kafka` yields; conftest.py cannot be imported."""

    def __call__(self, *, port: int | None = None, heap_mb: int = 256) -> LaptopKafka: ...


async def create_topic(bootstrap: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            await admin.create_topics([NewTopic(_TOPIC, num_partitions=1, replication_factor=1)])
        finally:
            await admin.close()


async def produce(bootstrap: str, messages: list[bytes], compression: str | None = None) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type=compression,
        max_request_size=8_000_000,
    )
    async with asyncio.timeout(_PATIENCE_SECONDS):
        try:
            await producer.start()
            for message in messages:
                await producer.send(_TOPIC, message)
            await producer.flush()
        finally:
            await producer.stop()


async def consume(bootstrap: str, count: int) -> list[bytes]:
    """The first `count` messages, read by a group with a session shorter than Kafka's usual minimum."""
    consumer = AIOKafkaConsumer(
        _TOPIC,
        bootstrap_servers=bootstrap,
        group_id="reader",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=2000,
        heartbeat_interval_ms=500,
    )
    async with asyncio.timeout(_PATIENCE_SECONDS):
        try:
            await consumer.start()
            return [(await consumer.getone()).value or b"" for _ in range(count)]
        finally:
            await consumer.stop()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def run_module(*arguments: str, path: str | None = None, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m deploy.local.kafka …`, optionally with another PATH (then without JAVA_HOME) and another cache."""
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = path
        environment.pop("JAVA_HOME", None)
    if cache is not None:
        environment["RATER_CACHE"] = str(cache)
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.kafka", *arguments],
        cwd=project_root(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("end", [LaptopKafka.stop, LaptopKafka.kill], ids=["stop", "kill"])
async def test_restart_on_the_same_port_with_the_data_still_there(
    own_kafka: OwnKafka, end: Callable[[LaptopKafka], None]
) -> None:
    # given a broker with messages, its own log and nothing but loopback
    kafka = own_kafka()
    bootstrap = kafka.bootstrap
    await create_topic(bootstrap)
    await produce(bootstrap, _MESSAGES)
    assert await consume(bootstrap, len(_MESSAGES)) == _MESSAGES
    # when it ends and starts again
    end(kafka)
    assert not kafka.running
    kafka.start()
    # then it serves the same messages at the same address, and takes more
    assert kafka.bootstrap == bootstrap
    await produce(bootstrap, [b"one more"])
    assert await consume(bootstrap, len(_MESSAGES) + 1) == [*_MESSAGES, b"one more"]
    assert "Kafka Server started" in kafka.log_file.read_text()


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "snappy", "zstd"])
async def test_large_and_compressed_messages_fit_the_small_heap(own_kafka: OwnKafka, compression: str | None) -> None:
    # given messages of seven megabytes, incompressible
    kafka = own_kafka()
    await create_topic(kafka.bootstrap)
    messages = [os.urandom(7_000_000) for _ in range(6)]
    # when they are written and read
    await produce(kafka.bootstrap, messages, compression)
    # then they arrive whole
    assert await consume(kafka.bootstrap, len(messages)) == messages


def test_listens_on_loopback_only(own_kafka: OwnKafka) -> None:
    # given a broker; when we look at what its process listens on
    kafka = own_kafka()
    sockets = Path(f"/proc/{kafka.pid}/fd")
    if not sockets.exists():
        pytest.skip("needs /proc, which only Linux has")
    owned = {str(descriptor.readlink()) for descriptor in sockets.iterdir() if descriptor.is_symlink()}
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{kafka.pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in owned:
                listening.add(columns[1].rsplit(":", 1)[0])
    # then it is 127.0.0.1, plain or mapped into IPv6, for clients and controller
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening


def test_pause_and_resume(own_kafka: OwnKafka) -> None:
    # given a paused broker
    kafka = own_kafka()
    kafka.pause()
    assert kafka.running
    # when it is resumed
    kafka.resume()
    # then it works
    asyncio.run(create_topic(kafka.bootstrap))
    # and when it is stopped while paused, then it still ends in order
    kafka.pause()
    kafka.stop(limit=_PATIENCE_SECONDS)
    assert "shut down completed" in kafka.log_file.read_text()


def test_two_brokers_side_by_side(kafka: LaptopKafka, own_kafka: OwnKafka) -> None:
    # given the session's broker and an own one; then each has its port and its directory
    own = own_kafka()
    assert own.bootstrap != kafka.bootstrap
    assert own.data_dir != kafka.data_dir
    assert own.running
    assert kafka.running


_PARENT = """
import sys, threading, time
from pathlib import Path
from deploy.local.kafka import LaptopKafka
kafka = LaptopKafka(Path(sys.argv[1]))
starter = threading.Thread(target=kafka.start)
starter.start()
starter.join()
print(kafka.pid, kafka.port, flush=True)
time.sleep(600)
"""


@pytest.mark.kafka
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_broker_ends_with_a_killed_parent_but_not_with_the_thread_that_started_it(tmp_path: Path) -> None:
    # given a process whose thread has started a broker and ended
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], cwd=project_root(), stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            broker_pid, port = (int(number) for number in parent.stdout.readline().split())
            asyncio.run(create_topic(f"127.0.0.1:{port}"))
        finally:
            # when the process is killed
            parent.kill()
    # then the broker goes, too
    try:
        wait_until(lambda: not listens(port), f"broker {broker_pid} is gone")
    except AssertionError:
        os.kill(broker_pid, signal.SIGKILL)  # a failing test leaves nothing behind, either
        raise


def test_refuses_to_start_twice(own_kafka: OwnKafka) -> None:
    kafka = own_kafka()
    with pytest.raises(LaptopKafkaError, match="already runs"):
        kafka.start()


def test_a_broker_that_does_not_run_says_so(tmp_path: Path) -> None:
    kafka = LaptopKafka(tmp_path)
    with pytest.raises(LaptopKafkaError, match="start it first"):
        kafka.pause()
    with pytest.raises(LaptopKafkaError, match="start it first"):
        _ = kafka.bootstrap
    kafka.stop()
    kafka.kill()


def test_data_directory_in_use(own_kafka: OwnKafka) -> None:
    # given a broker; when another one starts on its data directory
    kafka = own_kafka()
    second = LaptopKafka(kafka.data_dir)
    # then it is refused with the cause, the log and its last lines, and the first one goes on
    with pytest.raises(LaptopKafkaError, match="another broker uses this data directory") as refused:
        second.start()
    assert str(kafka.log_file) in str(refused.value)
    assert not second.running
    assert kafka.running


def test_not_ready_in_time_leaves_no_process(tmp_path: Path) -> None:
    install()
    kafka = LaptopKafka(tmp_path)
    with pytest.raises(LaptopKafkaError, match="not ready in time"):
        kafka.start(timeout=0.0)
    assert not kafka.running


def test_a_lost_race_for_a_free_port_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a port that another process takes after it was found free
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        find = launch.free_port
        answers = iter([taken])
        monkeypatch.setattr(launch, "free_port", lambda: next(answers, None) or find())
        # when a broker starts on any port
        with LaptopKafka(tmp_path) as kafka:
            # then it has another one
            assert kafka.port != taken
            assert "Address already in use" in kafka.log_file.read_text()


def test_port_in_use(tmp_path: Path) -> None:
    # given a port in use
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        # when Kafka is to have it
        answer = run_module("--data-dir", str(tmp_path / "data"), "--port", str(port))
    # then one line says so
    assert (answer.returncode, answer.stdout) == (1, "")
    assert re.fullmatch(rf"error: port {port} of 127\.0\.0\.1 is in use: .*\n", answer.stderr)


@pytest.mark.parametrize("cached", [True, False])
def test_missing_java(tmp_path: Path, cached: bool) -> None:
    # given neither Java nor Maven, with or without Kafka's jars in the cache
    if cached:
        install()
    cache = None if cached else tmp_path / "cache"
    # when Kafka is to start
    answer = run_module("--data-dir", str(tmp_path / "data"), path="", cache=cache)
    # then one message names what is missing and the commands that install it, and nothing was written
    assert answer.returncode == 1
    assert "Java 17 or newer: no `java` on PATH" in answer.stderr
    assert ("Maven: no `mvn` on PATH" in answer.stderr) is not cached
    for system in ("apt-get install", "dnf install", "brew install"):
        assert system in answer.stderr
    assert answer.stderr.count("To install both") == 1
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_java_is_too_old(tmp_path: Path) -> None:
    # given a `java` that says it is 11, and a working Maven
    old = tmp_path / "bin"
    old.mkdir()
    (old / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.27\" 2025-04-15' >&2\n")
    (old / "java").chmod(0o755)
    maven = shutil.which("mvn")
    assert maven is not None
    (old / "mvn").symlink_to(maven)
    # when Kafka is to be installed
    answer = run_module(path=str(old), cache=tmp_path / "cache")
    # then the message says which Java was found
    assert answer.returncode == 1
    assert f"Java 17 or newer: {old / 'java'} is Java 11" in answer.stderr


def test_maven_fails(tmp_path: Path) -> None:
    # given a Maven that must not use the network and an empty local repository
    java, maven = shutil.which("java"), shutil.which("mvn")
    assert java is not None
    assert maven is not None
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "java").symlink_to(java)
    (tools / "mvn").write_text(f'#!/bin/sh\nexec {maven} --offline "-Dmaven.repo.local={tmp_path}/empty" "$@"\n')
    (tools / "mvn").chmod(0o755)
    # when Kafka is to be installed
    answer = run_module(path=f"{tools}:/usr/bin:/bin", cache=tmp_path / "cache")
    # then the error names the log, which has Maven's own words, and nothing half-made counts as installed
    assert answer.returncode == 1
    named = re.search(r"is in (\S+\.log)", answer.stderr)
    assert named is not None
    assert "[ERROR]" in Path(named[1]).read_text()
    assert not list((tmp_path / "cache").glob("kafka-*/pin"))


@pytest.mark.slow
def test_parallel_installs_share_one_result(tmp_path: Path) -> None:
    # given an empty cache and the rest of an install that was killed
    (tmp_path / "kafka-4.3.1.new" / "jars").mkdir(parents=True)
    environment = {**os.environ, "RATER_CACHE": str(tmp_path)}
    code = "from deploy.local.kafka import install; print(install())"
    # when three processes install at once
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=project_root(), env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    answers = [caller.communicate(timeout=600)[0].strip() for caller in callers]
    # then all have the one complete directory and no leftovers
    assert [caller.returncode for caller in callers] == [0, 0, 0]
    assert set(answers) == {str(tmp_path / "kafka-4.3.1")}
    assert not [entry.name for entry in tmp_path.rglob("*.new")]
    assert len(list((tmp_path / "kafka-4.3.1").glob("jvm-*/classes.jsa"))) == 1


def test_changed_jars_are_refused(tmp_path: Path) -> None:
    # given jars of which one differs from what is pinned and one is missing
    jars = tmp_path / "jars"
    shutil.copytree(install() / "jars", jars)
    clients, metrics = next(jars.glob("kafka-clients-*.jar")), next(jars.glob("metrics-core-*.jar"))
    clients.write_bytes(clients.read_bytes() + b"more")
    metrics.unlink()
    # when they are checked, then both are named
    with pytest.raises(LaptopKafkaError, match=rf"{clients.name}, {metrics.name}"):
        require_pinned_jars(jars)


@pytest.fixture
def foreground(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`python -m deploy.local.kafka` on a free port, once it serves, and the lines it has printed."""
    install()
    command = [sys.executable, "-m", "deploy.local.kafka", "--data-dir", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        command, cwd=project_root(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, [process.stdout.readline().strip() for _ in range(4)]
        process.kill()


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_stops_cleanly(
    foreground: tuple[subprocess.Popen[str], list[str]], tmp_path: Path, number: signal.Signals
) -> None:
    # given Kafka in the foreground, which has said where it listens and where its log is
    process, said = foreground
    assert re.fullmatch(r"Apache Kafka 4\.3\.1 serves on 127\.0\.0\.1:\d+", said[0])
    assert str(tmp_path / "kafka.log") in said[2]
    port = int(said[0].rsplit(":", 1)[1])
    assert listens(port)
    # when it gets the signal
    process.send_signal(number)
    rest, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    # then it stops the broker in order and exits with 0
    assert (process.returncode, rest, errors) == (0, "Kafka stopped\n", "")
    assert not listens(port)
    assert "shut down completed" in (tmp_path / "kafka.log").read_text()


@pytest.mark.kafka
def test_foreground_reports_a_broker_that_died(
    foreground: tuple[subprocess.Popen[str], list[str]], tmp_path: Path
) -> None:
    # given Kafka in the foreground
    process, _ = foreground
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    broker = [int(child) for listed in children for child in listed.read_text().split()]
    assert len(broker) == 1
    # when its broker is killed
    os.kill(broker[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    # then it ends with the exit code, the log and its last lines
    assert process.returncode == 1
    assert errors.startswith(f"error: Kafka ended (exit -9): Its log is {tmp_path / 'kafka.log'}, which ends:")
