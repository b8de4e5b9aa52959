"""Of every frame: what is covered and what is a gap make up what was expected, and lines hold what collections said."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rater.engine import EngineContext
from rater.engine.coverage import winners
from rater.engine.state import FOREVER, Slice
from rater.model.codec import JSON, content_type, decode_rated, decode_usage
from rater.model.interval import Interval, clip, overlaps, periods_of, subtract, union
from rater.model.rated import RatedFrame
from rater.model.usage import Collection, ScopePlan, ScopeSwitch, UsageRecord
from tests.property.engine_logs import CONTEXT, History, Shell, histories
from tests.unit.engine.builders import HOUR, T, context

KEEP_ALL = context(wait_periods=1, late_horizon_periods=900, gap_horizon_periods=900, expect=CONTEXT.settings.expect)
FAR = T + 60 * HOUR


def last_frames(history: History, terms: EngineContext = KEEP_ALL) -> dict[tuple[str, int], RatedFrame]:
    """The last revision of every frame, after the log, its cuts, and a long time."""
    shell = Shell(history.log, terms)
    for cut in history.cuts:
        shell.checkpoint(cut)
    shell.decide(FAR)
    shell.publish()
    frames = [decode_rated(item.value, JSON) for item in shell.published if item.topic == "rated"]
    return {(frame.scope_id, frame.period_begin): frame for frame in frames}


def taken(history: History) -> list[UsageRecord]:
    """What of the log was neither refused nor a repetition of a batch, in order."""
    found = []
    batches: set[tuple[str, str, int]] = set()
    shell = Shell(history.log, KEEP_ALL)
    for offset, log_record in enumerate(history.log):
        shell.read(offset + 1)
        if shell.state.outbox:
            shell.state.outbox.clear()
            continue
        record = decode_usage(log_record.value, content_type(log_record.headers))
        if isinstance(record, Collection):
            batch = record.scope_id, record.producer_id, record.sequence
            if batch in batches:
                continue
            batches.add(batch)
        found.append(record)
    return found


@given(histories())
def test_covered_and_gaps_make_up_what_was_expected(history: History) -> None:
    for frame in last_frames(history).values():
        period = Interval(frame.period_begin, frame.period_end)
        gaps: dict[tuple[str, str], list[Interval]] = defaultdict(list)
        for gap in frame.gaps:
            gaps[gap.metric, gap.source].append(Interval(gap.begin, gap.end))
        for entry in frame.coverage:
            holes = gaps.pop((entry.metric, entry.source), [])
            covered = [part for wanted in entry.expected for part in clip(entry.covered, wanted)]
            assert clip(entry.expected, period) == entry.expected
            assert clip(entry.covered, period) == entry.covered
            assert union(holes) == holes == subtract(entry.expected, entry.covered)
            assert union([*holes, *covered]) == entry.expected
            assert not any(overlaps(hole, part) for hole in holes for part in covered)
        assert gaps == {}, "every gap belongs to something that was expected"


@given(histories())
def test_every_frame_of_which_something_is_expected_is_published(history: History) -> None:
    # given what the plans say, and what was seen of sources without one, told once more in the plainest way
    plans: dict[str, dict[str, dict[str, list[Interval]]]] = defaultdict(dict)
    seen: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    switches: dict[str, list[ScopeSwitch]] = defaultdict(list)
    for record in taken(history):
        if isinstance(record, ScopeSwitch):
            switches[record.scope_id].append(record)
        if isinstance(record, ScopePlan):
            _plan(plans[record.scope_id], seen[record.scope_id], record)
        elif isinstance(record, Collection) and _counts(record, plans[record.scope_id]):
            since = seen[record.scope_id][record.source]
            since[record.metric] = min(record.begin, since.get(record.metric, FOREVER))

    # when
    frames = last_frames(history)

    # then
    found: dict[tuple[str, int], dict[tuple[str, str], list[Interval]]] = defaultdict(dict)
    for scope_id in {*plans, *seen}:
        off = _off(switches[scope_id])
        expected = {(m, s): parts for s, metrics in plans[scope_id].items() for m, parts in metrics.items()}
        expected |= {(m, s): [Interval(t, FOREVER)] for s, of in seen[scope_id].items() for m, t in of.items()}
        for key, parts in expected.items():
            for part in clip(parts, Interval(T, FAR - 2 * HOUR)):
                for period in periods_of(part, HOUR):
                    if period.begin not in off:
                        found[scope_id, period.begin].setdefault(key, []).extend(clip([part], period))
    for frame_key, wanted in found.items():
        told = {(c.metric, c.source): c.expected for c in frames[frame_key].coverage if c.expected}
        assert told == {key: union(parts) for key, parts in wanted.items()}
    assert all(key in found for key, frame in frames.items() if frame.gaps and key[1] < FAR - 2 * HOUR)


def _off(switches: list[ScopeSwitch]) -> set[int]:
    """The hours that nothing is expected of, hour by hour."""
    last, since, found = 0, FAR, set[int]()
    for switch in switches:
        if switch.number <= last:
            continue
        last = switch.number
        first = next(hour for hour in range(T, FAR, HOUR) if hour >= switch.begin)
        if not switch.active:
            since = min(since, first)
            continue
        if switch.inactive_time == "skip":
            found.update(range(since, first, HOUR))
        since = FAR
    return found | set(range(since, FAR, HOUR))


def _counts(record: Collection, plans: dict[str, dict[str, list[Interval]]]) -> bool:
    return KEEP_ALL.expects_seen(record.source) and record.source not in plans


def _plan(plans: dict[str, dict[str, list[Interval]]], seen: dict[str, dict[str, int]], record: ScopePlan) -> None:
    window = Interval(record.begin, record.until or FOREVER)
    since = seen.pop(record.source, {})
    before = plans.get(record.source) or {m: [Interval(t, window.begin)] for m, t in since.items()}
    after = {metric: subtract(parts, [window]) for metric, parts in before.items()}
    for metric in record.metrics:
        after[metric] = union([*after.get(metric, []), window])
    plans[record.source] = {metric: parts for metric, parts in after.items() if parts}


@given(histories())
def test_the_sum_of_the_lines_is_the_sum_of_the_collections_they_are_made_of(history: History) -> None:
    # given, by identity and part, the first record of each part
    parts: dict[tuple[str, str, str, int, int, int, str], dict[int, Collection]] = defaultdict(dict)
    for record in taken(history):
        if isinstance(record, Collection) and record.metric == "cpu":
            for period in periods_of(Interval(record.begin, record.end), HOUR):
                begin, end = max(record.begin, period.begin), min(record.end, period.end)
                key = (record.scope_id, record.source, record.metric, begin, end, record.attempt, record.collection_id)
                parts[key].setdefault(record.part, record)

    # when, then
    for frame in last_frames(history).values():
        total = Fraction(0)
        number = 0
        for entry in frame.coverage:
            for ref in entry.collections if entry.metric == "cpu" else []:
                identity = (ref.begin, ref.end, ref.attempt, ref.collection_id)
                records = parts[(frame.scope_id, entry.source, entry.metric, *identity)].values()
                samples = [s for record in records for s in record.samples if ref.begin <= s.begin < ref.end]
                assert ref.samples == len(samples)
                total += sum(Fraction(sample.qty) for sample in samples)
                number += len(samples)
        rated = [line for line in frame.lines if line.metric == "cpu"]
        assert sum((Fraction(line.qty) for line in rated), Fraction(0)) == total
        assert bool(number) is any(entry.metric == "cpu" for entry in frame.totals)
        for entry in frame.totals:
            of_metric = [line for line in frame.lines if line.metric == entry.metric]
            assert (entry.qty, entry.price) == (sum(x.qty for x in of_metric), sum(x.price for x in of_metric))
            assert entry.unit == KEEP_ALL.metric(entry.metric).unit


slices = st.lists(
    st.builds(
        lambda begin, length, attempt, name, covers, stray, complete: Slice(
            begin,
            begin + length,
            attempt,
            name,
            1,
            [Interval(0, 1)] if complete else [],
            clip([Interval(begin + at, begin + at + size) for at, size in covers], Interval(begin, begin + length)),
            "proven",
            first_stray=begin + stray if stray < length else FOREVER,
            last_stray=begin + stray if stray < length else -1,
        ),
        st.integers(0, 8),
        st.integers(1, 8),
        st.integers(0, 2),
        st.sampled_from("abc"),
        st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8)), max_size=2),
        st.integers(0, 16),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=6,
    unique_by=lambda held: (held.begin, held.end, held.attempt, held.collection_id),
)


@given(slices, st.permutations(range(6)))
def test_no_second_is_taken_from_two_collections_and_the_order_does_not_matter(
    held: list[Slice], order: list[int]
) -> None:
    # when
    chosen = winners(held)

    # then
    assert winners([held[n] for n in order if n < len(held)]) == chosen
    assert all(one.complete for one in chosen)
    contents = [{n for part in one.covers for n in range(*part)} | _strays(one) for one in chosen]
    for number, one in enumerate(contents):
        for other in contents[number + 1 :]:
            assert not one & other
    # and whoever is left out would take a second of somebody who is not
    for one in held:
        if one.complete and one not in chosen:
            assert any(overlaps(Interval(one.begin, one.end), Interval(c.begin, c.end)) for c in chosen)


def _strays(one: Slice) -> set[int]:
    return set(range(one.first_stray, one.last_stray + 1)) if one.last_stray >= 0 else set()
