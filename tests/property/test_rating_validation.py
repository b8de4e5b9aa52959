"""Whatever is asked of the API: what it accepts applies, and the book it leads to can be said by a document."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import count
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.rating import Applied, RuleBook, document_of, export, parse, plan
from rater.rating.inputs import MappingInput, ScriptInput, ThresholdInput
from rater.rating.validation import (
    Answer,
    create_field,
    create_group,
    create_mapping,
    create_script,
    create_service,
    create_threshold,
    delete_field,
    delete_group,
    delete_mapping,
    delete_script,
    delete_service,
    delete_threshold,
    update_mapping,
    update_script,
    update_threshold,
)
from tests.unit.rating.builders import event, uid

Ask: TypeAlias = Callable[[RuleBook, str, int], Answer]  # book, a new id, now

names = st.sampled_from(["a", "b", "_DEFAULT_"])
costs = st.one_of(st.sampled_from(["1", "0.10", "1e-28", -0.1, 0.98]), st.decimals(-5, 5, places=3))
picks = st.integers(0, 5)
moments = st.none() | st.integers(0, 12)


def pick(things: object, number: int) -> str:
    """The id of one of the things of a book, or one that is not there."""
    ids = list(things)  # type: ignore[call-overload] # any mapping by id
    return ids[number % len(ids)] if ids else uid(10**9)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    number, group, parent = draw(picks), draw(st.none() | picks), draw(picks)
    name, text, cost = draw(names), draw(st.sampled_from(["v", "w"])), draw(costs)
    start, end, tenant = draw(moments), draw(moments), draw(st.sampled_from([None, "A"]))
    of_service, flag = draw(st.booleans()), draw(st.booleans())
    level = draw(st.integers(0, 2).map(Decimal))

    def mapping(book: RuleBook) -> MappingInput:
        return MappingInput(
            cost=cost,
            value=None if of_service else text,
            service_id=pick(book.services, parent) if of_service else None,
            field_id=None if of_service else pick(book.fields, parent),
            group_id=None if group is None else pick(book.groups, group),
            tenant_id=tenant,
            start=start,
            end=end,
        )

    def threshold(book: RuleBook) -> ThresholdInput:
        sent = mapping(book)
        return ThresholdInput(
            level=level,
            cost=cost,
            service_id=sent.service_id,
            field_id=sent.field_id,
            group_id=sent.group_id,
            tenant_id=tenant,
        )

    script = ScriptInput(name=name, data=f"x = {parent}", start=start, end=end)
    kinds: list[Ask] = [
        lambda book, new, now: create_mapping(book, mapping(book), new, now, force=flag),
        lambda book, new, now: create_threshold(book, threshold(book), new),
        lambda book, new, now: update_mapping(book, pick(book.mappings, number), mapping(book), now),
        lambda book, new, now: update_mapping(
            book, pick(book.mappings, number), MappingInput(start=start, end=end), now
        ),
        lambda book, new, now: update_threshold(book, pick(book.thresholds, number), threshold(book)),
        lambda book, new, now: create_service(book, name, new),
        lambda book, new, now: create_field(book, pick(book.services, parent), name, new),
        lambda book, new, now: create_group(book, name, new),
        lambda book, new, now: create_script(book, script, new, now, force=flag),
        lambda book, new, now: update_script(book, pick(book.scripts, number), script, now),
        lambda book, new, now: delete_group(book, pick(book.groups, number), recursive=flag),
        lambda book, new, now: delete_mapping(book, pick(book.mappings, number)),
        lambda book, new, now: delete_threshold(book, pick(book.thresholds, number)),
        lambda book, new, now: delete_script(book, pick(book.scripts, number)),
        lambda book, new, now: delete_field(book, pick(book.fields, number)),
        lambda book, new, now: delete_service(book, pick(book.services, number)),
    ]
    weights = [*[0] * 8, *[1] * 5, *[2] * 3, *range(3, len(kinds))]
    return kinds[draw(st.sampled_from(weights))]


@settings(deadline=None)
@given(st.lists(asks(), min_size=5, max_size=40))
def test_what_is_accepted_applies_and_can_be_exported(asked: list[Ask]) -> None:
    ids = (uid(number) for number in count(1))
    book = RuleBook.empty()
    for name in ("a", "b"):
        for answer in (create_service(book, name, next(ids)), create_group(book, name, next(ids))):
            assert isinstance(answer, tuple)
            book, _ = book.apply(event(book.version, *answer))
        answer = create_field(book, pick(book.services, 0), name, next(ids))
        assert isinstance(answer, tuple)
        book, _ = book.apply(event(book.version, *answer))

    for now, ask in enumerate(asked):
        answer = ask(book, next(ids), now // 4)
        if isinstance(answer, tuple) and answer:
            book, outcome = book.apply(event(book.version, *answer))
            assert isinstance(outcome, Applied), outcome

    document = document_of(book)
    assert parse(export(book), "export.yaml") == document
    assert not plan(book, document)
