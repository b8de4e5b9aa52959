"""For any documents: a plan leads exactly there, and export and apply are inverse to each other."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.model.document import DocumentError, Problem, dump, load, plain
from rater.model.rules import RuleEvent, RuleType
from rater.rating import (
    Applied,
    DocumentField,
    DocumentMapping,
    DocumentScript,
    DocumentService,
    DocumentStep,
    DocumentThreshold,
    DocumentTiers,
    HashmapSection,
    ModuleState,
    PyscriptsSection,
    RuleBook,
    RuleDocument,
    document_of,
    export,
    fold,
    parse,
    plan,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
words = st.one_of(st.sampled_from(["m1", "no", "1", "1.0", "~", "a: b", "<<", "2026-01-01", " ", "=", "größe"]), texts)
costs = st.decimals(min_value=-(10**11), max_value=10**12 - 1, places=28).map(Decimal.normalize)
levels = st.one_of(st.integers(-3, 3).map(Decimal), st.decimals(min_value=-100, max_value=100, places=8))
groups = st.sampled_from([None, "_DEFAULT_", "g", "h"])
tenants = st.one_of(st.none(), st.sampled_from(["A", "B"]), texts)
instants = st.integers(0, 253_402_300_799)
kinds = st.sampled_from(RuleType)


@st.composite
def mappings(draw: st.DrawFn, *, of_field: bool) -> DocumentMapping:
    start, end = sorted([draw(instants), draw(instants)])
    return DocumentMapping(
        draw(costs),
        draw(words) if of_field else "",
        draw(kinds),
        draw(groups),
        draw(tenants),
        draw(st.sampled_from([None, start])),
        draw(st.sampled_from([None, end])),
        None,
        draw(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))),
    )


def mapping_lists(*, of_field: bool) -> st.SearchStrategy[tuple[DocumentMapping, ...]]:
    """Mappings that are not valid for the same thing at the same time, as far as that is easily had."""
    return st.lists(
        mappings(of_field=of_field),
        max_size=4,
        unique_by=lambda rule: (rule.value, rule.tenant_id, rule.group or "_DEFAULT_"),
    ).map(tuple)


threshold_lists = st.lists(
    st.builds(DocumentThreshold, levels, costs, kinds, groups, tenants),
    max_size=4,
    unique_by=lambda rule: (rule.level, rule.tenant_id, rule.group or "_DEFAULT_"),
).map(tuple)

fields = st.builds(
    DocumentField,
    st.sampled_from(["flavor", "ram", "az", "a.b c"]),
    mapping_lists(of_field=True),
    threshold_lists,
)
bounds = st.decimals(min_value=Decimal("1e-8"), max_value=1000, places=8)


@st.composite
def tiers(draw: st.DrawFn) -> DocumentTiers:
    rising = [*sorted(draw(st.sets(bounds, max_size=3))), None]
    return DocumentTiers(
        tuple(DocumentStep(draw(costs), bound) for bound in rising),
        tuple(draw(st.lists(words, max_size=2, unique=True))),
    )


names_of_services = st.sampled_from(["instance", "volume", "no"])
services = st.one_of(
    st.builds(
        DocumentService,
        names_of_services,
        mapping_lists(of_field=False),
        threshold_lists,
        st.lists(fields, max_size=4, unique_by=lambda field: field.name).map(tuple),
    ),
    st.builds(DocumentService, names_of_services, tiers=tiers()),
)
lines = st.sampled_from(["x = 1", "  y", "\tz", "", " ", "# größe", "- a: |", "a\r", "…\u2028", "x = 'a' "]) | texts


@st.composite
def scripts(draw: st.DrawFn) -> DocumentScript:
    start, end = sorted([draw(instants), draw(instants)])
    return DocumentScript(
        draw(words),
        "\n".join(draw(st.lists(lines, max_size=5))),
        draw(st.sampled_from([None, start])),
        draw(st.sampled_from([None, end])),
        draw(st.one_of(st.none(), words)),
    )


modules = st.builds(ModuleState, st.booleans(), st.integers(1, 9))
documents = st.builds(
    lambda hashmap, pyscripts, noop, found, scripts: RuleDocument(
        {"hashmap": hashmap, "pyscripts": pyscripts} | ({} if noop == ModuleState() else {"noop": noop}),
        HashmapSection(_groups_of(found), found),
        PyscriptsSection(scripts),
    ),
    modules,
    modules,
    modules,
    st.lists(services, max_size=3, unique_by=lambda service: service.name).map(tuple),
    st.lists(scripts(), max_size=3, unique_by=lambda script: script.name).map(tuple),
)


def _groups_of(found: tuple[DocumentService, ...]) -> tuple[str, ...]:
    parents = [parent for service in found for parent in (service, *service.fields)]
    rules = [rule for parent in parents for rule in (*parent.mappings, *parent.thresholds)]
    return tuple(sorted({rule.group for rule in rules if rule.group is not None}))


def said_by(document: RuleDocument) -> tuple[object, ...]:
    """A document without the order of services and groups, which means nothing."""
    found = sorted(document.hashmap.services, key=lambda service: service.name)
    return document.modules, sorted(document.hashmap.groups), found, document.pyscripts


def read(text: str) -> RuleDocument:
    """A document whose scripts are any text."""
    return parse(text, "export.yaml", check=lambda name, data: [])


@settings(max_examples=60, deadline=None)
@given(st.lists(documents, min_size=1, max_size=3))
def test_plans_lead_from_any_document_to_any_other(path: list[RuleDocument]) -> None:
    book = RuleBook.empty()
    for document in path:
        diff = plan(book, document)
        if diff:
            event = diff.event("me", "why", 1)
            assert msgspec.json.decode(msgspec.json.encode(event), type=RuleEvent) == event
            book, outcome = book.apply(event)
            assert outcome == Applied(diff.expected_version + 1)
        assert said_by(document_of(book)) == said_by(document)
        assert not plan(book, document)


@settings(max_examples=60, deadline=None)
@given(documents)
def test_export_is_read_back_as_the_same_document(document: RuleDocument) -> None:
    diff = plan(RuleBook.empty(), document)
    book = RuleBook.empty().apply(diff.event("me", "why", 1))[0] if diff else RuleBook.empty()

    text = export(book)

    assert read(text) == document_of(book)
    assert not plan(book, read(text))


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(2500, 6000))
def test_a_plan_in_many_events_leads_to_the_same_book(document: RuleDocument, max_bytes: int) -> None:
    diff = plan(RuleBook.empty(), document)

    book, outcomes = fold(RuleBook.empty(), diff.events("me", "why", 1, max_bytes))

    assert all(isinstance(outcome, Applied) for outcome in outcomes)
    assert said_by(document_of(book)) == said_by(document)


scalars = st.one_of(
    words,
    st.lists(lines).map("\n".join),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
)
trees = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(words, inner)), max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(trees)
def test_what_is_dumped_or_written_as_json_is_loaded_again(value: object) -> None:
    assert plain(load(dump(value), "f.yaml")) == value
    assert plain(load(msgspec.json.encode(value).decode(), "f.json")) == value


noise = st.text(st.sampled_from("ab:&*<!-? \n\t[]{},'\"#|>%@`0.\\~é\x00\ud800"), max_size=60)


@settings(max_examples=200, deadline=None)
@given(noise, st.sampled_from(["f.yaml", "f.json"]))
def test_any_text_is_read_or_refused_with_a_line(text: str, name: str) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        load(text, name)
    except DocumentError as fault:
        problems = fault.problems
    assert all(problem.line >= 1 for problem in problems)
