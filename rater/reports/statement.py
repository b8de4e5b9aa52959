"""The report of one scope: what its frames add up to, or why they must not be added up.

Pure: the frames come from the store, one moment's view of it. A report is refused as long as one frame of it
is missing, partial, failed or not there although its neighbours say that it was expected; then every hole is named.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from types import MappingProxyType

import msgspec

from rater.model.errors import RaterError
from rater.model.interval import Interval, clip, subtract
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricTotal
from rater.store import FrameRow, TotalRow
from rater.store.accepted import AcceptedGap

__all__ = [
    "AcceptedHole",
    "Hole",
    "MetricRow",
    "NoFramesError",
    "Report",
    "ReportRefusedError",
    "compute",
    "holes_of",
]

REFUSED_EXIT_STATUS = 3
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)  # holds any sum of prices of 38 + 38 digits
_SOUND = (FrameStatus.RATED, FrameStatus.EMPTY)
_NOT_THERE = "its frame is not closed yet, or has not reached the store: see `rater doctor`"
_REASONS = {
    FrameStatus.MISSING: "nothing of what was expected was collected",
    FrameStatus.PARTIAL: "a part of it was not collected or cannot be rated",
    FrameStatus.FAILED: "a rating script failed",
}


class Hole(msgspec.Struct, frozen=True, order=True):
    """Time of a scope that a bill must not leave out silently. An empty metric means all of the scope's usage."""

    begin: int
    end: int
    metric: str
    source: str
    reason: str

    def text(self, scope_id: str) -> str:
        """One line, to the minute."""
        what = " from ".join(filter(None, (self.metric, self.source))) or "everything"
        reason = " ".join(self.reason.split())  # it comes from a source, in as many lines as that likes
        return f"{scope_id}: {what}: {_clock(self.begin)} to {_clock(self.end)} UTC ({_length(self)}): {reason}"


class AcceptedHole(msgspec.Struct, frozen=True, order=True):
    """A hole that somebody has decided to live with: nothing is billed for it."""

    hole: Hole
    author: str
    reason: str
    """Why it was accepted."""

    def text(self, scope_id: str) -> str:
        """One line."""
        return f"{self.hole.text(scope_id)}; accepted by {self.author}: {' '.join(self.reason.split())}"


class MetricRow(msgspec.Struct, frozen=True):
    """The sum over all frames of one metric in one unit. `lines` counts resources per period."""

    metric: str
    unit: str
    qty: Decimal
    price: Decimal
    lines: int


class Report(msgspec.Struct, frozen=True):
    """A complete report over `[begin, end)`. `known_begin` and `known_end` bound the frames that there are."""

    scope_id: str
    begin: int
    end: int
    known_begin: int
    known_end: int
    frames: int
    empty_frames: int
    weak_frames: int
    """Frames whose coverage has no independent proof."""
    revised_frames: int
    rule_versions: list[int]
    price: Decimal
    """Of all that follows."""
    metrics: list[MetricRow]
    posted: list[MetricRow] = []
    """What was posted through the API with its price. Nobody expects any of it, so it can neither be missing nor fill a
    hole; without a frame `known_begin` and `known_end` are those of the report.
    """
    accepted: list[AcceptedHole] = []
    """What is missing and was accepted, by time."""
    inactive_frames: int = 0
    """Of the empty ones: the scope was switched off, and the time stays unbilled whatever was used."""


class NoFramesError(RaterError):
    """Nothing at all is known of the scope in that time."""


class ReportRefusedError(RaterError):
    """The figures are not complete. `holes` are sorted by time; the message names each, to the minute."""

    exit_status = REFUSED_EXIT_STATUS

    def __init__(self, scope_id: str, begin: int, end: int, holes: Sequence[Hole]) -> None:
        self.scope_id = scope_id
        self.begin = begin
        self.end = end
        self.holes = list(holes)
        lines = "\n".join(f"  {hole.text(scope_id)}" for hole in holes)
        super().__init__(
            f"the report of {scope_id} from {_clock(begin)} to {_clock(end)} UTC is refused, it has "
            f"{len(holes)} hole(s):\n{lines}\nCollect what is missing (`rater collect run` or `rater collect replay "
            "FILE`), or accept gaps with a reason (`rater gaps accept`), then ask again"
        )


