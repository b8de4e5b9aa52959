"""Starts the real parts of an OpenStack for the tests beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.openstack.gnocchi_server import GnocchiServer


@pytest.fixture(scope="session")
def gnocchi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnocchiServer]:
    """The Gnocchi that all tests share: give resource types, policies and projects names of your own, and start
    metricd again if you stopped it."""
    with GnocchiServer(tmp_path_factory.mktemp("gnocchi") / "server") as server:
        yield server
