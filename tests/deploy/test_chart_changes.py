"""What a change of the values does to what runs, and that the example of the chart's README is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.chart import CHART, case_file, template

CHECKSUM = "checksum/config"


def checksums(*arguments: str) -> dict[str, str]:
    """The checksum of the settings in each kind of pod, by kind and name of what makes it."""
    said = template("--values", case_file("minimal"), *arguments)
    assert said.code == 0, said.err
    found: dict[str, str] = {}
    for one in filter(None, yaml.safe_load_all(said.out)):
        pod: dict[str, Any] = one if one["kind"] == "Pod" else one.get("spec", {}).get("template", {})
        if "annotations" in pod.get("metadata", {}):
            found[f"{one['kind']} {one['metadata']['name']}"] = pod["metadata"]["annotations"][CHECKSUM]
    return found


def test_a_change_of_the_settings_rolls_every_pod_and_one_of_replicas_none() -> None:
    before = checksums()
    assert {name.split()[0] for name in before} == {"StatefulSet", "Deployment", "Job", "Pod"}
    assert checksums("--set", "api.replicas=3") == before
    for change in ("config.engine.settle=7", "secrets.storeCa.existingSecret=ca,config.store.dsn=https://ch:8443"):
        after = checksums("--set", change)
        assert after.keys() == before.keys()
        assert [name for name in before if after[name] == before[name]] == [], change
    file = checksums("--set-string", r"files.policy\.yaml=x")
    assert file["StatefulSet release-rater-worker"] != before["StatefulSet release-rater-worker"]


def test_the_values_in_the_readme_are_enough(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", (CHART / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    values = tmp_path / "values.yaml"
    values.write_text(block)
    said = template("--values", values)
    assert said.code == 0, said.err
    assert {"StatefulSet", "Deployment"} <= {one["kind"] for one in yaml.safe_load_all(said.out) if one}
