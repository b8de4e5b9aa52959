"""CloudKitty's client as a process beside the tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".cache" / "cloudkittyclient" / "bin" / "python"
DRIVER = Path(__file__).with_name("driver.py")
WITHOUT_KEYSTONE = {"cloudkitty": "cloudkitty-noauth", "openstack": "none"}


class Done(NamedTuple):
    """What a command ended with."""

    status: int
    out: str
    err: str


class Client:
    """A running driver."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._url = url

    def at(self, url: str) -> Client:
        """The same driver for another service."""
        return Client(self._process, url)

    def run(self, shell: str, words: str, *more: str, version: str = "2", token: str = "") -> Done:
        """A command as somebody types it, against the service."""
        auth = ["--os-auth-type", "admin_token", "--os-token", token] if token else []
        auth = auth or ["--os-auth-type", WITHOUT_KEYSTONE[shell]]
        flag = "--os-rating-api-version" if shell == "cloudkitty" else "--rating-api-version"
        command = [shell, *auth, "--os-endpoint", self._url, flag, version, *words.split(), *more]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the driver has ended with status {self._process.wait(10)}"
        return Done(**json.loads(line))

    def json(self, shell: str, words: str, *more: str, version: str = "2", token: str = "") -> Any:
        """What a command shows with `-f json`."""
        done = self.run(shell, words, *more, "-f", "json", version=version, token=token)
        assert done.status == 0, done
        return json.loads(done.out)


@contextlib.contextmanager
def clients(url: str) -> Iterator[Client]:
    """The clients for the service at `url`; ended with the block."""
    assert PYTHON.exists(), "CloudKitty's client is not installed: make tools"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    command = [str(PYTHON), "-W", "ignore", str(DRIVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain) as process:
        try:
            yield Client(process, url)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
