"""What stands in topic `requests`: what operators ask for through the API, and what became of it. One partition."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.version import FORMAT_VERSION

__all__ = [
    "MAX_SCOPES",
    "FramesAsked",
    "FramesOver",
    "InactiveTime",
    "RequestKind",
    "RequestRecord",
    "ScopeAdded",
    "ScopeOutcome",
    "ScopeSwitched",
    "SwitchesSent",
]

MAX_SCOPES = 3000  # of one record: names of 255 characters, four bytes each, still fit into a message

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Text: TypeAlias = Annotated[str, Meta(max_length=2000)]
Instant: TypeAlias = Annotated[int, Meta(ge=0, le=253_402_300_800, description="seconds since the epoch, UTC")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]

RequestKind: TypeAlias = Literal["reset", "reprocess"]
"""CloudKitty's words: everything from a time on, or a stretch with a reason. Both are done alike."""


class FramesAsked(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="frames_asked",
):
    """The closed frames of these scopes whose periods begin within `[begin, end)` are to be rated again.

    A reprocess of what an earlier request that is not over asks for is refused by every reader.
    """

    request_id: Name
    """Of the rework, too."""
    kind: RequestKind
    scopes: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_SCOPES)]
    begin: Instant
    end: Instant
    author: Name
    reason: Text
    asked_at: Instant
    version: int = FORMAT_VERSION


class ScopeOutcome(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What became of the frames of one scope, each counted once."""

    scope_id: Name
    done: Count = 0
    unchanged: Count = 0
    left: Count = 0
    """Those that stay as they were."""
    told: Text = ""
    """Why, and what else is to be known."""


class FramesOver(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="frames_over",
):
    """All that can be done for a request was done."""

    request_id: Name
    outcomes: Annotated[tuple[ScopeOutcome, ...], Meta(max_length=MAX_SCOPES)]
    over_at: Instant
    version: int = FORMAT_VERSION


class ScopeAdded(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="scope_added",
):
    """A scope that has no frame yet is listed, as rated up to the period that begins at `reached`."""

    scope_id: Name
    reached: Instant
    author: Name
    added_at: Instant
    version: int = FORMAT_VERSION


InactiveTime: TypeAlias = Literal["bill", "skip"]
"""What becomes of the time that a scope was off: it is billed afterwards, or stays unbilled for good."""


class ScopeSwitched(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="scope_switched",
):
    """A scope is switched off, or on again, for all periods that begin at `begin` or later. One that is so stays so."""

    scope_id: Name
    active: bool
    begin: Instant
    author: Name
    switched_at: Instant
    inactive_time: InactiveTime = "bill"
    """Of a scope that is switched on."""
    version: int = FORMAT_VERSION


class SwitchesSent(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="switches_sent",
):
    """The first `count` switches of this topic that changed anything stand in topic `usage`, too."""

    count: Count
    version: int = FORMAT_VERSION


RequestRecord: TypeAlias = FramesAsked | FramesOver | ScopeAdded | ScopeSwitched | SwitchesSent
