"""The statements of docs/sql.md, on a small world whose answers can be worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rater.config import load_config
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import AlertKind, FrameStatus
from rater.store import Batch, Store, StoreSettings, migrate, write
from tests.unit.store.builders import (
    HOUR,
    JANUARY,
    a_frame,
    a_gap_alert,
    a_hit_frame,
    a_line,
    a_rework_alert,
    store_frames,
    store_posts,
)

PAGE = (Path(__file__).parents[3] / "docs" / "sql.md").read_text()
SECTIONS = re.split(r"^##+ (?:\d+\. )?(.*)$", PAGE, flags=re.MULTILINE)
QUESTIONS = {
    title: block
    for title, text in zip(SECTIONS[1::2], SECTIONS[2::2], strict=True)
    for block in re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
}
FEBRUARY = JANUARY + 31 * 24 * HOUR
FIRST, SECOND = datetime(2026, 1, 1, 0), datetime(2026, 1, 1, 1)  # noqa: DTZ001  as ClickHouse's client answers
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "What does each tenant cost, by month?": [
        (date(2026, 1, 1), "alpha", Decimal("15.5")),
        (date(2026, 1, 1), "beta", Decimal("0.5")),
        (date(2026, 2, 1), "alpha", Decimal(1)),
        (date(2026, 2, 1), "beta", Decimal(3)),
    ],
    "Whose cost grew most?": [
        ("beta", Decimal("0.5"), Decimal(3), Decimal("2.5")),
        ("alpha", Decimal("15.5"), Decimal(1), Decimal("-14.5")),
    ],
    "What was used and costs nothing?": [("volume", "GiB", 1, Decimal(4), SECOND)],
    "What is missing?": [
        ("alpha", "instance", "prometheus", FIRST.replace(minute=1), FIRST.replace(minute=3), 120)
    ],
    "Is a month complete?": [("beta", 0, 1, 0), ("alpha", 3, 0, 1)],
    "What does one resource cost?": [
        (date(2026, 1, 1), "instance", Decimal(2), Decimal("7.5")),
        (date(2026, 1, 1), "support", Decimal(1), Decimal(5)),
    ],
    "What does each value of a label cost?": [("m1", 3, Decimal(8)), ("m2", 1, Decimal(3))],
    "What did a day look like, by hour?": [
        (FIRST, Decimal(12)),
        (SECOND, Decimal("0.5")),
        (FIRST.replace(hour=3), Decimal(3)),
    ],
    "Which periods were closed late, or rated more than once?": [
        ("alpha", FIRST, 1, 0, "complete", 60),
        ("beta", FIRST, 0, 0, "grace", 60),
    ],
    "What did a change of the rules do to closed periods?": [
        ("r1", "ann", "new prices", "instance", 1, Decimal("1.5"))
    ],
    "Under which rules was something priced?": [(3, 5, Decimal(11))],
    "Who posted lines with a price?": [("ann", "alpha", "support", 1, Decimal(5))],
    "FOCUS": [
        ("alpha", "Compute", Decimal("10.5"), "EUR"),
        ("alpha", "Other", Decimal(5), "EUR"),
        ("alpha", "Storage", Decimal(0), "EUR"),
        ("beta", "Compute", Decimal("0.5"), "EUR"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """January of two scopes: a revision, an unpriced volume, an hour without a frame, a gap, a rework and a post."""
    config = tmp_path_factory.mktemp("page") / "rater.yaml"
    [settings] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    config.write_text(settings)
    focus = load_config(config, {}).settings.store.focus
    with Store(StoreSettings("chdb://:memory:", focus=focus)) as store:
        migrate(store)
        other = msgspec.structs.replace(a_line(2, price="3"), metadata={"flavor": "m2"})
        store_frames(
            store,
            a_frame(lines=[a_line(1, price="99")]),
            a_frame(revision=1, lines=[a_line(1, price="7")]),
            a_frame(period_begin=JANUARY + HOUR, lines=[a_line(1), a_line(9, "volume", qty="4", price="0")]),
            a_frame(period_begin=JANUARY + 3 * HOUR, lines=[other]),
            a_hit_frame("beta"),
            a_frame(period_begin=FEBRUARY, lines=[a_line(1, price="1")]),
            a_frame("beta", FEBRUARY, lines=[a_line(1, price="3")]),
            a_frame("beta", FEBRUARY + HOUR, status=FrameStatus.MISSING),
        )
        batch = Batch()
        for gap in (1, 2, 3, 4):
            batch.add_alert(a_gap_alert(True, 0, gap=gap))
        batch.add_alert(a_gap_alert(False, 1, gap=3))
        batch.add_alert(a_gap_alert(True, -1, gap=4, kind=AlertKind.GAP_ACCEPTED, reason="lost", author="kim"))
        batch.add_alert(a_rework_alert())
        write(store, batch)
        line = PostedLine(0, "support", JANUARY, JANUARY + HOUR, Decimal(1), Decimal(5), "hour", {"id": "r1"})
        store_posts(store, PostedLines("alpha", "0a" * 16, [line], author="ann"))
        yield store


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_its_right_answer(store: Store, question: str) -> None:
    assert store.rows(QUESTIONS[question]) == ANSWERS[question]


def test_every_question_of_the_page_has_an_answer_here() -> None:
    assert list(QUESTIONS) == list(ANSWERS)


def test_every_view_is_on_the_page(store: Store) -> None:
    views = {
        name for [name] in store.rows("SELECT name FROM system.tables WHERE database = 'rater' AND engine = 'View'")
    }
    assert {name for name in views if f"`{name}`" not in PAGE} == set()
