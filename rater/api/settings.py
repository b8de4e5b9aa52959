"""What an operator may choose about the HTTP service."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from rater.api.auth.settings import KeystoneAuth, OidcAuth
from rater.api.cloudkitty.settings import CloudKittyApiSettings
from rater.api.identity import Method
from rater.api.transport_settings import CorsSettings, RateSettings
from rater.api.v3.settings import V3Settings

__all__ = ["ApiSettings"]


class ApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api` of rater.yaml."""

    MOVED: ClassVar[Mapping[str, str]] = {"insecure": "api.i_know"}

    listen: Annotated[str, Meta(pattern=r"^\S*:\d{1,5}$")] = "127.0.0.1:8889"
    """host:port. Port 0 takes a free one, which the service logs."""
    auth: Method | None = None
    """How whoever asks is recognised, in every version of the API. Default: `token` if there is a token_file, else
    `noauth`: everybody is an administrator."""
    i_know: bool = False
    """Must be true to listen beyond loopback with `noauth`."""
    token_file: str = ""
    """File with the tokens of `auth: token`. It is read again when it changes."""
    keystone: KeystoneAuth | None = None
    """Of `auth: keystone`."""
    oidc: OidcAuth | None = None
    """Of `auth: oidc`."""
    policy_file: str = ""
    """Who may do what, as YAML or JSON in the language of oslo.policy. Default: as in CloudKitty."""
    certificate_file: str = ""
    """TLS certificate chain, PEM; with `key_file`. Without it the service speaks plain HTTP."""
    key_file: str = ""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    """Of one request, after decompression."""
    max_samples: Annotated[int, Meta(ge=1, le=16_000)] = 10_000
    """Of one request."""
    max_in_flight: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Requests that are worked on or wait for Kafka; more are answered 429."""
    client_ca_file: str = ""
    """Certificates of authorities, PEM. Clients have to show a certificate of one of them; needs TLS."""
    rate_limits: RateSettings = RateSettings()
    cors: CorsSettings = CorsSettings()
    proxies: list[Annotated[str, Meta(max_length=50)]] = []
    """Addresses and networks, such as 10.0.0.0/8, of proxies whose X-Forwarded-For says whom a request comes from."""
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 800
    """More are closed at once. Each takes a file descriptor."""
    max_connections_per_address: Annotated[int, Meta(ge=1, le=100_000)] = 400
    """The same for one address, unless it is one of `proxies`."""
    audit_file: str = ""
    """File that a line is appended to for each request that writes, before it is answered. Default: the log only."""
    confirm_seconds: Annotated[float, Meta(ge=1, le=300)] = 10.0
    """How long Kafka may take to confirm before a request is answered 503."""

    cloudkitty: CloudKittyApiSettings | None = None
    """Null: CloudKitty's API is not answered."""
    v3: V3Settings | None = V3Settings()
    """Null: of /v3 only usage is taken. Else it is answered wherever the store can be read."""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file belong together: set both or none")
        if self.client_ca_file and not self.certificate_file:
            raise ValueError("client_ca_file needs TLS: set certificate_file and key_file, too")
        for proxy in self.proxies:
            try:
                ip_network(proxy)
            except ValueError as fault:
                raise ValueError(f"proxies: {proxy!r} is neither an address nor a network: {fault}") from None
        needed = {"token": "token_file", "keystone": "keystone", "oidc": "oidc"}
        for auth, section in needed.items():
            if self.method == auth and not getattr(self, section):
                raise ValueError(f"auth is {auth}, and there is no {section}: set it")
            if self.method != auth and getattr(self, section):
                raise ValueError(f"{section} belongs to auth: {auth}, and auth is {self.method}: set one of them")

    @property
    def method(self) -> Method:
        """How whoever asks is recognised."""
        return self.auth or ("token" if self.token_file else "noauth")

    @property
    def asks_everybody(self) -> bool:
        """Whether nothing is answered without a token."""
        return self.method != "noauth"
