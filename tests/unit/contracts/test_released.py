"""The schemas of releases: which is the last, what has changed since, and what of it is accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rater.contracts.__main__ import main
from rater.contracts.compatibility import ContractError
from rater.contracts.released import judge, latest, release

SCHEMAS = Path(__file__).parents[3] / "schemas"


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """Today's schemas, and a release of them."""
    for path in SCHEMAS.glob("*.json"):
        shutil.copyfile(path, tmp_path / path.name)
    release(tmp_path, "1.2.0")
    return tmp_path


def change(path: Path, struct: str, field: str, **words: Any) -> None:
    document = json.loads(path.read_text())
    fields = document["$defs"][struct]["properties"]
    if words:
        fields[field] = {**fields.get(field, {}), **words}
    else:
        del fields[field]
    path.write_text(json.dumps(document))


def test_the_schemas_of_today_fit_those_of_the_last_release() -> None:
    verdict = judge(SCHEMAS)

    assert verdict.findings == []
    assert verdict.documents >= 8


def test_a_release_keeps_all_schemas_but_that_of_the_http_service(schemas: Path) -> None:
    kept = {path.name: path.read_text() for path in (schemas / "released" / "1.2.0").iterdir()}

    assert kept == {path.name: path.read_text() for path in schemas.glob("*.json") if path.name != "openapi.json"}


def test_what_was_released_does_not_change(schemas: Path) -> None:
    with pytest.raises(ContractError, match="is there already"):
        release(schemas, "1.2.0")


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.0", "../1.2.0", "1.2.0/", "1.2.0-"])
def test_what_is_no_version_is_not_released(schemas: Path, version: str) -> None:
    with pytest.raises(ContractError, match="is no version"):
        release(schemas, version)


def test_the_last_release_is_the_highest_and_before_one_come_its_candidates(tmp_path: Path) -> None:
    names = ["0.1.0-pre", "0.1.0", "0.2.0", "0.10.0-rc1"]
    for expected in names:
        (tmp_path / expected).mkdir()
        assert latest(tmp_path) == expected


def test_where_there_is_no_release_nothing_is_compared(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no release is here"):
        judge(tmp_path)


def test_a_directory_that_is_no_version_is_an_error(schemas: Path) -> None:
    (schemas / "released" / "next").mkdir()
    with pytest.raises(ContractError, match="next is no version"):
        judge(schemas)


def test_a_document_that_is_gone_is_found(schemas: Path) -> None:
    (schemas / "alerts.json").unlink()
    assert judge(schemas).findings == ["alerts: the document is gone"]


def test_an_optional_field_that_is_gone_is_found_where_unknown_ones_are_ignored(schemas: Path) -> None:
    change(schemas / "rated.json", "RatedFrame", "failure")
    assert judge(schemas).findings == [
        "rated: RatedFrame.failure: the field is gone, and programs that read it take its default"
    ]


def test_of_what_rater_sends_old_programs_are_asked_and_of_the_rest_they_are_not(schemas: Path) -> None:
    change(schemas / "usage.json", "Collection", "currency", type="string", default="")
    assert judge(schemas).findings == []
    change(schemas / "rated.json", "PostedLine", "currency", type="string", default="")
    assert judge(schemas).findings == [
        "rated: PostedLines.lines[].currency: records of today may have this field, programs made for 1.2.0 refuse it"
    ]


def test_what_is_accepted_with_a_reason_counts_no_more(schemas: Path) -> None:
    change(schemas / "rated.json", "RatedFrame", "failure")
    (finding,) = judge(schemas).findings
    accepted = schemas / "released" / "accepted.yaml"
    accepted.write_text(json.dumps([{"finding": finding, "reason": "nobody has it"}]))
    assert judge(schemas)[2:] == ([], 1)
    # and an acceptance of what is not there is found itself
    accepted.write_text(json.dumps([{"finding": "rated: no such", "reason": "none"}]))
    assert judge(schemas).findings == [finding, "accepted.yaml: this is found no more, take it out: rated: no such"]


@pytest.mark.parametrize("text", ["- finding: a", "- finding: a\n  reason: ' '", "finding", "- 7"])
def test_an_acceptance_without_a_reason_is_an_error(schemas: Path, text: str) -> None:
    (schemas / "released" / "accepted.yaml").write_text(text)
    with pytest.raises(ContractError, match=r"`finding` .* and `reason`"):
        judge(schemas)


def test_the_command_says_what_is_wrong_and_what_to_do(schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--directory", str(schemas), "check"]) == 0
    change(schemas / "rated.json", "RatedFrame", "revision", type="string")
    assert main(["--directory", str(schemas), "check"]) == 1
    said = capsys.readouterr()
    assert "8 schemas compared with those of 1.2.0: 0 faults, 0 accepted\n" in said.out
    assert "rated: RatedFrame.revision: records of 1.2.0 may hold integer, programs of today take string\n" in said.err
    assert "accepted.yaml" in said.err


def test_the_command_releases_once(schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--directory", str(schemas), "release", "1.3.0"]) == 0
    assert main(["--directory", str(schemas), "release", "1.3.0"]) == 1
    assert "is there already" in capsys.readouterr().err
