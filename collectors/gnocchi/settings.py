"""Sections `collect.gnocchi` and `collect.gnocchi_fetcher` of rater.yaml: where Gnocchi is, how its points add up."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from collectors.rest.settings import RestKeystone

__all__ = ["Combine", "GnocchiAuth", "GnocchiBasic", "GnocchiFetcherSettings", "GnocchiSettings", "StateSettings"]

Combine: TypeAlias = Literal["sum", "max", "min", "mean", "last", "first"]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]


class GnocchiBasic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gnocchi's own `auth_mode = basic`: a user name, and a password that it does not look at."""

    username: Annotated[str, Meta(pattern="^[^:]+$", max_length=255)] = "admin"
    password_file: str = ""
    """Where a proxy before it asks for one; default: an empty password."""


class GnocchiAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How we prove who we are: one of these. It has to be somebody who may see all projects and the status."""

    basic: GnocchiBasic | None = None
    keystone: RestKeystone | None = None

    def __post_init__(self) -> None:
        if self.basic is not None and self.keystone is not None:
            raise ValueError("basic and keystone exclude each other: give one of them")


class GnocchiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `collect.gnocchi`, for source and fetcher alike."""

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s@?#]+)?$", max_length=2000)] = ""
    """Without `/v1`; default: the endpoint of service type `metric` in Keystone's catalogue."""
    auth: GnocchiAuth = GnocchiAuth()
    interface: Literal["internal", "public", "admin"] = "internal"
    """Of the endpoint in the catalogue."""
    region: str = ""
    """The same; needed where the catalogue has several."""
    ca_file: str = ""
    insecure: bool = False
    """True: whoever answers is believed to be the server; its certificate is not checked."""
    timeout: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    """Seconds for one request."""
    max_answer_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    """Of one answer; of a list each page."""
    granules: Literal["all", "first"] = "all"
    """all: every granule of a period counts; first: only the first one, which is what CloudKitty bills."""
    combine: dict[str, Combine] = {}
    """By public name (`alt_name`): how granules become one quantity, where the aggregation does not say."""

    def __post_init__(self) -> None:
        if self.ca_file and self.insecure:
            raise ValueError("ca_file and insecure exclude each other: give one of them")


class GnocchiFetcherSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `collect.gnocchi_fetcher`: scopes are the values of an attribute of resources."""

    scope_attribute: str = ""
    """Default: `collect.scope_key`."""
    resource_types: Annotated[list[Name], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["generic"])


class StateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What says that a resource is off, so that nothing of it is missed: an attribute or a metric of the resource."""

    off: Annotated[list[str | int | float], Meta(min_length=1)]
    """The values that mean off."""
    attribute: str = ""
    metric: str = ""

    def __post_init__(self) -> None:
        if bool(self.attribute) == bool(self.metric):
            raise ValueError("give attribute or metric, and not both")
        if self.metric and any(isinstance(value, str) for value in self.off):
            raise ValueError("off: the values of a metric are numbers")
