"""Which replica of an HA pair answers, and what is said of the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest

from collectors.errors import NotSettledError, SourceAwayError, SourceError
from collectors.evidence import MetricEvidence
from collectors.metrics_yml import Metric, read
from collectors.prometheus.replicas import ReplicaSession, Standing
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, PrometheusSettings
from collectors.source import Answer, SharingSession, SourceContext
from rater.model.interval import Interval, subtract
from rater.model.usage import Sample, Series

HOUR = Interval(3600, 7200)
EARLY, LATE = Interval(3700, 4000), Interval(6000, 6100)
(METRIC,) = read("metrics: {vm: {unit: u, groupby: [id]}}", "metrics.yml", Factory.read_extra_args).metrics


class Fake:
    """A replica whose evidence and answers a test sets."""

    def __init__(
        self, url: str, evidence: MetricEvidence | SourceError, usage: Mapping[str, int | SourceError]
    ) -> None:
        self.url = url
        self.known = evidence
        self.usage = usage
        self.asked: list[str] = []
        self.is_closed = False

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        self.expected = asked

    async def close(self) -> None:
        self.is_closed = True

    async def evidence(self, metric: Metric) -> MetricEvidence:
        self.asked.append("evidence")
        if isinstance(self.known, SourceError):
            raise self.known
        return self.known

    async def answer(self, scope_id: str, metric: Metric, evidence: MetricEvidence) -> Answer:
        self.asked.append(scope_id)
        qty = self.usage.get(scope_id, 0)
        if isinstance(qty, SourceError):
            raise qty
        verdict = evidence.of(scope_id)
        samples = [Sample(0, HOUR.begin, HOUR.end, Decimal(qty))] if qty else []
        series = [Series({"id": "a"}, {})] if qty else []
        return Answer(verdict.covers, verdict.proof, series, samples, [], verdict.note)

    async def shows_nothing(self, scope_id: str, metric: Metric) -> bool:
        self.asked.append(f"nothing of {scope_id}?")
        qty = self.usage.get(scope_id, 0)
        if isinstance(qty, SourceError):
            raise qty
        return not qty


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def pair(
    first: MetricEvidence | SourceError,
    second: MetricEvidence | SourceError,
    usage: Mapping[str, int | SourceError] | None = None,
    other_usage: Mapping[str, int | SourceError] | None = None,
) -> tuple[Fake, Fake, ReplicaSession]:
    """Two replicas, which show the same usage unless told otherwise, and the session over both."""
    usage = {"p1": 1} if usage is None else usage
    a = Fake("http://a", first, usage)
    b = Fake("http://b", second, usage if other_usage is None else other_usage)
    return a, b, ReplicaSession([a, b], Standing(Clock()))


def known(**more: object) -> MetricEvidence:
    return MetricEvidence(HOUR, "1 target looked at", **more)  # type: ignore[arg-type] # fields as a test names them


async def test_the_first_of_two_that_saw_all_answers() -> None:
    _, b, session = pair(known(), known())

    answer = await session.collect("p1", METRIC)

    assert (answer.covers, answer.proof, answer.samples[0].qty) == ([HOUR], "proven", 1)
    assert answer.note == "answered by http://a; 1 target looked at"
    assert "p1" not in b.asked


async def test_the_one_that_saw_more_answers_for_all_scopes_and_numbers_are_never_added() -> None:
    """Given a hole of one scope here, and a shorter one of another scope there; then there everybody is answered."""
    a, b, session = pair(known(missing_of={"p1": [EARLY]}), known(missing_of={"p2": [LATE]}), {"p1": 5, "p2": 7})
    session.expect({METRIC.internal_key: ["p1", "p2", "p3"]})

    answers = [await session.collect(scope_id, METRIC) for scope_id in ("p1", "p2", "p3")]

    assert [scope_id for scope_id in a.asked if scope_id.startswith("p")] == []
    assert [answer.samples[0].qty for answer in answers[:2]] == [5, 7]
    assert [subtract([HOUR], answer.covers) for answer in answers] == [[], [LATE], []]
    assert all(answer.note.startswith("answered by http://b") for answer in answers)
    assert b.expected == a.expected == {METRIC.internal_key: ["p1", "p2", "p3"]}
    await session.close()
    assert (a.is_closed, b.is_closed) == (True, True)


async def test_what_only_one_scope_still_lacks_is_asked_where_that_scope_was_seen() -> None:
    """Given that only p2 is asked again; then the replica that saw p2 answers, though it saw less of others."""
    _, _, session = pair(known(missing_of={"p1": [EARLY]}), known(missing_of={"p2": [LATE]}), {"p1": 5, "p2": 7})
    session.expect({METRIC.internal_key: ["p2"]})

    answer = await session.collect("p2", METRIC)

    assert (answer.covers, answer.note.split(";")[0]) == ([HOUR], "answered by http://a")


async def test_time_that_nobody_saw_counts_for_nothing() -> None:
    """Given one that claims the hour weakly, without having looked, and one with a small hole; then the second."""
    _, _, session = pair(known(unseen=[EARLY]), known(missing=[LATE]), {}, {"p1": 3})

    answer = await session.collect("p1", METRIC)

    assert (answer.samples[0].qty, answer.covers) == (3, subtract([HOUR], [LATE]))


async def test_proof_and_single_lost_scrapes_decide_between_equals() -> None:
    _, _, by_proof = pair(known(weak=True), known())
    _, _, by_scrapes = pair(known(lost=1), known())

    assert (await by_proof.collect("p1", METRIC)).note.startswith("answered by http://b")
    assert (await by_scrapes.collect("p1", METRIC)).note.startswith("answered by http://b")


@pytest.mark.parametrize("fault", [SourceAwayError("it is down"), SourceError("a partial answer")])
async def test_one_without_a_whole_answer_is_passed_over(fault: SourceError, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, _, of_evidence = pair(fault, known())
        _, _, of_usage = pair(known(), known(), {"p1": fault}, {"p1": 2})
        answers = [await session.collect("p1", METRIC) for session in (of_evidence, of_usage)]

    for answer in answers:
        assert answer.note == f"answered by http://b; 1 target looked at; http://a passed over: {fault}"
    assert [record.message for record in caplog.records] == [
        f"http://a is passed over while other replicas answer: {fault}"
    ] * 2


async def test_all_away_is_away_and_anything_else_is_a_failure() -> None:
    away, other = SourceAwayError("down"), SourceError("in part")
    _, _, all_away = pair(SourceAwayError("down", 90), SourceAwayError("down", 40))
    _, _, in_part = pair(away, other)
    _, _, usage_away = pair(known(), away, {"p1": away})

    with pytest.raises(SourceAwayError, match=r"http://a passed over: down; http://b passed over: down") as all_of_them:
        await all_away.collect("p1", METRIC)
    assert all_of_them.value.retry_after == 40  # of the one that may be asked first
    with pytest.raises(SourceError, match="http://b passed over: in part") as failed:
        await in_part.collect("p1", METRIC)
    assert not isinstance(failed.value, SourceAwayError)
    with pytest.raises(SourceAwayError, match="http://a passed over: down"):
        await usage_away.collect("p1", METRIC)


async def test_one_that_has_not_settled_is_waited_for_only_if_the_other_lacks_something() -> None:
    early = NotSettledError("not yet")
    _, _, whole = pair(early, known())
    _, _, lacking = pair(early, known(missing_of={"p1": [EARLY]}))
    _, _, unknown = pair(early, SourceAwayError("down"))

    assert (await whole.collect("p1", METRIC)).covers == [HOUR]
    for session in (lacking, unknown):
        with pytest.raises(NotSettledError, match="not yet"):
            await session.collect("p1", METRIC)


async def test_nothing_at_both_is_a_zero_for_the_time_that_either_saw() -> None:
    """Given a hole here and another there, and no usage at either; then together they saw the whole hour."""
    a, b, session = pair(known(missing=[EARLY]), known(missing=[LATE]), {})

    answer = await session.collect("p1", METRIC)

    assert (answer.covers, answer.proof, answer.samples) == ([HOUR], "proven", [])
    assert "http://a looked as well and has nothing of this scope either" in answer.note
    assert (a.asked, b.asked) == (["evidence", "nothing of p1?"], ["evidence", "p1"])


async def test_what_both_missed_stays_missing_and_what_one_did_not_see_weak() -> None:
    both = Interval(3800, 3900)
    _, _, hole = pair(known(missing=[EARLY]), known(missing=[both]), {})
    _, _, unseen = pair(known(unseen=[EARLY, LATE]), known(unseen=[EARLY]), {})

    assert subtract([HOUR], (await hole.collect("p1", METRIC)).covers) == [both]
    answer = await unseen.collect("p1", METRIC)
    assert (answer.covers, answer.proof) == ([HOUR], "weak")


async def test_usage_at_one_of_two_with_holes_proves_no_zero() -> None:
    """Given no usage at the one that saw most, and some at the other; then the hole stays."""
    fault = SourceError("in part")
    _, _, used = pair(known(missing=[LATE]), known(missing=[EARLY]), {}, {"p1": 1})
    _, _, failed = pair(known(missing=[LATE]), known(missing=[EARLY]), {}, {"p1": fault})

    assert subtract([HOUR], (await used.collect("p1", METRIC)).covers) == [LATE]
    assert subtract([HOUR], (await failed.collect("p1", METRIC)).covers) == [LATE]


async def test_one_that_is_away_is_not_asked_for_every_metric(caplog: pytest.LogCaptureFixture) -> None:
    """Given a replica that is down; then it is asked again after a pause, or when no other is left; said once."""
    clock = Clock()
    standing = Standing(clock)
    a, b = Fake("http://a", SourceAwayError("down"), {}), Fake("http://b", known(), {"p1": 1})

    async def collect() -> Answer:
        return await ReplicaSession([a, b], standing).collect("p1", METRIC)

    with caplog.at_level(logging.INFO):
        first, second = await collect(), await collect()
        assert a.asked == ["evidence"]
        assert first.note == second.note
        b.known = SourceAwayError("down, too")
        for _ in range(2):
            with pytest.raises(SourceAwayError, match="down, too"):
                await collect()
        assert a.asked == ["evidence"] * 2
        clock.now += 31
        a.known = known()
        a.usage = {"p1": 1}
        assert not standing.has_recovered()
        assert (await collect()).note.startswith("answered by http://a")
        assert [standing.has_recovered(), standing.has_recovered()] == [True, False]
    assert [record.message for record in caplog.records] == [
        "http://a is passed over while other replicas answer: down",
        "http://b is passed over while other replicas answer: down, too",
        "http://a answers again",
    ]


async def test_one_that_goes_away_between_two_scopes_is_not_asked_for_the_others() -> None:
    """Given two that saw all; when the first goes away while scopes are asked; then one question is enough to know."""
    away = SourceAwayError("down")
    a, b, session = pair(known(), known(), dict.fromkeys(("p1", "p2", "p3"), away), {"p1": 1, "p2": 1, "p3": 1})

    notes = [(await session.collect(scope_id, METRIC)).note for scope_id in ("p1", "p2", "p3")]

    assert notes == ["answered by http://b; 1 target looked at; http://a passed over: down"] * 3
    assert a.asked == ["evidence", "p1"]
    assert b.asked == ["evidence", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ({"url": "http://a", "urls": ["http://b"]}, "url and urls exclude each other"),
        ({"urls": ["http://a", "http://a/"]}, "urls names a server twice"),
    ],
)
def test_settings_that_name_servers_twice_are_refused(urls: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PrometheusSettings(**urls)


async def test_a_source_of_several_urls_shares_one_session_over_them() -> None:
    settings = CollectorSettings(prometheus=PrometheusSettings(urls=["http://a/api/v1", "http://b/api/v1"]))
    source = PrometheusSource(SourceContext(settings, 3600, (METRIC,)))
    try:
        session = source.session(HOUR, 9000)
        assert isinstance(session, ReplicaSession)
        assert isinstance(session, SharingSession)
    finally:
        await source.close()
