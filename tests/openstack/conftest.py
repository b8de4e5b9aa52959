"""Starts the real parts of an OpenStack for the tests beside it."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.openstack.gnocchi_server import GnocchiServer
from tests.openstack.keystone_server import KeystoneServer
from tests.openstack.processes import begin_test, faults


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The faults of the servers are told of the test in which they were."""
    begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows why a server answered status 500: no answer says it."""
    report = yield
    if report.failed:
        report.sections += [(f"faults in {log}", "\n".join(texts)) for log, texts in faults().items()]
    return report


@pytest.fixture(scope="session")
def gnocchi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnocchiServer]:
    """The Gnocchi that all tests share: give resource types, policies and projects names of your own, and start
    metricd again if you stopped it."""
    with GnocchiServer(tmp_path_factory.mktemp("gnocchi") / "server") as server:
        yield server


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeystoneServer]:
    """The Keystone that all tests share: give projects and users names of your own."""
    with KeystoneServer(tmp_path_factory.mktemp("keystone") / "server") as server:
        yield server


@pytest.fixture(scope="session")
def gnocchi_behind_keystone(gnocchi: GnocchiServer, keystone: KeystoneServer) -> Iterator[str]:
    """The URL of a second API of `gnocchi`, which wants a token of `keystone` and is in its catalogue as `metric`."""
    with gnocchi.behind(keystone) as url:
        yield url
