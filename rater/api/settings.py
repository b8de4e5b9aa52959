"""What an operator may choose about the HTTP service."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rater.api.cloudkitty.settings import CloudKittyApiSettings

__all__ = ["ApiSettings"]


class ApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api` of rater.yaml."""

    listen: Annotated[str, Meta(pattern=r"^\S*:\d{1,5}$")] = "127.0.0.1:8889"
    """host:port. Port 0 takes a free one, which the service logs."""
    token_file: str = ""
    """File with the bearer tokens; without it whoever reaches the address may push."""
    insecure: bool = False
    """Must be true to listen beyond loopback where anything is answered without a token."""
    certificate_file: str = ""
    """TLS certificate chain, PEM; with `key_file`. Without it the service speaks plain HTTP."""
    key_file: str = ""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    """Of one request, after decompression."""
    max_samples: Annotated[int, Meta(ge=1, le=16_000)] = 10_000
    """Of one request."""
    max_in_flight: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Requests that are worked on or wait for Kafka; more are answered 429."""
    audit_file: str = ""
    """File that a line is appended to for each request that writes, before it is answered. Default: the log only."""
    confirm_seconds: Annotated[float, Meta(ge=1, le=300)] = 10.0
    """How long Kafka may take to confirm before a request is answered 503."""

    cloudkitty: CloudKittyApiSettings | None = None
    """Null: CloudKitty's API is not answered."""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file belong together: set both or none")
        if self.cloudkitty is not None and self.cloudkitty.auth == "token" and not self.token_file:
            raise ValueError("cloudkitty.auth is token, and there is no token_file: set it, or cloudkitty.auth: noauth")

    @property
    def asks_everybody(self) -> bool:
        """Whether nothing is answered without a token."""
        return bool(self.token_file) and (self.cloudkitty is None or self.cloudkitty.auth != "noauth")
