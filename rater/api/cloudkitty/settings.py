"""What an operator may choose about CloudKitty's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

__all__ = ["CloudKittyApiSettings"]


class CloudKittyApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api.cloudkitty` of rater.yaml. It is there: `/v1` and `/v2` are answered."""

    MOVED: ClassVar[Mapping[str, str]] = {"auth": "api.auth"}

    scope_key: Annotated[str, Meta(max_length=255)] = ""
    """The attribute that carries the scope id. Default: `collect.scope_key`, else project_id."""
    time_zone: Annotated[str, Meta(min_length=1, max_length=100)] = "UTC"
    """Of months, weeks and days, and of the times in answers: a name such as Europe/Berlin."""
    collector: Annotated[str, Meta(max_length=255)] = ""
    """The name that /v2/scope shows. Default: the source of section collect."""
    fetcher: Annotated[str, Meta(max_length=255)] = ""
    """The same for the scope fetcher."""
    exact_numbers: bool = False
    """Costs sent as JSON numbers: 0.1 is 0.1. Otherwise it is the binary float that CloudKitty makes of it."""
    max_in_flight: Annotated[int, Meta(ge=1, le=1000)] = 256
    """Requests that are worked on; more are answered 503."""

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # what it raises for paths and directories
            raise ValueError(f"time_zone {self.time_zone!r} is no name of a time zone, such as Europe/Berlin") from None
