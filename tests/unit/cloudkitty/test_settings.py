"""cloudkitty.conf becomes a part of rater.yaml that rater reads, with CloudKitty's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from collectors.gnocchi.settings import GnocchiAuth, GnocchiBasic, GnocchiSettings
from collectors.rest.settings import RestKeystone
from collectors.scopes.keystone_settings import KeystoneFetcherSettings
from collectors.settings import CollectorSettings, PrometheusKeystone, PrometheusSettings
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
        "collect": {
            "source": "gnocchi",
            "scope_key": "project_id",
            "numbers": "cloudkitty",
            "gnocchi": {"interface": "internal", "region": "RegionOne"},
            "fetcher": "keystone",
        },
    }
    first, who = found.notes
    assert "set collect.gnocchi.granules to first to compare bills" in first
    assert who == "[collector_gnocchi] does not say who asks Keystone: set collect.gnocchi.auth.keystone"


def test_a_list_of_scopes_and_what_others_want_to_know() -> None:
    conf = (
        "[fetcher]\nbackend: source\n[fetcher_source]\nsources = a, b\n[collect]\ncollector = x\n[collector_x]\na = b\n"
    )
    found = collect_settings(conf, "cloudkitty.conf")
    other = collect_settings("[fetcher]\nbackend = x\n[fetcher_x]\na = b\n", "cloudkitty.conf")

    assert found.settings["collect"]["static"] == {"scopes": ["a", "b"]}
    assert found.notes == ("[collector_x] was not taken over: see what source x wants to know",)
    assert other.notes[-1] == "[fetcher_x] was not taken over: see what fetcher x wants to know"


GNOCCHI = """
[fetcher]
backend = gnocchi

[fetcher_gnocchi]
scope_attribute = project_id
resource_types = instance, volume
auth_section = keystone_authtoken

[collector_gnocchi]
auth_section = keystone_authtoken
interface = publicURL
region_name = two

[keystone_authtoken]
auth_url = https://keystone:5000
username = cloudkitty
password = hunter2
project_name = service
cafile = /etc/ca.pem
"""


def test_gnocchi_is_asked_as_it_was() -> None:
    found = collect_settings(GNOCCHI, "cloudkitty.conf")
    collect = msgspec.convert(found.settings["collect"], CollectorSettings)

    assert (collect.source, collect.fetcher) == ("gnocchi", "gnocchi")
    assert collect.gnocchi.auth.keystone is not None
    assert collect.gnocchi.auth.keystone.url == "https://keystone:5000/v3"
    assert (collect.gnocchi.interface, collect.gnocchi.region) == ("public", "two")
    assert collect.gnocchi.ca_file == "/etc/ca.pem"
    assert collect.gnocchi_fetcher.resource_types == ["instance", "volume"]
    assert "hunter2" not in str(found)
    assert "[fetcher_gnocchi] asks otherwise than [collector_gnocchi]" in found.notes[-1]


def test_gnocchi_with_basic_authentication() -> None:
    conf = "[collector_gnocchi]\ngnocchi_auth_type = basic\ngnocchi_user = ck\ngnocchi_endpoint = http://g:8041\n"
    asked = msgspec.convert(collect_settings(conf, "c").settings["collect"]["gnocchi"], GnocchiSettings)
    assert asked == GnocchiSettings(url="http://g:8041", auth=GnocchiAuth(basic=GnocchiBasic("ck")))


KEYSTONE = """
[fetcher_keystone]
auth_section = keystone_authtoken
ignore_disabled_tenants = True

[keystone_authtoken]
auth_type = v3password
auth_url = https://keystone:5000/
username = cloudkitty
password = hunter2
user_domain_id = default
project_name = service
project_domain_id = 7c1d
cafile = /etc/ssl/ca.pem
insecure = true
"""


def test_who_asks_keystone(tmp_path: Path) -> None:
    # given a cloudkitty.conf as deployments have it, and the file that the notes ask for
    (tmp_path / "cloudkitty.conf").write_text(KEYSTONE)
    (tmp_path / "keystone.password").write_text("hunter2")
    # when it is imported
    done = CliRunner().invoke(import_settings, [str(tmp_path / "cloudkitty.conf")])
    (tmp_path / "rater.yaml").write_text(done.stdout.replace("/etc/cloudkitty/metrics.yml", "metrics.yml"))
    (tmp_path / "metrics.yml").write_text("metrics: {cpu: {unit: u}}")
    # then the fetcher asks as CloudKitty did
    found = load_config(tmp_path / "rater.yaml", {}).settings.collect
    assert found is not None
    assert found.keystone_fetcher == KeystoneFetcherSettings(
        RestKeystone("https://keystone:5000/v3", "cloudkitty", str(tmp_path / "keystone.password"), project="service"),
        ignore_disabled_tenants=True,
        ca_file="/etc/ssl/ca.pem",
    )
    # and what is left to do is said, without the password
    assert "hunter2" not in done.output
    for told in ("password of cloudkitty", "project_domain_id 7c1d", "insecure was not taken over"):
        assert told in done.stderr


def test_aetos_is_the_prometheus_of_a_catalogue(tmp_path: Path) -> None:
    conf = """
[collect]
collector = aetos
[collector_aetos]
auth_url = https://keystone:5000
username = cloudkitty
password = hunter2
project_name = service
region_name = RegionTwo
interface = internal
cafile = /etc/ssl/ca.pem
"""
    (tmp_path / "cloudkitty.conf").write_text(conf)
    done = CliRunner().invoke(import_settings, [str(tmp_path / "cloudkitty.conf")])
    (tmp_path / "rater.yaml").write_text(done.stdout.replace("/etc/cloudkitty/metrics.yml", "metrics.yml"))
    (tmp_path / "metrics.yml").write_text("metrics: {cpu: {unit: u}}")

    found = load_config(tmp_path / "rater.yaml", {}).settings.collect
    assert found is not None
    password = str(tmp_path / "keystone.password")
    asked = PrometheusKeystone(
        "https://keystone:5000/v3", "cloudkitty", password, project="service", interface="internal", region="RegionTwo"
    )
    assert (found.source, found.prometheus) == (
        "prometheus",
        PrometheusSettings(keystone=asked, ca_file="/etc/ssl/ca.pem"),
    )
    assert "hunter2" not in done.output
    assert "password of cloudkitty for Keystone was not taken over" in done.stderr


def test_other_ways_to_ask_keystone() -> None:
    def imported(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        found = collect_settings(f"[collect]\ncollector = prometheus\n[fetcher_keystone]\n{text}", "cloudkitty.conf")
        return found.settings["collect"].get("keystone_fetcher", {}), found.notes

    assert imported("auth_url = http://k/v3\napplication_credential_id = c1\nignore_rating_role = yes")[0] == {
        "ignore_rating_role": True,
        "keystone": {"url": "http://k/v3", "application_credential_id": "c1", "secret_file": "keystone.secret"},
    }
    assert imported("auth_url = http://k\nusername = u\nuser_domain_name = D\nsystem_scope = all")[0]["keystone"] == {
        "url": "http://k/v3", "username": "u", "password_file": "keystone.password", "user_domain": "D", "system": True,
    }  # fmt: skip
    for little in ("username = u", "auth_url = http://k", "auth_url = http://k\nusername = u"):
        assert imported(little + "\n") == (
            {},
            ("[fetcher_keystone] does not say who asks Keystone: set collect.keystone_fetcher.keystone",),
        )


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
