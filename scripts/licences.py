"""Writes docs/licences.md, the licence of each package in the image, and refuses one that nobody agreed to.

`make licences` runs this; what is read is what the packages say of themselves where they are installed, in `.venv`,
and which of them are in the image is what `deploy/image/requirements.lock` says.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Mapping
from email.message import Message
from pathlib import Path
from typing import NamedTuple, cast

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "image" / "requirements.lock"
PAGE = ROOT / "docs" / "licences.md"

ALLOWED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD-3-Clause-Modification",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
    ),
    *("PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
    "MPL-2.0",  # of its own files, which we do not change
}
"""What may be shipped with a work under Apache-2.0 without a further duty than to name it."""

SPELLED = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD-derived (Repoze)": "BSD-3-Clause-Modification",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Words of packages that do not write an SPDX expression yet -> what they mean."""

_HEAD = """# Licences

Of every package in the image, as the package itself says (`make licences` writes this page, and refuses what is not on
its list). None asks for more than to be named: their texts are in the image, beside each package. Versions and hashes
are in `deploy/image/requirements.lock`, and in the bill of materials of each release.

The engine of ClickHouse (chdb-core), pyarrow and numpy are built together with libraries in C and C++ that their own
notices name; the base image, Debian and Python, has its licences below `/usr/share/doc`.

| package | licence |
|---|---|
"""


class Fault(NamedTuple):
    """A package whose licence cannot be told, or is not on the list."""

    package: str
    said: str


def main() -> int:
    """0 when the page is written; 1 with a line for each package whose licence nobody agreed to."""
    found = licences(packages(LOCK.read_text()))
    faults = refused(found)
    for fault in faults:
        sys.stderr.write(
            f"error: {fault.package} is under {fault.said!r}: if that may be shipped, say so in scripts/licences.py "
            "(ALLOWED, or SPELLED if it is another spelling), else take another package\n"
        )
    if not faults:
        rows = (f"| {name} | {licence} |" for name, licence in sorted(found.items()))
        PAGE.write_text(_HEAD + "\n".join(rows) + "\n")
    return 1 if faults else 0


def packages(lock: str) -> list[str]:
    """Names in the text of a lock file that are for Linux, whatever version of Python."""
    entries = re.findall(r"^([a-z0-9-]+)==[^ ;]+ *(?:; *([^\\\n]+))?", lock, re.MULTILINE)
    return sorted({name for name, marker in entries if not marker or _on_linux(marker.strip())})


def _on_linux(marker: str) -> bool:
    pythons = ("3.11", "3.12", "3.13")
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
    return any(
        Marker(marker).evaluate({**linux, "python_version": python, "python_full_version": f"{python}.0"})
        for python in pythons
    )


def licences(names: Iterable[str]) -> dict[str, str]:
    """package -> SPDX expression, or the words it has instead; empty for one that is not installed or says nothing."""
    return {name: _licence(name) for name in names}


def _licence(name: str) -> str:
    try:
        metadata = cast("Message", importlib.metadata.metadata(name))
    except importlib.metadata.PackageNotFoundError:
        return ""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    # the field `License` first: the classifier `BSD License` says less. Some put the whole text there.
    classifiers = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or [] if "License ::" in line]
    said = [str(metadata.get("License") or ""), *classifiers]
    known = [SPELLED.get(words, words) for words in said if words in SPELLED or words in ALLOWED]
    return known[0] if known else (classifiers[-1] if classifiers else said[0].split("\n")[0])


def refused(found: Mapping[str, str]) -> list[Fault]:
    """Those of which a part is not in ALLOWED. Of `A OR B` one is enough."""
    return [Fault(name, licence) for name, licence in found.items() if not _agreed(licence)]


def _agreed(expression: str) -> bool:
    plain = expression.replace("(", " ").replace(")", " ").strip()
    if not plain:
        return False
    # every part that AND joins has to hold, whatever the brackets: stricter than the expression, never laxer
    return all(any(choice.strip() in ALLOWED for choice in part.split(" OR ")) for part in plain.split(" AND "))


if __name__ == "__main__":
    sys.exit(main())
