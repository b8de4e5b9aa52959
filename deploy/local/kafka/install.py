"""Gets Apache Kafka onto this machine once: jars from Maven, a formatted data directory, a class archive for the JVM.

Everything lies in one cache directory, is built aside and renamed, and is made under a file lock: callers in several
processes at once get the same complete directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.local.kafka import java, launch, settings
from deploy.local.kafka.errors import LaptopKafkaError

_POM = Path(__file__).with_name("pom.xml")
_JAR_HASHES = Path(__file__).with_name("jars.sha256")

_pinned = re.search(r"<kafka.version>(.+?)</kafka.version>", _POM.read_text())
assert _pinned is not None, "pom.xml names the version"
VERSION = _pinned[1]
"""The version of Apache Kafka, as pom.xml pins it."""

# All formatted directories share one cluster id: each is the only node of its cluster.
_CLUSTER_ID = "cmF0ZXItbGFwdG9wLWthZg"

_HEAP_MB = 256  # of the short-lived programs below
_TRAINING_SECONDS = 120.0
_ARCHIVE = "classes.jsa"

_logger = logging.getLogger(__name__)


def project_root() -> Path:
    """The checkout this module lies in, or the working directory if it was installed as a package."""
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def install() -> Path:
    """The directory that holds Kafka: `${RATER_CACHE:-<project root>/.cache}/kafka-<version>`, filled if need be.

    The first call takes about ten seconds and the network; later ones look at a few files. Raises LaptopKafkaError
    when Java or Maven is missing or too old, or Maven cannot fetch (the error names Maven's log).
    """
    cache = Path(os.environ.get("RATER_CACHE") or project_root() / ".cache").absolute()
    root = cache / f"kafka-{VERSION}"
    if not _has_jars(root):
        java.require_tools()  # before anything is written
    found = java.find_java()
    if _has_jars(root) and _archive_directory(root, found).exists():
        return root
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"kafka-{VERSION}.lock"):
        if not _has_jars(root):
            _fetch(root, *java.require_tools())
        if not _archive_directory(root, found).exists():
            java.require_new_enough(found)
            _archive_classes(root, found)
    return root


def plan(
    root: Path,
    data_dir: Path,
    heap_mb: int,
    advertised_port: int | None = None,
    more: Mapping[str, str] | None = None,
) -> launch.Plan:
    """How to start a broker of the installation in `root` on `data_dir`; `more` settings stand over ours."""
    found = java.find_java()
    archive = _archive_directory(root, found) / _ARCHIVE
    return launch.Plan(
        java=found,
        jars=root / "jars",
        formatted=root / "formatted",
        data_dir=data_dir,
        heap_mb=heap_mb,
        # without the archive Kafka starts all the same, half as fast
        jvm_options=[f"-XX:SharedArchiveFile={archive}"] if archive.exists() else [],
        advertised_port=advertised_port,
        more=dict(more or {}),
    )


def _pin() -> str:
    """Changes with what is to be installed: an edited pom.xml makes the cache stale."""
    return hashlib.sha256(_POM.read_bytes() + _JAR_HASHES.read_bytes()).hexdigest()


def _has_jars(root: Path) -> bool:
    pin = root / "pin"
    return pin.exists() and pin.read_text() == _pin()


def _archive_directory(root: Path, found: java.Java) -> Path:
    """Where the class archive for this Java is; it exists, though perhaps empty, once the archive has been tried."""
    return root / f"jvm-{found.fingerprint}"


@contextlib.contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.info("waiting for another process that installs Kafka (%s)", lock_file)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(root: Path, found: java.Java, maven: Path) -> None:
    """Jars and formatted directory, complete or not at all."""
    aside = root.with_name(f"{root.name}.new")
    _remove(aside)
    aside.mkdir()
    _fetch_jars(aside / "jars", maven, root.with_name(f"{root.name}.maven.log"))
    _format(aside, found)
    (aside / "pin").write_text(_pin())
    if root.exists():
        stale = root.with_name(f"{root.name}.old")
        _remove(stale)
        root.rename(stale)
        _remove(stale)
    aside.rename(root)


def _fetch_jars(jars: Path, maven: Path, log_file: Path) -> None:
    _logger.info("fetching Apache Kafka %s with Maven: once, about 45 MB", VERSION)
    command = [
        str(maven),
        "--batch-mode",
        "--no-transfer-progress",
        f"--file={_POM}",
        "dependency:copy-dependencies",
        f"-DoutputDirectory={jars}",
        "-DincludeScope=runtime",
    ]
    with log_file.open("wb") as log:
        fetched = subprocess.run(  # noqa: S603 - the user's own Maven, found on PATH
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    if fetched.returncode != 0:
        errors = [line for line in log_file.read_text(errors="replace").splitlines() if "[ERROR]" in line]
        said = f"\n  {errors[0]}" if errors else ""
        raise LaptopKafkaError(
            f"Maven could not fetch Apache Kafka {VERSION} (exit {fetched.returncode}); is the network, and in Maven's "
            f"settings the proxy or mirror, right? All it printed is in {log_file}{said}"
        )
    require_pinned_jars(jars)


def require_pinned_jars(jars: Path) -> None:
    """Raises LaptopKafkaError unless `jars` holds exactly the files that jars.sha256 lists."""
    pinned = {name: digest for digest, name in (line.split() for line in _JAR_HASHES.read_text().splitlines())}
    fetched = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in jars.iterdir()}
    differing = sorted(name for name in pinned | fetched if pinned.get(name) != fetched.get(name))
    if differing:
        raise LaptopKafkaError(
            f"Maven delivered other jars than {_JAR_HASHES} pins: {', '.join(differing)}. Either a mirror or the local "
            "Maven repository holds damaged or changed files (remove them there and try again), or pom.xml was changed "
            "without jars.sha256 (deploy/local/kafka/README.md says how to renew it)"
        )


def _format(aside: Path, found: java.Java) -> None:
    """A formatted data directory to copy for each new broker: that saves each a JVM's start."""
    # `StorageTool` wants the settings of a broker; the ports in them do not reach what it writes
    settings.write_server_properties(aside, port=9092, controller_port=9093)
    (aside / "tmp").mkdir()
    arguments = ["format", "--cluster-id", _CLUSTER_ID, "--config", settings.SERVER_PROPERTIES]
    formatted = subprocess.run(  # noqa: S603 - the command is ours
        java.command(found, aside / "jars", "kafka.tools.StorageTool", arguments, _HEAP_MB, []),
        cwd=aside,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if formatted.returncode != 0:
        said = "".join(f"\n  {line}" for line in (formatted.stdout + formatted.stderr).splitlines()[-10:])
        raise LaptopKafkaError(f"Kafka's storage tool failed (exit {formatted.returncode}):{said}")
    (aside / settings.TOPIC_DATA).rename(aside / "formatted")
    (aside / settings.SERVER_PROPERTIES).unlink()
    _remove(aside / "tmp")


def _archive_classes(root: Path, found: java.Java) -> None:
    """Starts a broker once to archive its classes (AppCDS): later starts take half the time and 50 MB less memory.

    The archive is bound to this Java and this path, hence not part of what `_fetch` makes aside.
    """
    _logger.info("preparing Kafka for fast starts: once, a few seconds")
    target = _archive_directory(root, found)
    aside = target.with_suffix(".new")
    _remove(aside)
    aside.mkdir()
    training = launch.Plan(
        java=found,
        jars=root / "jars",
        formatted=root / "formatted",
        data_dir=aside / "training",
        heap_mb=_HEAP_MB,
        jvm_options=[f"-XX:ArchiveClassesAtExit={aside / _ARCHIVE}"],
    )
    started_at = time.monotonic()
    try:
        launch.terminate(launch.launch(training, None, _TRAINING_SECONDS).process, _TRAINING_SECONDS)
    except LaptopKafkaError as error:
        # the archive is a convenience; if Kafka cannot start at all, the caller's own start will say why
        _logger.warning("no class archive, Kafka will start more slowly: %s", error)
    _remove(aside / "training")
    aside.rename(target)
    _logger.info("prepared in %.1f s", time.monotonic() - started_at)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
