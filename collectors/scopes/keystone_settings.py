"""Section `collect.keystone_fetcher` of rater.yaml: scopes are projects of OpenStack."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from collectors.rest.settings import RestKeystone

__all__ = ["KeystoneFetcherSettings"]


class KeystoneFetcherSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scopes are the projects on which our user has a role, as CloudKitty's fetcher of this name has it."""

    keystone: RestKeystone | None = None
    """Who we are. Listing the roles on all projects takes a reader of the system, or an administrator."""
    role: Annotated[str, Meta(min_length=1, max_length=255)] = "rating"
    """The name of that role."""
    ignore_rating_role: bool = False
    """True: all projects of the cloud, whatever role we have."""
    own_projects: bool = False
    """True: the projects on which we have any role, which Keystone tells each user of itself."""
    ignore_disabled_tenants: bool = False
    """True: no disabled projects. What they still run is not billed then."""
    ca_file: str = ""
    insecure: bool = False
    """True: whoever answers is believed to be the server; its certificate is not checked."""
    timeout: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    """Seconds for one request."""
    max_answer_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    """Of all pages of a list together."""

    def __post_init__(self) -> None:
        if self.ignore_rating_role and self.own_projects:
            raise ValueError("ignore_rating_role and own_projects exclude each other: give one of them")
        if self.ca_file and self.insecure:
            raise ValueError("ca_file and insecure exclude each other: give one of them")
