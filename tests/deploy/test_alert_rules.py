"""The alert rules fire in recordings of real runs in the minute they should, and never in a healthy one."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import click
import pytest
import yaml

from rater.cli.app import cli
from tests.deploy.rules.fixtures import HERE, RULES, rules
from tests.integration.prometheus.server import program

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
SECTIONS = ["First look", "Causes", "Repair", "Verify", "Escalate"]
FIRES = (
    # of broken.yaml: labels, first and last minute. At 4:00 a record and a script are spoiled, at 6:00 the collector
    # ends, at 17:00 sink and Kafka, at 30:00 the recording.
    ({"alertname": "RaterRecordsRejected", "reason": "unreadable"}, 5, 19),
    ({"alertname": "RaterRatingFails"}, 10, 30),
    ({"alertname": "RaterSourceSilent"}, 13, 30),
    ({"alertname": "RaterOpenGap"}, 13, 30),
    ({"alertname": "RaterNoMetrics", "role": "collector"}, 17, 30),
    ({"alertname": "RaterNoMetrics", "role": "sink"}, 28, 30),
    ({"alertname": "RaterCheckpointOld"}, 28, 30),
)


def promtool(*words: str | Path) -> str:
    done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alert_names() -> list[str]:
    return [rule["alert"] for rule in rules()]


def test_promtool_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("rule", rules(), ids=alert_names())
def test_every_rule_says_what_happened_and_where_its_page_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert "$value" in notes["description"] or "$labels" in notes["description"]
    page = RUNBOOKS / notes["runbook_url"].removeprefix("https://github.com/rater/rater/blob/main/docs/runbooks/")
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {rule['alert']}: ")
    assert "\n**For the bill.** " in text
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert f"[{rule['alert']}]({page.name})" in (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def test_there_is_no_page_without_a_rule() -> None:
    pages = {rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in rules()}

    assert {page.name for page in RUNBOOKS.iterdir()} == pages | {"README.md"}


def commands() -> list[tuple[str, str]]:
    found = []
    for page in sorted(RUNBOOKS.glob("*.md")):
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            found += [(page.name, line) for line in block.splitlines() if line.startswith("rater ")]
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=[f"{page}-{line}"[:60] for page, line in commands()])
def test_every_command_of_a_page_is_one(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text("hashmap: {}\n")  # a path that has to exist
    command: click.Command = cli
    context, words = None, shlex.split(line)[1:]
    while isinstance(command, click.Group) and (words[:1] and not words[0].startswith("-")):
        name, sub, words = command.resolve_command(click.Context(command, parent=context), words)
        assert sub is not None, f"{page}: rater has no command {name!r}"
        context, command = click.Context(command, parent=context), sub

    assert not isinstance(command, click.Group) or command.invoke_without_command, f"{page}: {line} lacks a command"
    command.make_context(line, words, parent=context)  # raises UsageError for what it does not take


# --- recordings


class Planted(NamedTuple):
    """The healthy recording with other values for the series of some metrics; `expected` fires first in `minute`."""

    expected: dict[str, str]
    minute: int
    values: dict[str, str]
    added: Mapping[str, str] = MappingProxyType({})


API = 'method="GET",route="/v3/gaps"'
PLANTED = [
    Planted({"alertname": "RaterCollectorBehind"}, 10, {"rater_collector_behind_seconds": "200+0x60"}),
    Planted({"alertname": "RaterFramesNotClosing"}, 15, {"rater_worker_overdue_frames": "1+0x60"}),
    Planted({"alertname": "RaterUsageLost"}, 3, {'rater_worker_alerts_total{.*kind="batches_lost"': "0+0x4 1+0x60"}),
    Planted({"alertname": "RaterNotReady", "service": "worker"}, 10, {'rater_ready{.*service="worker"': "0+0x60"}),
    Planted({"alertname": "RaterUsageLost"}, 3, {'rater_sink_lost_total{.*topic="usage"': "0+0x4 1+0x60"}),
    Planted({"alertname": "RaterLateUsage"}, 5, {"rater_rework_late_given_up": "3+0x60"}),
    Planted({"alertname": "RaterRuleVersionDiffers"}, 10, {"rater_sink_rule_version": "0+0x60"}),
    Planted({"alertname": "RaterAuditViolation"}, 2, {'rater_audit_violations{.*"totals_are_sums"': "0+0x3 2+0x60"}),
    Planted(
        {"alertname": "RaterWorkerBehind"},
        10,
        {"rater_worker_watermark_timestamp_seconds": "-901+0x60", "rater_worker_lag_records": "7+0x60"},
    ),
    Planted({"alertname": "RaterFencedOften"}, 3, {"rater_worker_fenced_total": "0+1x60"}),
    Planted({"alertname": "RaterSinkBehind"}, 9, {'rater_sink_success_.*reader="sink"': "-400+0x60"}),
    Planted({"alertname": "RaterSinkBehind"}, 17, {"rater_store_watch_timestamp_seconds": "-200+0x60"}),
    Planted({"alertname": "RaterDiskFilling"}, 15, {"rater_store_disk_free_bytes": "27000000000+0x60"}),
    Planted(
        {"alertname": "RaterApiErrors"},
        6,
        {},
        {f'rater_api_requests_total{{{API},status="{status}"}}': f"0+{n}x60" for status, n in ((200, 90), (503, 10))},
    ),
    Planted(
        {"alertname": "RaterApiSlow"},
        16,
        {},
        {
            f'rater_api_request_duration_seconds_bucket{{{API},le="{le}"}}': f"0+{n}x60"
            for le, n in (("5.0", 90), ("10.0", 95), ("+Inf", 100))
        },
    ),
]


def _recorded(kind: str) -> tuple[dict[str, Any], int]:
    """The fixture, and how many minutes it has."""
    text = (HERE / f"{kind}.yaml").read_text(encoding="utf-8")
    seconds = re.search(r"^#\s+(\d+) s  the end$", text, re.MULTILINE)
    assert seconds is not None
    return yaml.safe_load(text), int(seconds.group(1)) // 60


def _test(recorded: dict[str, Any], firing: Mapping[int, list[dict[str, str]]]) -> dict[str, Any]:
    """In each of these minutes exactly these alerts fire."""
    checks = [
        {
            "expr": 'group by (alertname, role, service, reason) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": _labels(labels), "value": 1} for labels in expected],
        }
        for minute, expected in firing.items()
    ]
    return {**recorded, "promql_expr_test": checks}


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def _check(tests: list[dict[str, Any]], directory: Path) -> None:
    file = directory / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def test_nothing_fires_while_nothing_is_wrong(tmp_path: Path) -> None:
    recorded, minutes = _recorded("healthy")

    assert minutes >= 20
    _check([_test(recorded, {minute: [] for minute in range(minutes + 1)})], tmp_path)


def test_each_alert_fires_in_its_minute_and_not_before(tmp_path: Path) -> None:
    recorded, minutes = _recorded("broken")
    firing = {
        minute: [labels for labels, first, last in FIRES if first <= minute <= last] for minute in range(minutes + 1)
    }

    _check([_test(recorded, firing)], tmp_path)


def test_what_is_planted_in_the_healthy_recording_fires_alone_and_in_its_minute(tmp_path: Path) -> None:
    recorded, _ = _recorded("healthy")
    tests = []
    for case in PLANTED:
        series = [dict(one) for one in recorded["input_series"]]
        for pattern, values in case.values.items():
            changed = [one for one in series if re.match(pattern, one["series"])]
            assert changed, f"the recording has no {pattern}"
            for one in changed:
                one["values"] = values
        series += [{"series": name, "values": values} for name, values in case.added.items()]
        minutes = {case.minute - 1: [], case.minute: [case.expected]}
        tests.append(_test({**recorded, "input_series": series}, minutes))

    _check(tests, tmp_path)


def test_every_rule_was_seen_to_fire() -> None:
    seen = {labels["alertname"] for labels, *_ in FIRES} | {case.expected["alertname"] for case in PLANTED}

    assert seen == set(alert_names())
