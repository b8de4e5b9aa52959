"""Who may push: bearer tokens from a file, each with the scopes and sources that it is limited to; and TLS.

Tokens are kept as digests only, and no message, log or error names one.
"""

from __future__ import annotations

import ssl
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rater._settings_reader import SettingsReader
from rater.api.faults import RefusalError
from rater.api.settings import ApiSettings
from rater.model.document import DocumentError, load
from rater.model.errors import RaterError
from rater.observe import ListenError, endpoint, is_loopback

__all__ = ["Caller", "Credentials", "TokenFileError", "check_exposure", "tls_context"]

_LEAST_CHARACTERS = 20
_FORM = "give a list `tokens:` whose entries are mappings with name and token, and scopes and sources at will"


class TokenFileError(RaterError):
    """The file of tokens cannot be used."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file."""

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^\S+$")]
    """Who it was given to; stands in the logs."""
    token: Annotated[str, Meta(max_length=1000, pattern=r"^[\x21-\x7e]+$")]
    scopes: list[str] = []
    """Empty: every scope."""
    sources: list[str] = []
    """Empty: every source."""
    roles: Annotated[tuple[Literal["push", "reader", "admin"], ...], Meta(min_length=1)] = ("push",)
    """`push` usage; in CloudKitty's API see the scopes (`reader`), or everything (`admin`)."""


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tokens: list[Token]


class Caller(msgspec.Struct, frozen=True):
    """Whom a request comes from; the empty name is anybody, where no token is asked for."""

    name: str
    scopes: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset({"push"})

    def may_push(self, scope_id: str, source: str) -> bool:
        """Whether it may push usage of that scope from that source."""
        is_own = (not self.scopes or scope_id in self.scopes) and (not self.sources or source in self.sources)
        return "push" in self.roles and is_own


class Credentials:
    """The tokens of `api.token_file`; without a file everybody is let in."""

    def __init__(self, path: str) -> None:
        """Raises TokenFileError with every fault of the file."""
        self.asked = bool(path)
        self._callers = _read(path) if path else {}

    def caller(self, authorization: str) -> Caller:
        """Who sent that header `Authorization`. Raises RefusalError 401."""
        if not self.asked:
            return Caller("")
        scheme, _, token = authorization.partition(" ")
        # A digest is looked up and no token compared: how long it takes says nothing of the tokens.
        found = self.find(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise RefusalError(401, "send the header `Authorization: Bearer TOKEN` with a token of this installation")
        return found

    def find(self, token: str) -> Caller | None:
        """Whose token that is; None if it is nobody's."""
        return self._callers.get(_digest(token))


def check_exposure(settings: ApiSettings) -> str:
    """Who can push, in a sentence. Raises ListenError if anybody from anywhere could, and nobody said so."""
    host, _ = endpoint(settings.listen)
    if settings.asks_everybody:
        return f"{settings.listen} asks for a token{'' if settings.certificate_file else ', which travels without TLS'}"
    if is_loopback(host):
        return f"{settings.listen} can be reached from this machine only"
    if not settings.insecure:
        raise ListenError(
            f"api.listen {settings.listen} can be reached by other machines and asks for no token: set api.token_file "
            "(and cloudkitty.auth: token), use 127.0.0.1, or set api.insecure: true"
        )
    if settings.token_file:
        return f"{settings.listen} shows prices and usage to anybody (cloudkitty.auth: noauth, api.insecure)"
    return f"{settings.listen} takes usage from anybody (api.insecure)"


def tls_context(settings: ApiSettings) -> ssl.SSLContext | None:
    """What the service shows to prove who it is; None without a certificate. Raises ListenError."""
    if not settings.certificate_file:
        return None
    for name, path in (("certificate_file", settings.certificate_file), ("key_file", settings.key_file)):
        try:
            Path(path).read_bytes()
        except OSError as fault:  # OpenSSL would not say which
            raise ListenError(f"api.{name} {path} cannot be read: {fault.strerror}") from fault
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # without a password OpenSSL asks at the terminal for that of an encrypted key, and a service would hang there
        context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
    except OSError as fault:  # an SSLError is one
        raise ListenError(
            f"api.certificate_file {settings.certificate_file} and api.key_file {settings.key_file} cannot be used: "
            "give a chain of certificates and the private key of the first, both as PEM, the key without a password "
            f"({fault})"
        ) from fault
    return context


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _read(path: str) -> dict[bytes, Caller]:
    try:
        tree = load(Path(path).read_text(encoding="utf-8"), path)
    except OSError as fault:
        raise TokenFileError(f"api.token_file {path} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError:
        raise TokenFileError(f"api.token_file {path} is not text in UTF-8") from None
    except DocumentError as fault:
        lines = ", ".join(str(problem.line) for problem in fault.problems)
        raise TokenFileError(f"api.token_file {path} is no YAML: see line {lines}") from None
    if [name.text for name, _ in tree.entries] != ["tokens"]:  # what stands there is not shown: it may be a token
        raise TokenFileError(f"api.token_file {path}: {_FORM}")
    reader = SettingsReader(path, {}, "RATER_API_TOKENS_")
    found = reader.struct(TokenFile, tree)
    faults = [f"{fault.where}: {fault.key}: {fault.message}" for fault in reader.faults]
    callers: dict[bytes, Caller] = {}
    names: set[str] = set()
    for number, entry in enumerate(found.tokens if found else []):
        digest = _digest(entry.token)
        if len(entry.token) < _LEAST_CHARACTERS:
            faults.append(f"{path}: tokens[{number}].token: give at least {_LEAST_CHARACTERS} characters of chance")
        if digest in callers or entry.name in names:
            faults.append(f"{path}: tokens[{number}]: name or token stands twice")
        names.add(entry.name)
        if "reader" in entry.roles and not entry.scopes:
            faults.append(f"{path}: tokens[{number}]: role reader sees its scopes: list them in `scopes`")
        callers[digest] = Caller(entry.name, frozenset(entry.scopes), frozenset(entry.sources), frozenset(entry.roles))
    if not callers and not faults:
        faults.append(f"{path}: tokens: is empty, so nobody could push")
    if faults:
        raise TokenFileError("\n".join(faults))
    return callers
