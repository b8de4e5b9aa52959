"""Results as tables, JSON and CSV; progress where nobody watches."""

from __future__ import annotations

import json

import pytest

from rater.cli import output
from rater.cli.output import Column, Moment, instant, progress, rows

COLUMNS = [
    Column("scope", "Scope"),
    Column("at", "At"),
    Column("price", "Price", right=True),
    Column("id", "Id", wide=False),
]
FOUND = [("a,b", Moment(1_767_690_600), "0.10", None), ("ü", Moment(0), "12", "x")]


def test_tables_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows("table", COLUMNS, FOUND, "title") == 2
    told = capsys.readouterr()
    assert "title" in told.out
    assert "2026-01-06 09:10" in told.out
    assert "Id" not in told.out
    assert told.err == ""


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows("json", COLUMNS, FOUND) == 2
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == [
        {"scope": "a,b", "at": "2026-01-06T09:10:00Z", "price": "0.10", "id": None},
        {"scope": "ü", "at": "1970-01-01T00:00:00Z", "price": "12", "id": "x"},
    ]


def test_csv_has_a_head_and_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    rows("csv", COLUMNS, FOUND)
    assert capsys.readouterr().out.splitlines() == [
        "scope,at,price,id",
        '"a,b",2026-01-06T09:10:00Z,0.10,',
        "ü,1970-01-01T00:00:00Z,12,x",
    ]


def test_no_rows_make_no_table_but_a_head_of_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert [rows(form, COLUMNS, []) for form in ("table", "json", "csv")] == [0, 0, 0]
    assert capsys.readouterr().out.splitlines() == ["scope,at,price,id"]


def test_names_from_elsewhere_neither_colour_nor_move_anything(capsys: pytest.CaptureFixture[str]) -> None:
    rows("table", COLUMNS[:1], [("[red]a\x1b[2J\nb",)])
    assert "[red]a [2J b" in capsys.readouterr().out


def test_no_figure_or_name_is_shortened_however_wide_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    # given more columns than a line into a pipe has room for, one of which may be broken into lines
    figures = [f"{number}.{'1234567890' * 3}" for number in range(8)]
    columns = [
        Column("scope", "Scope"),
        Column("why", "Why", prose=True),
        *(Column(str(n), f"Figure {n}", right=True) for n in range(8)),
    ]
    # when
    rows("table", columns, [("a scope of two words", "because of " * 30, *figures)])
    # then each is whole, on one line
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if figures[0] in line]
    assert line.split()[-8:] == figures
    assert line.lstrip().startswith("a scope of two words ")
    assert "…" not in out


def test_moments_show_seconds_only_where_there_are_some() -> None:
    assert (instant(1_767_690_600), instant(1_767_690_601)) == ("2026-01-06 09:10", "2026-01-06 09:10:01")


def test_progress_into_a_pipe_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "PLAIN_SECONDS", 0.0)
    with progress("replay", "samples") as advance:
        advance(1000, 100_400)
        advance(5, 0)
    assert capsys.readouterr().err.splitlines() == ["replay: 1 000 of 100 400 samples", "replay: 5 samples"]
