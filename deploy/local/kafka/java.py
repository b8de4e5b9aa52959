"""Finds Java and Maven on this machine and says what to install where they are missing.

It also builds the command lines of Kafka's Java programs, so that the JVM's settings stand in one place.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from deploy.local.kafka.errors import LaptopKafkaError

OLDEST_JAVA = 17
"""Kafka 4 brokers do not run on anything older."""

_INSTALL_HINT = """\
To install both:
  Debian, Ubuntu   sudo apt-get install openjdk-17-jre-headless maven   (Debian 13: openjdk-21-jre-headless)
  Fedora           sudo dnf install java-21-openjdk-headless maven
  macOS            brew install --cask temurin && brew install maven"""

_LOG4J_SETTINGS = Path(__file__).with_name("log4j2.properties")


class Java(msgspec.Struct, frozen=True):
    """A `java` executable; `fingerprint` changes when the executable does, as with a security update."""

    executable: Path
    fingerprint: str


def find_java() -> Java:
    """`$JAVA_HOME/bin/java` if JAVA_HOME is set, else the `java` on PATH; it is not run.

    Raises LaptopKafkaError, with what to install, when there is none.
    """
    found = _locate_java()
    if isinstance(found, str):
        raise LaptopKafkaError(_missing([found]))
    return found


def require_tools() -> tuple[Java, Path]:
    """Java and Maven's `mvn`, both present, Java new enough.

    Raises LaptopKafkaError that names all that is missing at once.
    """
    java, maven = _locate_java(), shutil.which("mvn")
    faults = [fault for fault in (_java_fault(java), None if maven else "Maven: no `mvn` on PATH") if fault]
    if faults:
        raise LaptopKafkaError(_missing(faults))
    assert isinstance(java, Java)
    assert maven is not None
    return java, Path(maven)


def require_new_enough(java: Java) -> None:
    """Runs `java -version`; raises LaptopKafkaError if it is older than Kafka needs or does not run."""
    fault = _java_fault(java)
    if fault:
        raise LaptopKafkaError(_missing([fault]))


def command(
    java: Java, jars: Path, main_class: str, arguments: list[str], heap_mb: int, jvm_options: list[str]
) -> list[str]:
    """The command line of `main_class` of the jars in `jars`, with a heap of at most `heap_mb` MiB."""
    # Sorted and spelled out, not `jars/*`: the class archive is valid only for exactly this class path.
    class_path = os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))
    return [
        str(java.executable),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # the second compiler costs start-up more than a laptop's load gains by it
        "-XX:+ExitOnOutOfMemoryError",  # a broker that limps on without a thread looks like a slow one
        "-XX:-UsePerfData",  # no files in /tmp/hsperfdata_*, which a SIGKILL would leave there
        "-Djava.io.tmpdir=tmp",  # the same for the native libraries that zstd and snappy unpack
        f"-Dlog4j2.configurationFile={_LOG4J_SETTINGS}",
        *jvm_options,
        "-cp",
        class_path,
        main_class,
        *arguments,
    ]


def _locate_java() -> Java | str:
    """The executable, or what is wrong."""
    home = os.environ.get("JAVA_HOME")
    if home:
        found = shutil.which("java", path=str(Path(home) / "bin"))
        if found is None:
            return f"Java {OLDEST_JAVA} or newer: JAVA_HOME is {home}, which has no bin/java; correct or unset it"
    else:
        found = shutil.which("java")
        if found is None:
            return f"Java {OLDEST_JAVA} or newer: no `java` on PATH, and JAVA_HOME is not set"
    executable = Path(found).resolve()
    state = executable.stat()
    identity = f"{executable} {state.st_size} {state.st_mtime_ns}"
    return Java(executable, hashlib.sha256(identity.encode()).hexdigest()[:16])


def _java_fault(java: Java | str) -> str | None:
    if isinstance(java, str):
        return java
    answer = subprocess.run(  # noqa: S603 - the user's own Java, found on PATH or in JAVA_HOME
        [java.executable, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    if answer.returncode != 0 or version is None:
        # macOS has a /usr/bin/java that only says that there is no Java
        return f"Java {OLDEST_JAVA} or newer: {java.executable} does not run (exit {answer.returncode})"
    if int(version[1]) < OLDEST_JAVA:
        return f"Java {OLDEST_JAVA} or newer: {java.executable} is Java {version[1]}; set JAVA_HOME to a newer one"
    return None


def _missing(faults: list[str]) -> str:
    return "The laptop Kafka needs\n" + "".join(f"  {fault}\n" for fault in faults) + _INSTALL_HINT
