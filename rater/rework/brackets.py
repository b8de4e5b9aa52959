"""What is sent to have a frame rated again: its base, the resources it has lines of, its usage. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rater.model.codec import encode_msgpack
from rater.model.labels import canonical_series, line_id, series_labels
from rater.model.metric import Catalog
from rater.model.usage import Collection, FrameBase, ReworkBegun, ReworkLines, Series
from rater.rework.stored import stored_collections
from rater.rework.values import Bracket, Left, Material, Wanted
from rater.store import FrameRow

__all__ = ["bracket_of"]

RUN_BYTES = 500_000  # of series in one record: well under the topic's limit of a message
RUN_SERIES = 10_000


def bracket_of(
    material: Material,
    wanted: Wanted,
    catalog: Catalog,
    fresh: Sequence[Collection] = (),
    late: Mapping[tuple[str, str], int] | None = None,
) -> Bracket | Left:
    """All that is to be sent for one frame, or why it is left as it is.

    `fresh` are collections that were made now: they replace what is stored of their metric and source. `late` says by
    metric and source how many pushed samples are known to have come late; without it none are, unless they are wanted.
    """
    frame = material.frame
    if material.lines_gone:
        return Left(frame.scope_id, frame.period_begin, "its lines are beyond retention (store.retention.lines)")
    replaced = frozenset((part.metric, part.source) for part in fresh)
    stored = stored_collections(frame, material.usage, catalog, wanted.rework_id, replaced, material.reused)
    if not stored.missing and not wanted.takes_late:
        for (metric, source), count in sorted(stored.surplus.items()):
            if count != (late or {}).get((metric, source), 0):
                return Left(frame.scope_id, frame.period_begin, _surplus(metric, source, count))
    if stored.missing:
        return Left(frame.scope_id, frame.period_begin, stored.missing)
    known, remarks = _series_of_lines(material, catalog)
    begun = ReworkBegun(
        wanted.rework_id,
        wanted.kind,
        frame.scope_id,
        frame.period_begin,
        wanted.author,
        wanted.reason,
        _base(frame),
    )
    lines = [
        ReworkLines(wanted.rework_id, frame.scope_id, frame.period_begin, metric, run)
        for metric, series in sorted(known.items())
        for run in _runs(series)
    ]
    return Bracket(begun, lines, [*stored.collections, *fresh], [*stored.left_out, *remarks])


def _surplus(metric: str, source: str, count: int) -> str:
    return (
        f"{count} pushed samples of metric {metric!r} from {source} are stored that the frame was not made of: they "
        "came late and wait for `rework.late_usage`, or the engine refused them (topic rejected has the reason). Ask "
        "with --take-late to have them rated"
    )


def _base(frame: FrameRow) -> FrameBase:
    return FrameBase(
        revision=frame.revision,
        digest=frame.digest,
        rule_version=frame.rule_version,
        closed_at=frame.closed_at,
        expected_until=frame.expected_until,
        failed=bool(frame.failure),
        totals=frame.totals,
        gaps=frame.gaps,
    )


def _series_of_lines(material: Material, catalog: Catalog) -> tuple[dict[str, list[Series]], list[str]]:
    """The resources that the revision has lines of, by metric, and how many cannot be named.

    Lines are stored with labels as text, and their ids follow from labels as the source sent them: a number among them
    is found in the usage.
    """
    typed: dict[bytes, str] | None = None
    found: dict[str, list[Series]] = {}
    unknown = 0
    for line in material.lines:
        if catalog.get(line.metric) is None:
            unknown += 1
            continue
        wanted = bytes.fromhex(line.line_id)
        if line_id(line.scope_id, line.metric, canonical_series(line.groupby, line.metadata)) == wanted:
            found.setdefault(line.metric, []).append(Series({**line.groupby}, {**line.metadata}))
            continue
        if typed is None:
            typed = {line_id(r.scope_id, r.metric, r.series.encode()): r.series for r in material.usage if r.series}
        text = typed.get(wanted)
        if text is None:
            unknown += 1
        else:
            found.setdefault(line.metric, []).append(Series(*series_labels(text.encode())))
    remark = f"{unknown} line(s) cannot be named: should one vanish, topic rated will not repeat it with zero"
    return found, [remark] if unknown else []


def _runs(series: Sequence[Series]) -> Iterator[list[Series]]:
    run: list[Series] = []
    size = 0
    for entry in series:
        length = len(encode_msgpack(entry))
        if run and (size + length > RUN_BYTES or len(run) >= RUN_SERIES):
            yield run
            run, size = [], 0
        run.append(entry)
        size += length
    if run:
        yield run
