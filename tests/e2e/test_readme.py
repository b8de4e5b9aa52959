"""The commands of README.md run as they are written there, in its order."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PATIENCE_SECONDS = 300
OWN = {"examples", "var", ".git"}
"""What a run writes to, or must not see: not linked into the copy."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory that looks like a fresh clone, with what `make` would install linked into it."""
    for entry in ROOT.iterdir():
        if entry.name not in OWN:
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("var"))
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """As the reader's, but for the port of Kafka, which must be free here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RATER_", "MAKE", "MFLAGS"))}
    return {**plain, "RATER_KAFKA__BOOTSTRAP": f"127.0.0.1:{port}"}


def run(block: str, directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def run_until_it_shows(pattern: str, block: str, directory: Path, environment: dict[str, str]) -> None:
    """README says *some seconds later*: before that the first of the hours may be there alone."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = run(block, directory, environment)
        if done.returncode == 0 and re.search(pattern, done.stdout):
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(1)


class Background:
    """A block that runs until Ctrl-C."""

    def __init__(self, block: str, directory: Path, environment: dict[str, str]) -> None:
        self._log = directory / "background.log"
        with self._log.open("w") as stream:
            *setup, command = block.strip().splitlines()
            script = "\n".join([*setup, f"exec {command}"])  # so that the signal below reaches the command itself
            self._process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=directory,
                env=environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self._log.read_text():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.2)

    def ctrl_c(self) -> None:
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(PATIENCE_SECONDS) == 0, self._log.read_text()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def test_the_commands_of_the_readme_work(clone: Path, environment: dict[str, str]) -> None:
    blocks = iter(BLOCKS)
    # `make demo`, as it is in a clone: with its own settings, on ports of its own
    demo = next(blocks)
    assert demo.strip() == "make demo"
    done = run(demo, clone, {name: value for name, value in environment.items() if not name.startswith("RATER_")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The report of delphi is complete" in done.stdout
    # `make test` is what runs this test: it would run itself without end
    assert next(blocks).strip() == "make test"
    # prices without a server
    done = run(next(blocks), clone, environment)
    assert done.returncode == 0, done.stderr
    assert "price 0.2375" in done.stdout
    # looking further
    done = run(next(blocks), clone, environment)
    assert done.returncode == 0, done.stderr
    assert "network.outgoing" in done.stdout
    assert "price 0.003, the same" in done.stdout
    assert (clone / "var" / "lines.parquet").stat().st_size > 100_000
    # own usage
    with Background(next(blocks), clone, environment) as service:
        service.wait_for("restored partitions")
        done = run(next(blocks), clone, environment)
        assert done.returncode == 0, done.stderr
        assert "RED  rules" in done.stdout
        assert "5 samples" in done.stdout
        run_until_it_shows(r"total .* 6\.218845", next(blocks), clone, environment)
        service.ctrl_c()
    assert next(blocks, None) is None


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
