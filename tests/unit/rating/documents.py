"""Small rule documents for tests, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from rater.model.document import DocumentError
from rater.rating import ScriptFileError, parse

COMPLETE = """\
modules:
  hashmap: {enabled: true, priority: 3}
hashmap:
  groups: [instance_uptime, storage]
  services:
    - name: instance
      mappings:
        - {cost: "0.1", type: flat}
      thresholds:
        - {level: "50", cost: "0.98", type: rate, group: volume}
      tiers: {}
      fields:
        - name: flavor_id
          mappings:
            - {value: m1.tiny, cost: 0.0100, type: flat, group: instance_uptime,
               tenant_id: null, start: 2026-01-01T00:00:00Z, end: null, name: tiny-2026, description: null}
            - {value: 8, cost: 1e3, type: null, description: ''}
          thresholds:
            - {level: 64, cost: "0.7", type: flat, group: null, tenant_id: projA}
    - name: storage
    - name: traffic
      tiers: {by: [region, 1], steps: [{up_to: "1000", cost: 0.090}, {up_to: 1e4, cost: "0.08"}, {cost: 0.07}]}
pyscripts:
  scripts:
    - name: rebate
      data: |
        for points in data['usage'].values():
            pass
    - {name: other, file: scripts/rebate2.py, start: 2026-01-01T00:00:00Z, end: 2026-01-01T00:00:00Z, description: two}
"""


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
