"""A PostgreSQL cluster of its own, reachable by a socket in its directory alone."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.openstack.processes import ROOT, Process, call

_SCRIPT = ROOT / "scripts" / "postgresql.py"


class Postgres:
    """One server, empty. It refuses to run as root, so root starts it as `nobody`, in a directory of that user."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("scripts_postgresql", _SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        place = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(place)
        if place.programs() is None:
            subprocess.run([sys.executable, str(_SCRIPT)], check=True)
        programs: Path = place.programs()
        environment = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": place.libraries()}
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        # Below pytest's own directory that user could not reach it, and the path of a socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="rater-postgres-"))
        if user is not None:
            os.chown(self.directory, user, user)
        data = self.directory / "data"
        call(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            environment=environment,
            user=user,
        )
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.directory), "fsync": "off"}
        settings |= {"synchronous_commit": "off", "full_page_writes": "off", "jit": "off", "shared_buffers": "32MB"}
        command = [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
        self._process = Process(
            command, self.directory / "log", environment=environment, user=user, ending=signal.SIGINT
        )
        pid_file = data / "postmaster.pid"
        self._process.until(lambda: pid_file.exists() and pid_file.read_text().rstrip().endswith("ready"))

    @property
    def url(self) -> str:
        """What SQLAlchemy is given."""
        return f"postgresql://postgres@/postgres?host={self.directory}"

    def stop(self) -> None:
        """End it and remove its data."""
        self._process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
