"""Starts real servers for the tests beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.prometheus.server import LaptopPrometheus


@pytest.fixture(scope="module")
def start_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], LaptopPrometheus]]:
    """Starts a server filled with lines of OpenMetrics; it ends with the module's tests."""
    servers: list[LaptopPrometheus] = []

    def start(lines: list[str]) -> LaptopPrometheus:
        directory: Path = tmp_path_factory.mktemp("prometheus")
        server = LaptopPrometheus(directory / "server")
        servers.append(server)
        server.backfill(lines)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
