"""Pages of frames, gaps and scopes: a bounded number of rows from a place on, which stays while rows arrive.

The place is the key of the last row that was seen, so a page costs the same wherever it begins.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.rated import FrameStatus
from rater.store.accepted import AcceptedGap, accepted_gaps
from rater.store.client import Store
from rater.store.queries import frames
from rater.store.rows import FrameRow, GapRow

__all__ = [
    "FramePageRequest",
    "GapKey",
    "GapPageRequest",
    "GapState",
    "ListedGap",
    "ScopePageRequest",
    "ScopeSummary",
    "frame_page",
    "gap_key",
    "gap_page",
    "scope_page",
]

Instant: TypeAlias = Annotated[int, Meta(ge=0, le=2**32)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=10_000)]
Name: TypeAlias = Annotated[str, Meta(max_length=255)]
Scopes: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=1000)]
GapKey: TypeAlias = tuple[str, int, str, str, int, int, str]
"""scope, period begin, metric, source, begin, end, gap id: the order of gaps."""
GapState: TypeAlias = Annotated[str, Meta(pattern="^(open|accepted|resolved)$")]


class FramePageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frames of a scope by period, of periods that begin within `[begin, end)`, in one of these statuses (or any)."""

    scope_id: Name
    begin: Instant
    end: Instant
    limit: Count
    status: tuple[FrameStatus, ...] = ()


class GapPageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gaps of these scopes (None: all) that reach into `[begin, end)`; empty texts and tuples ask for any."""

    begin: Instant
    end: Instant
    limit: Count
    scopes: Scopes | None = None
    metric: Name = ""
    source: Name = ""
    states: tuple[GapState, ...] = ()
    gap_id: Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")] = ""
    after: GapKey | None = None


class ListedGap(msgspec.Struct, frozen=True):
    """A gap, and who accepted it."""

    gap: GapRow
    accepted: AcceptedGap | None

    @property
    def state(self) -> str:
        """`open`, `accepted` or `resolved`."""
        if not self.gap.is_open:
            return "resolved"
        return "open" if self.accepted is None else "accepted"


class ScopePageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scopes by id, after this one; of these only, unless None."""

    limit: Count
    scopes: Scopes | None = None
    after: Name = ""


class ScopeSummary(msgspec.Struct, frozen=True):
    """How far a scope is rated. Times are seconds since the epoch."""

    scope_id: str
    begin: int
    end: int
    """Of its last closed period."""
    frames: int
    last_complete: int | None
    """Begin of the newest period that is rated or empty; None if there is none."""
    newest_status: FrameStatus
    open_gaps: int


_FRAME_KEYS = """
SELECT toUInt32(period_begin)
FROM frames FINAL
WHERE scope_id = {scope_id:String} AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
    AND status IN {status:Array(String)}
ORDER BY period_begin
LIMIT {limit:UInt32}
"""
# Only small columns: the frames themselves, some kB each, are read for the page alone.

_GAPS = """
SELECT scope_id, toUInt32(period_begin) AS period, metric, source, toUInt32(gap_begin) AS hole_begin,
    toUInt32(gap_end) AS hole_end, lower(hex(gap_id)) AS id,
    is_open, opened_revision, toUInt32(opened_at), reason, resolved_revision, toUInt32(resolved_at), resolution
FROM gaps FINAL
WHERE scope_id >= {after_scope:String} AND (NOT {chosen:Bool} OR scope_id IN {scopes:Array(String)})
    AND gap_begin < {end:UInt32} AND gap_end > {begin:UInt32}
    AND ({metric:String} = '' OR metric = {metric:String}) AND ({source:String} = '' OR source = {source:String})
    AND ({gap_id:String} = '' OR id = {gap_id:String})
    AND multiIf(NOT is_open, 'resolved', gap_id IN (SELECT gap_id FROM accepted_gaps), 'accepted', 'open')
        IN {states:Array(String)}
    AND (NOT {from_key:Bool} OR (scope_id, period, metric, source, hole_begin, hole_end, id)
        > ({after_scope:String}, {after_period:UInt32}, {after_metric:String}, {after_source:String},
           {after_begin:UInt32}, {after_end:UInt32}, {after_id:String}))
ORDER BY scope_id, period, metric, source, hole_begin, hole_end, id
LIMIT {limit:UInt32}
"""

