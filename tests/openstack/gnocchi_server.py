"""A real Gnocchi on a free port of the loopback: PostgreSQL as its index, files as its storage, metricd beside it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.openstack.asking import RefusedError
from tests.openstack.gnocchi_client import GnocchiClient
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer
from tests.openstack.postgres import Postgres
from tests.openstack.processes import ROOT, Process, call

BIN = ROOT / ".cache" / "gnocchi" / "bin"
_API = Path(__file__).with_name("gnocchi_api.py")
_LISTENING = re.compile(r"^listening on (\d+)$", re.MULTILINE)


class GnocchiServer:
    """One server, empty, used with `with`. `client` feeds it; metricd can be stopped and started apart.

    `sections` adds to its configuration, or changes it: {"api": {"max_limit": "5"}}.
    """

    def __init__(self, directory: Path, sections: Mapping[str, Mapping[str, str]] | None = None) -> None:
        assert (BIN / "python").exists(), "Gnocchi is not installed: make tools"
        self.directory = directory
        self.url = ""
        """Without `/v1`, as in a catalogue."""
        self._sections = sections or {}
        self._config = directory / "gnocchi.conf"
        self._clock = directory / "clock"
        self._postgres: Postgres | None = None
        self._api: Process | None = None
        self._metricd: Process | None = None
        directory.mkdir(parents=True)

    @property
    def client(self) -> GnocchiClient:
        """Speaks to it as its administrator."""
        return GnocchiClient(self.url, self._clock)

    def __enter__(self) -> GnocchiServer:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *fault: object) -> None:
        self.stop()

    @property
    def stumble(self) -> Path:
        """Touched, the next question about histories takes it away, waits for another one, and ends with status 500."""
        return self._clock.with_name("stumble")

    def stop_metricd(self) -> None:
        """From now on measures that come are not processed."""
        if self._metricd is not None:
            self._metricd.stop()
            self._metricd = None

    def start_metricd(self) -> None:
        """Measures are processed again; harmless if they are."""
        if self._metricd is None:
            command = [BIN / "gnocchi-metricd", "--config-file", self._config]
            self._metricd = Process(command, self.directory / "metricd.log", environment=_environment())

    @contextmanager
    def behind(self, keystone: KeystoneServer) -> Iterator[str]:
        """The URL of a second API over the same data, which asks Keystone who we are, and is in its catalogue.

        It is a service of type `metric` there; users with the role admin see everything.
        """
        config = self._config.with_name("behind-keystone.conf")
        paste = config.with_suffix(".ini")
        filters = next((BIN.parent / "lib").glob("python*/site-packages/gnocchi/rest/api-paste.ini")).read_text()
        # Without this line the filter looks for its settings elsewhere, and each request ends with status 500.
        use = "use = egg:keystonemiddleware#auth_token\n"
        assert use in filters
        paste.write_text(filters.replace(use, f"{use}oslo_config_file = {config}\n"))
        config.write_text(
            self._config.read_text().replace("auth_mode = basic", f"auth_mode = keystone\npaste_config = {paste}")
            + f"[keystone_authtoken]\nauth_type = password\nauth_url = {keystone.url}\nusername = admin\n"
            + f"password = {PASSWORD}\nproject_name = admin\nuser_domain_id = default\nproject_domain_id = default\n"
        )
        api, log = self._api_of(config)
        try:
            url = _listening(api, log)
            keystone.client.service("metric", "gnocchi", {"internal": url, "public": url})
            yield url
        finally:
            api.stop()

    def stop(self) -> None:
        """End all its processes; its data are gone."""
        self.stop_metricd()
        for process in (self._api, self._postgres):
            if process is not None:
                process.stop()
        self._api = self._postgres = None
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    def _start(self) -> None:
        self._postgres = Postgres()
        self._config.write_text(self._configuration(self._postgres.url))
        call(
            [BIN / "gnocchi-upgrade", "--config-file", self._config, "--sacks-number", "8"], environment=_environment()
        )
        self._api, log = self._api_of(self._config)
        self.start_metricd()
        self.url = _listening(self._api, log)
        self._api.until(self._tells_its_status)
        self._api.forgive()

    def _api_of(self, config: Path) -> tuple[Process, Path]:
        """An API with that configuration, and its log."""
        log = config.with_suffix(".api.log")
        return Process([BIN / "python", _API, config, self._clock], log, environment=_environment()), log

    def _tells_its_status(self) -> bool:
        try:
            self.client.ask("GET", "/v1/status")
        except RefusedError:  # 500 until metricd has joined the group of its kind
            return False
        return True

    def _configuration(self, database: str) -> str:
        data = self.directory / "data"
        sections: dict[str, dict[str, str]] = {
            "DEFAULT": {"coordination_url": f"file://{data / 'locks'}"},
            "api": {"auth_mode": "basic"},
            "indexer": {"url": database},
            "storage": {"driver": "file", "file_basepath": str(data / "storage")},
            "incoming": {"driver": "file", "file_basepath": str(data / "incoming")},
            "metricd": {"workers": "1", "metric_processing_delay": "1", "metric_reporting_delay": "-1"},
        }
        for name, values in self._sections.items():
            sections.setdefault(name, {}).update(values)
        for part in ("locks", "storage", "incoming"):
            (data / part).mkdir(parents=True, exist_ok=True)
        written = [
            line
            for name, values in sections.items()
            for line in (f"[{name}]", *(f"{key} = {value}" for key, value in values.items()))
        ]
        return "\n".join([*written, ""])


def _listening(api: Process, log: Path) -> str:
    """Where an API listens, once it does."""
    api.until(lambda: _LISTENING.search(log.read_text(errors="replace")) is not None)
    found = _LISTENING.search(log.read_text(errors="replace"))
    assert found is not None
    return f"http://127.0.0.1:{found[1]}"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "GNOCCHI_"))}
    return {**kept, "PYTHONWARNINGS": "ignore"}
