"""A real Keystone on a free port of the loopback: SQLite, Fernet tokens."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tests.openstack.keystone_client import PASSWORD, KeystoneClient
from tests.openstack.processes import ROOT, Process, call

VENV = ROOT / ".cache" / "keystone"
_API = Path(__file__).with_name("keystone_api.py")
_LISTENING = re.compile(r"^listening on (\d+)$", re.MULTILINE)
_OWNER = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
_FIRST_STEPS = (
    ("db_sync",),
    ("fernet_setup", *_OWNER),
    ("credential_setup", *_OWNER),
    ("bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", "RegionOne"),
)


class KeystoneServer:
    """One server with its first administrator, used with `with`. `client` makes projects, users and roles.

    `sections` adds to its configuration, or changes it: {"token": {"expiration": "70"}}.
    """

    def __init__(self, directory: Path, sections: Mapping[str, Mapping[str, str]] | None = None) -> None:
        assert (VENV / "bin" / "python").exists(), "Keystone is not installed: make tools"
        self.directory = directory
        self.url = ""
        """With `/v3`."""
        self._sections = sections or {}
        self._api: Process | None = None

    @cached_property
    def client(self) -> KeystoneClient:
        """Speaks to it as its administrator."""
        return KeystoneClient(self.url)

    def __enter__(self) -> KeystoneServer:
        _first_state(self.directory)
        config = _configure(self.directory, self._sections)
        log = self.directory / "api.log"
        self._api = Process([VENV / "bin" / "python", _API, config], log, environment=_environment())
        try:
            self._api.until(lambda: _LISTENING.search(log.read_text(errors="replace")) is not None)
            found = _LISTENING.search(log.read_text(errors="replace"))
            assert found is not None
            self.url = f"http://127.0.0.1:{found[1]}/v3"
            self.client.service("identity", "keystone", dict.fromkeys(("public", "internal", "admin"), self.url))
        except BaseException:
            self._api.stop()
            raise
        return self

    def __exit__(self, *fault: object) -> None:
        if self._api is not None:
            self._api.stop()


def _first_state(directory: Path) -> None:
    """Put the data of a new Keystone into `directory`. They are made once and kept: that takes half a minute."""
    recipe = hashlib.sha256(repr(_FIRST_STEPS).encode() + (VENV / "made-from.json").read_bytes()).hexdigest()
    kept = VENV / "new" / recipe[:16]
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            made = Path(scratch) / "state"
            made.mkdir()
            config = _configure(made, {})
            for step in _FIRST_STEPS:
                call([VENV / "bin" / "keystone-manage", "--config-file", config, *step], environment=_environment())
            if not kept.exists():  # else another test run was faster
                made.rename(kept)
    shutil.copytree(kept, directory)


def _configure(directory: Path, more: Mapping[str, Mapping[str, str]]) -> Path:
    """Write the configuration of a Keystone whose data lie in `directory`; its path."""
    for keys in ("fernet", "credential"):
        (directory / keys).mkdir(mode=0o700, exist_ok=True)
    sections: dict[str, dict[str, str]] = {
        "database": {"connection": f"sqlite:///{directory / 'keystone.db'}"},
        "fernet_tokens": {"key_repository": str(directory / "fernet")},
        "credential": {"key_repository": str(directory / "credential")},
        "identity": {"password_hash_rounds": "4"},  # the least that bcrypt allows: nothing here is worth protecting
        "cache": {"enabled": "false"},
    }
    for name, values in more.items():
        sections.setdefault(name, {}).update(values)
    config = directory / "keystone.conf"
    config.write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
            for name, values in sections.items()
        )
    )
    return config


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return {**kept, "PYTHONWARNINGS": "ignore"}
