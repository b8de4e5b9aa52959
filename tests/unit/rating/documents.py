"""Small rule documents for tests, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from rater.model.document import DocumentError
from rater.rating import ScriptFileError, parse


def faults_of(text: str, **options: Any) -> list[str]:
    """The faults of a document, which must have one; each with line and path."""
    with pytest.raises(DocumentError) as caught:
        parse(text, "r.yaml", **options)
    return str(caught.value).splitlines()


def service(rules: str) -> str:
    """A document with one service `s`; `rules` are further keys of it, one a line, from line 4."""
    lines = "".join(f"    {line}\n" for line in rules.splitlines())
    return f"hashmap:\n  services:\n  - name: s\n{lines}"


def field(rules: str) -> str:
    """A document with one field `f` in a service; its mappings begin on line 7."""
    lines = "".join(f"  {line}\n" for line in rules.splitlines())
    return service(f"fields:\n- name: f\n{lines}")


def script(keys: str) -> str:
    """A document with one script; `keys` of it, one a line, from line 3."""
    first, *others = keys.splitlines()
    return "".join([f"pyscripts:\n  scripts:\n  - {first}\n", *(f"    {line}\n" for line in others)])


def read_two_files(name: str) -> str:
    """The content of two files: one that is fine and one that does not compile."""
    files = {
        "scripts/rebate2.py": "pass  # scripts/rebate2.py\r\n",
        "broken.py": "x = 1\nif x\n",
        "huge.py": "#" * 1_000_001,
    }
    if name not in files:
        raise ScriptFileError(f"{name} cannot be read: No such file or directory")
    return files[name]
