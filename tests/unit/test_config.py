"""rater.yaml and its variables: every fault at once, each with its place, and no secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from rater.config import ConfigError, Settings, load_config, shown
from rater.engine import Expect
from rater.model.metric import Aggregation, Coverage

METRICS = """
metrics:
  cpu: {unit: core, alt_name: instance}
  disk: {unit: GiB}
"""


def write(directory: Path, text: str, metrics: str = METRICS) -> Path:
    (directory / "metrics.yml").write_text(metrics)
    file = directory / "rater.yaml"
    file.write_text(text)
    return file


def faults(file: Path, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(file, environment or {})
    return str(refused.value).replace(str(file.parent) + "/", "").splitlines()


def test_without_file_and_variables_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {})
    assert config.settings == Settings()
    assert config.path is None
    assert len(config.catalog) == 0


def test_a_file_sets_every_kind_of_value(tmp_path: Path) -> None:
    # given
    file = write(
        tmp_path,
        """
kafka: {bootstrap: "k1:9092,k2:9092", partitions: 16}
engine: {settle: 10, expect: {prom: planned, push: seen}}
worker: {checkpoint_interval: 1}
metrics_conf: metrics.yml
metrics:
  instance: {aggregation: max, proof: samples, resolution: 300}
  pushed: {unit: call, description: calls of the API}
""",
    )
    # when
    config = load_config(file, {})
    # then
    assert config.settings.kafka.partitions == 16
    assert config.settings.engine.expect == {"prom": Expect.PLANNED, "push": Expect.SEEN}
    assert config.settings.worker.checkpoint_interval == 1.0
    assert config.catalog.names() == ["disk", "instance", "pushed"]
    instance = config.catalog.get("instance")
    assert instance is not None
    assert (instance.unit, instance.aggregation, instance.proof) == ("core", Aggregation.MAX, Coverage.SAMPLES)
    pushed = config.catalog.get("pushed")
    assert pushed is not None
    assert (pushed.unit, pushed.aggregation, pushed.description) == ("call", Aggregation.SUM, "calls of the API")
    assert config.engine_context().metric("instance") is instance


def test_variables_override_single_keys(tmp_path: Path) -> None:
    # given
    file = write(tmp_path, "kafka: {bootstrap: file:1, prefix: file., partitions: 2}\n")
    environment = {
        "RATER_KAFKA__BOOTSTRAP": "env:1",
        "RATER_KAFKA__PARTITIONS": "4",
        "RATER_ENGINE__EXPECT": "{prom: planned}",
        "RATER_OBSERVE__LISTEN_BEYOND_LOOPBACK": "true",
        "RATER_METRICS_CONF": "metrics.yml",
        "RATER_CACHE": "not a setting, and none of ours",
    }
    # when
    config = load_config(file, environment)
    # then
    kafka = config.settings.kafka
    assert (kafka.bootstrap, kafka.prefix, kafka.partitions) == ("env:1", "file.", 4)
    assert config.settings.engine.expect == {"prom": Expect.PLANNED}
    assert config.settings.observe.listen_beyond_loopback is True
    assert config.catalog.names() == ["disk", "instance"]


def test_a_text_variable_is_taken_as_it_is(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, ""), {"RATER_KAFKA__USERNAME": "{not: yaml"})
    assert config.settings.kafka.username == "{not: yaml"


def test_the_variable_rater_config_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "kafka: {prefix: there.}\n")
    assert load_config(None, {"RATER_CONFIG": str(file)}).settings.kafka.prefix == "there."


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "kafka: {password_file: secret}\nmetrics_conf: metrics.yml\n"), {})
    assert config.settings.kafka.password_file == str(tmp_path / "secret")
    assert config.settings.metrics_conf == str(tmp_path / "metrics.yml")


def test_a_file_named_by_a_relative_path_has_its_paths_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", "metrics_conf: metrics.yml\nstore: {dsn: 'chdb://data', ca_file: /ca}\n")
    monkeypatch.chdir(tmp_path)
    config = load_config("etc/rater.yaml", {})
    assert config.settings.metrics_conf == "etc/metrics.yml"
    assert (config.settings.store.dsn, config.settings.store.ca_file) == ("chdb://etc/data", "/ca")
    assert len(config.catalog) == 2


def test_every_fault_is_told_at_once_with_its_place_and_what_is_allowed(tmp_path: Path) -> None:
    # given faults in the file, in the variables and in metrics.yml
    file = write(
        tmp_path,
        """kafka:
  partitions: 0
  bootstrp: x
