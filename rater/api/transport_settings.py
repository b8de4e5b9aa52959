"""What an operator may choose about who may ask how often, and from which pages."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

__all__ = ["CorsSettings", "RateSettings"]


class RateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api.rate_limits` of rater.yaml: requests per second of one identity, on average; 0 is no limit."""

    reads: Annotated[float, Meta(ge=0, le=1_000_000)] = 300.0
    writes: Annotated[float, Meta(ge=0, le=1_000_000)] = 300.0
    """Pushed usage counts, too: one for each request."""


class CorsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api.cors` of rater.yaml: pages of which other origins may use the API in a browser."""

    origins: list[Annotated[str, Meta(max_length=300)]] = []
    """Such as https://dashboard.example; `*` stands for all of them, alone."""
    credentials: bool = False
    """Whether a browser may send cookies and client certificates along. Tokens need it not."""
    max_age: Annotated[int, Meta(ge=0, le=86_400)] = 600
    """Seconds for which a browser need not ask again."""

    def __post_init__(self) -> None:
        if "*" in self.origins and (len(self.origins) > 1 or self.credentials):
            raise ValueError("origins: `*` stands alone, and never with credentials: list the origins")
        for origin in self.origins:
            parts = urlsplit(origin)
            if origin != "*" and (
                parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"origins: {origin!r} is none: give scheme, host and port, as in https://host:8443")
