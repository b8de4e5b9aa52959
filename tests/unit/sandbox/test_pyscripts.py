"""What can be said of a script without running it."""

from __future__ import annotations

import pytest

from rater.model.rules import MAX_SCRIPT
from rater.rating.pyscripts import check_script, imported_modules


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "x = 1 is 1", "'\\d'", "# -*- coding: latin-1 -*-\nx = 'ä'", "import nowhere"]
)
def test_a_script_that_compiles_has_no_faults(text: str) -> None:
    assert check_script("good", text) == []


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\nfor", 2, "invalid syntax"),
        ("x = 1\nreturn x", 2, "'return' outside function"),
        ("def f():\n    nonlocal x", 2, "no binding for nonlocal 'x' found"),
        ("x = 1\n\ny = '\0'", 3, "holds a null character"),
        ("x" * (MAX_SCRIPT + 1), 0, f"has {MAX_SCRIPT + 1} characters: at most {MAX_SCRIPT} are taken"),
        ("x = " + "-" * 200_000 + "1", 0, "is nested too deeply"),
        ("x = '\ud800'", 0, "cannot be compiled: 'utf-8' codec can't encode character"),
    ],
)
def test_a_script_that_does_not_compile_names_its_line(text: str, line: int, message: str) -> None:
    (fault,) = check_script("bad", text)

    assert fault[0] == line
    assert fault[1].startswith(message)


def test_imports_are_found_wherever_they_stand() -> None:
    text = (
        "import json, os.path as p\nfrom decimal import Decimal, getcontext\nfrom xml import *\nfrom . import x\n"
        "def f():\n    import re\n    if True: from a.b import c\n"
        "__import__('d')\nimportlib.import_module('e.f')\nimport_module('g')\n"
        "__import__(name)\n__import__()\nother('h')\nx.other('i')\nimport_module(7)\n"
    )

    assert imported_modules(text) == [
        "a.b",
        "a.b.c",
        "d",
        "decimal",
        "decimal.Decimal",
        "decimal.getcontext",
        "e.f",
        "g",
        "json",
        "os.path",
        "re",
        "xml",
    ]


@pytest.mark.parametrize("text", ["import", "x\0", "-" * 200_000 + "1", "'\ud800'"])
def test_what_does_not_compile_imports_nothing(text: str) -> None:
    assert imported_modules(text) == []
