"""What docs/push.md shows works as it is written there: settings, curl, both clients, and the report at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from multidict import CIMultiDict

from deploy.local.kafka import LaptopKafka
from rater.api.credentials import Credentials

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "push.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "yaml"}
ADDRESS = "127.0.0.1:8889"
PATIENCE_SECONDS = 120


class Shell:
    """Runs blocks of the page beside a `rater up`, which listens at a free port instead of the page's."""

    def __init__(self, directory: Path, kafka: LaptopKafka) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
        self.directory = directory
        self.environment = {
            **plain,
            "PATH": f"{Path(sys.executable).parent}:{plain['PATH']}",
            "RATER_KAFKA__BOOTSTRAP": kafka.bootstrap,
            "RATER_KAFKA__PREFIX": f"push-{uuid.uuid4().hex[:8]}.",
            "RATER_API__LISTEN": self.address,
            "RATER_ENGINE__SETTLE": "1",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [text.replace(ADDRESS, self.address) for text in command],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def run_until_it_shows(self, expected: str, *command: str) -> None:
        """Some seconds later: before that a part of it may be there."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = self.run(*command)
            if (done.returncode, done.stdout) == (0, expected):
                return
            assert time.monotonic() < ends, done.stdout + done.stderr
            time.sleep(0.3)


@pytest.fixture
def shell(tmp_path: Path, kafka: LaptopKafka) -> Iterator[Shell]:
    """`rater up` in a directory with the files of the page."""
    for name in ("rater.yaml", "rules.yaml"):
        (tmp_path / name).write_text(FILES[name])
    found = Shell(tmp_path, kafka)
    with (tmp_path / "log").open("w") as log:
        up = subprocess.Popen(["rater", "up"], cwd=tmp_path, env=found.environment, stderr=log)
    try:
        ends = time.monotonic() + PATIENCE_SECONDS
        while "usage can be written" not in (tmp_path / "log").read_text():
            assert up.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < ends, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield found
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(PATIENCE_SECONDS)


@pytest.mark.slow
def test_the_page_from_its_begin_to_its_report(shell: Shell) -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds == ["yaml", "yaml", "console", "sh", "json", "python", "python", "sh", "", "yaml"]
    push, report = (text for kind, text in BLOCKS if kind == "sh")
    (answer,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    # when all blocks run in their order
    done = shell.run("bash", "-euo", "pipefail", "-c", push)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for program in (text for kind, text in BLOCKS if kind == "python"):
        done = shell.run(sys.executable, "-c", program)
        assert done.returncode == 0, done.stderr
    # then the answer is the page's, but for the topic's prefix, and so is the report
    assert {**said, "topic": answer["topic"]} == answer
    shell.run_until_it_shows(BLOCKS[8][1], "bash", "-euo", "pipefail", "-c", report)
    assert not list((shell.directory / "spool").glob("*.batch"))


async def test_the_tokens_of_the_page_are_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokens.yaml").write_text(FILES["api.token_file"])

    sent = CIMultiDict({"Authorization": "Bearer 5f0c7a0e9d1b4c66b0a3"})
    gateway = await Credentials(str(tmp_path / "tokens.yaml")).identify(sent)

    assert (gateway.may_push("projA", "gateway"), gateway.may_push("projC", "gateway")) == (True, False)


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
