"""cloudkitty.conf becomes a part of rater.yaml that rater reads, with CloudKitty's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from rater.cli.import_settings import import_settings
from rater.cloudkitty.settings import ConfError, collect_settings
from rater.config import load_config

CONF = """
[DEFAULT]
verbose = true

[collect]
collector = prometheus
scope_key = tenant
period = 1800
wait_periods = 4
metrics_conf = METRICS

[orchestrator]
skip_datapoints_expression = datapoint.get("vol", {}).get("qty", 0) == 0

[collector_prometheus]
prometheus_url = https://prometheus:9090/api/v1
prometheus_user = me
prometheus_password = hunter2
cafile = /etc/ssl/ca.pem
insecure = True

[fetcher]
backend = prometheus

[fetcher_prometheus]
metric = project_info
scope_attribute = id
filters = enabled:true, domain:default
prometheus_url = http://other:9090/api/v1
"""


def test_what_is_printed_is_read_and_collects_as_cloudkitty_did(tmp_path: Path) -> None:
    # given a cloudkitty.conf and its metrics.yml
    (tmp_path / "metrics.yml").write_text("metrics: {cpu: {unit: u}}")
    conf = tmp_path / "cloudkitty.conf"
    conf.write_text(CONF.replace("METRICS", str(tmp_path / "metrics.yml")))
    # when it is imported, and what is printed is taken as rater.yaml
    done = CliRunner().invoke(import_settings, [str(conf)])
    (tmp_path / "rater.yaml").write_text(done.stdout)
    config = load_config(tmp_path / "rater.yaml", {})
    # then
    found = config.settings.collect
    assert found is not None
    assert (found.source, found.scope_key, found.numbers, config.settings.engine.period) == (
        "prometheus", "tenant", "cloudkitty", 1800,
    )  # fmt: skip
    assert found.skip_datapoints_expression == 'datapoint.get("vol", {}).get("qty", 0) == 0'
    assert (found.prometheus.url, found.prometheus.ca_file) == ("https://prometheus:9090/api/v1", "/etc/ssl/ca.pem")
    fetcher = found.prometheus_fetcher
    assert (found.fetcher, fetcher.metric, fetcher.scope_attribute) == ("prometheus", "project_info", "id")
    assert fetcher.filters == {"enabled": "true", "domain": "default"}
    assert config.catalog.names() == ["cpu"]
    # and nothing secret is shown, nothing lost silently
    assert "hunter2" not in done.output
    for lost in ("password", "insecure", "http://other:9090", "wait_periods"):
        assert lost in done.stderr


def test_defaults_are_those_of_cloudkitty() -> None:
    found = collect_settings("", "cloudkitty.conf")

    assert found.settings == {
        "metrics_conf": "/etc/cloudkitty/metrics.yml",
        "engine": {"period": 3600},
        "collect": {"source": "gnocchi", "scope_key": "project_id", "numbers": "cloudkitty", "fetcher": "keystone"},
    }
    assert found.notes == ()


def test_a_list_of_scopes_and_what_others_want_to_know() -> None:
    conf = "[fetcher]\nbackend: source\n[fetcher_source]\nsources = a, b\n[collector_gnocchi]\nauth_section = x\n"
    found = collect_settings(conf, "cloudkitty.conf")
    keystone = collect_settings("[fetcher_keystone]\nauth_section = x\n", "cloudkitty.conf")

    assert found.settings["collect"]["static"] == {"scopes": ["a", "b"]}
    assert found.notes == ("[collector_gnocchi] was not taken over: see what source gnocchi wants to know",)
    assert keystone.notes == ("[fetcher_keystone] was not taken over: see what fetcher keystone wants to know",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("collector = prometheus", "is no cloudkitty.conf: File contains no section headers"),
        ("[collect]\nperiod = hour\n", r"\[collect\] period is 'hour', not a whole number"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfError, match=reason):
        collect_settings(text, "cloudkitty.conf")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.conf").write_bytes(b"[collect]\n# \xff")
    for name, reason in (("none.conf", "cannot be read"), ("latin.conf", "is not text in UTF-8")):
        done = CliRunner().invoke(import_settings, [str(tmp_path / name)])
        assert reason in str(done.exception)
