"""Parts, sub-ranges, order and repetitions of collections change nothing in what is rated in the end.

The truth is what each source measured, minute by minute, and when it was able to see; a log is one way to tell it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from decimal import Decimal
from fractions import Fraction
from itertools import count, pairwise
from random import Random
from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rater.engine import PartitionState, Record, apply, decide
from rater.model.codec import JSON, decode_rated, encode_json
from rater.model.interval import Interval, clip, subtract
from rater.model.rated import FrameStatus, RatedFrame
from rater.model.usage import Collection, Sample, ScopePlan
from tests.property.engine_logs import RULES
from tests.unit.engine.builders import HOUR, VM1, VM2, T, context

SLOT = 600
SPAN = Interval(T, T + 3 * HOUR)
METRICS = ("cpu", "m_max", "m_min", "m_mean", "m_last", "m_first", "m_count", "m_delta")
CONTEXT = context(late_horizon_periods=90)
CLOSED = T + 30 * HOUR  # everything is closed by then, and nothing has left
_names = count()


class Truth(NamedTuple):
    """What one source measured of one metric: samples, and the time of which it can prove that there were no others."""

    source: str
    metric: str
    samples: tuple[tuple[int, int, Decimal], ...]
    """(number of the series, begin, quantity); each of them within `seen`."""
    seen: tuple[Interval, ...]


measured = st.tuples(st.integers(0, 1), st.integers(0, 3 * HOUR - 1), st.integers(-(10**6), 10**9))


@st.composite
def truths(draw: st.DrawFn) -> list[Truth]:
    found = []
    for source in draw(st.sampled_from([("prom",), ("prom", "twin")])):
        for metric in draw(st.sets(st.sampled_from(METRICS), min_size=1, max_size=2)):
            blind = draw(st.sets(st.integers(0, 17), max_size=4))
            seen = subtract([SPAN], [Interval(T + n * SLOT, T + n * SLOT + SLOT) for n in blind])
            samples = draw(st.lists(measured, max_size=20))
            found.append(
                Truth(
                    source,
                    metric,
                    tuple(
                        (series, T + at, Decimal(qty).scaleb(-4))
                        for series, at, qty in sorted(samples)
                        if clip(seen, Interval(T + at, T + at + 1))
                    ),
                    tuple(seen),
                )
            )
    return sorted(found)


def collected(truth: Truth, begin: int, end: int, attempt: int = 1) -> Collection:
    """The one answer that this source can give for that range."""
    bounds = Interval(begin, end)
    return Collection(
        source=truth.source,
        scope_id="A",
        metric=truth.metric,
        begin=begin,
        end=end,
        attempt=attempt,
        collection_id=f"{begin}-{end}-{attempt}",
        producer_id="p",
        sequence=next(_names),
        covers=clip(truth.seen, bounds),
        series=[VM1, VM2],
        samples=[Sample(n, at, at, qty) for n, at, qty in truth.samples if begin <= at < end],
    )


def rated(records: list[Collection], decide_after: Container[int] = ()) -> list[RatedFrame]:
    """The last revision of each frame, once everything is closed; decisions may be taken on the way, too."""
    state = PartitionState(0, 1, HOUR)
    metrics: dict[str, list[str]] = defaultdict(list)
    for source, metric in sorted({(record.source, record.metric) for record in records}):
        metrics[source].append(metric)
    plans = [ScopePlan(source, "A", SPAN.begin, SPAN.end, names) for source, names in metrics.items()]
    for offset, record in enumerate([*plans, *records]):
        apply(state, Record(offset, T * 1000, b"A", encode_json(record)), CONTEXT)
        if offset in decide_after:
            decide(state, T + (offset % 12) * HOUR, RULES, CONTEXT)
    decide(state, CLOSED, RULES, CONTEXT)
    frames = [decode_rated(item.value, JSON) for item in state.outbox if item.topic == "rated"]
    assert not [item for item in state.outbox if item.topic == "rejected"]
    last = {frame.period_begin: frame for frame in frames}
    return [last[begin] for begin in sorted(last)]


def content(frames: list[RatedFrame]) -> list[tuple[object, ...]]:
    """What counts: not how many revisions it took, nor which collections said it, nor the zeros of vanished lines."""
    return [
        (
            frame.period_begin,
            frame.status,
            frame.totals,
            [line for t in frame.totals for line in [at for at in frame.lines if at.metric == t.metric][: t.n]],
            [(c.metric, c.source, c.expected, c.covered) for c in frame.coverage],
            [(gap.metric, gap.source, gap.begin, gap.end) for gap in frame.gaps],
        )
        for frame in frames
    ]


def whole(truth: Truth) -> list[Collection]:
    return [collected(truth, begin, begin + HOUR) for begin in range(SPAN.begin, SPAN.end, HOUR)]


def cut(truth: Truth, random: Random) -> list[Collection]:
    """The same in ranges of other lengths, over the ends of periods too, with wrong older answers among them."""
    bounds = sorted({SPAN.begin, SPAN.end, *(SPAN.begin + random.randrange(1, 18) * SLOT for _ in range(4))})
    found = []
    for begin, end in pairwise(bounds):
        found.append(collected(truth, begin, end, attempt=2))
        if random.random() < 0.3:
            wrong = [Sample(0, begin, begin, Decimal(999))]
            found.append(msgspec.structs.replace(collected(truth, begin, end, attempt=1), samples=wrong))
    return found


def in_parts(record: Collection, random: Random) -> list[Collection]:
    """The collection in up to four parts, its samples dealt out."""
    parts = random.randrange(1, 5)
    dealt: list[list[Sample]] = [[] for _ in range(parts)]
    for sample in record.samples:
        random.choice(dealt).append(sample)
    return [
        msgspec.structs.replace(record, part=part, parts=parts, samples=samples, sequence=next(_names))
        for part, samples in enumerate(dealt)
    ]


def repeated(records: list[Collection], random: Random) -> list[Collection]:
    """With some batches twice as they are, and some collections sent again under new numbers."""
    again = [record for record in records if random.random() < 0.3]
    anew = [msgspec.structs.replace(r, sequence=next(_names)) for r in records if random.random() < 0.3]
    return [*records, *again, *anew]


@given(truths(), st.randoms(use_true_random=True))
def test_nothing_but_the_truth_counts(truth: list[Truth], random: Random) -> None:
    # given the truth told in whole hours, in order
    plain = [record for one in truth for record in whole(one)]
    expected = content(rated(plain))

    # when it is told in parts, in other ranges, repeated, in any order, and with decisions on the way
    told = [record for one in truth for record in cut(one, random)]
    told = repeated([part for record in told for part in in_parts(record, random)], random)
    random.shuffle(told)
    closing = {offset for offset in range(len(told)) if random.random() < 0.1}

    # then
    assert content(rated(told)) == expected
    assert content(rated(told, closing)) == expected


@given(truths(), st.randoms(use_true_random=True))
def test_whole_and_partial_answers_of_the_same_time_do_not_add_up(truth: list[Truth], random: Random) -> None:
    # given whole hours, and pieces of them, in any order
    plain = [record for one in truth for record in whole(one)]
    told = [*plain, *(record for one in truth for record in cut_within_hours(one, random))]
    random.shuffle(told)

    # when, then
    assert content(rated(told)) == content(rated(plain))


def cut_within_hours(truth: Truth, random: Random) -> list[Collection]:
    found = []
    for begin in range(SPAN.begin, SPAN.end, HOUR):
        first, last = sorted(random.sample(range(7), 2))
        found.append(collected(truth, begin + first * SLOT, begin + last * SLOT, attempt=9))
    return found


@given(truths(), st.sets(st.integers(0, 17), min_size=1, max_size=6), st.randoms(use_true_random=True))
def test_what_a_source_did_not_see_at_first_may_be_collected_on_its_own(
    truth: list[Truth], blind: set[int], random: Random
) -> None:
    # given a source that saw nothing of some slots, and exactly these collected again when it could
    slots = [Interval(T + n * SLOT, T + n * SLOT + SLOT) for n in blind]
    told = []
    for one in truth:
        samples = tuple(s for s in one.samples if not any(slot.begin <= s[1] < slot.end for slot in slots))
        told += whole(one._replace(samples=samples, seen=tuple(subtract(one.seen, slots))))
        told += [collected(one, slot.begin, slot.end) for slot in slots]
    random.shuffle(told)

    # when, then: it is as if the source had seen everything at once
    assert content(rated(told)) == content(rated([record for one in truth for record in whole(one)]))


@given(truths())
def test_the_totals_are_those_of_the_truth(truth: list[Truth]) -> None:
    # given
    frames = rated([record for one in truth for record in whole(one)])

    # then each frame holds the sums of its samples, and its gaps are the time nobody saw
    for frame in frames:
        period = Interval(frame.period_begin, frame.period_end)
        totals = {total.metric: total for total in frame.totals}
        held: dict[str, list[tuple[int, Decimal]]] = defaultdict(list)
        for one in truth:
            held[one.metric] += [(n, qty) for n, at, qty in one.samples if period.begin <= at < period.end]
        assert {m: total.n for m, total in totals.items()} == {m: len({n for n, _ in s}) for m, s in held.items() if s}
        if "cpu" in totals:
            assert Fraction(totals["cpu"].qty) == sum(Fraction(qty) for _, qty in held["cpu"])
        if "m_count" in totals:
            assert totals["m_count"].qty == len(held["m_count"])
        unseen = [(one.metric, one.source, *hole) for one in truth for hole in subtract([period], one.seen)]
        assert [(gap.metric, gap.source, gap.begin, gap.end) for gap in frame.gaps] == sorted(unseen)
        assert frame.status is _status(bool(unseen), bool(totals), any(clip(one.seen, period) for one in truth))


def _status(unseen: bool, used: bool, seen: bool) -> FrameStatus:
    if unseen:
        return FrameStatus.PARTIAL if used or seen else FrameStatus.MISSING
    return FrameStatus.RATED if used else FrameStatus.EMPTY