engine: {period: one hour, expect: {prom: maybe}}
observe: [1]
metrics:
  cpu: {aggregation: median, resolution: 0}
worker:
metrics_conf: metrics.yml
""",
        "metrics: {cpu: {alt_name: a}}",
    )
    environment = {"RATER_KAFKA__PREFIX": "a b", "RATER_WORKER__CHECKPOINT": "1", "RATER_ENGINE__SETTLE": "{"}
    # when
    told = faults(file, environment)
    # then
    for expected in (
        "rater.yaml:3: kafka.bootstrp: is no setting: use bootstrap, prefix, ",
        "rater.yaml:2: kafka.partitions: is '0': must be a whole number from 1 to 10000",
        "RATER_KAFKA__PREFIX: kafka.prefix: is 'a b': must be text that matches ",
        "rater.yaml:4: engine.period: is 'one hour': must be a whole number from 60 to 86400",
        "rater.yaml:4: engine.expect.prom: is 'maybe': must be one of planned, seen",
        "RATER_ENGINE__SETTLE: engine.settle: cannot be read as YAML: ",
        "rater.yaml:5: observe: is a list: a mapping of settings belongs here",
        "rater.yaml:7: metrics.cpu.aggregation: is 'median': must be one of sum, max, min, ",
        "rater.yaml:7: metrics.cpu.resolution: is '0': must be a whole number of at least 1 or null",
        "RATER_WORKER__CHECKPOINT: overrides no setting",
        "metrics.yml:1: metrics.cpu: 'unit' is missing",
    ):
        assert any(line.startswith(expected) for line in told), (expected, told)
    assert len(told) == 11


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "this is no YAML"),
        ("[1]", "is a list: a mapping of settings belongs here"),
        ("kafka: {prefix: a}\nkafka: {prefix: b}\n", "rater.yaml:2"),
    ],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(faults(write(tmp_path, text)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yaml") == ["none.yaml: cannot be read: No such file or directory"]
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    assert faults(tmp_path / "bytes.yaml")[0].startswith("bytes.yaml: is not text in UTF-8")


def test_no_refused_value_shows_a_secret(tmp_path: Path) -> None:
    from rater._settings_reader import without_secrets

    assert without_secrets("store.password", "hunter2") == "(hidden)"
    assert without_secrets("store.password_file", "/run/secret") == "/run/secret"
    assert without_secrets("store.dsn", "http://me:hunter2@ch:8123/db") == "http://(hidden)@ch:8123/db"
    assert without_secrets("store.dsn", "http://ch/db?password=hunter2&a=1") == "http://ch/db?password=(hidden)&a=1"


def test_shown_settings_are_plain_and_complete(tmp_path: Path) -> None:
    plain = shown(load_config(write(tmp_path, "engine: {expect: {a: seen}}\n"), {}).settings)
    assert plain["engine"]["expect"] == {"a": "seen"}
    assert set(plain) == set(Settings.__struct_fields__)


def test_an_optional_section_is_there_if_the_file_or_a_variable_names_it(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, ""), {}).settings.collect is None
    assert load_config(write(tmp_path, "collect: null\n"), {}).settings.collect is None
    by_file = load_config(write(tmp_path, "collect: {static: {scopes: [a, '1']}}\n"), {}).settings.collect
    assert by_file is not None
    assert by_file.static.scopes == ["a", "1"]
    by_variable = load_config(write(tmp_path, ""), {"RATER_COLLECT__SCOPE_KEY": "tenant"}).settings.collect
    assert by_variable is not None
    assert by_variable.scope_key == "tenant"


def test_what_a_section_checks_as_a_whole_is_a_fault_of_the_section(tmp_path: Path) -> None:
    # given
    text = """collect:
  prometheus: {username: me}
  prometheus_fetcher: {filters: {'a b': c}}
  static: {scopes: [1, []]}
"""
    # when
    told = faults(write(tmp_path, text))
    # then
    for expected in (
        "rater.yaml:2: collect.prometheus: username and password_file go together",
        "rater.yaml:3: collect.prometheus_fetcher.filters: 'a b' is no name for it: must be text that matches",
        "rater.yaml:4: collect.static.scopes[1]: is a list: must be text",
    ):
        assert any(line.startswith(expected) for line in told), (expected, told)
    assert len(told) == 3