_SCOPES = """
SELECT DISTINCT scope_id
FROM frames
WHERE scope_id > {after:String} AND (NOT {chosen:Bool} OR scope_id IN {scopes:Array(String)})
ORDER BY scope_id
LIMIT {limit:UInt32}
"""

_SUMMARIES = """
SELECT scope_id, toUInt32(min(period_begin)), toUInt32(max(period_end)), count(),
    if(countIf(status IN ('rated', 'empty')) = 0, NULL, toUInt32(maxIf(period_begin, status IN ('rated', 'empty')))),
    argMax(status, period_begin)
FROM frames FINAL
WHERE scope_id IN {scopes:Array(String)}
GROUP BY scope_id
ORDER BY scope_id
"""

_OPEN_GAPS = """
SELECT scope_id, count()
FROM gaps FINAL
WHERE scope_id IN {scopes:Array(String)} AND is_open AND gap_id NOT IN (SELECT gap_id FROM accepted_gaps)
GROUP BY scope_id
"""


def frame_page(store: Store, request: FramePageRequest) -> list[FrameRow]:
    """The first `limit` of them."""
    statuses = [status.value for status in request.status or FrameStatus]
    asked = {
        "scope_id": request.scope_id,
        "begin": request.begin,
        "end": request.end,
        "status": statuses,
        "limit": request.limit,
    }
    begins = [row[0] for row in store.rows(_FRAME_KEYS, asked)]
    if not begins:
        return []
    # one more may match by now, or one less: another revision may have another status
    found = frames(store, request.scope_id, begins[0], begins[-1] + 1, request.status or None)
    return list(found)[: request.limit]


def gap_page(store: Store, request: GapPageRequest) -> list[ListedGap]:
    """The first `limit` of them, by scope, period, metric, source and begin."""
    after = request.after or ("", 0, "", "", 0, 0, "")
    asked = {
        "begin": request.begin,
        "end": request.end,
        "limit": request.limit,
        "chosen": request.scopes is not None,
        "scopes": list(request.scopes or ()),
        "metric": request.metric,
        "source": request.source,
        "gap_id": request.gap_id,
        "states": list(request.states or ("open", "accepted", "resolved")),
        "from_key": request.after is not None,
        **dict(
            zip(
                (f"after_{name}" for name in ("scope", "period", "metric", "source", "begin", "end", "id")),
                after,
                strict=True,
            )
        ),
    }
    rows = [GapRow(*row) for row in store.rows(_GAPS, asked)]
    if not rows:
        return []
    begins = [row.period_begin for row in rows]
    found = accepted_gaps(store, rows[0].scope_id, rows[-1].scope_id, min(begins), max(begins) + 1)
    accepted = {one.gap_id: one for one in found}
    return [ListedGap(row, accepted.get(row.gap_id)) for row in rows]


def gap_key(row: GapRow) -> GapKey:
    """Its place in the order."""
    return row.scope_id, row.period_begin, row.metric, row.source, row.begin, row.end, row.gap_id


def scope_page(store: Store, request: ScopePageRequest) -> list[ScopeSummary]:
    """The first `limit` of them."""
    asked = {
        "after": request.after,
        "chosen": request.scopes is not None,
        "scopes": list(request.scopes or ()),
        "limit": request.limit,
    }
    names = [row[0] for row in store.rows(_SCOPES, asked)]
    if not names:
        return []
    gaps = dict(store.rows(_OPEN_GAPS, {"scopes": names}))
    return [
        ScopeSummary(scope_id, begin, end, count, complete, FrameStatus(status), gaps.get(scope_id, 0))
        for scope_id, begin, end, count, complete, status in store.rows(_SUMMARIES, {"scopes": names})
    ]
