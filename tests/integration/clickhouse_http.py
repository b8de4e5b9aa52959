"""A ClickHouse server for tests: the real engine behind as much of its HTTP interface as the client uses.

Run as a process of its own, which can be killed and started again: `python -m tests.integration.clickhouse_http PORT
DIRECTORY USER PASSWORD [CONFIG]`. Prints `ready` when it listens. The engine and its SQL are real; only transport and
password check are ours. SIGUSR1 makes it read-only, SIGUSR2 writable again.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

USER, PASSWORD = "rater", "hunter2-from-a-file"
_OF_THE_FRONT = ("GRANT CREATE DATABASE ON rater.*", "GRANT SHOW DATABASES ON default.*")
_ENGINE_SETTINGS = {"insert_deduplication_token", "do_not_merge_across_partitions_select_final"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Any
    lock = threading.Lock()
    credentials: tuple[str, str]
    read_only = False

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self._body()
        options = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if (self.headers.get("Content-Type") or "").startswith("multipart/form-data"):
            options |= self._form(body)
        try:
            self._check_password()
            answer = self._run(options, body)
        except Exception as fault:  # noqa: BLE001  whatever the engine says goes to the client
            text = str(fault)
            code = re.search(r"Code: (\d+)", text)
            self._answer(500, text.encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1002"})
        else:
            self._answer(200, answer, {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionResetError("half a request is none")
        else:
            chunks = []
            while size := self._chunk_size():
                chunks.append(self.rfile.read(size))
                if len(chunks[-1]) < size:
                    raise ConnectionResetError("half a request is none")
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(chunks)
        if self.headers.get("Content-Encoding") == "lz4":
            body = b"".join(_unpacked(body))
        return body

    def _chunk_size(self) -> int:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("half a request is none")
        return int(line, 16)

    def _form(self, body: bytes) -> dict[str, str]:
        """The client sends large parameters, and the statement with them, as a form."""
        form = message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        fields = form.get_payload()
        assert isinstance(fields, list)
        return {
            str(field.get_param("name", header="content-disposition")): bytes(field.get_payload(decode=True)).decode()
            for field in fields
        }

    def _check_password(self) -> None:
        import base64

        sent = base64.b64decode((self.headers.get("Authorization") or "Basic ").split()[-1]).decode()
        if tuple(sent.split(":", 1)) != self.credentials:
            raise PermissionError(f"Code: 516. DB::Exception: {sent.split(':')[0]}: Authentication failed")

    def _run(self, options: dict[str, str], body: bytes) -> bytes:
        query = options.pop("query", "")
        parameters = {name[6:]: text for name, text in options.items() if name.startswith("param_")}
        settings = ", ".join(f"{name} = '{options[name]}'" for name in sorted(_ENGINE_SETTINGS & options.keys()))
        with self.lock:
            self.engine.query(f"USE `{options.get('database', 'default')}`", "TSV")
            head, _, data = body.partition(b"\n")
            if head.startswith(b"INSERT") and head.endswith(b"FORMAT Native"):
                return self._insert(head.decode().removesuffix("FORMAT Native"), data, settings)
            sql = query or body.decode()
            return bytes(self.engine.query(sql, "TabSeparated", params=parameters).bytes() or b"")

    def _insert(self, into: str, data: bytes, settings: str) -> bytes:
        with tempfile.NamedTemporaryFile(suffix=".native") as block:
            block.write(data)
            block.flush()
            if self.read_only:  # the engine itself refuses: it cannot be made read-only and writable again
                settings = ", ".join(filter(None, [settings, "readonly = 1"]))
            clause = f"SETTINGS {settings}" if settings else ""
            self.engine.query(f"{into} FROM INFILE '{block.name}' {clause} FORMAT Native", "TSV")
        return b""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _unpacked(packed: bytes) -> Iterator[bytes]:
    """The client packs each block of rows into a frame of its own."""
    import lz4.frame

    while packed:
        frame = lz4.frame.LZ4FrameDecompressor()
        yield frame.decompress(packed)
        packed = frame.unused_data or b""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone before its answer is none of our errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(port: int, directory: str, user: str, password: str, config: str = "") -> None:
    """Serves until it is killed. `config`: a file of the engine's own settings."""
    import chdb

    _Handler.engine = chdb.connect(f"{directory}?config-file={config}" if config else directory)
    _Handler.engine.query("CREATE DATABASE IF NOT EXISTS rater", "TSV")
    _Handler.engine.query("SET async_insert = 0", "TSV")
    _Handler.credentials = (user, password)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(_Handler, "read_only", True))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(_Handler, "read_only", False))
    server = _Server(("127.0.0.1", port), _Handler)
    sys.stdout.write(f"ready {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


class Server:
    """The process, from the side of a test."""

    def __init__(self, directory: Path, grants: Sequence[str] | None = None) -> None:
        """`grants`: all that statements may do, as `GRANT … ON …` without a user. None: everything."""
        self._directory = directory
        self._grants = grants
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        """Where it listens, and will again when it is started again; 0: on a free port."""

    def start(self) -> None:
        """Starts it on `port` and waits until it listens."""
        command = [sys.executable, "-m", "tests.integration.clickhouse_http"]
        config = [] if self._grants is None else [_restricted(self._directory, self._grants)]
        self._process = subprocess.Popen(
            [*command, str(self.port), str(self._directory), USER, PASSWORD, *config], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().split()[1])

    @property
    def pid(self) -> int:
        """Process id; 0 if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def read_only(self, yes: bool) -> None:
        """From now on inserts are refused, or taken again."""
        assert self._process is not None, "it was started"
        self._process.send_signal(signal.SIGUSR1 if yes else signal.SIGUSR2)

    def kill(self) -> None:
        """Kills it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def _restricted(directory: Path, grants: Sequence[str]) -> str:
    """The engine's settings under which its only user may do that, and what this front does by itself."""
    users, config = directory.with_suffix(".users.xml"), directory.with_suffix(".config.xml")
    queries = "".join(f"<query>{escape(grant)}</query>" for grant in [*grants, *_OF_THE_FRONT])
    default = f"<password></password><profile>default</profile><quota>default</quota><grants>{queries}</grants>"
    tree = f"<profiles><default/></profiles><quotas><default/></quotas><users><default>{default}</default></users>"
    users.write_text(f"<clickhouse>{tree}</clickhouse>")
    # as the server's own configuration has it; without it everybody reads all of `system`
    asked = "<select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>"
    improved = f"<access_control_improvements>{asked}</access_control_improvements>"
    directories = f"<user_directories><users_xml><path>{users}</path></users_xml></user_directories>"
    config.write_text(f"<clickhouse><users_config>{users}</users_config>{directories}{improved}</clickhouse>")
    return str(config)


@contextlib.contextmanager
def clickhouse_server(directory: Path) -> Iterator[Server]:
    """A server that is gone afterwards."""
    server = Server(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:])
