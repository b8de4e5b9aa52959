"""A Prometheus that is fed by another one: what has not come yet is waited for, and never taken for nothing used.

Both are real. Between them stands a wire that can be cut, so that the receiver lags while the sender goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collectors.errors import NotSettledError
from collectors.metrics_yml import read
from collectors.prometheus.api import PrometheusApi
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, CompletenessSettings, PrometheusSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval, subtract
from tests.integration.prometheus.server import LaptopPrometheus

PERIOD = 8
SLACK = 4.0  # a machine that stalls for less than four scrapes leaves no hole
PATIENCE = 60.0
(METRIC,) = read("metrics: {go_info: {unit: u, groupby: [version]}}", "metrics.yml", Factory.read_extra_args).metrics


class Wire:
    """Forwards TCP connections while it is whole."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def join(self) -> None:
        """Forward from `port`, which is chosen the first time, to `target`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse connections and end those that are open."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        ends = {writer, back}
        self._open |= ends
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # either end may have gone: so has the wire
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _sender(wire_port: int, own_port: int) -> str:
    """Scrapes itself every second; sends at once, and again soon if that fails."""
    return f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
remote_write:
  - url: http://127.0.0.1:{wire_port}/api/v1/write
    queue_config: {{batch_send_deadline: 200ms, min_backoff: 50ms, max_backoff: 200ms}}
scrape_configs:
  - job_name: self
    static_configs: [{{targets: ["127.0.0.1:{own_port}"], labels: {{project_id: p1}}}}]
"""


class Fed:
    """A sender, a receiver and the wire between them."""

    def __init__(self, sender: LaptopPrometheus, receiver: LaptopPrometheus, wire: Wire) -> None:
        self.sender, self.receiver, self.wire = sender, receiver, wire

    def source(self, *servers: LaptopPrometheus) -> PrometheusSource:
        settings = CollectorSettings(
            prometheus=PrometheusSettings(urls=[server.url for server in servers]),
            completeness=CompletenessSettings(settle=2, slack=SLACK, lookback=600),
        )
        return PrometheusSource(SourceContext(settings, PERIOD, (METRIC,)))


@pytest.fixture
async def fed(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Fed]:
    wire = Wire()
    await wire.join()
    receiver = LaptopPrometheus(tmp_path / "receiver", "--web.enable-remote-write-receiver")
    sender = LaptopPrometheus(tmp_path / "sender", config=_sender(wire.port, unused_tcp_port))
    sender.port = unused_tcp_port
    try:
        await asyncio.to_thread(receiver.start)
        wire.target = receiver.port
        await asyncio.to_thread(sender.start)
        yield Fed(sender, receiver, wire)
    finally:
        await asyncio.to_thread(sender.stop)
        await asyncio.to_thread(receiver.stop)
        await wire.cut()


async def _ask(source: PrometheusSource, period: Interval, scope_id: str, now: int) -> Answer:
    return await source.session(period, now).collect(scope_id, METRIC)


async def _until(instant: float) -> None:
    await asyncio.sleep(max(0.0, instant - time.time()))


async def _settled(source: PrometheusSource, period: Interval, scope_id: str) -> Answer:
    """The answer, as soon as the source gives one that is not held back."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await _ask(source, period, scope_id, int(time.time()))
            except NotSettledError:
                await asyncio.sleep(0.2)


async def _has_samples(server: LaptopPrometheus) -> None:
    api = PrometheusApi(PrometheusSettings(url=server.url), 1)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await api.query("up == 1", time.time()):
                await asyncio.sleep(0.1)
    finally:
        await api.close()


async def test_a_receiver_that_lags_is_waited_for_and_its_tail_is_never_empty(fed: Fed) -> None:
    receiver, both = fed.source(fed.receiver), fed.source(fed.receiver, fed.sender)
    try:
        # given a receiver that is cut off from its sender in the middle of a period
        await _has_samples(fed.receiver)
        period = Interval(begin := int(time.time()) + 1, begin + PERIOD)
        await _until(period.begin + PERIOD / 2)
        await fed.wire.cut()
        await _until(period.end + 3)

        # then nothing is said of who used something, nor of who did not
        for scope_id in ("p1", "p9"):
            with pytest.raises(NotSettledError, match="was not yet seen after the end"):
                await _ask(receiver, period, scope_id, int(time.time()))
        # though the sender itself, as the other of a pair, has all of it
        answer = await _settled(both, period, "p1")
        assert (answer.covers, answer.proof, len(answer.samples)) == ([period], "proven", 1)
        assert answer.note.startswith(f"answered by {fed.sender.url}")

        # and if it lags for a whole period, the tail is missing for both
        await _has_a_hole_at_its_end(receiver, period)

        # when the receiver gets what it lacks, then it is whole, and who used nothing has a true zero
        await fed.wire.join()
        for scope_id, usage in (("p1", 1), ("p9", 0)):
            answer = await _settled(receiver, period, scope_id)
            assert (answer.covers, answer.proof, len(answer.samples)) == ([period], "proven", usage), answer.note

        # when the sender is stopped for good in the middle of another one, then likewise
        period = Interval(begin := int(time.time()) - PERIOD // 2, begin + PERIOD)
        await asyncio.to_thread(fed.sender.stop)
        for scope_id in ("p1", "p9"):
            with pytest.raises(NotSettledError, match="was not yet seen after the end"):
                await _ask(receiver, period, scope_id, period.end + 3)
        await _has_a_hole_at_its_end(receiver, period)
    finally:
        await receiver.close()
        await both.close()


async def _has_a_hole_at_its_end(source: PrometheusSource, period: Interval) -> None:
    """For who used something and for who did not, when a period has passed since."""
    for scope_id in ("p1", "p9"):
        answer = await _ask(source, period, scope_id, period.end + PERIOD)
        (tail,) = subtract([period], answer.covers)
        assert tail.end == period.end
        assert period.begin < tail.begin < period.end
        assert "no target answers from" in answer.note
