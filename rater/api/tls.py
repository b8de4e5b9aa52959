"""TLS by files that are read again when they change: new connections get the new certificate, open ones stay.

Files that are broken leave in force what was read before, and are told in the log, by `fault` and in the metrics.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from rater.api.auth.watched_file import WatchedFile
from rater.api.settings import ApiSettings
from rater.observe import ListenError

__all__ = ["EXPIRES_SOON_SECONDS", "Certificates", "expires_at", "open_certificates"]

EXPIRES_SOON_SECONDS = 14 * 86_400
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


class _Loaded(msgspec.Struct, frozen=True):
    context: ssl.SSLContext
    expires_at: float


class _Current(ssl.SSLContext):
    """A context that every new connection is begun with, on behalf of the one that is current then.

    asyncio keeps the context that a server is opened with, and to load a chain into that is no way out: other
    authorities of clients would be added, and never taken away.
    """

    current: Callable[[], ssl.SSLContext]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As the current one does it."""
        return self.current().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Certificates:
    """The certificate, its key and the authority of clients. The files are looked at once a second at most."""

    def __init__(
        self,
        settings: ApiSettings,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` and `now` in seconds. Raises ListenError."""
        others = tuple(filter(None, (settings.key_file, settings.client_ca_file)))
        self._files = WatchedFile(settings.certificate_file, lambda _: _load(settings), clock, others)
        self._now = now
        self.context = _Current(ssl.PROTOCOL_TLS_SERVER)
        """What a server is opened with."""
        self.context.current = lambda: self._files.value().context

    @property
    def expires_at(self) -> float:
        """When the certificate in use ends: seconds since the epoch."""
        return self._files.value().expires_at

    def fault(self) -> str:
        """Why the files, as they are now, cannot be used; what was read before is in force then."""
        return self._files.red()

    def red(self) -> str:
        """Why no client will connect."""
        return f"the certificate has ended at {_text(self.expires_at)}" if self.expires_at <= self._now() else ""

    def warning(self) -> str:
        """What will be red if nobody does anything."""
        soon = 0 < self.expires_at - self._now() <= EXPIRES_SOON_SECONDS
        ends = f"the certificate ends at {_text(self.expires_at)}" if soon else ""
        return "; ".join(filter(None, (self.fault(), ends)))


def open_certificates(settings: ApiSettings) -> Certificates | None:
    """None without a certificate. Raises ListenError."""
    return Certificates(settings) if settings.certificate_file else None


def expires_at(pem: str) -> float:
    """When the first certificate of a chain ends, in seconds since the epoch. Raises ValueError."""
    begin, end = pem.index(_BEGIN) + len(_BEGIN), pem.index(_END)
    content = _children(_children(base64.b64decode(pem[begin:end]))[0][1])[0][1]  # of its first part, which is signed
    parts = [part for part in _children(content) if part[0] != _VERSION]
    tag, ends = _children(parts[3][1])[1]  # after serial, algorithm and issuer: from and until
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[tag]
    return datetime.strptime(ends.decode(), form).replace(tzinfo=UTC).timestamp()


def _children(data: bytes) -> list[tuple[int, bytes]]:
    """The parts of a DER value: tag and content of each."""
    found, at = [], 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        found.append((tag, data[at : at + size]))
        at += size
    return found


def _load(settings: ApiSettings) -> _Loaded:
    for name in ("certificate_file", "key_file", "client_ca_file"):
        path = getattr(settings, name)
        try:
            if path:
                Path(path).read_bytes()
        except OSError as fault:  # OpenSSL would not say which
            raise ListenError(f"api.{name} {path} cannot be read: {fault.strerror}") from fault
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # without a password OpenSSL asks at the terminal for that of an encrypted key, and a service would hang there
        context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
        ends = expires_at(Path(settings.certificate_file).read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError, IndexError, KeyError) as fault:  # an SSLError is an OSError
        raise ListenError(
            f"api.certificate_file {settings.certificate_file} and api.key_file {settings.key_file} cannot be used: "
            "give a chain of certificates and the private key of the first, both as PEM, the key without a password "
            f"({fault})"
        ) from fault
    if settings.client_ca_file:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except OSError as fault:
            raise ListenError(
                f"api.client_ca_file {settings.client_ca_file} cannot be used: give certificates as PEM ({fault})"
            ) from fault
        context.verify_mode = ssl.CERT_REQUIRED
    return _Loaded(context, ends)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
