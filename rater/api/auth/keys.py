"""The public keys of an OpenID Connect provider: read from a JSON Web Key Set, fetched, kept, asked for anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from yarl import URL

from collectors.errors import SourceError
from collectors.http.request import Http, Reply, shown
from rater.api.auth.away import Away
from rater.api.auth.settings import OidcAuth, is_safe
from rater.api.auth.watched_file import WatchedFile
from rater.model.errors import RaterError

__all__ = ["FileKeys", "FoundKey", "KeyFileError", "Keys", "ServedKeys", "read_keys"]

log = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024
_MAX_KEYS = 100
_LEAST_RSA_BITS = 2048
_FIRST_PAUSE_SECONDS = 2.0
_CURVES = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA", "Ed25519")}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


class KeyFileError(RaterError):
    """A file of keys that cannot be used."""


class FoundKey(msgspec.Struct, frozen=True):
    """A public key, and the algorithms that it may be used with."""

    kid: str
    algorithms: tuple[str, ...]
    key: Any


KeySet = tuple[FoundKey, ...]


class Keys(Protocol):
    """Where the keys come from."""

    async def keys(self, kid: str) -> KeySet:
        """Those that are known, after a look for one of that id. Raises RefusalError 503 if none are known at all."""

    def red(self) -> str:
        """What is wrong with where they come from."""

    async def close(self) -> None:
        """Gives back what is open."""


def read_keys(content: bytes) -> KeySet:
    """The keys of a set that can verify signatures; others are left out. Raises ValueError if there is none."""
    try:
        document = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("it is no JSON object") from None
    members = document.get("keys")
    if not isinstance(members, list) or len(members) > _MAX_KEYS:
        raise ValueError(f"it has no list `keys` of at most {_MAX_KEYS}")
    found = tuple(key for member in members if isinstance(member, dict) and (key := _key(member)) is not None)
    if not found:
        raise ValueError("no key in it can verify signatures")
    return found


def _key(member: Mapping[str, Any]) -> FoundKey | None:
    """One key; None if it is for something else, too weak, or not to be published."""
    kty, kid, operations = member.get("kty"), member.get("kid", ""), member.get("key_ops", ["verify"])
    algorithms = _RSA if kty == "RSA" else _CURVES.get(str(member.get("crv")), ()) if kty in ("EC", "OKP") else ()
    if "alg" in member:
        algorithms = tuple(name for name in algorithms if name == member["alg"])
    is_public = "d" not in member and "k" not in member
    is_for_this = member.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if not algorithms or not is_public or not is_for_this or not isinstance(kid, str):
        return None
    try:
        key = jwt.PyJWK(dict(member), algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError) as fault:
        log.warning("a key of the provider cannot be used: %s", type(fault).__name__)
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        log.warning("a key of the provider has %d bits and is not used", key.key_size)
        return None
    return FoundKey(kid, algorithms, key)


class FileKeys:
    """Keys of a file, which is read again when it changes."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        """`clock` is in seconds. Raises KeyFileError."""
        self._file = WatchedFile(path, _of_file, clock)

    async def keys(self, kid: str) -> KeySet:
        """Those of the file, whatever the id."""
        return self._file.value()

    def red(self) -> str:
        """What is wrong with a file that was changed."""
        return self._file.red()

    async def close(self) -> None:
        """Nothing is open."""


def _of_file(path: str) -> KeySet:
    try:
        with Path(path).open("rb") as file:
            return read_keys(file.read(_MAX_BYTES))
    except OSError as fault:
        raise KeyFileError(f"api.oidc.jwks_file {path} cannot be read: {fault.strerror}") from fault
    except ValueError as fault:
        raise KeyFileError(f"api.oidc.jwks_file {path}: {fault}") from fault


class ServedKeys:
    """Keys that the provider serves. Those that are known are used while it is away."""

    def __init__(self, settings: OidcAuth, http: Http, clock: Callable[[], float]) -> None:
        """`clock` is in seconds."""
        self._settings, self._http, self._clock = settings, http, clock
        self._keys: KeySet = ()
        self._tried_at = self._found_at = 0.0
        self._alone = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._away = Away(clock)

    async def keys(self, kid: str) -> KeySet:
        """Those that are known. They are asked for if there is none of that id, but not more often than is set."""
        if not self._has(kid):
            async with self._alone:
                if not self._has(kid) and self._may_try():
                    await self._fetch()
        elif self._clock() - self._found_at >= self._settings.keys_seconds and self._may_try():
            self._tried_at = self._clock()
            self._renewal = asyncio.create_task(self._fetch())  # nobody waits for it
        if not self._keys:
            raise self._away.refusal()
        return self._keys

    def red(self) -> str:
        """Why there are no keys, or no new ones."""
        return self._away.red()

    async def close(self) -> None:
        """Ends what is being asked."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        await self._http.close()

    def _has(self, kid: str) -> bool:
        return bool(self._keys) and (not kid or any(key.kid == kid for key in self._keys))

    def _may_try(self) -> bool:
        pause = (
            self._settings.refetch_seconds if self._keys else min(_FIRST_PAUSE_SECONDS, self._settings.refetch_seconds)
        )
        return not self._tried_at or self._clock() - self._tried_at >= pause

    async def _fetch(self) -> None:
        try:
            url = URL(self._settings.jwks_url) if self._settings.jwks_url else await self._discovered()
            reply = await self._asked(url)
            try:
                self._keys = read_keys(reply.body)
            except ValueError as fault:
                raise SourceError(f"GET {shown(url)}: {fault}") from None
        except SourceError as fault:
            self._away.failed(str(fault))
        else:
            self._found_at = self._clock()
            self._away.answered()
        finally:
            self._tried_at = self._clock()

    async def _discovered(self) -> URL:
        """Where the provider's own description says that the keys are. Raises SourceError."""
        issuer = self._settings.issuer
        url = URL(issuer.rstrip("/") + "/.well-known/openid-configuration")
        reply = await self._asked(url)
        try:
            document = msgspec.json.decode(reply.body, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            raise SourceError(f"GET {shown(url)}: the answer is no JSON object") from None
        found = document.get("jwks_uri")
        if document.get("issuer") != issuer:
            raise SourceError(f"GET {shown(url)}: this is another issuer than api.oidc.issuer {issuer!r}")
        if not isinstance(found, str) or not is_safe(found):
            raise SourceError(f"GET {shown(url)}: jwks_uri is missing, or neither https nor of this machine")
        return URL(found)

    async def _asked(self, url: URL) -> Reply:
        reply = await self._http.ask("GET", url, {"Accept": "application/json"}, _MAX_BYTES)
        if reply.status != 200:
            raise SourceError(f"GET {shown(url)}: status {reply.status}")
        return reply
