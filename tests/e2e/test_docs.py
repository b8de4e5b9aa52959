"""The commands of docs/rating.md run as they are written there, and print what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rating.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_SECONDS = 300
OWN = {"examples", "var", ".git"}
"""What a run writes to, or must not see: not linked into the copy."""
NOT_COMPARED = re.compile(r"[0-9a-f]{32}(-\d+)?|attempt \d+| +")  # names that differ from run to run; blanks in tables


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that looks like a clone in which `make demo` has run."""
    directory = tmp_path_factory.mktemp("clone")
    for entry in ROOT.iterdir():
        if entry.name not in OWN:
            (directory / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "examples", directory / "examples", ignore=shutil.ignore_patterns("var"))
    done = run("rater demo", directory)
    assert done.returncode == 0, done.stderr
    return directory


def run(block: str, directory: Path) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=directory,
        env={**plain, "PATH": f"{directory / '.venv' / 'bin'}:{plain['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def _plain(text: str) -> list[str]:
    """The lines of an output, without what differs from run to run; `…` stands for anything."""
    return [NOT_COMPARED.sub(" ", line).strip() for line in text.splitlines() if line.strip(" …")]


def test_every_command_works_and_prints_what_the_page_says(clone: Path) -> None:
    assert [kind for kind, _ in BLOCKS].count("sh") == 6
    output = ""
    for kind, text in BLOCKS:
        if kind == "sh":
            done = run(text, clone)
            assert done.returncode == 0, text + done.stderr
            output = done.stdout
        elif not kind:
            shown = _plain(output)
            for line in _plain(text):
                start = line.split("…")[0].rstrip(", ")
                assert any(found.startswith(start) for found in shown), f"{line!r} is not in\n{output}"


def test_what_if_names_the_metric_that_became_dearer(clone: Path) -> None:
    # given the price that the page changes
    run('sed \'s/cost: "0.00004"/cost: "0.00005"/\' var/demo/rules.yaml > var/dearer.yaml', clone)
    # when
    done = run("rater --config var/demo/rater.yaml whatif --rules var/dearer.yaml --out csv", clone)
    # then
    assert done.returncode == 0, done.stderr
    changed = [row.split(",")[1] for row in done.stdout.splitlines()[1:] if row.split(",")[3] != "0"]
    assert changed == ["network.outgoing"] * 8


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
