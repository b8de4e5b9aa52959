"""The OpenAPI document: up to date, and true of requests."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.validation.exceptions import UnresolvableParameterError

from rater.api.openapi import document, text

ROOT = Path(__file__).parents[3]
SCHEMAS = document()["components"]["schemas"]


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}})


def test_the_committed_document_is_that_of_the_code() -> None:
    assert (ROOT / "schemas" / "openapi.json").read_text() == text(), "run `make schemas`"


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_it_is_an_openapi_document() -> None:
    found = document()
    OpenAPIV31SpecValidator(found).validate()
    names = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
    del found["paths"]["/v3/scopes/{scope_id}"]["get"]["parameters"]
    with pytest.raises(UnresolvableParameterError):
        OpenAPIV31SpecValidator(found).validate()


def test_what_is_taken_and_what_is_not() -> None:
    sample = {"scope_id": "A", "metric": "m", "begin": "2026-01-01T00:00:00Z", "qty": 1.5, "groupby": {"id": None}}
    push = validator("UsagePush")

    assert push.is_valid({"source": "m", "samples": [sample, {**sample, "begin": 5, "qty": "1.5"}]})
    assert not push.is_valid({"samples": [{**sample, "colour": "red"}]})
    assert not push.is_valid({"samples": [{**sample, "begin": -1}]})
    assert not push.is_valid({"sequences": {"A": -1}})


def test_every_answer_is_described() -> None:
    answers = document()["paths"]["/v3/usage"]["post"]["responses"]

    assert set(answers) == {"202", "400", "401", "403", "408", "413", "415", "422", "429", "503"}


def test_yaml_is_values_as_json_is() -> None:
    rules = document()["paths"]["/v3/rules"]

    for content in (rules["get"]["responses"]["200"]["content"], rules["put"]["requestBody"]["content"]):
        assert content["application/yaml"] == content["application/json"]
        assert content["application/yaml"]["schema"]["type"] == "object"


def test_whoever_may_name_a_scope_may_hear_that_there_is_none() -> None:
    named = [
        operation["responses"]
        for path in document()["paths"].values()
        for operation in path.values()
        if any(parameter["name"] == "scope_id" for parameter in operation.get("parameters", []))
    ]

    assert len(named) == 13
    assert all("404" in responses for responses in named)


def test_no_parameter_is_null() -> None:
    """There is no text for it: it is left out."""
    found = [
        parameter["schema"]
        for path in document()["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
    ]

    assert len(found) > 50
    assert not any("anyOf" in schema for schema in found)
