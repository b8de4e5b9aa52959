"""Rules in a line each, for people who read a plan."""

from __future__ import annotations

import hashlib

from rater.model.document import instant_text
from rater.model.rules import MappingRule, ModuleSet, Script, Tiers, number_text

__all__ = ["date_parts", "describe_module", "describe_script", "describe_tiers", "description_parts"]


def date_parts(rule: MappingRule | Script) -> list[str]:
    """When a rule is valid."""
    dates = (("from", rule.start), ("until", rule.end))
    return [f"{word} {instant_text(instant)}" for word, instant in dates if instant is not None]


def description_parts(rule: MappingRule | Script) -> list[str]:
    """What somebody noted of a rule."""
    return [] if rule.description is None else [f"({rule.description})"]


def describe_script(script: Script) -> str:
    """A script in one line: its length and the begin of its checksum, the SHA-512 that CloudKitty shows."""
    lines = script.data.count("\n") + (not script.data.endswith("\n"))
    checksum = hashlib.sha512(script.data.encode()).hexdigest()[:12]
    parts = [
        f"{lines} line{'s' * (lines != 1)}, checksum {checksum}",
        *date_parts(script),
        *description_parts(script),
    ]
    return " ".join(parts)


def describe_tiers(tiers: Tiers) -> str:
    """Graduated prices: `0.09 up to 1000, 0.07 beyond by region`."""
    steps = [
        number_text(step.cost) + (" beyond" if step.up_to is None else f" up to {number_text(step.up_to)}")
        for step in tiers.steps
    ]
    return ", ".join(steps) + (f" by {', '.join(tiers.by)}" if tiers.by else "")


def describe_module(module: ModuleSet) -> str:
    """The state of a rating module."""
    return f"{'enabled' if module.enabled else 'disabled'}, priority {module.priority}"
