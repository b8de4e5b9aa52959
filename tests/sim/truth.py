"""What a usage log means, frame by frame: slow, plain, and nothing of the engine in it but structs and the codec.

Time is cut into minutes, coverage is a set of minutes, and every record of the log is looked at again for every
question. All instants of a simulation are whole minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b

import msgspec

from rater.model.codec import content_type, decode_usage
from rater.model.errors import RejectedError
from rater.model.usage import Collection, FrameForced, ScopePlan, ScopeSwitch, Series
from tests.sim.broker import Rec

PERIOD = 3600
MINUTE = 60
FOREVER = 10**12
PUSHED = {"net"}
GREATEST = {"disk"}
SEEN = {"push"}
"""Sources that owe what they sent once."""
OFF = -1
"""In place of the begin of a period: the scope was switched off when the record came."""


@dataclass
class TrueFrame:
    """What one frame must come to in the end."""

    must_exist: bool = False
    lines: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    """(metric, quantity) by line id."""
    holes: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    expected: bool = False
    covered: bool = False
    weak: bool = False
    quarantined: int = 0

    @property
    def status(self) -> str:
        if self.holes and not self.lines and not self.quarantined and not self.covered:
            return "missing"
        if self.holes or self.quarantined:
            return "partial"
        return "rated" if self.lines else "empty"


@dataclass
class _Cut:
    """One collection cut to one period, as the parts say it."""

    begin: int
    end: int
    attempt: int
    name: str
    parts: dict[int, Collection] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        any_part = next(iter(self.parts.values()))
        return len(self.parts) == any_part.parts

    def minutes(self) -> set[int]:
        """Begins of the minutes that it proves."""
        covers = next(iter(self.parts.values())).covers
        return {m for b, e in covers for m in range(max(b, self.begin), min(e, self.end), MINUTE)}

    def samples(self) -> list[tuple[Series, int, Decimal]]:
        return [
            (part.series[s.series], s.begin, s.qty)
            for _, part in sorted(self.parts.items())
            for s in part.samples
            if self.begin <= s.begin < self.end
        ]


def accepted(
    log: Iterable[Rec], refused: Mapping[tuple[int, int], str], done: set[str]
) -> list[tuple[Rec, object, set[int]]]:
    """(record, usage, begins of the periods it was too late for) of all that was taken, each batch once."""
    seen: set[tuple[str, str, int]] = set()
    found: list[tuple[Rec, object, set[int]]] = []
    for record in log:
        reason = refused.get((record.partition, record.offset), "")
        is_off = "is switched off" in reason
        if reason and not is_off and not reason.startswith("late:"):
            continue
        try:
            usage = decode_usage(record.value, content_type(record.headers))
        except RejectedError:
            continue
        late: set[int] = set()
        if isinstance(usage, Collection):
            if usage.rework_id and usage.rework_id not in done:
                continue
            batch = (usage.scope_id, usage.producer_id, usage.sequence)
            if not usage.rework_id and not is_off:
                if batch in seen:
                    continue
                seen.add(batch)
            if is_off:  # as if it were late, should a rework bring it in; sent again, it is new
                late = {OFF, *range(usage.begin - usage.begin % PERIOD, usage.end, PERIOD)}
            elif reason:
                words = reason.split()
                first, count = int(words[4]), int(words[1])
                late = {first + n * PERIOD for n in range(count)}
        found.append((record, usage, late))
    return found


def truth(
    log: Iterable[Rec], refused: Mapping[tuple[int, int], str], done: set[str], until: int, latest: int
) -> dict[tuple[str, int], TrueFrame]:
    """The frames that the log means, by (scope, period begin); of expectations without end those that end by `until`.

    `refused`: reasons by (partition, offset); `done`: ids of reworks that were done. Frames that end between
    `until` and `latest` may be there.
    """
    taken = accepted(log, refused, done)
    frames: dict[tuple[str, int], TrueFrame] = defaultdict(TrueFrame)
    cuts: dict[tuple[str, int, str, str], dict[tuple[int, int, int, str], _Cut]] = defaultdict(dict)
    pushed: dict[tuple[str, int, str, str], dict[tuple[str, int], Collection]] = defaultdict(dict)
    plans: dict[str, list[ScopePlan]] = defaultdict(list)
    since: dict[tuple[str, str, str], int] = {}
    switches: dict[str, list[ScopeSwitch]] = defaultdict(list)
    repeated = {
        (usage.scope_id, usage.collection_id, usage.part, usage.begin - usage.begin % PERIOD)
        for _, usage, _ in taken
        if isinstance(usage, Collection) and usage.rework_id
    }
    for _, usage, late in taken:
        if isinstance(usage, ScopePlan):
            plans[usage.scope_id].append(usage)
        elif isinstance(usage, ScopeSwitch):
            switches[usage.scope_id].append(usage)
        elif isinstance(usage, FrameForced):
            frames[usage.scope_id, usage.period_begin].must_exist = True
        elif isinstance(usage, Collection):
            if usage.source in SEEN and not usage.rework_id and OFF not in late:
                key = (usage.scope_id, usage.metric, usage.source)
                since[key] = min(since.get(key, FOREVER), usage.begin)
            for begin in range(usage.begin - usage.begin % PERIOD, usage.end, PERIOD):
                brought_in = (usage.scope_id, usage.collection_id, usage.part, begin) in repeated
                if begin in late and not (brought_in and usage.metric in PUSHED):
                    continue
                place = (usage.scope_id, begin, usage.metric, usage.source)
                frames[usage.scope_id, begin].must_exist = True
                if usage.metric in PUSHED and not usage.rework_id:
                    pushed[place][usage.producer_id, usage.sequence] = usage
                if usage.metric in PUSHED:
                    continue
                span = (max(usage.begin, begin), min(usage.end, begin + PERIOD))
                cut = cuts[place].setdefault(
                    (*span, usage.attempt, usage.collection_id), _Cut(*span, usage.attempt, usage.collection_id)
                )
                cut.parts[usage.part] = usage
    for place in _ever_expected(plans, since, latest):
        frames[place].expected = True
    off = {scope: switched_off(said, latest) for scope, said in switches.items()}
    for scope, begin, metric, source, minutes in _expected(plans, since, latest):
        if begin in off.get(scope, ()):
            continue
        frame = frames[scope, begin]
        frame.must_exist |= begin + PERIOD <= until
        chosen = _winners([cut for cut in cuts.get((scope, begin, metric, source), {}).values() if cut.whole])
        covered = {m for cut in chosen for m in cut.minutes()}
        for part in pushed.get((scope, begin, metric, source), {}).values():
            for s in part.samples:
                covered |= set(range(s.begin, max(s.end, s.begin + MINUTE), MINUTE))
        holes = _runs(minutes - covered)
        if holes:
            frame.holes[metric, source] = holes
    values: dict[tuple[str, int], dict[str, tuple[str, list[Decimal]]]] = defaultdict(dict)
    for (scope, begin, metric, _), of_source in cuts.items():
        frame = frames[scope, begin]
        for cut in _winners([c for c in of_source.values() if c.whole]):
            minutes = cut.minutes()
            frame.covered |= bool(minutes)
            part = next(iter(cut.parts.values()))
            frame.weak |= part.proof == "weak" and bool(minutes)
            frame.quarantined += sum(len(p.quarantined) for p in cut.parts.values() if cut.begin <= p.begin < cut.end)
            for series, _, qty in cut.samples():
                identity = line_id(scope, metric, series)
                values[scope, begin].setdefault(identity, (metric, []))[1].append(qty)
    for (scope, begin, metric, _), batches in pushed.items():
        frame = frames[scope, begin]
        for part in batches.values():
            inside = [s for s in part.samples if begin <= s.begin < begin + PERIOD]
            frame.covered |= bool(inside)
            frame.weak |= part.proof == "weak" and bool(inside)
            for s in inside:
                identity = line_id(scope, metric, part.series[s.series])
                values[scope, begin].setdefault(identity, (metric, []))[1].append(s.qty)
    for key, lines in values.items():
        frames[key].lines = {
            identity: (metric, max(found) if metric in GREATEST else sum(found, Decimal(0)))
            for identity, (metric, found) in lines.items()
        }
    return dict(frames)


# --- which collections hold


def _winners(cuts: list[_Cut]) -> list[_Cut]:
    """Wider ranges first, then higher attempts; what conflicts with an earlier choice is left out."""
    chosen: list[_Cut] = []
    order = sorted(cuts, key=lambda c: (c.end - c.begin, c.attempt, c.name, -c.begin), reverse=True)
    for cut in order:
        if not any(_conflict(cut, other) for other in chosen):
            chosen.append(cut)
    return chosen


def _conflict(one: _Cut, other: _Cut) -> bool:
    if max(one.begin, other.begin) >= min(one.end, other.end):
        return False
    if (one.begin, one.end) == (other.begin, other.end):
        return True
    return _reaches(one, other) and _reaches(other, one)


def _reaches(one: _Cut, other: _Cut) -> bool:
    """Whether `one` proves or holds anything inside the other's range; what it holds unproven is one stretch."""
    proven = one.minutes()
    if any(other.begin <= m < other.end for m in proven):
        return True
    strays = [begin for _, begin, _ in one.samples() if begin - begin % MINUTE not in proven]
    return bool(strays) and max(min(strays), other.begin) < min(max(strays) + 1, other.end)


