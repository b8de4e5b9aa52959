"""What source and fetcher `rest` make of answers: quantities, labels, times, scopes, and what each proof proves."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from collectors.errors import SettingsError, SourceError, UnfitSourceError
from collectors.metrics_yml import Metric
from collectors.rest.answer import instant
from collectors.rest.settings import RestAuth, RestBearer, RestFetcherSettings, RestPaging, RestProof
from collectors.rest.source import Factory, RestSource
from collectors.settings import CollectorSettings
from collectors.source import Source, SourceContext, fetcher_factory, source_factory
from rater.model.document import DocumentError
from rater.model.interval import Interval
from rater.model.usage import QuarantinedItem, Sample, Series
from tests.unit.collectors.rest_endpoint import HOUR, Endpoint, collect, context, csv_reply, json_reply, metrics

T, END = HOUR


def _raw(text: str) -> tuple[int, bytes, dict[str, str]]:
    return 200, text.encode(), {"Content-Type": "application/json"}


# --- quantities and labels


async def test_items_become_samples_of_the_period(endpoint: Endpoint) -> None:
    endpoint.says({"items": [{"id": "a", "flavor": "m1", "qty": 2, "project_id": "p1"}, {"id": "b", "qty": "0.50"}]})

    answer = await collect(endpoint)

    assert answer.series == [
        Series({"id": "a", "project_id": "p1"}, {"flavor": "m1"}),
        Series({"id": "b", "project_id": "p1"}, {"flavor": ""}),
    ]
    assert answer.samples == [Sample(0, T, END, Decimal(2)), Sample(1, T, END, Decimal("0.50"))]
    assert (answer.covers, answer.proof, answer.quarantined) == ([HOUR], "weak", [])
    assert endpoint.asked[0].path == "/usage?scope=p1"


async def test_digits_are_those_of_the_answer(endpoint: Endpoint) -> None:
    endpoint.says(_raw('{"items": [{"id": "a", "qty": 0.1234567890123456789012345}, {"id": "b", "qty": 1e2}]}'))

    answer = await collect(endpoint)

    assert [str(sample.qty) for sample in answer.samples] == ["0.1234567890123456789012345", "100"]


async def test_functions_of_jmespath_take_such_numbers(endpoint: Endpoint) -> None:
    endpoint.says(_raw('{"items": [{"id": "a", "parts": [{"n": 1.5}, {"n": 2}], "big": 10.5}, {"id": "b", "big": 1}]}'))

    answer = await collect(endpoint, items="items[?big > `10`]", quantity="sum(parts[].n)")

    assert [str(sample.qty) for sample in answer.samples] == ["3.5"]


async def test_factor_and_mutate_are_those_of_every_source(endpoint: Endpoint) -> None:
    endpoint.says({"items": [{"id": "a", "qty": 1048576.5}]})
    text = "metrics: {cpu: {unit: MiB, groupby: [id], factor: 1/1048576, mutate: CEIL}}"

    answer = await collect(endpoint, text)

    assert answer.samples == [Sample(0, T, END, Decimal(2))]


@pytest.mark.parametrize(
    ("value", "shown", "reason"),
    [
        ("NaN", "NaN", "its value is NaN: it must be a finite number"),
        ("-Infinity", "-Infinity", "its value is -Infinity: it must be a finite number"),
        ('"Infinity"', "Infinity", "its value is Infinity: it must be a finite number"),
        ('"7 GiB"', "7 GiB", "its value is '7 GiB', not a number"),
        ('""', "a text", "its value is '', not a number"),
        ("true", "a boolean", "its value is a boolean, not a number"),
        ("null", "null", "its value is null, not a number"),
        ("[1]", "a list", "its value is a list, not a number"),
        ("1e400", "1e400", "its value 1e400 "),
    ],
)
async def test_a_value_that_is_no_number_is_quarantined(
    endpoint: Endpoint, value: str, shown: str, reason: str
) -> None:
    endpoint.says(_raw(f'{{"items": [{{"id": "a", "qty": {value}}}, {{"id": "b", "qty": 1}}]}}'))

    answer = await collect(endpoint)

    (item,) = answer.quarantined
    assert (item.value, item.groupby, item.metadata) == (shown, {"id": "a", "project_id": "p1"}, {"flavor": ""})
    assert item.reason.startswith(reason)
    assert answer.series == [Series({"id": "b", "project_id": "p1"}, {"flavor": ""})]
    assert answer.covers == [HOUR]


async def test_labels_come_from_expressions_or_from_members_of_their_name(endpoint: Endpoint) -> None:
    item = {"server": {"id": 7, "up": True}, "flavor.name": "m1", "load": 0.50, "none": None, "qty": 1, "tenant": 7}
    endpoint.says({"items": [item]})
    text = "metrics: {cpu: {unit: h, groupby: [id, up, none, load, big], metadata: [flavor.name, lost]}}"

    labels = {"id": "server.id", "up": "server.up", "project_id": "tenant", "big": "`18446744073709551616`"}
    answer = await collect(endpoint, text, labels=labels, scope_id="7")

    assert answer.series == [
        Series(
            {"id": 7, "up": True, "none": "", "load": "0.5", "big": "18446744073709551616", "project_id": "7"},
            {"flavor.name": "m1", "lost": ""},
        )
    ]


async def test_a_label_that_is_no_value_quarantines_its_item(endpoint: Endpoint) -> None:
    endpoint.says({"items": [{"id": ["a"], "qty": 1}]})

    answer = await collect(endpoint)

    assert answer.quarantined == [
        QuarantinedItem("1", "its label 'id' is a list", {"id": "", "project_id": "p1"}, {"flavor": ""})
    ]


async def test_items_of_one_resource_share_a_series(endpoint: Endpoint) -> None:
    endpoint.says({"items": [{"id": "a", "qty": 1}, {"id": "b", "qty": 2}, {"id": "a", "qty": 3}]})

    answer = await collect(endpoint)

    assert [(sample.series, sample.qty) for sample in answer.samples] == [(0, 1), (1, 2), (0, 3)]


async def test_csv_with_a_count_in_a_header(endpoint: Endpoint) -> None:
    endpoint.says(csv_reply("id,flavor,qty\na,m1,1.50\nb,,NaN\n", X_Total_Count="2"))

    answer = await collect(endpoint, format="csv", items="@", proof=RestProof(count="header:X-Total-Count"))

    assert [str(sample.qty) for sample in answer.samples] == ["1.50"]
    assert [item.value for item in answer.quarantined] == ["NaN"]
    assert (answer.covers, answer.proof) == ([HOUR], "proven")


async def test_an_expression_that_does_not_fit_the_answer_is_an_error(endpoint: Endpoint) -> None:
    endpoint.says({"items": [{"id": "a", "qty": "x"}]})

    for more in ({"quantity": "sum(qty)"}, {"items": "items[?qty > `1`].{a: abs(qty)}", "only": "abs(a)"}):
        if "only" in more:
            endpoint.says({"items": [{"qty": 2}], "k": 1})
        with pytest.raises(SourceError, match=r"cannot be applied to what the source answered|neither true nor false"):
            await collect(endpoint, **more)


async def test_a_large_answer_is_read_whole(endpoint: Endpoint) -> None:
    """Given 20 000 items of 100 scopes; then each scope has all of its own."""
    items = [{"id": f"vm-{number}", "qty": number, "project_id": f"p{number % 100}"} for number in range(20_000)]
    endpoint.says({"items": items})
    made = context(endpoint, url="/usage")
    source = Factory.build(made)
    try:
        found = await _collect_all(source, made.metrics, [f"p{number}" for number in range(100)])
    finally:
        await source.close()
    assert [len(one) for one in found] == [200] * 100
    assert sum(sum(one) for one in found) == sum(range(20_000))


# --- times


async def test_items_with_a_time_keep_it(endpoint: Endpoint) -> None:
    """Given a source that gives both ends of a range; then the item of the neighbour is passed over, and said so."""
    endpoint.says(
        {
            "items": [
                {"id": "a", "qty": 1, "at": "2026-01-01T00:00:00+00:00"},
                {"id": "a", "qty": 2, "at": "2026-01-01T01:59:59.9+01:00"},
                {"id": "a", "qty": 4, "at": "2026-01-01T01:00:00Z"},
                {"id": "a", "qty": 8, "at": "2025-12-31T23:59:59Z"},
                {"id": "a", "qty": 16, "at": "yesterday"},
                {"id": "a", "qty": 32},
                {"id": "a", "qty": 64, "at": "2026-01-01T00:00:00"},
            ]
        }
    )

    answer = await collect(endpoint, time="at")

    assert answer.samples == [Sample(0, T, T, Decimal(1)), Sample(0, END - 1, END - 1, Decimal(2))]
    assert [item.reason for item in answer.quarantined] == [
        "its time is 'yesterday', not of the form rfc3339",
        "its time is null",
        "its time is '2026-01-01T00:00:00', not of the form rfc3339",
    ]
    assert answer.note == "2 items of other periods were passed over"


async def test_items_may_have_a_length(endpoint: Endpoint) -> None:
    spans = [(T, T + 60), (T - 60, T), (END, END + 60), (T - 1, T + 1), (T + 5, T + 4), (T, END)]
    endpoint.says({"items": [{"id": "a", "qty": 1, "from": begin * 1000, "to": end * 1000} for begin, end in spans]})

    answer = await collect(endpoint, time="from", until="to", time_format="milliseconds")

    assert [(sample.begin, sample.end) for sample in answer.samples] == [(T, T + 60), (T, END)]
    assert [item.reason for item in answer.quarantined] == [
        f"its time, [{T - 1}, {T + 1}), is only in part in the period, and so would be its value",
        f"its time ends at {T + 4}, before it begins at {T + 5}",
    ]
    assert answer.note.startswith("2 items")


@pytest.mark.parametrize(
    ("value", "form", "seconds"),
    [
        ("2026-01-01T00:00:00Z", "rfc3339", T),
        ("2026-01-01T00:00:00.250+00:00", "rfc3339", T + 0.25),
        ("2026-01-01T00:00:00", "utc", T),
        (T, "seconds", T),
        (f"{T}.5", "seconds", T + 0.5),
        (T * 1000 + 500, "milliseconds", T + 0.5),
    ],
)
def test_times_have_several_forms(value: Any, form: Any, seconds: float) -> None:
    assert instant(value, form) == seconds


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2026-01-01T00:00:00Z", "utc"),
        ("2026-01-01T00:00:00", "rfc3339"),
        ("NaN", "seconds"),
        ("1e400", "milliseconds"),
        (-1, "seconds"),
        (T * 1000, "seconds"),
        ("0001-01-01T00:00:00+14:00", "rfc3339"),
        (True, "seconds"),
        ({}, "rfc3339"),
    ],
)
def test_what_is_no_time_is_refused(value: Any, form: Any) -> None:
    with pytest.raises(ValueError, match=r"is (a|an|'.*')"):
        instant(value, form)


# --- scopes and metrics


async def test_items_of_a_scope_that_was_not_asked_for_are_an_error(endpoint: Endpoint) -> None:
    """Given an endpoint that ignores what it is asked; then p1 does not pay for p2."""
    endpoint.says({"items": [{"id": "a", "qty": 1, "project_id": "p1"}, {"id": "b", "qty": 1, "project_id": "p2"}]})

    with pytest.raises(SourceError, match="scope 'p1' was asked for, and an item of scope 'p2' came"):
        await collect(endpoint)


async def _collect_all(source: Source, chosen: tuple[Metric, ...], scopes: list[str]) -> list[list[Decimal]]:
    session = source.session(HOUR, END + 300)
    answers = await asyncio.gather(*(session.collect(scope, metric) for metric in chosen for scope in scopes))
    return [[sample.qty for sample in answer.samples] for answer in answers]


async def test_without_a_scope_all_are_asked_for_at_once(endpoint: Endpoint) -> None:
    """Given an endpoint that gives all of an hour; then it is asked once, and each scope and metric has its share."""
    endpoint.says(
        {
            "total": 4,
            "items": [
                {"id": "a", "qty": 1, "project_id": "p1", "kind": "cpu"},
                {"id": "b", "qty": 2, "project_id": "p2", "kind": "cpu"},
                {"id": "c", "qty": 4, "project_id": "p1", "kind": "ram"},
                {"id": "d", "qty": 8, "project_id": "p2", "kind": "ram"},
            ],
        }
    )
    text = """metrics:
  cpu: {unit: h, groupby: [id], extra_args: {only: "kind == 'cpu'"}}
  ram: {unit: h, groupby: [id], extra_args: {only: "kind == 'ram'"}}
