"""What is said when CloudKitty cannot be asked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from rater.cli.import_cloudkitty import import_cloudkitty
from rater.cloudkitty import CloudKittyError, read_rules


class Answers(BaseHTTPRequestHandler):
    status = 200
    body = b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"", r"\(401\): check the cloud's entry in clouds.yaml, or OS_\*"),
        (403, b"", "role admin is needed"),
        (404, b"<html>", "without /v1"),
        (500, b"x" * 100_000, "answered with status 500: its own log says why"),
        (200, b"hello", "not that of CloudKitty's API v1"),
        (200, b"{}", "not that of CloudKitty's API v1"),
        (200, b'{"services": [{"service_id": 1}], "modules": [], "groups": []}', "not that of CloudKitty's API v1"),
    ],
)
def test_answers_that_are_not_rules(
    server: str, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, message: str
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    monkeypatch.setattr(Answers, "body", body)

    with pytest.raises(CloudKittyError, match=message) as caught:
        read_rules(server)

    assert str(caught.value).startswith(server)
    assert len(str(caught.value)) < 500


def test_nobody_is_there() -> None:
    with pytest.raises(CloudKittyError, match="check the URL"):
        read_rules("http://127.0.0.1:1")


def test_a_cloud_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", f"{tmp_path}/clouds.yaml")

    with pytest.raises(CloudKittyError, match=r"atlantis.*--os-cloud"):
        read_rules(cloud="atlantis")


def test_credentials_that_are_incomplete(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", f"{tmp_path}/clouds.yaml")
    monkeypatch.setenv("OS_AUTH_URL", "http://127.0.0.1:1/v3")
    monkeypatch.setenv("OS_USERNAME", "me")

    with pytest.raises(CloudKittyError, match=r"OS_\* variables"):
        read_rules()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudkittyclient.client", None)

    with pytest.raises(CloudKittyError, match=r"pip install 'rater\[openstack\]'"):
        read_rules("http://127.0.0.1:1")


def test_a_time_zone_that_is_none_is_wrong_usage() -> None:
    done = CliRunner().invoke(import_cloudkitty, ["--server-timezone", "Mars/Olympus"])

    assert done.exit_code == 2
    assert "Europe/Vienna" in done.output
