"""What an operator may choose about traces."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["TracingSettings"]


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `observe.tracing` of rater.yaml. It needs the extra `otel`."""

    endpoint: Annotated[str, Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")] = "http://127.0.0.1:4318/v1/traces"
    """URL that takes OTLP over HTTP, with its path. Whatever proves who we are stands in headers_file, never here."""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Which part of collections and requests is traced. What follows from a traced one always is."""
    headers_file: str = ""
    """File with headers for the receiver, one a line, `name: value`; read when the service starts."""
    ca_file: str = ""
    """Certificates that sign the receiver's; default: those of the system."""
