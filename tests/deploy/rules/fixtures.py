"""From what Prometheus saw to what `promtool test rules` reads: the series that the rules name, as text."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

STEP = 30
"""Seconds between two scrapes of rater in a recording."""
HERE = Path(__file__).resolve().parent
RULES = HERE.parents[2] / "deploy" / "helm" / "rater" / "files" / "rules.yaml"
NAME = re.compile(r"\brater_\w+")
COMMAND = "python -m tests.deploy.rules.record {kind} --seconds {seconds} --raw FILE, then --from FILE"


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def named(rule: dict[str, Any]) -> set[str]:
    """The metrics that a rule reads."""
    return set(NAME.findall(rule["expr"]))


def write_fixture(found: dict[str, Any]) -> Path:
    """Writes what `record` gave as KIND.yaml beside this file."""
    wanted = set().union(*map(named, rules()))
    begin, seconds = found["begin"], found["events"][-1]["at"]
    series = {
        _selector(one["metric"]): _values(one, begin, seconds // STEP)
        for one in found["series"]
        if one["metric"]["__name__"] in wanted
    }
    head = f"# Written by {COMMAND.format(kind=found['kind'], seconds=seconds)}.\n# A period lasts 60 s there.\n"
    happened = "".join(f"#   {event['at']:>5} s  {event['what']}\n" for event in found["events"])
    lines = [f"- series: '{name}'\n  values: '{values}'\n" for name, values in sorted(series.items())]
    file = HERE / f"{found['kind']}.yaml"
    file.write_text(f"{head}{happened}interval: {STEP}s\ninput_series:\n{''.join(lines)}", encoding="utf-8")
    return file


def _selector(labels: dict[str, str]) -> str:
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != "__name__")
    return f"{labels['__name__']}{{{inner}}}"


def _values(one: dict[str, Any], begin: int, last: int) -> str:
    """The samples in promtool's notation. Instants count from the begin of the recording, as its clock does."""
    is_instant = one["metric"]["__name__"].endswith("_timestamp_seconds")
    seen = {(int(at) - begin) // STEP: float(value) for at, value in one["values"]}
    texts: list[str] = []
    was_there = False
    for step in range(last + 1):
        value = seen.get(step)
        if value is None:
            texts.append("stale" if was_there else "_")  # a target that is gone ends its series at once
        else:
            texts.append(f"{value - begin if is_instant and value else value:.15g}")
        was_there = value is not None
    return " ".join(_run(text, len(list(same))) for text, same in groupby(texts))


def _run(text: str, count: int) -> str:
    if text == "stale" or (count == 1 and text != "_"):
        return " ".join([text] * count)
    return f"_x{count}" if text == "_" else f"{text}+0x{count - 1}"
