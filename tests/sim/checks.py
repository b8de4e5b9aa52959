"""What must hold in a simulation: cheap checks with every record that is appended, all of them at the end."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rater.audit.facts import Commit, Setup, alert_entry, rated_entry, usage_entry
from rater.audit.invariants import check_logs
from rater.model.codec import JSON, MSGPACK, Headers, content_type, decode_alert, decode_rated, decode_usage
from rater.model.errors import RejectedError
from rater.model.rated import Alert, AlertKind, ClosedBy, FrameStatus, Line, RatedFrame
from rater.model.usage import Collection, FrameForced, ReworkBegun, ReworkEnded, ReworkLines, ScopeSwitch
from tests.sim import prices
from tests.sim.broker import Broker, Rec
from tests.sim.truth import PERIOD, TrueFrame, switched_off, truth

if TYPE_CHECKING:
    from tests.sim.world import World

Key = tuple[str, int]
GAPS = (AlertKind.GAP_OPENED, AlertKind.GAP_RESOLVED)


class Watch:
    """Looks at every record when it is appended."""

    def __init__(self, broker: Broker, settle: int) -> None:
        self._settle = settle
        self._came: dict[str, dict[int, int]] = defaultdict(dict)
        self.problems: list[str] = []
        self.revisions: dict[Key, dict[int, dict[int, RatedFrame]]] = defaultdict(dict)
        self.gaps: dict[str, dict[AlertKind, Alert]] = defaultdict(dict)
        self.alerts: list[Alert] = []
        self.refused: dict[tuple[int, int], tuple[str, Rec]] = {}
        self.repeated = 0
        self._payloads: dict[Any, tuple[bytes, Headers]] = {}

    def saw(self, record: Rec) -> None:
        """A record was appended."""
        if record.topic == "usage":
            self._usage(record)
        elif record.topic == "rated":
            self._rated(record)
        elif record.topic == "alerts":
            self._alert(record)
        elif record.topic == "rejected":
            self._rejected(record)

    def _usage(self, record: Rec) -> None:
        """When each part of each collection came, in milliseconds."""
        try:
            usage = decode_usage(record.value, content_type(record.headers))
        except RejectedError:
            return
        if isinstance(usage, Collection):
            self._came[usage.collection_id].setdefault(usage.part, record.timestamp)

    def _is_new(self, key: Any, record: Rec) -> bool:
        known, told = self._payloads.get(key), (record.value, tuple(record.headers))
        if known is None:
            self._payloads[key] = told
            return True
        if known != told:
            self.problems.append(f"two payloads of {key}:\n  {known!r}\n  {told!r}")
        self.repeated += 1
        return False

    def _rated(self, record: Rec) -> None:
        frame = decode_rated(record.value, JSON)
        key = (frame.scope_id, frame.period_begin)
        if not self._is_new(("rated", *key, frame.revision, frame.part), record):
            return
        revisions = self.revisions[key]
        if frame.revision not in revisions and frame.revision != len(revisions):
            self.problems.append(f"{key}: revision {frame.revision} after {sorted(revisions)}")
        if frame.part and frame.part - 1 not in revisions.get(frame.revision, {}):
            self.problems.append(f"{key}: part {frame.part} of revision {frame.revision} before its predecessor")
        revisions.setdefault(frame.revision, {})[frame.part] = frame
        if len(revisions[frame.revision]) == frame.parts:
            self._whole(key, frame.revision)

    def _whole(self, key: Key, revision: int) -> None:
        """All parts of a revision are there: it repeats every line of the one before, and did not close in haste."""
        parts = self.revisions[key][revision]
        if revision:
            before, now = counted(self.revisions[key].get(revision - 1, {})), lines_of(parts)
            gone = {line.line_id for line in before} - {line.line_id for line in now}
            if gone:
                self.problems.append(f"{key}: line {min(gone)} of revision {revision - 1} vanished from {revision}")
        elif parts[0].closed_by is ClosedBy.GRACE:
            for ref in (ref for metric in parts[0].coverage for ref in metric.collections):
                came = max(self._came[ref.collection_id].values(), default=0)
                if parts[0].closed_at * 1000 < came + self._settle * 1000:
                    self.problems.append(
                        f"{key} closed by grace at {parts[0].closed_at}, {self._settle} s to settle, and collection "
                        f"{ref.collection_id} came at {came / 1000}"
                    )

    def _alert(self, record: Rec) -> None:
        alert = decode_alert(record.value, JSON)
        if not self._is_new(("alert", alert.alert_id, alert.kind, alert.revision), record):
            return
        self.alerts.append(alert)
        if alert.kind not in GAPS:
            return
        told = self.gaps[alert.alert_id]
        if alert.kind in told:
            self.problems.append(f"gap {alert.alert_id} was {alert.kind.value} twice")
        if alert.kind is AlertKind.GAP_RESOLVED and AlertKind.GAP_OPENED not in told:
            self.problems.append(f"gap {alert.alert_id} was resolved and never opened")
        told[alert.kind] = alert

    def _rejected(self, record: Rec) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        place = (int(headers["origin-partition"]), int(headers["origin-offset"]))
        if self._is_new(("rejected", *place), record):
            self.refused[place] = (headers["reason"], record)


def lines_of(parts: dict[int, RatedFrame]) -> list[Line]:
    """All lines of a revision, those that vanished last."""
    return [line for number in sorted(parts) for line in parts[number].lines]


def counted(parts: dict[int, RatedFrame]) -> list[Line]:
    """Its lines without those that vanished."""
    return lines_of(parts)[: sum(total.n for total in parts[0].totals)] if 0 in parts else []


def final_check(world: World, until: int) -> list[str]:
    """Everything, when all is at rest. Expected frames that end by `until` must be there."""
    watch = world.watch
    refused = {place: reason for place, (reason, _) in watch.refused.items()}
    done = {a.rework.rework_id for a in watch.alerts if a.kind is AlertKind.REWORK_DONE and a.rework}
    latest = int(world.loop.time()) + 2 * PERIOD
    meant = truth(world.broker.records("usage"), refused, done, until, latest)
    best = {key: revisions[max(revisions)] for key, revisions in watch.revisions.items()}
    found = [*_frames(world, meant, best), *_alerts(watch, meant, best), *_rejects(world), *_store(world, best)]
    found += [*_reworks(world), *_audit(world, refused, until)]
    world.outcome.frames = len(best)
    world.outcome.revisions = sum(map(len, watch.revisions.values()))
    return found


# --- the best revision of each frame


def _frames(world: World, meant: dict[Key, TrueFrame], best: dict[Key, dict[int, RatedFrame]]) -> list[str]:
    found = [
        f"{key} is missing: nothing was ever published"
        for key, f in sorted(meant.items())
        if f.must_exist and key not in best
    ]
    for key, parts in sorted(best.items()):
        frame = meant.get(key)
        if frame is None:
            found.append(f"{key} was published, and nobody ever expected or sent anything of it")
            continue
        found += [f"{key} revision {parts[0].revision}: {text}" for text in _compare(frame, parts)]
    return found


def _compare(frame: TrueFrame, parts: dict[int, RatedFrame]) -> list[str]:
    head = parts[0]
    if len(parts) != head.parts:
        return [f"{len(parts)} of {head.parts} parts"]
    said, of_it = lines_of(parts), counted(parts)
    if any(line.qty or line.price for line in said[len(of_it) :]):
        return ["lines that vanished are not zero"]
    ids = {line.line_id for line in said}
    found = [] if len(ids) == len(said) else ["a line twice"]
    lines = {line.line_id: (line.metric, line.qty, line.price) for line in of_it}
    wanted = {
        identity: (metric, qty, qty * prices.price(metric, head.rule_version))
        for identity, (metric, qty) in frame.lines.items()
    }
    if lines != wanted:
        differing = [i for i in sorted({*lines, *wanted}) if lines.get(i) != wanted.get(i)]
        found.append(f"line {differing[0]} is {lines.get(differing[0])}, must be {wanted.get(differing[0])}")
    holes: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for gap in head.gaps:
        holes[gap.metric, gap.source].append((gap.begin, gap.end))
    if dict(holes) != frame.holes:
        found.append(f"holes {dict(holes)}, must be {frame.holes}")
    if len(head.quarantined) != frame.quarantined:
        found.append(f"{len(head.quarantined)} quarantined, must be {frame.quarantined}")
    if not found and head.status is not FrameStatus(frame.status):
        found.append(f"status {head.status.value}, must be {frame.status}")
    if head.weak != frame.weak:
        found.append(f"weak {head.weak}, must be {frame.weak}")
    return found + _totals(head, of_it)


def _totals(head: RatedFrame, lines: list[Any]) -> list[str]:
    sums: dict[str, tuple[Decimal, Decimal, int]] = {}
    for line in lines:
        qty, price, n = sums.get(line.metric, (Decimal(0), Decimal(0), 0))
        sums[line.metric] = (qty + line.qty, price + line.price, n + 1)
    said = {total.metric: (total.qty, total.price, total.n) for total in head.totals}
    return [] if said == sums else [f"totals {said}, the lines add up to {sums}"]


# --- alerts and refusals


def _alerts(watch: Watch, meant: dict[Key, TrueFrame], best: dict[Key, dict[int, RatedFrame]]) -> list[str]:
    still = sorted(
        (a.scope_id, a.period_begin, a.metric, a.source, a.begin, a.end)
        for told in watch.gaps.values()
        if AlertKind.GAP_RESOLVED not in told
        for a in [told[AlertKind.GAP_OPENED]]
    )
    wanted = sorted(
        (*key, *of, *hole) for key in best if key in meant for of, holes in meant[key].holes.items() for hole in holes
    )
    return [] if still == wanted else [f"open gaps differ: {sorted(set(still) ^ set(wanted))[:4]}"]


def _rejects(world: World) -> list[str]:
    """Nothing is refused that should have been taken, and what is refused is there byte for byte."""
    found = []
    horizon = world.settings.late_horizon_periods * PERIOD
    for (partition, offset), (reason, record) in sorted(world.watch.refused.items()):
        origin = world.broker.logs["usage", partition][offset]
        if origin.value != record.value:
            found.append(f"rejected {partition}@{offset} is not what was sent")
        if reason.startswith("late:"):
            usage = decode_usage(origin.value, content_type(origin.headers))
            assert isinstance(usage, Collection)
            first = int(reason.split()[4])
            revisions = world.watch.revisions.get((usage.scope_id, first), {})
            if 0 not in revisions:
                found.append(f"{partition}@{offset} was refused as late, and its frame was never closed: {reason}")
            elif revisions[0][0].closed_at + horizon > world.loop.time() + 3600:
                found.append(f"{partition}@{offset} was refused as late before its horizon")
        elif "is switched off" not in reason and not _deserved(world, partition, offset, origin, reason):
            found.append(f"{partition}@{offset} was refused: {reason}")
    return [*found, *_off(world)]


def _off(world: World) -> list[str]:
    """What comes for a scope that is switched off by then is refused, and nothing else is for that reason."""
    found = []
    said: dict[str, list[ScopeSwitch]] = defaultdict(list)
    latest = int(world.loop.time()) + 48 * PERIOD
    for record in world.broker.records("usage"):
        try:
            usage = decode_usage(record.value, content_type(record.headers))
        except RejectedError:
            continue
        reason, _ = world.watch.refused.get((record.partition, record.offset), ("", record))
        if isinstance(usage, ScopeSwitch) and not reason:
            said[usage.scope_id].append(usage)
        if isinstance(usage, Collection) and not usage.rework_id:
            periods = set(range(usage.begin - usage.begin % PERIOD, usage.end, PERIOD))
            is_off = not periods.isdisjoint(switched_off(said[usage.scope_id], latest))
            if (is_off and not reason) or ("is switched off" in reason and not is_off):
                found.append(f"{record.partition}@{record.offset}: off {is_off}, refused for {reason!r}")
    return found


def _deserved(world: World, partition: int, offset: int, origin: Rec, reason: str) -> bool:
    if origin.value == b"nonsense":
        return True
    usage = decode_usage(origin.value, content_type(origin.headers))
    if isinstance(usage, ReworkBegun | ReworkLines | ReworkEnded) or (
        isinstance(usage, Collection) and usage.rework_id
    ):
        return True  # the alert that answers the rework says why
    if "too long ago" in reason:
        return any(r.value == origin.value for r in world.broker.logs["usage", partition][:offset])
    return isinstance(usage, FrameForced) and "has left the state" in reason


def _reworks(world: World) -> list[str]:
    """Each bracket is answered by exactly one alert."""
    answers: dict[str, list[str]] = defaultdict(list)
    for alert in world.watch.alerts:
        if alert.rework is not None:
            answers[alert.rework.rework_id].append(alert.kind.value)
    told = {record.value for record in world.broker.records("usage")}
    begun = {u.rework_id for u in map(_read, told) if isinstance(u, ReworkBegun)}
    for rework_id in sorted(begun):
        world.count(" and ".join(answers[rework_id]) or "rework without answer")
    return [
        f"rework {one} was answered by {answers[one] or 'nothing'}" for one in sorted(begun) if len(answers[one]) != 1
    ]


def _read(value: bytes) -> object:
    try:
        return decode_usage(value, MSGPACK)
    except RejectedError:
        return None


# --- the store


def _store(world: World, best: dict[Key, dict[int, RatedFrame]]) -> list[str]:
    rows = world.tables.rows
    found = []
    frames = {(row["scope_id"], row["period_begin"]): row for row in rows["frames"].values()}
    if {key: row["revision"] for key, row in frames.items()} != {key: p[0].revision for key, p in best.items()}:
        differing = [
            key
            for key in sorted({*frames, *best})
            if key not in frames or key not in best or frames[key]["revision"] != best[key][0].revision
        ]
        found.append(f"frames of the store differ from the best of rated: {differing[:3]}")
    held: dict[tuple[str, int, int], dict[str, tuple[Decimal, Decimal]]] = defaultdict(dict)
    for row in rows["lines"].values():
        revision = held[row["scope_id"], row["period_begin"], row["revision"]]
        revision[row["line_id"].hex()] = (Decimal(row["qty"]), Decimal(row["price"]))
    for key, parts in sorted(best.items()):
        head = parts[0]
        wanted = {line.line_id: (line.qty, line.price) for line in counted(parts)}
        if held.get((*key, head.revision), {}) != wanted:
            found.append(f"lines of {key} revision {head.revision} in the store differ from rated")
    return [*found, *_gap_rows(world), *_usage_rows(world)]


def _gap_rows(world: World) -> list[str]:
    rows = {row["gap_id"].hex(): row for row in world.tables.rows["gaps"].values()}
    wanted = {identity: AlertKind.GAP_RESOLVED in told for identity, told in world.watch.gaps.items()}
    said = {identity: bool(row["resolved"]) for identity, row in rows.items()}
    return (
        []
        if said == wanted
        else [f"gaps of the store differ from alerts: {sorted({*said.items()} ^ {*wanted.items()})[:3]}"]
    )


def _usage_rows(world: World) -> list[str]:
    """Every part of every collection that can be read is in the audit trail."""
    wanted = set()
    for record in world.broker.records("usage"):
        try:
            usage = decode_usage(record.value, content_type(record.headers))
        except RejectedError:
            continue
        if isinstance(usage, Collection) and not usage.stored:
            wanted.add(
                (
                    usage.scope_id,
                    usage.metric,
                    usage.source,
                    usage.begin,
                    usage.end,
                    usage.attempt,
                    usage.collection_id,
                    usage.part,
                )
            )
    said = {key[:8] for key in world.tables.rows["usage"]}
    return [] if said == wanted else [f"usage of the store differs from the log: {sorted(said ^ wanted)[:2]}"]


# --- the invariants of production, which have a truth of their own


def _audit(world: World, refused: dict[tuple[int, int], str], until: int) -> list[str]:
    broker = world.broker

    def place(record: Rec) -> dict[str, int]:
        return {"partition": record.partition, "offset": record.offset}

    usage = [
        usage_entry(r.value, r.headers, timestamp_ms=r.timestamp, refused=refused, **place(r))
        for r in broker.records("usage")
    ]
    rated = [rated_entry(r.value, r.headers, **place(r)) for r in broker.records("rated")]
    alerts = [alert_entry(r.value, r.headers, **place(r)) for r in broker.records("alerts")]
    commits = [
        Commit(group.name, topic, partition, offset)
        for group in broker.groups.values()
        for (topic, partition), offset in group.history
    ]
    setup = Setup(PERIOD, world.context.catalog, frozenset({"script", "cloud"}))
    found = check_logs([entry for entry in usage if entry], rated, alerts, setup, until, commits=commits)
    return [
        f"audit: {v.invariant.value}: {v.scope_id} {v.period_begin} {v.metric}: {v.found}, not {v.expected}"
        for v in found
    ]
