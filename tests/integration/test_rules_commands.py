"""`rater rules` against a real Kafka: plans of any size, conflicts, the history and the book as it was."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.cli import exits
from rater.cli.app import _run
from rater.cli.rules import apply_plan
from rater.kafka import KafkaSettings, create_topics
from rater.model.codec import encode_json
from rater.model.rules import ModuleSet, RuleEvent, Service, ServiceCreated
from rater.rating import parse, plan
from rater.stream.rules_log import RuleConflictError, append_event, read_rules
from tests.integration.test_rules_log import write
from tests.unit.rating.builders import uid

Call = Callable[..., tuple[int, str, str]]
RULES = """
hashmap:
  services:
  - name: cpu
    mappings: [{cost: "0.1"}]
    fields: [{name: flavor, mappings: [{value: tiny, cost: "0.01"}]}]
"""


@pytest.fixture
def kafka_settings(kafka: LaptopKafka, tmp_path: Path) -> KafkaSettings:
    """Topics of this test's own, one partition each."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=1)
    asyncio.run(create_topics(settings))
    return settings


@pytest.fixture
def call(
    kafka_settings: KafkaSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Call:
    """Runs `rater rules …` in this process: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RATER_KAFKA__BOOTSTRAP", kafka_settings.bootstrap)
    monkeypatch.setenv("RATER_KAFKA__PREFIX", kafka_settings.prefix)
    monkeypatch.setenv("RATER_KAFKA__PARTITIONS", "1")
    Path("rules.yaml").write_text(RULES)
    Path("dearer.yaml").write_text(RULES.replace('"0.1"', '"0.2"').replace("tiny", "small"))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = _run(["rules", *arguments])
        told = capfd.readouterr()
        return status, told.out, told.err

    return run


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_pipeline_applies_to_the_version_that_it_saw(call: Call) -> None:
    # given rules at version 1
    status, out, _ = call("apply", "rules.yaml", "--yes", "--expect-version", "0", "--author", "ci")
    assert (status, out.splitlines()[-1]) == (exits.OK, "applied: the rules are at version 1")
    # when somebody who saw version 0 applies others
    status, out, err = call("apply", "dearer.yaml", "--yes", "--expect-version", "0")
    # then nothing changes
    assert (status, out) == (exits.FAILED, "")
    assert err.startswith("error: the rules were not changed: they are at version 1, and not 0 as --expect-version")
    # and the same rules again are an empty plan
    assert call("apply", "rules.yaml", "--expect-version", "1")[:2] == (
        exits.OK,
        "no changes: the rules are what the document says\n",
    )
    status, out, _ = call("apply", "dearer.yaml", "--dry-run")
    assert (status, out.splitlines()[-1]) == (exits.OK, "1 to add, 1 to change, 1 to remove")
    assert len(lines(call("log", "--out", "json")[1])) == 1


def test_the_history_tells_versions_changes_and_what_nobody_can_read(call: Call, kafka_settings: KafkaSettings) -> None:
    # given two versions, a record that is none, and a change that came too late
    call("apply", "rules.yaml", "--yes", "--author", "ana", "--reason", "prices of 2026")
    late = RuleEvent(0, "bob", "late", 1_767_225_600, (ServiceCreated(Service(uid(5), "net")),))
    asyncio.run(write(kafka_settings, b"\x1b[31mnot json\xff", encode_json(late)))
    call("apply", "dearer.yaml", "--yes", "--author", "eve")

    # when / then the log has all of them
    _, out, _ = call("log", "--out", "json")
    found = lines(out)
    assert [(row["offset"], row["version"], row["author"]) for row in found] == [
        (0, 1, "ana"), (1, None, None), (2, None, "bob"), (3, 2, "eve"),
    ]  # fmt: skip
    assert found[0]["reason"] == "prices of 2026"
    assert str(found[1]["ignored"]).startswith("it cannot be read: this is no rule event as application/json")
    assert found[1]["first_bytes"] == r"'\x1b[31mnot json\xff'"
    assert str(found[2]["ignored"]).startswith("expects version 0 of the rule book, which is at 1")
    # and as a table, without what would colour the terminal
    _, out, _ = call("log")
    assert r"\x1b[31mnot json" in " ".join(out.split())
    assert "\x1b" not in out
    # and the newest only
    _, out, err = call("log", "--limit", "2", "--out", "json")
    assert [row["offset"] for row in lines(out)] == [2, 3]
    assert err == "the newest 2; --limit 0 shows all\n"
    # and what each changed
    _, out, _ = call("log", "--changes", "--limit", "3", "--out", "json")
    told = [(row["version"], row["sign"], row["what"], row["place"], row["before"], row["after"]) for row in lines(out)]
    assert told == [
        (None, None, None, None, None, None),
        (None, "+", "service", "net", "", ""),
        (2, "~", "mapping", "cpu", "flat 0.1", "flat 0.2"),
        (2, "-", "mapping", "cpu / flavor = tiny", "flat 0.01", ""),
        (2, "+", "mapping", "cpu / flavor = small", "", "flat 0.01"),
    ]
    # and the rules as they were
    _, out, _ = call("export", "--rule-version", "1")
    Path("old.yaml").write_text(out)
    assert call("diff", "old.yaml", "rules.yaml")[1].startswith("no changes")
    status, _, err = call("export", "--rule-version", "7")
    assert (status, err) == (exits.FAILED, "error: the rules are at version 2: there is no version 7 yet\n")


def test_a_plan_larger_than_a_record_is_written_as_several_events(kafka_settings: KafkaSettings) -> None:
    mappings = ", ".join(f'{{value: "v{number}", cost: "{number}"}}' for number in range(1000))
    text = f"hashmap: {{services: [{{name: cpu, fields: [{{name: flavor, mappings: [{mappings}]}}]}}]}}"
    document = parse(text, "large.yaml")

    version = apply_plan(kafka_settings, plan(asyncio.run(read_rules(kafka_settings)), document), "ana", "", 50_000)

    book = asyncio.run(read_rules(kafka_settings))
    assert book.version == version > 3
    assert not plan(book, document)


def test_somebody_who_is_faster_is_named_and_nothing_is_lost(kafka_settings: KafkaSettings) -> None:
    # given a plan, and a change that comes between
    book = asyncio.run(read_rules(kafka_settings))
    rival = RuleEvent(0, "bob", "urgent", 1_767_225_600, (ServiceCreated(Service(uid(5), "net")),))
    asyncio.run(append_event(kafka_settings, rival))
    # when it is applied
    with pytest.raises(RuleConflictError) as caught:
        apply_plan(kafka_settings, plan(book, parse(RULES, "rules.yaml")), "ana", "")
    # then it says by whom
    assert str(caught.value) == (
        "the rules were not changed: expects version 0 of the rule book, which is at 1: read the rules again and "
        "repeat the change. The last change is by bob at 2026-01-01T00:00:00Z (urgent)"
    )


def test_processes_that_apply_at_once_agree_on_who_won(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    # given four processes that each want other rules
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    environment |= {
        "RATER_KAFKA__BOOTSTRAP": kafka_settings.bootstrap,
        "RATER_KAFKA__PREFIX": kafka_settings.prefix,
        "RATER_KAFKA__PARTITIONS": "1",
    }
    for number in range(4):
        (tmp_path / f"{number}.yaml").write_text(RULES.replace("0.01", f"0.0{number + 1}"))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "rater", "rules", "apply", f"{number}.yaml", "--yes", "--author", f"w{number}"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    # when they run at the same time
    told = [process.communicate(timeout=60) for process in running]
    # then those that won have the versions one after the other, and the others were told
    won, lost = [], []
    for process, (out, err) in zip(running, told, strict=True):
        if process.returncode == exits.OK:
            won.append(int(out.split()[-1]))
        else:
            lost.append(err)
    assert sorted(won) == list(range(1, len(won) + 1))
    assert won
    assert all(err.startswith("error: the rules were not changed: expects version ") for err in lost)
    assert asyncio.run(read_rules(kafka_settings)).version == len(won)


def test_modules_are_listed_with_their_state(call: Call) -> None:
    call("apply", "rules.yaml", "--yes")
    _, out, _ = call("modules", "--out", "json")
    found = {row["module"]: (row["state"], row["priority"], row["origin"]) for row in lines(out)}
    assert found["hashmap"] == ("on", 1, "built in")
    assert found["pyscripts"] == ("off", 1, "built in")


def test_a_module_that_is_on_and_not_here_stands_first_with_its_fault(
    call: Call, kafka_settings: KafkaSettings
) -> None:
    event = RuleEvent(0, "ana", "", 0, (ModuleSet("hashmap", True, 3), ModuleSet("acme", True, 9)))
    asyncio.run(append_event(kafka_settings, event))
    _, out, _ = call("modules", "--out", "json")
    first, second, *_ = lines(out)
    assert (first["module"], first["fault"]) == ("acme", "it is not installed here: its frames fail while it is on")
    assert (second["module"], second["priority"], second["fault"]) == ("hashmap", 3, None)


def test_faults_of_several_documents_are_told_together(call: Call) -> None:
    Path("bad.yaml").write_text("hashmap: {services: [{name: a, mappings: [{cost: x}]}, {nam: b}]}")
    Path("scripts.yaml").write_text('pyscripts: {scripts: [{name: rebate, data: "pass"}, {name: more, data: "1"}]}')
    Path("empty.yaml").write_text("{}")

    status, out, err = call("check", "rules.yaml", "bad.yaml", "scripts.yaml", "gone.yaml", "empty.yaml")

    assert status == exits.FAILED
    assert out.splitlines() == [
        "rules.yaml: 1 service, 1 field, 2 mappings, no faults",
        "scripts.yaml: 2 scripts (rebate, more), no faults",
        "empty.yaml: no rules, no faults",
    ]
    assert err.count("bad.yaml:1: ") == 3
    assert "gone.yaml cannot be read" in err
