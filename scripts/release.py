"""Refuses to release what does not agree with itself: `release.py v1.2.0`, before anything is built from the tag.

Without an argument it is the version of pyproject.toml that all others have to name.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """0 when everything names the version; 1 with a line on standard error for each place that does not."""
    tag = arguments[0] if arguments else None
    found = faults(ROOT, tag)
    for fault in found:
        sys.stderr.write(f"error: {fault}\n")
    return 1 if found else 0


def faults(root: Path, tag: str | None) -> list[str]:
    """What keeps the tree in `root` from being released as `tag` (`v1.2.0`); with None, what disagrees within it."""
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    chart = (root / "deploy/helm/rater/Chart.yaml").read_text()
    named = {
        "version in deploy/helm/rater/Chart.yaml": _first(r"^version: \"?([^\"\n]+)", chart),
        "appVersion in deploy/helm/rater/Chart.yaml": _first(r"^appVersion: \"?([^\"\n]+)", chart),
        "the image in compose.yaml": _first(r"image: ghcr\.io/rater/rater:(\S+)", (root / "compose.yaml").read_text()),
    }
    found = [
        f"{place} is {said}, not {version} as in pyproject.toml" for place, said in named.items() if said != version
    ]
    if tag is None:
        return found
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, but pyproject.toml has version {version}: tag v{version}")
    if not re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (root / "CHANGELOG.md").read_text(), re.MULTILINE
    ):
        found.append(
            f"CHANGELOG.md has no heading `## [{version}] - YYYY-MM-DD`: what is under Unreleased belongs there"
        )
    return found


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
