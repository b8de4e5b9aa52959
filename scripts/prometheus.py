"""Puts Prometheus, promtool, VictoriaMetrics and InfluxDB where the tests find them: `make tools` runs this.

VictoriaMetrics and InfluxDB may be missing: not every system has them, and a test that wants one is skipped, which only
CI forbids. Takes what PATH already has; else unpacks Debian's packages below `.cache/prometheus`, without installing
them: no service is started and only root's `apt-get update`, needed on a machine that never did it, touches the system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import debian

PACKAGES = {
    "prometheus": ("prometheus", "promtool"),
    "victoria-metrics": ("victoria-metrics",),
    "influxdb": ("influxd",),
}
"""What is needed of which package of Debian."""
OPTIONAL = ("victoria-metrics", "influxdb")
PLACE = Path(__file__).resolve().parent.parent / ".cache" / "prometheus" / "bin"

_HELP = (
    "the tests need {} on PATH; apt-get could not fetch that here. Install it: `apt-get install {}` on Debian and "
    "Ubuntu, `brew install prometheus victoriametrics influxdb@1` on macOS\n"
)


def main() -> int:
    """0 when Prometheus is on PATH or in PLACE, else 1; with a message that says what is missing and how to get it."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{PLACE}"
    for package, programs in PACKAGES.items():
        said = ""
        if not _found(programs, path):
            try:
                debian.take(package, programs, PLACE)
            except (OSError, subprocess.SubprocessError) as error:
                said = f"{debian.last_words(error)}\n"
        if not _found(programs, path):
            kind = "remark" if package in OPTIONAL else "error"
            sys.stderr.write(f"{said}{kind}: {_HELP.format(' and '.join(programs), package)}")
            if package not in OPTIONAL:
                return 1
            continue
        print(f"{package}: {shutil.which(programs[0], path=path)}")
    return 0


def _found(programs: tuple[str, ...], path: str) -> bool:
    return all(shutil.which(program, path=path) for program in programs)


if __name__ == "__main__":
    sys.exit(main())
