"""Fetches what `make test-deploy-server` installs the chart on: etcd of Debian, and an API server of Kubernetes.

Go builds that from the modules that `tests/deploy/tools/kube-apiserver` pins: up to 20 minutes and some GB in Go's own
caches the first time, a minute afterwards. The program stays in `.cache/deploy/versions`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import debian
from deploy_tools import BIN, PINS, PLACE, ToolError, build, call, go_tool, link

SERVER_SECONDS = 3600  # for the build: on a slow machine that does other things, too
_HELP = "install it: `apt-get install etcd-server` on Debian and Ubuntu, `brew install etcd` on macOS"


def main() -> int:
    """0 when both are there, with a line for each; 1 with a line on standard error."""
    try:
        print(_etcd(), flush=True)
        print(build("kube-apiserver", SERVER_SECONDS, _version_of_server()))
    except ToolError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _version_of_server() -> str:
    """What the linker tells the server of its own version, as Kubernetes' makefiles do: helm asks for it."""
    version = go_tool(PINS / "kube-apiserver" / "go.mod").version
    major, minor, _ = version.removeprefix("v").split(".")
    said = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in said.items())


def _etcd() -> str:
    installed = shutil.which("etcd")
    if installed is not None:
        link("etcd", Path(installed))
    elif not (BIN / "etcd").exists():
        try:
            debian.take("etcd-server", ("etcd",), PLACE / "etcd")
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolError(f"etcd could not be fetched: {debian.last_words(error)}; {_HELP}") from error
        link("etcd", PLACE / "etcd" / "etcd")
    return f"{call([BIN / 'etcd', '--version'], 'etcd', _HELP).splitlines()[0]}: {BIN / 'etcd'}"


if __name__ == "__main__":
    sys.exit(main())