# --- what is expected


def _scopes(plans: Mapping[str, list[ScopePlan]], since: Mapping[tuple[str, str, str], int]) -> list[str]:
    return sorted({*plans, *(scope for scope, _, _ in since)})


def _standing(said: list[ScopePlan], source: str) -> list[tuple[int, int, frozenset[str]]]:
    """Stretches of a source's plans, later plans over earlier ones."""
    stretches: list[tuple[int, int, frozenset[str]]] = []
    for plan in said:
        if plan.source != source:
            continue
        until = FOREVER if plan.until is None else plan.until
        left = [(b, min(e, plan.begin), m) for b, e, m in stretches if b < plan.begin]
        right = [(max(b, until), e, m) for b, e, m in stretches if e > until]
        stretches = [*left, (plan.begin, until, frozenset(plan.metrics)), *right]
    return stretches


def _expected(
    plans: Mapping[str, list[ScopePlan]], since: Mapping[tuple[str, str, str], int], latest: int
) -> list[tuple[str, int, str, str, set[int]]]:
    """(scope, period begin, metric, source, begins of minutes) of everything that is owed in the end."""
    found: dict[tuple[str, int, str, str], set[int]] = defaultdict(set)
    for scope in _scopes(plans, since):
        stretches = [
            (b, e, metric, source)
            for source in sorted({plan.source for plan in plans.get(scope, [])})
            for b, e, metrics in _standing(plans[scope], source)
            for metric in sorted(metrics)
        ]
        stretches += [(b, FOREVER, metric, source) for (of, metric, source), b in since.items() if of == scope]
        for begin, end, metric, source in stretches:
            for m in range(begin, min(end, latest), MINUTE):
                found[scope, m - m % PERIOD, metric, source].add(m)
    return [(*key, minutes) for key, minutes in sorted(found.items())]


