"""Runs the Dockerfile's own steps in a clean Debian and tries what comes out, without Docker: `make image-rehearsal`.

buildah reads the Dockerfile and runs each step as it stands there, in a root of its own. Only the first image is
another one, since no registry of images is asked: Debian of the same release with its own Python, made by mmdebstrap.
Then the image is entered as Kubernetes would start it: as its user, without rights, on a root that cannot be written,
beside a real Kafka. Needs root, Debian or Ubuntu, `apt-get install buildah mmdebstrap`, and 4 GB; takes four minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from deploy.local.kafka import LaptopKafka

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".cache" / "image-rehearsal"
CONTEXT = PLACE / "context"
BASE, IMAGE = "localhost/rehearsal-base", "localhost/rater-rehearsal"
HOST_FILES = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")  # how this machine reaches the package index
SECONDS = 1500  # for one step: a slow mirror is no reason to hang
WAIT = 120  # seconds for what has to come true

NOTHING: Mapping[str, str] = {}

FIRST = re.compile(r"^FROM (\S+/python:[0-9.]+-slim-([a-z]+)\S*) AS base$", re.MULTILINE)
"""The Dockerfile's first image, and the name of its Debian."""

# A root like that of a container: read-only but for /tmp, no right left, first process of its own namespace.
ENTER = """
set -eu
root=$1 tmp=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind "$tmp" "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \
  --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"
"""


class RehearsalError(Exception):
    """A step did not do what it has to; the message says which and what came instead."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the image was built and did everything; 1 with a line on standard error when not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twice", action="store_true", help="build twice, and compare what came out byte for byte")
    parser.add_argument("--keep", action="store_true", help="try the image of the last run, without a build")
    options = parser.parse_args(arguments)
    try:
        _needed()
        if not options.keep:
            _make_base()
            _take_context()
            _build(IMAGE)
        with _unpacked(IMAGE) as root:
            if options.twice:
                _same_again(root)
            _try(root)
    except (OSError, RehearsalError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _needed() -> None:
    missing = [name for name in ("buildah", "mmdebstrap", "unshare") if shutil.which(name) is None]
    if missing:
        raise RehearsalError(f"{', '.join(missing)} not found: apt-get install buildah mmdebstrap util-linux")
    if os.geteuid() != 0:
        raise RehearsalError("only root may make a root file system and enter it: sudo make image-rehearsal")


def _make_base() -> None:
    """The stand-in for the Dockerfile's first image: its Debian, and a Python with pip below /usr/local."""
    first = FIRST.search((ROOT / "Dockerfile").read_text())
    if first is None:
        raise RehearsalError("Dockerfile does not begin `FROM …/python:VERSION-slim-DEBIAN… AS base`")
    print(f"{first[1]} is stood in for by Debian {first[2]}")
    archive = PLACE / f"{first[2]}.tar"
    if not archive.exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        hooks = (
            'ln -s /usr/bin/python3 "$1/usr/local/bin/python3"',
            'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
            'chroot "$1" sh -c "python3 -m pip install --quiet --root-user-action ignore --no-index --ignore-installed '
            '/usr/share/python-wheels/pip-*.whl && dpkg --purge python3-pip"',
        )
        made = archive.with_suffix(".new.tar")
        packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", packages]
        _run([*command, *(f"--customize-hook={hook}" for hook in hooks), first[2], str(made)], output=True)
        made.rename(archive)
    container = _buildah("from", "scratch").strip()
    _buildah("add", "--quiet", container, str(archive), "/")
    _buildah("commit", "--quiet", "--rm", container, BASE)


def _take_context() -> None:
    """Copies what git knows or would add, so that nobody changes it between one build and the next."""
    shutil.rmtree(CONTEXT, ignore_errors=True)
    listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (CONTEXT / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, CONTEXT / name)


def _build(image: str) -> None:
    begun = time.monotonic()
    files = [option for path in HOST_FILES if Path(path).exists() for option in ("--volume", f"{path}:{path}:ro")]
    build = ["build", "--no-cache", "--isolation", "chroot", "--network", "host", "--pull-never", "--from", BASE]
    arguments = ["--build-arg", f"VERSION={_version()}"]
    _buildah(*build, *files, *arguments, "--tag", image, str(CONTEXT), output=True)
    _buildah("rmi", "--prune", "--force")  # what the last run made under this name: 1.3 GB
    print(f"built in {time.monotonic() - begun:.0f} s")


@contextmanager
def _unpacked(image: str) -> Iterator[Path]:
    container = _buildah("from", "--pull-never", image).strip()
    try:
        yield Path(_buildah("mount", container).strip())
    finally:
        _buildah("rm", container)