"""
    made = context(endpoint, text, url="/usage?from={begin}", proof=RestProof(count="total"))
    source = Factory.build(made)
    try:
        assert await _collect_all(source, made.metrics, ["p1", "p2", "p3"]) == [[1], [2], [], [4], [8], []]
        assert len(endpoint.asked) == 1
        await _collect_all(source, made.metrics, ["p1"])
        assert len(endpoint.asked) == 2  # another session
        endpoint.says({"total": 1, "items": [{"id": "a", "qty": 1, "kind": "cpu"}]})
        with pytest.raises(SourceError, match="an item does not name its scope: 'project_id' finds nothing in it"):
            await _collect_all(source, made.metrics, ["p1"])
    finally:
        await source.close()


async def test_a_metric_may_have_its_own_place_and_expressions(endpoint: Endpoint) -> None:
    endpoint.says({"servers": [{"id": "a", "hours": 3, "kind": "m1", "at": T}]})
    text = f"""metrics:
  cpu:
    unit: h
    groupby: [id]
    metadata: [flavor]
    extra_args:
      url: "{endpoint.url}/{{metric}}/{{scope}}"
      body: {{since: "{{begin:seconds}}"}}
      items: servers
      quantity: hours
      time: at
      labels: {{flavor: kind}}
"""
    answer = await collect(endpoint, text, method="POST", time_format="seconds")

    assert answer.samples == [Sample(0, T, T, Decimal(3))]
    assert answer.series[0].metadata == {"flavor": "m1"}
    assert (endpoint.asked[0].path, endpoint.asked[0].body) == ("/cpu/p1", b'{"since": 1767225600}')


def test_faults_of_extra_args_are_told_with_their_lines() -> None:
    with pytest.raises(DocumentError) as refused:
        metrics("""metrics:
  cpu:
    unit: h
    extra_args:
      url: ftp://h/{scop}
      items: a[
      body: ["{x}"]
      labels: [a]
      metod: GET
  ram: {unit: h, extra_args: {url: "https://h/{scop}", labels: {id: "("}}}
  ssd: {unit: h, extra_args: }
""")
    told = "\n".join(f"{problem.line}: {problem.message}" for problem in refused.value.problems)
    for part in (
        "5: expected a URL",
        "6: items is 'a['",
        "7: {x} is no placeholder",
        "8: expected a mapping from labels",
        "unknown key 'metod'",
        "10: {scop} is no placeholder",
        "10: labels.id is '('",
    ):
        assert part in told, told


@pytest.mark.parametrize(
    ("args", "more", "reason"),
    [
        ("{url: 'http://example.org/'}", {}, "url leads to another server than collect.rest.url"),
        ("{body: {}}", {}, "body belongs to collect.rest.method POST"),
        ("{until: a}", {}, "until needs time"),
    ],
)
async def test_extra_args_that_cannot_work_are_named(
    endpoint: Endpoint, args: str, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=f"extra_args of metric 'cpu': {reason}"):
        await collect(endpoint, f"metrics: {{cpu: {{unit: h, extra_args: {args}}}}}", **more)


# --- proofs


def _declared(begin: str, end: str) -> dict[str, Any]:
    return {"items": [{"id": "a", "qty": 1}], "from": begin, "to": end}


DECLARED = RestProof(begin="from", end="to")


@pytest.mark.parametrize(
    ("begin", "end", "covers", "note"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", [HOUR], ""),
        ("2025-12-01T00:00:00Z", "2026-02-01T00:00:00Z", [HOUR], ""),
        (
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T00:59:59.999Z",
            [Interval(T + 1, END - 1)],
            "the source declares 2026-01-01T00:00:01Z to 2026-01-01T00:59:59Z",
        ),
        ("2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z", [], "the source declares 2026-01-01T02:00:00Z to "),
    ],
)
async def test_a_declared_range_covers_what_it_names(
    endpoint: Endpoint, begin: str, end: str, covers: list[Interval], note: str
) -> None:
    endpoint.says(_declared(begin, end))

    answer = await collect(endpoint, proof=DECLARED)

    assert (answer.covers, answer.proof) == (covers, "proven")
    assert answer.note.startswith(note)
    assert bool(answer.note) == bool(note)
    assert len(answer.samples) == 1


async def test_pages_that_declare_different_ranges_cover_what_all_name(endpoint: Endpoint) -> None:
    endpoint.says(
        {**_declared("2026-01-01T00:00:00Z", "2026-01-01T00:50:00Z"), "next": "a"},
        {**_declared("2026-01-01T00:10:00Z", "2026-01-01T01:00:00Z"), "next": "b"},
        {"items": []},
    )

    answer = await collect(endpoint, proof=DECLARED, paging=RestPaging("token", next="next", parameter="t"))

    assert answer.covers == [Interval(T + 600, T + 3000)]


@pytest.mark.parametrize(
    ("mark", "covers", "note"),
    [
        (END, [HOUR], ""),
        (END + 9, [HOUR], ""),
        (T + 1800.9, [Interval(T, T + 1800)], "the source has everything until 2026-01-01T00:30:00Z"),
        (T - 5, [], "the source has everything until 2025-12-31T23:59:55Z"),
    ],
)
async def test_a_watermark_covers_what_is_before_it(
    endpoint: Endpoint, mark: float, covers: list[Interval], note: str
) -> None:
    endpoint.says({"items": [], "complete_until": mark})

    answer = await collect(endpoint, proof=RestProof(watermark="complete_until"), time_format="seconds")

    assert (answer.covers, answer.proof, answer.note) == (covers, "proven", note)


@pytest.mark.parametrize("count", [2, "2"])
async def test_a_count_that_is_right_covers_the_period(endpoint: Endpoint, count: Any) -> None:
    endpoint.says({"items": [{"id": "a", "qty": 1}, {"id": "b", "qty": 1}], "total": count})

    answer = await collect(endpoint, proof=RestProof(count="total"))

    assert (answer.covers, answer.proof) == ([HOUR], "proven")


async def test_a_count_of_zero_is_a_true_zero(endpoint: Endpoint) -> None:
    endpoint.says({"items": [], "total": 0})

    answer = await collect(endpoint, proof=RestProof(count="total"))

    assert (answer.covers, answer.proof, answer.samples) == ([HOUR], "proven", [])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"items": [{"qty": 1}], "total": 2}, r"has 1 of 2 items .collect\.rest\.proof\.count"),
        ({"items": [{"qty": 1}], "total": 0}, "has 1 of 0 items"),
        ({"items": []}, r"collect\.rest\.proof\.count finds nothing in the answer"),
        ({"items": [], "total": "none"}, "finds 'none', not a count"),
        ({"items": [], "total": 0.5}, r"finds '0\.5', not a count"),
        ({"items": [], "total": -1}, "finds '-1', not a count"),
        ({"items": [], "total": [0]}, "finds a list, not a count"),
    ],
)
async def test_a_count_that_is_wrong_is_no_answer(endpoint: Endpoint, answer: Any, reason: str) -> None:
    endpoint.says(answer)

    with pytest.raises(SourceError, match=reason):
        await collect(endpoint, proof=RestProof(count="total"))


async def test_a_count_that_changes_from_page_to_page_is_no_answer(endpoint: Endpoint) -> None:
    endpoint.says({"items": [{"qty": 1}], "total": 2, "next": "a"}, {"items": [{"qty": 1}], "total": 3})

    with pytest.raises(SourceError, match="changed from page to page"):
        await collect(endpoint, proof=RestProof(count="total"), paging=RestPaging("token", next="next", parameter="t"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"items": [], "to": "2026-01-01T01:00:00Z"}, r"collect\.rest\.proof\.begin finds nothing"),
        (_declared("2026-01-01", "2026-01-01T01:00:00Z"), "begin finds is '2026-01-01', not of the form"),
        (_declared("2026-01-01T00:00:00Z", "soon"), "the time that collect.rest.proof.end finds is 'soon'"),
    ],
)
async def test_a_declaration_that_cannot_be_read_is_no_answer(endpoint: Endpoint, answer: Any, reason: str) -> None:
    endpoint.says(answer)

    with pytest.raises(SourceError, match=reason):
        await collect(endpoint, proof=DECLARED)


async def test_of_several_proofs_all_have_to_hold(endpoint: Endpoint) -> None:
    proof = RestProof(begin="from", end="to", count="n", watermark="header:X-Until")
    said = {**_declared("2026-01-01T00:10:00Z", "2026-01-01T01:00:00Z"), "n": 1}
    endpoint.says(json_reply(said, X_Until="2026-01-01T00:30:00Z"))

    answer = await collect(endpoint, proof=proof)

    assert answer.covers == [Interval(T + 600, T + 1800)]
    assert answer.note == (
        "the source declares 2026-01-01T00:10:00Z to 2026-01-01T01:00:00Z, "
        "the source has everything until 2026-01-01T00:30:00Z"
    )


# --- the source as a whole, and the fetcher


async def test_check_says_what_is_weak_and_what_is_kept_too_short(endpoint: Endpoint, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("t")
    source = Factory.build(context(endpoint, insecure=True, auth=RestAuth(bearer=RestBearer(str(tmp_path / "token")))))
    assert await source.check(END, 7200) == [
        "collect.rest.retention is not set: for how long the source keeps usage is not known: see that it is 7200 s at "
        "least, and set it",
        "collect.rest.proof is not set: nothing proves that answers are complete, so all coverage is weak",
        "collect.rest.insecure is set: whoever answers is believed to be the server",
    ]
    assert await source.oldest(END) == 0
    source = Factory.build(context(endpoint, retention=7199, proof=DECLARED))
    assert await source.check(END, 7199) == [
        "collect.rest.retention is 7199 s: of an outage of the collector longer than 0.0 h a part is lost: keep at "
        "least a week more than wait and late horizon"
    ]
    assert await source.oldest(END) == END - 7199
    with pytest.raises(UnfitSourceError, match=r"collect\.rest\.retention is 7199 s, but periods .* up to 7200 s"):
        await source.check(END, 7200)


async def _fetch(endpoint: Endpoint, **more: Any) -> set[str]:
    settings = RestFetcherSettings(url=f"{endpoint.url}/projects?from={{begin}}&to={{end:seconds}}", **more)
    fetcher = fetcher_factory("rest")(SourceContext(CollectorSettings(rest_fetcher=settings), 3600))
    try:
        return await fetcher.fetch(END + 1800, END)
    finally:
        await fetcher.close()


async def test_scopes_come_from_all_pages(endpoint: Endpoint) -> None:
    endpoint.says({"p": [{"id": "a"}, {"id": 7}, {"id": ""}], "next": "x"}, {"p": [{"id": "a"}, {"id": "x" * 256}]})

    found = await _fetch(endpoint, scopes="p[].id", paging=RestPaging("token", next="next", parameter="t"))

    assert found == {"a", "7"}
    assert endpoint.asked[0].path == "/projects?from=2026-01-01T00%3A00%3A00Z&to=1767231000"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"p": [{"id": ["a"]}]}, r"collect\.rest_fetcher\.scopes finds a list among the ids"),
        ({}, r"collect\.rest_fetcher\.scopes finds null in the answer, not a list"),
        (json_reply({}, 500), "status 500"),
    ],
)
async def test_scopes_that_cannot_be_read_are_an_error(endpoint: Endpoint, answer: Any, reason: str) -> None:
    endpoint.says(answer)

    with pytest.raises(SourceError, match=reason):
        await _fetch(endpoint, scopes="p[].id")


def test_source_and_fetcher_are_found_by_name_and_refuse_to_be_without_url() -> None:
    made = SourceContext(CollectorSettings(source="rest"), 3600)
    assert source_factory("rest") is Factory
    with pytest.raises(SettingsError, match=r"collect\.rest\.url is missing"):
        RestSource(made)
    with pytest.raises(SettingsError, match=r"collect\.rest_fetcher\.url is missing"):
        fetcher_factory("rest")(made)