def switched_off(said: list[ScopeSwitch], latest: int) -> set[int]:
    """Begins of the periods that nothing is owed in, by the switches of a scope; the last number holds."""
    last, since, found = 0, FOREVER, set[int]()
    for switch in said:
        if switch.number <= last:
            continue
        last = switch.number
        first = switch.begin + -switch.begin % PERIOD
        if not switch.active:
            since = min(since, first)
            continue
        if switch.inactive_time == "skip":
            found.update(range(since, first, PERIOD))
        since = FOREVER
    return found | set(range(since, latest, PERIOD))


def _ever_expected(
    plans: Mapping[str, list[ScopePlan]], since: Mapping[tuple[str, str, str], int], latest: int
) -> set[tuple[str, int]]:
    """Whatever was expected at some time: such frames may exist, though nothing is owed in them any more."""
    spans = [
        (plan.scope_id, plan.begin, latest if plan.until is None else plan.until) for p in plans.values() for plan in p
    ]
    spans += [(scope, begin, latest) for (scope, _, _), begin in since.items()]
    return {(scope, period) for scope, begin, end in spans for period in range(begin - begin % PERIOD, end, PERIOD)}


def _runs(minutes: set[int]) -> list[tuple[int, int]]:
    """Minutes as stretches, in order."""
    runs: list[tuple[int, int]] = []
    for minute in sorted(minutes):
        if runs and runs[-1][1] == minute:
            runs[-1] = (runs[-1][0], minute + MINUTE)
        else:
            runs.append((minute, minute + MINUTE))
    return runs


_IDS: dict[tuple[str, str, bytes], str] = {}


def line_id(scope: str, metric: str, series: Series) -> str:
    """As documented: 128 bits of blake2b over scope, metric and labels."""
    text = msgspec.json.encode([scope, metric, series.groupby, series.metadata], order="deterministic")
    key = (scope, metric, text)
    if key not in _IDS:
        _IDS[key] = blake2b(text, digest_size=16).hexdigest()
    return _IDS[key]
