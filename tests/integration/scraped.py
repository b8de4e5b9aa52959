"""What alert rules and dashboards ask for is compared with what running roles say at /metrics."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.integration.prometheus.server import program

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "deploy" / "helm" / "rater" / "files"
NAME = re.compile(r"\brater_\w+")
OF_SCRAPE = re.compile(r"^(rater_\w+)", re.MULTILINE)


def asked_for() -> dict[str, str]:
    """Each metric that a rule or a dashboard reads, with the file that does."""
    found = {}
    for file in [FILES / "rules.yaml", *sorted((FILES / "dashboards").glob("*.json"))]:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            texts = _expressions(json.loads(text))
        else:
            texts = re.findall(r"expr: (?:>-\n)?((?:.+\n)+?)\s+(?:for|labels):", text)
        assert texts or "tenant" in file.name, file
        found |= dict.fromkeys(NAME.findall(" ".join(texts)), file.name)
    return found


def _expressions(node: object) -> list[str]:
    if isinstance(node, list):
        return [text for part in node for text in _expressions(part)]
    if isinstance(node, dict):
        own = [node["expr"]] if isinstance(node.get("expr"), str) else []
        return own + [text for part in node.values() for text in _expressions(part)]
    return []


def check_scrapes(scrapes: Mapping[str, str]) -> None:
    """`scrapes` by role, of all roles: everything that is asked for is there, and promtool complains of nothing."""
    there = {name for text in scrapes.values() for name in OF_SCRAPE.findall(text)}
    wanted = asked_for()
    assert len(wanted) > 30
    missing = {name: file for name, file in wanted.items() if name not in there}
    assert missing == {}, missing
    for role, text in scrapes.items():
        done = subprocess.run(
            [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{role}: {done.stderr}"
