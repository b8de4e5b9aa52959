"""Who is known by a token of ours: those in a file, each with its roles, scopes and sources; who may listen; and TLS.

Tokens are kept as digests only, and no message, log or error names one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta
from multidict import MultiMapping

from rater._settings_reader import SettingsReader
from rater.api.auth.sent import not_known, sent_token
from rater.api.auth.watched_file import WatchedFile
from rater.api.identity import Identity
from rater.api.settings import ApiSettings
from rater.model.document import DocumentError, load
from rater.model.errors import RaterError
from rater.observe import ListenError, endpoint, is_loopback

__all__ = ["Credentials", "TokenFileError", "TokenRole", "check_exposure", "token_digest"]

_LEAST_CHARACTERS = 20
_MAX_FILE_BYTES = 16 * 1024 * 1024
_FORM = "give a list `tokens:` whose entries are mappings with name and token or sha256, and roles, scopes and sources"
TokenRole: TypeAlias = Literal["push", "reader", "admin"]


class TokenFileError(RaterError):
    """The file of tokens cannot be used."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file."""

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^\S+$")]
    """Who it was given to; stands in the logs."""
    token: Annotated[str, Meta(max_length=1000, pattern=r"^[\x21-\x7e]+$")] = ""
    sha256: str = ""
    """In place of `token`: its SHA-256 in hexadecimal digits, so that who reads the file cannot use it."""
    scopes: list[str] = []
    """Empty: every scope."""
    sources: list[str] = []
    """Empty: every source."""
    roles: Annotated[tuple[TokenRole, ...], Meta(min_length=1)] = ("push",)
    """`push` usage; see the scopes (`reader`), or do everything but push (`admin`)."""


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tokens: list[Token]


class Credentials:
    """The tokens of `api.token_file`. They are Authenticators."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds. Raises TokenFileError with every fault of the file."""
        self._file = WatchedFile(path, _read, clock)

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """Whose token these headers bring. Raises RefusalError 401."""
        # A digest is looked up and no token compared: how long it takes says nothing of the tokens.
        found = self._file.value().get(token_digest(sent_token(headers)))
        if found is None:
            raise not_known()
        return found

    async def check(self) -> None:
        """Nobody else is needed."""

    def red(self) -> str:
        """What is wrong with a file that was changed."""
        return self._file.red()

    async def close(self) -> None:
        """Nothing is open."""


def check_exposure(settings: ApiSettings) -> str:
    """Who is answered, in a sentence. Raises ListenError if anybody from anywhere is, and nobody said so."""
    host, _ = endpoint(settings.listen)
    if settings.asks_everybody:
        return f"{settings.listen} asks for a token{'' if settings.certificate_file else ', which travels without TLS'}"
    if is_loopback(host):
        return f"{settings.listen} can be reached from this machine only"
    if not settings.i_know:
        raise ListenError(
            f"api.listen {settings.listen} can be reached by other machines and asks for no token: set api.token_file "
            "(or api.auth: keystone or oidc), use 127.0.0.1, or set api.i_know: true"
        )
    return f"{settings.listen} takes usage from anybody and shows prices and usage to anybody (api.i_know)"


def token_digest(token: str) -> str:
    """What is kept of a token, and stands in the file as `sha256`."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: str) -> dict[str, Identity]:
    """Everybody, by the digest of the token. Raises TokenFileError."""
    try:
        tree = load(_content(path).decode(), path)
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
    known: dict[str, Identity] = {}
    names: set[str] = set()
    for number, entry in enumerate(found.tokens if found else []):
        faults += [f"{path}: tokens[{number}]{said}" for said in _faults(entry)]
        digest = entry.sha256.lower() or token_digest(entry.token)
        if digest in known or entry.name in names:
            faults.append(f"{path}: tokens[{number}]: name or token stands twice")
        names.add(entry.name)
        known[digest] = _identity(entry)
    if not known and not faults:
        faults.append(f"{path}: tokens: is empty, so nobody would be known")
    if faults:
        raise TokenFileError("\n".join(faults))
    return known


def _content(path: str) -> bytes:
    """Raises OSError, and TokenFileError for what is no file of tokens by its size."""
    with Path(path).open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise TokenFileError(f"api.token_file {path} has more than {_MAX_FILE_BYTES} bytes")
    return content


def _faults(entry: Token) -> Iterator[str]:
    """What is wrong with an entry by itself, without what may be a secret."""
    if bool(entry.token) == bool(entry.sha256):
        yield ": give token or sha256, and not both"
    elif entry.token and len(entry.token) < _LEAST_CHARACTERS:
        yield f".token: give at least {_LEAST_CHARACTERS} characters of chance"
    elif entry.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", entry.sha256):
        yield ".sha256: give the 64 hexadecimal digits of the token's SHA-256: `rater token new` writes them"
    if "reader" in entry.roles and not entry.scopes:
        yield ": role reader sees its scopes: list them in `scopes`"


def _identity(entry: Token) -> Identity:
    return Identity(
        entry.name,
        frozenset(entry.roles),
        tuple(sorted(set(entry.scopes))),
        "token",
        sources=frozenset(entry.sources),
        pushes_all=not entry.scopes,
        facts={"user_id": entry.name},
    )
