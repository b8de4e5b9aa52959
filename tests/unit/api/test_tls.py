"""TLS by files: read again when they change, while connections stay; broken files change nothing and are told."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from rater.api import app as app_module
from rater.api.auth import watched_file
from rater.api.settings import ApiSettings
from rater.api.tls import EXPIRES_SOON_SECONDS, Certificates, expires_at
from rater.config import ObserveSettings
from rater.observe import serve_health
from tests.unit.api.test_http import served


class Made(NamedTuple):
    """A certificate that signed itself, and its key."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Three of them, each with a name of its own."""
    directory = tmp_path_factory.mktemp("tls")
    found = [Made(directory / f"{number}.pem", directory / f"{number}.key") for number in range(3)]
    for number, (certificate, key) in enumerate(found):
        name = ["-subj", f"/CN=number {number}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "30"]
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*new, *name, *files], check=True, capture_output=True)
    return found


def installed(source: Made, directory: Path) -> dict[str, str]:
    """Copies to the files of the settings, as a renewal does."""
    target = {"certificate_file": directory / "cert.pem", "key_file": directory / "key.pem"}
    for path, text in zip(target.values(), source, strict=True):
        path.write_bytes(text.read_bytes())
    return {name: str(path) for name, path in target.items()}


class Session:
    """A connection by TLS that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, url: str, trusted: list[Made], shown: Made | None = None) -> Session:
        context = ssl.create_default_context(cadata="".join(one.certificate.read_text() for one in trusted))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return cls(*await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), ssl=context))

    @property
    def name(self) -> str:
        """Whom the service says it is."""
        return str(self._writer.get_extra_info("peercert")["subject"][0][0][1])

    async def ask(self) -> bytes:
        """The status line of an answer."""
        self._writer.write(b"GET /v3/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await self._reader.readuntil(b"\r\n\r\n")
        sizes = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await self._reader.readexactly(int(sizes[0]))
        return head.partition(b"\r\n")[0]

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def test_renewed_files_are_for_new_connections_and_broken_ones_for_none(
    made: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(watched_file, "_LOOK_SECONDS", 0.0)
    registry = CollectorRegistry()
    files = installed(made[0], tmp_path)
    async with served(registry, **files) as url:
        kept = await Session.to(url, made)
        assert (kept.name, await kept.ask()) == ("number 0", b"HTTP/1.1 200 OK")
        # when
        installed(made[1], tmp_path)
        # then
        new = await Session.to(url, made)
        assert (new.name, await new.ask()) == ("number 1", b"HTTP/1.1 200 OK")
        assert await kept.ask() == b"HTTP/1.1 200 OK"
        assert registry.get_sample_value("rater_api_certificate_reload_failed") == 0
        # when what comes is half a certificate, then a key of another one, then nothing
        for name, text in (("cert.pem", "-----BEGIN"), ("key.pem", made[2].key.read_text()), ("cert.pem", None)):
            installed(made[1], tmp_path)
            (tmp_path / name).unlink()
            if text is not None:
                (tmp_path / name).write_text(text)
            # then
            other = await Session.to(url, made)
            assert (other.name, await other.ask()) == ("number 1", b"HTTP/1.1 200 OK")
            assert registry.get_sample_value("rater_api_certificate_reload_failed") == 1
            await other.close()
        # when it is good again
        installed(made[2], tmp_path)
        last = await Session.to(url, made)
        assert last.name == "number 2"
        assert registry.get_sample_value("rater_api_certificate_reload_failed") == 0
        assert await kept.ask() == b"HTTP/1.1 200 OK"
        for session in (kept, new, last):
            await session.close()


async def test_with_an_authority_of_clients_each_has_to_show_a_certificate_of_it(
    made: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_file, "_LOOK_SECONDS", 0.0)
    authority = tmp_path / "clients.pem"
    authority.write_bytes(made[1].certificate.read_bytes())

    async def answered(url: str, shown: Made | None) -> bool:
        try:  # TLS 1.3 tells a client that it is refused with the first answer
            session = await Session.to(url, made, shown)
        except OSError:
            return False
        try:
            return await session.ask() == b"HTTP/1.1 200 OK"
        except (OSError, asyncio.IncompleteReadError):
            return False
        finally:
            await session.close()

    async with served(**installed(made[0], tmp_path), client_ca_file=str(authority)) as url:
        assert [await answered(url, shown) for shown in (None, made[1], made[2])] == [False, True, False]
        # and another authority takes the place of the first one, instead of standing beside it
        authority.write_bytes(made[2].certificate.read_bytes())
        assert [await answered(url, shown) for shown in (None, made[1], made[2])] == [False, False, True]


async def test_older_versions_of_tls_are_refused(made: list[Made], tmp_path: Path) -> None:
    async with served(**installed(made[0], tmp_path)) as url:
        port = url.rpartition(":")[2]
        for version, works in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-cipher", "ALL:@SECLEVEL=0"]
            pipes = {"stdin": DEVNULL, "stdout": PIPE, "stderr": DEVNULL}
            client = await asyncio.create_subprocess_exec(*command, **pipes)
            said, _ = await client.communicate()
            assert (b"number 0" in said) is works, version


async def test_a_handshake_that_does_not_come_is_no_connection(
    made: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "HANDSHAKE_SECONDS", 0.2)
    async with served(**installed(made[0], tmp_path)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        session = await Session.to(url, made)
        assert await session.ask() == b"HTTP/1.1 200 OK"
        await session.close()


def test_the_end_of_a_certificate_is_as_openssl_says_it(made: list[Made], tmp_path: Path) -> None:
    far = Made(tmp_path / "far.pem", tmp_path / "far.key")  # after 2049 times are written in another form
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=far", "-days", "20000"]
    subprocess.run([*new, "-keyout", str(far.key), "-out", str(far.certificate)], check=True, capture_output=True)
    for one in (*made, far):
        command = ["openssl", "x509", "-in", str(one.certificate), "-noout", "-enddate"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        wanted = ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))
        assert expires_at(one.key.read_text() + one.certificate.read_text() + made[0].certificate.read_text()) == wanted


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----", "-----BEGIN"])
def test_what_is_no_certificate_has_no_end(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        expires_at(text)


async def test_a_certificate_that_ends_is_told_before_and_red_after(made: list[Made], tmp_path: Path) -> None:
    settings = ApiSettings(**installed(made[0], tmp_path))
    now = [0.0]
    certificates = Certificates(settings, now=lambda: now[0])
    ends = certificates.expires_at

    async def ready() -> tuple[int, dict[str, object]]:
        warned = {"api": certificates.warning}
        checks = {"api": certificates.red}
        async with (
            serve_health(ObserveSettings(), checks, CollectorRegistry(), warned) as url,
            aiohttp.ClientSession() as http,
            http.get(f"{url}/readyz") as answer,
        ):
            found: dict[str, object] = json.loads(await answer.read())
            return answer.status, found

    now[0] = ends - EXPIRES_SOON_SECONDS - 1
    assert await ready() == (200, {"ready": True, "checks": {"api": "ok"}})
    now[0] = ends - 1
    status, body = await ready()
    assert (status, body["checks"]) == (200, {"api": "ok"})
    assert "the certificate ends at 20" in str(body["warnings"])
    now[0] = ends
    status, body = await ready()
    assert (status, list(body)) == (503, ["ready", "checks"])
    assert "the certificate has ended at 20" in str(body["checks"])