def compute(
    scope_id: str,
    span: Interval,
    known: Interval | None,
    frames: Sequence[FrameRow],
    due: int,
    posted: Sequence[TotalRow] = (),
    accepted: Mapping[str, AcceptedGap] = MappingProxyType({}),
) -> Report:
    """The report of a scope over `span`, from the newest revisions of its frames, and posted lines, that begin there.

    `known` reaches from the scope's first frame to its last, also outside `span`; None if it has no frame at all.
    Frames that end by `due` (seconds) must be there, as far as usage of the scope is expected. Gaps whose ids are among
    `accepted` are no holes, and are listed.
    Raises ReportRefusedError, and NoFramesError if nothing is known of the scope within `span`.
    """
    holes = holes_of(span, known, frames, due, accepted)
    if holes:
        raise ReportRefusedError(scope_id, *span, holes)
    if not frames and not posted:
        raise NoFramesError(
            f"nothing is known of scope {scope_id!r} from {_clock(span.begin)} to {_clock(span.end)} UTC: "
            "`rater frames list` shows which scopes and periods there are"
        )
    metrics = _sums(total for frame in frames for total in frame.totals)
    of_posts = [MetricRow(row.metric, row.unit, row.qty, row.price, row.n) for row in posted]
    return Report(
        scope_id=scope_id,
        begin=span.begin,
        end=span.end,
        known_begin=frames[0].period_begin if frames else span.begin,
        known_end=frames[-1].period_end if frames else span.end,
        frames=len(frames),
        empty_frames=sum(frame.status is FrameStatus.EMPTY for frame in frames),
        weak_frames=sum(frame.weak for frame in frames),
        revised_frames=sum(frame.revision > 0 for frame in frames),
        rule_versions=sorted({frame.rule_version for frame in frames}),
        price=_sum(row.price for row in (*metrics, *of_posts)),
        metrics=metrics,
        accepted=_accepted(frames, accepted),
        posted=of_posts,
        inactive_frames=sum(_is_inactive(frame) for frame in frames),
    )


def _is_inactive(frame: FrameRow) -> bool:
    return frame.status is FrameStatus.EMPTY and frame.closed_by is ClosedBy.INACTIVE


def holes_of(
    span: Interval,
    known: Interval | None,
    frames: Sequence[FrameRow],
    due: int,
    accepted: Container[str] = (),
) -> list[Hole]:
    """What is missing within `span`, adjoining holes of one metric, source and reason made one. Sorted by time.

    Time without a frame is a hole between the scope's frames, and after its last one as far as that says that usage
    is expected and as it is due. Before its first frame it is not, since nobody expected anything there.
    """
    found = [hole for frame in frames for hole in _holes_in(frame, accepted)]
    expected = [known] if known else []
    if frames and known and frames[-1].period_end == known.end:
        until = frames[-1].expected_until
        expected.append(Interval(known.end, due if until is None else min(until, due)))
    expected = clip(expected, span)
    there = [Interval(frame.period_begin, frame.period_end) for frame in frames]
    found += [Hole(*absent, "", "", _NOT_THERE) for absent in subtract(expected, there)]
    return _joined(found)


def _holes_in(frame: FrameRow, accepted: Container[str]) -> list[Hole]:
    if frame.status in _SOUND:
        return []
    period = (frame.period_begin, frame.period_end)
    holes = [_hole(gap) for gap in frame.gaps if gap.gap_id not in accepted]
    holes += [Hole(*period, p.metric, p.source, f"quarantined {p.value!r}: {p.reason}") for p in frame.quarantined]
    if frame.failure:
        holes.append(Hole(*period, "", "", f"rating failed: {frame.failure}"))
    if holes or frame.gaps:
        return holes
    return [Hole(*period, "", "", _REASONS[frame.status])]


def _hole(gap: Gap) -> Hole:
    return Hole(gap.begin, gap.end, gap.metric, gap.source, gap.reason)


def _accepted(frames: Iterable[FrameRow], accepted: Mapping[str, AcceptedGap]) -> list[AcceptedHole]:
    """Adjoining ones made one where they were accepted by the same for the same."""
    found: dict[tuple[str, str], list[Hole]] = {}
    for frame in frames:
        for gap in frame.gaps:
            if gap.gap_id in accepted:
                one = accepted[gap.gap_id]
                found.setdefault((one.author, one.reason), []).append(_hole(gap))
    return sorted(AcceptedHole(hole, *key) for key, holes in found.items() for hole in _joined(holes))


def _joined(holes: Iterable[Hole]) -> list[Hole]:
    joined: list[Hole] = []
    for hole in sorted(holes, key=lambda hole: (hole.metric, hole.source, hole.reason, hole.begin)):
        last = joined[-1] if joined else None
        if last and _same(last, hole) and hole.begin <= last.end:
            joined[-1] = msgspec.structs.replace(last, end=max(last.end, hole.end))
        else:
            joined.append(hole)
    return sorted(joined)


def _same(one: Hole, other: Hole) -> bool:
    return (one.metric, one.source, one.reason) == (other.metric, other.source, other.reason)


def _sums(totals: Iterable[MetricTotal]) -> list[MetricRow]:
    sums: dict[tuple[str, str], MetricRow] = {}
    for total in totals:
        key = (total.metric, total.unit)
        known = sums.get(key) or MetricRow(*key, Decimal(0), Decimal(0), 0)
        sums[key] = MetricRow(
            *key, _EXACT.add(known.qty, total.qty), _EXACT.add(known.price, total.price), known.lines + total.n
        )
    return [sums[key] for key in sorted(sums)]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def _clock(seconds: int) -> str:
    form = "%Y-%m-%d %H:%M:%S" if seconds % 60 else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _length(hole: Hole) -> str:
    minutes, seconds = divmod(hole.end - hole.begin, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
