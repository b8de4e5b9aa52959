"""How whoever asks is recognised: the sections that a choice of `api.auth` needs."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta
from yarl import URL

from collectors.rest.settings import RestKeystone

__all__ = ["Algorithm", "KeystoneAuth", "OidcAuth", "RoleNames", "is_safe"]

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
"""Signatures with a private key. Neither `none` nor HS…, whose key the verifier would share, can be chosen."""


class RoleNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What roles are called there, in any case of letters. Any other role is known to policy files only."""

    admin: tuple[Name, ...] = ("admin",)
    """May everything, in every scope."""
    reader: tuple[Name, ...] = ("reader",)
    """Sees its own scopes."""
    push: tuple[Name, ...] = ("push",)
    """Pushes usage of its own scopes. Administrators push usage of any."""


class KeystoneAuth(RestKeystone, frozen=True, forbid_unknown_fields=True):
    """Section `api.keystone`: where tokens are validated, and as whom: a user whose role allows that."""

    roles: RoleNames = RoleNames()
    scoped_to: tuple[Literal["project", "domain", "system"], ...] = ("project",)
    """What a token has to be for, so that its roles count. CloudKitty knows tokens for projects only: who administers a
    domain, or the system, is nobody there."""
    cache_seconds: Annotated[int, Meta(ge=0, le=3600)] = 300
    """For how long an answer is believed, if the token does not expire before: so long may a revoked one be used."""
    ca_file: str = ""
    insecure: bool = False
    """True: whoever answers is believed to be Keystone; its certificate is not checked."""
    timeout: Annotated[float, Meta(ge=0.1, le=60)] = 10.0
    """Seconds for one request."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_tls(self.ca_file, insecure=self.insecure)


class OidcAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api.oidc`: whose signed tokens (JWT) are believed, and what in them says who it is."""

    issuer: Annotated[str, Meta(pattern=r"^https?://[^\s@?#]+$", max_length=2000)]
    """Claim `iss`, to the letter. Without jwks_url and jwks_file its discovery document names the keys."""
    audience: tuple[Name, ...]
    """Claim `aud` has to name one of these."""
    jwks_url: Annotated[str, Meta(pattern=r"^(https?://[^\s@]+)?$", max_length=2000)] = ""
    """Where the public keys stand, as a JSON Web Key Set."""
    jwks_file: str = ""
    """The same as a file, which is read again when it changes."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    leeway: Annotated[int, Meta(ge=0, le=300)] = 30
    """Seconds by which clocks may differ."""
    refetch_seconds: Annotated[int, Meta(ge=1, le=3600)] = 30
    """A key that is not known is asked for, at most so often."""
    keys_seconds: Annotated[int, Meta(ge=60, le=86400)] = 3600
    """Keys are asked for anew so often: one that is withdrawn is believed so long."""
    user_claim: tuple[Name, ...] = ("sub",)
    """Members that lead to the name of the user."""
    roles_claim: tuple[Name, ...] = ("roles",)
    """Members that lead to the list of roles, such as [realm_access, roles]; text of words is a list, too."""
    scopes_claim: tuple[Name, ...] = ("rater_scopes",)
    """Members that lead to the scopes that the user sees."""
    roles: RoleNames = RoleNames()
    ca_file: str = ""
    timeout: Annotated[float, Meta(ge=0.1, le=60)] = 10.0
    """Seconds for one request."""

    def __post_init__(self) -> None:
        for key in ("audience", "algorithms", "user_claim", "roles_claim", "scopes_claim"):
            if not getattr(self, key):
                raise ValueError(f"{key} is empty: give a list of at least one")
        if self.jwks_url and self.jwks_file:
            raise ValueError("jwks_url and jwks_file exclude each other: give one of them, or none for discovery")
        for key, url in (("issuer", self.issuer), ("jwks_url", self.jwks_url)):
            if url and not is_safe(url) and not (key == "issuer" and (self.jwks_url or self.jwks_file)):
                raise ValueError(f"{key} is {url!r}: keys are asked for by https, or from this machine")


def is_safe(url: str) -> bool:
    """Whether what is read there cannot be changed on its way."""
    try:
        parsed = URL(url)
        host = parsed.host or ""
        return bool(host) and (
            parsed.scheme == "https" or host == "localhost" or ipaddress.ip_address(host).is_loopback
        )
    except ValueError:  # no URL; or a name, where an address belongs
        return False


def _check_tls(ca_file: str, *, insecure: bool) -> None:
    if ca_file and insecure:
        raise ValueError("ca_file and insecure exclude each other: give one of them")
