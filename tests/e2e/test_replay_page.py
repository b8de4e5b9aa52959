"""The commands of docs/replay.md run as they are written there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from tests.integration.s3.server import s3_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "replay.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
USAGE = ROOT / "examples" / "first" / "usage.jsonl"
SAMPLES = sum(b'"qty"' in line for line in USAGE.read_bytes().splitlines())
PATIENCE_SECONDS = 120
Shell = Callable[[str], str]


@pytest.fixture
def shell(tmp_path: Path, kafka: LaptopKafka) -> Iterator[Shell]:
    """Runs blocks of the page where it says they run, with the store it speaks of."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("var"))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RATER_", "AWS_"))}
    environment = {
        **plain,
        "PATH": f"{Path(sys.executable).parent}:{plain['PATH']}",
        "RATER_CONFIG": "examples/first/rater.yaml",
        "RATER_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "RATER_KAFKA__PREFIX": f"replay-page-{uuid.uuid4().hex[:8]}.",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }

    def run(block: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        return done.stdout

    with s3_server() as address:
        environment["AWS_ENDPOINT_URL"] = address
        run("rater topics create")
        yield run


def test_every_command_of_the_page_publishes_the_usage(shell: Shell) -> None:
    files, store = BLOCKS
    first, directory, summary = shell(files).splitlines()
    assert first.startswith(f"examples/first/usage.jsonl: {SAMPLES} samples of ")
    assert directory.startswith(f"var/usage: {SAMPLES} samples of ")
    found = json.loads(summary)
    assert (found["samples"], found["already"], found["rejected"]) == (SAMPLES, 0, 0)
    # given the same file in the store
    shell(_put(USAGE))
    assert shell(store).startswith(f"s3://usage/2026-01/: {SAMPLES} samples of ")


def _put(path: Path) -> str:
    program = (
        "import os; from pyarrow import fs; store = fs.S3FileSystem(endpoint_override=os.environ['AWS_ENDPOINT_URL'], "
        "allow_bucket_creation=True); store.create_dir('usage'); "
        f"store.open_output_stream('usage/2026-01/usage.jsonl').write(open('{path}', 'rb').read())"
    )
    return f'python -c "{program}"'


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
