"""A real Aetos on a free port of the loopback: a Prometheus for those who have a token of Keystone."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer
from tests.openstack.processes import ROOT, Process

VENV = ROOT / ".cache" / "aetos"
_API = Path(__file__).with_name("aetos_api.py")
_LISTENING = re.compile(r"^listening on (\d+)$", re.MULTILINE)


class AetosServer:
    """One server, used with `with`. It stands in the catalogue of its Keystone, in region RegionOne."""

    def __init__(self, directory: Path, keystone: KeystoneServer, prometheus_port: int) -> None:
        assert (VENV / "bin" / "python").exists(), "Aetos is not installed: make tools"
        (directory / ".aetos").mkdir(parents=True)
        self._directory = directory
        self._keystone = keystone
        self._prometheus_port = prometheus_port
        self._api: Process | None = None
        self.url = ""
        """Without `/api/v1`, as it stands in the catalogue."""

    def __enter__(self) -> AetosServer:
        # its part that checks tokens is told of no file, and looks for one in the home directory
        config, log = self._directory / ".aetos" / "aetos.conf", self._directory / "api.log"
        config.write_text(self._config())
        environment = {**os.environ, "HOME": str(self._directory), "PYTHONWARNINGS": "ignore"}
        self._api = Process([VENV / "bin" / "python", _API, config], log, environment=environment)
        try:
            self._api.until(lambda: _LISTENING.search(log.read_text(errors="replace")) is not None)
            found = _LISTENING.search(log.read_text(errors="replace"))
            assert found is not None
            self.url = f"http://127.0.0.1:{found[1]}"
            self._keystone.client.service("metric-storage", "aetos", {"public": self.url})
        except BaseException:
            self._api.stop()
            raise
        return self

    def __exit__(self, *fault: object) -> None:
        if self._api is not None:
            self._api.stop()

    def _config(self) -> str:
        return f"""
[prometheus]
host = 127.0.0.1
port = {self._prometheus_port}
[keystone_authtoken]
auth_type = password
auth_url = {self._keystone.url}
www_authenticate_uri = {self._keystone.url}
username = admin
password = {PASSWORD}
user_domain_id = default
project_name = admin
project_domain_id = default
"""
