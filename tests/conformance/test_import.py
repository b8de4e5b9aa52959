"""Rules of the real CloudKitty, read through its real REST API by `rater rules import-cloudkitty`, price as there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rater.cli.import_cloudkitty import import_cloudkitty
from rater.cloudkitty import CloudKittyError
from rater.model.rules import RuleEvent
from rater.rating import Applied, Compiler, RuleBook, UnratableError, export, parse, plan
from tests.conformance.generator import Json, book_of, case
from tests.conformance.side import CloudKitty, cloudkitty

SEED = 7
CASES = 15
POINTS = 12


@dataclass
class Installation:
    """A running CloudKitty: its rules are set through `side`, read through its API."""

    side: CloudKitty
    endpoint: str

    def rules(self, **rules: object) -> Json:
        """Sets all rules anew."""
        return self.side.ask("rules", **({"services": [], "fields": [], "groups": [], "rules": []} | rules))

    def imported(self, *options: str) -> Result:
        """What the command does."""
        return CliRunner().invoke(import_cloudkitty, ["--endpoint", self.endpoint, *options])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with cloudkitty(tmp_path_factory.mktemp("cloudkitty") / "rules.sqlite") as side:
        yield Installation(side, f"http://127.0.0.1:{side.ask('serve')['port']}")


def book_from(text: str) -> RuleBook:
    """The document applied to an empty installation."""
    diff = plan(RuleBook.empty(), parse(text, "imported.yaml"))
    book, outcome = RuleBook.empty().apply(RuleEvent(0, "test", "import", 0, diff.changes))
    assert outcome == Applied(1), outcome
    return book


def priced(book: RuleBook, tenant: str | None, period_begin: int, point: Json) -> Decimal | None:
    plan = Compiler(book).plan(tenant, period_begin)
    before = Decimal(point["price"])
    try:
        return plan.price(point["metric"], Decimal(point["qty"]), point["groupby"], point["metadata"], before)
    except UnratableError:
        return None


def test_imported_rules_price_as_in_the_database_they_came_from(real: Installation) -> None:
    resolved = 0
    for number in range(CASES):
        generated = case(SEED, number, POINTS)
        real.rules(**generated.rules, modules={"hashmap": [True, 1]})

        done = real.imported("--resolve", "last-wins")

        assert done.exit_code == 0, done.output
        resolved += "resolved: " in done.stderr
        book = book_from(done.stdout)
        for tenant, period_begin, points in generated.asked:
            answer = real.side.ask("price", tenant=tenant, period_begin=period_begin, points=points)
            theirs = [Decimal(told["price"]) if "price" in told else None for told in answer["prices"]]
            ours = [priced(book, tenant, period_begin, point) for point in points]
            assert ours == theirs, (number, tenant, period_begin)
    assert resolved >= 2, "rules that stand side by side in CloudKitty must be among the cases"


def test_document_to_cloudkitty_and_back_is_the_same_document(real: Installation) -> None:
    exact = 0
    for number in range(CASES):
        rules = case(SEED, number, 1).rules
        rules = rules | {"rules": [rule for rule in rules["rules"] if not rule.get("deleted")]}
        refused = real.rules(**rules, modules={"hashmap": [True, 1]})["refused"]
        done = real.imported()
        if done.exit_code != 0:
            assert "--resolve last-wins" in str(done.exception)
            continue
        assert done.stdout == export(book_of(rules, refused))
        exact += 1
    assert exact > 10


def test_every_member_of_a_document_survives(real: Installation) -> None:
    mapping = {"kind": "mapping", "type": "rate", "cost": "0.9799999999999999822364316060", "service": None, "field": 0}
    mapping |= {"value": "m1.tiny: #1", "group": 0, "tenant": "projA", "start": 1_767_225_600, "end": 1_769_904_000}
    mapping |= {"name": "tiny-2026", "description": "since the price list of 2026"}
    real.rules(
        services=["instance"],
        fields=[[0, "flavor_id"]],
        groups=["instance_uptime"],
        rules=[mapping],
        scripts=[
            {
                "name": "rebate",
                "data": "for x in []:\n    pass\n",
                "start": 1_767_225_600,
                "description": "ten percent",
            },
            {"name": "second", "data": "pass", "end": 1_769_904_000},
        ],
        modules={"hashmap": [True, 7], "pyscripts": [False, 3]},
    )

    done = real.imported()

    assert done.exit_code == 0, done.output
    assert done.stderr == "1 services, 1 fields, 1 groups, 1 mappings, 0 thresholds, 2 scripts\n"
    document = parse(done.stdout, "imported.yaml")
    assert export(book_from(done.stdout)) == done.stdout
    assert {name: (state.enabled, state.priority) for name, state in document.modules.items()} == {
        "hashmap": (True, 7),
        "pyscripts": (False, 3),
    }
    ((field,),) = (service.fields for service in document.hashmap.services)
    (rule,) = field.mappings
    assert str(rule.cost) == "0.979999999999999982236431606"
    assert (rule.value, rule.group, rule.tenant_id) == ("m1.tiny: #1", "instance_uptime", "projA")
    assert (rule.start, rule.end) == (1_767_225_600, 1_769_904_000)
    assert (rule.name, rule.description) == ("tiny-2026", "since the price list of 2026")
    assert [script.data for script in document.pyscripts.scripts] == ["for x in []:\n    pass\n", "pass"]


def test_times_are_those_of_the_servers_clock(real: Installation) -> None:
    mapping = {"kind": "mapping", "type": "flat", "cost": "1", "service": 0, "value": None, "start": 1_767_225_600}
    real.rules(services=["instance"], rules=[mapping])

    done = real.imported("--server-timezone", "Europe/Vienna")

    assert done.exit_code == 0, done.output
    assert "start: '2025-12-31T23:00:00Z'" in done.stdout


def test_duplicates_are_refused_all_at_once_and_nothing_is_written(real: Installation, tmp_path: Path) -> None:
    threshold = {"kind": "threshold", "type": "flat", "level": "1", "service": 0}
    mapping = {"kind": "mapping", "type": "flat", "service": 0}
    rules = [threshold | {"cost": "5"}, threshold | {"cost": "2"}]
    rules += [mapping | {"value": None, "cost": "3"}, mapping | {"value": "", "cost": "4"}]
    real.rules(services=["instance"], rules=rules)
    target = tmp_path / "rules.yaml"

    refused = real.imported("--to", str(target))
    taken = real.imported("--to", str(target), "--resolve", "last-wins")

    assert refused.exit_code == 1
    assert str(refused.exception).count("is a duplicate") == 2
    assert taken.exit_code == 0, taken.output
    (service,) = parse(target.read_text(), "rules.yaml").hashmap.services
    assert [rule.cost for rule in service.thresholds] == [2]
    assert [rule.cost for rule in service.mappings] == [4]


@pytest.mark.filterwarnings("ignore:Support for InfluxDB")  # openstacksdk warns of its own statistics, which are off
def test_a_cloud_of_clouds_yaml_is_asked(real: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(f"clouds:\n  billing:\n    auth_type: none\n    auth: {{endpoint: '{real.endpoint}'}}\n")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    real.rules(services=["instance"])

    done = CliRunner().invoke(import_cloudkitty, ["--os-cloud", "billing"])

    assert done.exit_code == 0, done.output
    assert "name: instance" in done.stdout


def test_what_is_no_cloudkitty_is_said(real: Installation) -> None:
    for endpoint, message in (
        (f"{real.endpoint}/v1", "without /v1"),
        ("http://127.0.0.1:1", "check the URL"),
    ):
        done = CliRunner().invoke(import_cloudkitty, ["--endpoint", endpoint])
        assert isinstance(done.exception, CloudKittyError)
        assert message in str(done.exception)
        assert endpoint in str(done.exception)
