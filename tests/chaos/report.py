"""docs/reliability.md: the entry of one chaos run, written in place of the one that the same seed had before."""

from __future__ import annotations

import statistics
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.faults import TABLE
from tests.chaos.roles import ROOT
from tests.chaos.storm import Storm

if TYPE_CHECKING:
    from tests.chaos.run import Outcome

SECTION = "## Chaos on real parts"
ENTRY = "### Seed "


def write_report(path: Path, outcome: Outcome) -> None:
    """Puts the entry at the end of its section; the section and the file are made if they are missing."""
    text = path.read_text() if path.exists() else ""
    if SECTION not in text:
        text = f"{text.rstrip()}\n\n{SECTION}\n".lstrip()
    before, rest = text.split(SECTION, 1)
    inside, mark, after = rest.partition("\n## ")
    entries = inside.split(f"\n{ENTRY}")
    kept = [entry for entry in entries[1:] if entry.split(",", 1)[0].strip() != str(outcome.seed)]
    new = entry_of(outcome).removeprefix(ENTRY)
    body = f"\n{ENTRY}".join([entries[0].rstrip() + "\n", *(entry.rstrip() + "\n" for entry in [*kept, new])])
    path.write_text(before + SECTION + body + mark + after)


def entry_of(outcome: Outcome) -> str:
    """Heading, numbers and table as Markdown."""
    verdict, storm = outcome.verdict, outcome.storm
    found = "none." if not outcome.findings else "\n\n" + "\n".join(f"- {text}" for text in outcome.findings)
    sent = ", ".join(f"{count} {what}" for what, count in sorted(outcome.sent.items()))
    refused = ", ".join(f"{count} {what}" for what, count in sorted(outcome.refused.items())) or "nothing"
    command = f"make chaos MINUTES={outcome.minutes:g} SEED={outcome.seed}"
    return "\n".join(
        [
            f"{ENTRY}{outcome.seed}, {outcome.minutes:g} minutes",
            "",
            f"`{command}` at commit `{_commit()}`; {outcome.seconds / 60:.0f} minutes with start and end.",
            "",
            "| what | count |",
            "|---|---|",
            f"| faults injected | {sum(len(step.names) for step in storm.steps)} |",
            f"| processes ended by them | {outcome.ends} |",
            f"| frames compared | {verdict.frames} |",
            f"| lines compared | {verdict.lines} |",
            f"| revisions | {verdict.revisions} |",
            f"| repeated messages | {verdict.repeated_messages} |",
            f"| wrong | {len(verdict.wrong)} |",
            f"| conflicting | {len(verdict.conflicting)} |",
            f"| holes in revisions | {len(verdict.holes_in_revisions)} |",
            f"| wrong or missing alerts | {len(verdict.alerts)} |",
            f"| versions of the rules | {outcome.rule_versions} |",
            f"| workers' restore and replay, p50 / max | {_spread(_of_workers(storm))} |",
            f"| until the sinks had caught up too, p50 / max | {_spread(_of_sinks(storm))} |",
            "",
            f"Pushed: {sent}.",
            f"Refused, as it must be: {refused}. Disk full: {outcome.disk}.",
            f"Commits of sinks that went back, which repeats inserts: {outcome.sinks_back}. Findings: {found}",
            "",
            "| fault | injected | nobody there | recovery p50 / max |",
            "|---|---|---|---|",
            *_rows(storm),
            "",
        ]
    )


def _rows(storm: Storm) -> list[str]:
    counts = Counter(name for step in storm.steps for name in step.names)
    missed = Counter(storm.missed)
    rows = []
    for name in dict.fromkeys(make().name for make in TABLE):
        took = [step.workers for step in storm.steps if name in step.names and step.workers is not None]
        if counts[name] or missed[name]:
            rows.append(f"| {name} | {counts[name]} | {missed[name] or ''} | {_spread(took)} |")
    return rows


def _of_workers(storm: Storm) -> list[float]:
    return [step.workers for step in storm.steps if step.workers is not None]


def _of_sinks(storm: Storm) -> list[float]:
    return [step.sinks for step in storm.steps if step.sinks is not None]


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s / {max(seconds):.1f} s" if seconds else ""


def _commit() -> str:
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


__all__ = ["entry_of", "write_report"]
