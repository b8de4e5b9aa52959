"""The previous release: a wheel kept beside this file, unpacked so that a process runs its code and not ours."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from email import message_from_string
from pathlib import Path

from packaging.requirements import Requirement

KEPT = Path(__file__).parent / "previous"
RATER = Path(sys.executable).with_name("rater")


def wheel() -> Path:
    """The wheel; `make upgrade-previous` makes the next one."""
    (found,) = KEPT.glob("rater-*.whl")
    return found


def state() -> Path:
    """A state that the previous release left: `keep_state.Kept` as msgpack, packed by gzip."""
    (found,) = KEPT.glob("state-*.msgpack.gz")
    return found


def unpacked(directory: Path) -> Path:
    """The previous release in a directory for `environment`."""
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(directory)
    return directory


def environment(release: Path | None, **variables: str) -> dict[str, str]:
    """For a process of that release, None for ours; without settings of whoever runs the tests."""
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("RATER_", "PYTHONPATH"))}
    return {**plain, **({"PYTHONPATH": str(release)} if release else {}), **variables}


def unmet() -> list[str]:
    """What the previous release needs and is not installed here: then it wants a venv of its own."""
    with zipfile.ZipFile(wheel()) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    wanted = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    return [
        str(one)
        for one in wanted
        if (one.marker is None or one.marker.evaluate({"extra": ""}))
        and not one.specifier.contains(importlib.metadata.version(one.name))
    ]


__all__ = ["RATER", "environment", "state", "unmet", "unpacked", "wheel"]
