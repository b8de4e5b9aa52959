"""Signed tokens (JWT) of an OpenID Connect provider, believed by its public keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt
import msgspec
from multidict import MultiMapping

from collectors.errors import SourceAwayError
from collectors.http.request import Http
from rater.api.auth.keys import FileKeys, FoundKey, Keys, ServedKeys
from rater.api.auth.roles import known_roles
from rater.api.auth.sent import not_known, sent_token
from rater.api.auth.settings import OidcAuth
from rater.api.faults import RefusalError
from rater.api.identity import ADMIN, Identity

__all__ = ["OidcAuthenticator"]

log = logging.getLogger(__name__)

_KEY = "api.oidc"
_MAX_ITEMS = 1000
_MAX_NAME = 255


class _Connection(msgspec.Struct, frozen=True):
    timeout: float
    ca_file: str
    insecure: bool = False


class OidcAuthenticator:
    """Whoever has a token that the provider signed for us. These are Authenticators."""

    def __init__(self, settings: OidcAuth, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds. Raises KeyFileError, and SettingsError for certificates that cannot be read."""
        self._settings = settings
        if settings.jwks_file:
            self._keys: Keys = FileKeys(settings.jwks_file, clock)
        else:
            self._keys = ServedKeys(settings, Http(_Connection(settings.timeout, settings.ca_file), _KEY), clock)

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """Whom the token speaks of. Raises RefusalError 401, and 503 while no keys are known."""
        token = sent_token(headers)
        try:
            algorithm, kid = self._head(token)
            key = _chosen(await self._keys.keys(kid), algorithm, kid)
            return self._identity(self._claims(token, key, algorithm))
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as fault:
            log.debug("a token is refused: %s", type(fault).__name__)  # its text may repeat what was sent
            raise not_known() from None

    async def check(self) -> None:
        """Whether there are keys. Raises SourceError."""
        try:
            await self._keys.keys("")
        except RefusalError:
            raise SourceAwayError(self._keys.red()) from None

    def red(self) -> str:
        """What is wrong with where the keys come from."""
        return self._keys.red()

    async def close(self) -> None:
        """Gives back what is open."""
        await self._keys.close()

    def _head(self, token: str) -> tuple[str, str]:
        """The algorithm, which is one of ours, and the id of the key. Nothing else of the head is looked at.

        Whatever it says of keys (jwk, jku, x5c, x5u) comes from whoever wrote the token. Raises PyJWTError.
        """
        head = jwt.get_unverified_header(token)
        algorithm, kid = head.get("alg"), head.get("kid", "")
        if algorithm not in self._settings.algorithms or not isinstance(kid, str):
            raise jwt.InvalidAlgorithmError
        return str(algorithm), kid

    def _claims(self, token: str, key: FoundKey, algorithm: str) -> Mapping[str, Any]:
        settings = self._settings
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=settings.leeway,
            options={"require": ["exp", "iss", "aud"]},
        )
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        """Raises ValueError for claims that say nothing of a user."""
        settings = self._settings
        user = _at(claims, settings.user_claim)
        if not isinstance(user, str) or not user.isprintable() or not 0 < len(user) <= _MAX_NAME:
            raise ValueError("no user")
        roles = known_roles(settings.roles, _items(_at(claims, settings.roles_claim)))
        scopes = tuple(sorted(set(_items(_at(claims, settings.scopes_claim)))))
        return Identity(user, roles, scopes, "oidc", pushes_all=ADMIN in roles, facts={"user_id": user})


def _chosen(keys: Sequence[FoundKey], algorithm: str, kid: str) -> FoundKey:
    """The key of that id that goes with the algorithm; without an id, the only one that does. Raises PyJWTError."""
    fitting = [key for key in keys if algorithm in key.algorithms and (not kid or key.kid == kid)]
    if len(fitting) != 1:
        raise jwt.InvalidKeyError
    return fitting[0]


def _at(claims: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = claims
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _items(value: Any) -> list[str]:
    """A list of texts, or a text of words. Raises ValueError for too many: half of them would be a wrong answer."""
    found = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    items = [item for item in found if isinstance(item, str) and 0 < len(item) <= _MAX_NAME]
    if len(items) > _MAX_ITEMS:
        raise ValueError("too many")
    return items