def _same_again(root: Path) -> None:
    """Builds once more and raises RehearsalError if a file of ours differs. What Debian brings is not compared."""
    before = _bytes(root)
    _build(f"{IMAGE}-again")
    with _unpacked(f"{IMAGE}-again") as again:
        after = _bytes(again)
    _buildah("rmi", "--force", f"{IMAGE}-again")
    differ = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if differ:
        raise RehearsalError(f"{len(differ)} files differ from build to build: {', '.join(differ[:10])}")
    print(f"ok: {len(before)} files are the same in a second build")


def _bytes(root: Path) -> dict[str, tuple[str, int, int]]:
    """path -> digest, mode and time of last change, of everything below /opt/rater and of the list of users."""
    found = {}
    for path in [*(root / "opt/rater").rglob("*"), root / "etc/passwd", root / "etc/group"]:
        status = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        when = int(status.st_mtime) if "opt/rater/" in str(path) else 0
        found[str(path.relative_to(root))] = (hashlib.sha256(content).hexdigest(), status.st_mode, when)
    return found


def _try(root: Path) -> None:
    _declared()
    _fill(root)
    with tempfile.TemporaryDirectory(prefix="rater-image-") as name, ExitStack() as stack:
        tmp = Path(name)
        tmp.chmod(0o1777)
        inside = Inside(root, tmp)
        _alone(inside)
        kafka = stack.enter_context(LaptopKafka(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        _bill(inside, kafka.bootstrap)


class Inside:
    """Starts commands in the image: its root in `root`, read-only, `tmp` as its /tmp."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self._root, self._tmp = root, tmp

    def start(self, *command: str, settings: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """The first process of a namespace of its own. `settings` are variables beside those of the image."""
        config = _image()
        variables = {**dict(pair.split("=", 1) for pair in config["Env"]), **settings}
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "enter"]
        outer = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        inner = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
        return subprocess.Popen(
            [*enter, str(self._root), str(self._tmp), *inner],
            env=outer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
        )  # fmt: skip

    def run(self, *command: str, code: int = 0, settings: Mapping[str, str] = NOTHING) -> str:
        """What it printed. Raises RehearsalError when it ends otherwise than with `code`."""
        process = self.start(*command, settings=settings)
        try:
            printed, _ = process.communicate(timeout=WAIT)
        finally:
            process.kill()
        if process.returncode != code:
            raise RehearsalError(f"`{' '.join(command)}` exited {process.returncode}, not {code}:\n{printed}")
        return printed


def _declared() -> None:
    """What the image says of itself. Raises RehearsalError if it would run as root or not be what is expected."""
    config = _image()
    _expect(config["User"] == "10001:10001", f"the image's user is {config['User']}")
    _expect(config["Entrypoint"] == ["rater"], f"the image starts {config['Entrypoint']}")
    _expect(config["Labels"]["org.opencontainers.image.version"] == _version(), "the label names another version")


def _fill(root: Path) -> None:
    """What is mounted there in real life: settings, metrics, rules and usage of examples/, settings of compose.yaml."""
    shutil.copytree(ROOT / "examples" / "first", root / "etc/rater", dirs_exist_ok=True)
    shutil.copytree(ROOT / "examples" / "rating", root / "etc/rating", dirs_exist_ok=True)
    others = shutil.ignore_patterns("secrets")  # those of whoever works here
    shutil.copytree(ROOT / "deploy" / "compose", root / "etc/compose", dirs_exist_ok=True, ignore=others)
    _run(["sh", str(ROOT / "deploy/compose/secrets.sh"), str(root / "etc/compose/secrets")])
    (root / "etc/compose/secrets").chmod(0o755)  # a container sees the files alone, not their directory


def _alone(inside: Inside) -> None:
    """What needs no server."""
    said = inside.run("rater", "--version")
    _expect(_version() in said, f"rater --version says {said!r}")
    for path in ("/opt/rater/planted", "/etc/planted", "/usr/local/planted"):
        said = inside.run("python3", "-c", f"open({path!r}, 'w')", code=1)
        _expect("Read-only file system" in said, f"{path} could be written: {said}")
    for name in ("pip", "pip3", "uv", "gcc", "cc", "make", "git", "curl"):
        inside.run("sh", "-c", f"command -v {name}", code=127)
    inside.run("python3", "-c", "import pip", code=1)
    print("ok: read-only, no compiler, nothing that installs")
    said = inside.run("rater", "config", "check", settings={"RATER_CONFIG": "/etc/compose/rater.yaml"})
    _expect("no faults" in said, f"the settings of compose.yaml: {said}")
    rate = ("rater", "rate", "--out", "table", "--rules")
    said = inside.run(*rate, "/etc/rating/rules.yaml", "/etc/rating/usage.jsonl")
    _expect("0.3849" in said, f"rater rate has another total than 0.3849:\n{said}")
    said = inside.run(*rate, "/etc/rating/scripts.yaml", "/etc/rating/instances.jsonl")
    _expect("0.018" in said, f"rater rate with a script has another total than 0.018:\n{said}")
    bill = json.loads(inside.run("cat", "/opt/rater/share/rater/sbom.cdx.json"))
    names = {part["name"] for part in bill["components"]}
    _expect({"chdb-core", "faust-streaming", "openstacksdk"} <= names, f"the bill of materials lacks some: {names}")
    print(f"ok: settings of compose.yaml, prices with and without a script, and a bill of {len(names)} materials")


def _bill(inside: Inside, bootstrap: str) -> None:
    """Each role with the settings of compose.yaml, usage in, a report out, and the end by SIGTERM."""
    port = {role: _free_port() for role in ("worker", "sink", "api")}
    http = f"127.0.0.1:{_free_port()}"
    where = {
        "RATER_CONFIG": "/etc/compose/rater.yaml",
        "RATER_API__LISTEN": http,
        "RATER_KAFKA__BOOTSTRAP": bootstrap,
        "RATER_STORE__DSN": "chdb:///tmp/clickhouse",
    }
    inside.run("rater", "topics", "create", settings=where)
    inside.run("rater", "migrate", settings=where)
    roles = {}
    try:
        for role in port:
            listen = {"RATER_OBSERVE__LISTEN": f"127.0.0.1:{port[role]}"}
            roles[role] = inside.start("rater", role, settings={**where, **listen})
        apply = ("rater", "rules", "apply", "/etc/compose/rules.yaml", "--yes", "--reason", "rehearsal")
        inside.run(*apply, settings=where)
        inside.run("rater", "collect", "replay", "/etc/rater/usage.jsonl", settings=where)
        for role in port:
            _until(partial(_ready, port[role]), f"{role} is ready", roles[role])
        report = ("rater", "report", "--scope", "projA", "--month", "2026-01")
        _until(lambda: "0.6005" in _output(inside, report, where), "a report of projA", roles["sink"])
        token = inside.run("cat", "/etc/compose/secrets/api-token")
        _expect(_status(http, "") == 401, "the API answers a stranger")
        _expect(_status(http, token) == 200, "the API does not know its token")
        print("ok: worker, sink and API, from usage to a report")
        for role, process in roles.items():
            _end(role, process)
        print("ok: all end in order at SIGTERM")
    finally:
        for process in roles.values():
            process.kill()


def _output(inside: Inside, command: Sequence[str], where: dict[str, str]) -> str:
    process = inside.start(*command, settings=where)
    try:
        return process.communicate(timeout=WAIT)[0]
    finally:
        process.kill()


def _end(role: str, process: subprocess.Popen[str]) -> None:
    """SIGTERM to the role itself, which is the first process of its namespace, as in a container."""
    first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(first[0]), 15)
    printed, _ = process.communicate(timeout=WAIT)
    _expect(process.returncode == 0, f"{role} ended with {process.returncode} at SIGTERM:\n{printed[-3000:]}")


def _until(come: Callable[[], bool], what: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + WAIT
    while not come():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RehearsalError(f"waited for {what}; a role printed:\n{process.communicate()[0][-3000:]}")
        time.sleep(0.5)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _status(address: str, token: str) -> int:
    asked = urllib.request.Request(f"http://{address}/v3/gaps", headers={"X-Auth-Token": token} if token else {})
    try:
        with urllib.request.urlopen(asked, timeout=WAIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _image() -> dict[str, Any]:
    """The image's settings as OCI has them: user, variables, labels, what it starts."""
    config: dict[str, Any] = json.loads(_buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
    return config


def _version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _expect(fact: bool, otherwise: str) -> None:
    if not fact:
        raise RehearsalError(otherwise)


def _buildah(*arguments: str, output: bool = False) -> str:
    place = ["--root", str(PLACE / "storage"), "--runroot", str(PLACE / "run"), "--storage-driver", "vfs"]
    return _run(["buildah", *place, *arguments], output=output)


def _run(command: Sequence[str], *, output: bool = False) -> str:
    """Its standard output; with `output` that is shown instead. Raises RehearsalError with its last words."""
    caught = None if output else subprocess.PIPE
    done = subprocess.run(command, stdout=caught, stderr=caught, text=True, timeout=SECONDS, check=False, cwd=ROOT)
    if done.returncode:
        words = (done.stderr or "what it said is above").strip()[-2000:]
        raise RehearsalError(f"`{' '.join(command[:8])} …` exited {done.returncode}: {words}")
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
