"""The commands of docs/rework.md run as they are written there, and print what it says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rework.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_SECONDS = 120
Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(tmp_path: Path, kafka: LaptopKafka) -> Iterator[Shell]:
    """Runs blocks of the page beside a `rater up` with the files of examples/first."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("var"))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    environment = {
        **plain,
        "PATH": f"{Path(sys.executable).parent}:{plain['PATH']}",
        "RATER_CONFIG": "examples/first/rater.yaml",
        "RATER_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "RATER_KAFKA__PREFIX": f"page-{uuid.uuid4().hex[:8]}.",
    }

    def run(block: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    with (tmp_path / "log").open("w") as log:
        up = subprocess.Popen(["rater", "up"], cwd=tmp_path, env=environment, stderr=log)
    try:
        ends = time.monotonic() + PATIENCE_SECONDS
        while "restored partitions" not in (tmp_path / "log").read_text():
            assert up.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < ends, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield run
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(PATIENCE_SECONDS)


@pytest.mark.slow
def test_the_page_from_a_wrong_price_to_the_difference(shell: Shell) -> None:
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "", "sh", "", "console"]
    send, correct, differences, look, lines = (text for _, text in BLOCKS[:-1])
    done = shell(send)
    assert done.returncode == 0, done.stderr
    # some seconds later
    ends = time.monotonic() + PATIENCE_SECONDS
    while "total,,,5,6.218845" not in shell("rater report --scope projA --month 2026-01 --out csv").stdout:
        assert time.monotonic() < ends
        time.sleep(0.5)
    # when the price is corrected, then what it changes is what the page says
    done = shell(correct)
    assert done.returncode == 0, done.stderr
    assert "nothing was sent: --dry-run" in done.stderr
    assert done.stdout.replace("\r\n", "\n").endswith(differences)
    assert "total,,,5,6.318845" in shell("rater report --scope projA --month 2026-01 --out csv").stdout
    # and so is the line that differs, but for its id
    done = shell(look)
    assert done.returncode == 0, done.stderr
    assert "cpu was 0.02 by mistake" in done.stdout
    shown = re.sub(r"[0-9a-f]{32}", "", done.stdout).replace("\r\n", "\n")
    assert shown.endswith(lines)


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
