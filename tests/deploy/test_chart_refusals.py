"""Values that cannot work end the rendering with a sentence that names the key and says what to do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.deploy.chart import Said, case_file, template

SASL = {"security_protocol": "SASL_SSL", "username": "rater"}
KAFKA_SECRET = {"kafka": {"existingSecret": "rater-kafka"}}


class Wrong(NamedTuple):
    """Values on top of ci/minimal-values.yaml, None for what is taken away, and what the message has to have in it."""

    values: dict[str, Any]
    says: tuple[str, ...]


def kafka(**more: object) -> dict[str, Any]:
    return {"config": {"kafka": more}}


def store(**more: object) -> dict[str, Any]:
    return {"config": {"store": more}}


WRONG = {
    "an unknown key": Wrong({"wroker": {"replicas": 2}}, ("wroker", "not allowed")),
    "an unknown key of a component": Wrong({"worker": {"replica": 2}}, ("replica", "not allowed")),
    "an unknown setting": Wrong(kafka(bootstrap_servers="a:1"), ("bootstrap_servers", "not allowed")),
    "an unknown section of settings": Wrong({"config": {"kafak": {}}}, ("kafak", "not allowed")),
    "a number as a text": Wrong({"worker": {"replicas": "two"}}, ("worker/replicas", "integer")),
    "a text as a number": Wrong(kafka(partitions="eight"), ("kafka/partitions", "integer")),
    "a negative number": Wrong({"worker": {"replicas": -1}}, ("worker/replicas", "0")),
    "a switch as a text": Wrong({"networkPolicy": {"enabled": "on"}}, ("networkPolicy/enabled", "boolean")),
    "no brokers": Wrong(kafka(bootstrap=None), ("config.kafka.bootstrap is missing",)),
    "a broker without a port": Wrong(kafka(bootstrap="kafka"), ("config.kafka.bootstrap", "host:port")),
    "no store": Wrong(store(dsn=None), ("config.store.dsn is missing",)),
    "the embedded engine": Wrong(store(dsn="chdb:/var/lib/rater"), ("config.store.dsn", "embedded engine")),
    "a store that is no address": Wrong(store(dsn="clickhouse:8123"), ("config.store.dsn", "http://")),
    "a password in the store's address": Wrong(store(dsn="http://u:p@ch:8123/rater"), ("config.store.dsn", "Secret")),
    "more workers than partitions": Wrong(
        {"worker": {"replicas": 9}}, ("worker.replicas is 9", "config.kafka.partitions is 8", "at most 8")
    ),
    "scaling to more workers than partitions": Wrong(
        {"autoscaling": {"enabled": True, "maxReplicas": 9}}, ("autoscaling.maxReplicas is 9", "at most 8")
    ),
    "scaling from more workers than partitions": Wrong(
        {"autoscaling": {"enabled": True, "minReplicas": 9}}, ("autoscaling.minReplicas is 9", "at most 8")
    ),
    "an unknown protocol": Wrong(kafka(security_protocol="TLS"), ("security_protocol", "SASL_SSL")),
    "an unknown SASL mechanism": Wrong(
        {**kafka(**SASL, sasl_mechanism="GSSAPI"), "secrets": KAFKA_SECRET}, ("sasl_mechanism", "SCRAM-SHA-512")
    ),
    "SASL without a user": Wrong(
        {**kafka(security_protocol="SASL_SSL"), "secrets": KAFKA_SECRET}, ("config.kafka.username is missing",)
    ),
    "SASL without a secret": Wrong(kafka(**SASL), ("no Secret has the password", "secrets.kafka.existingSecret")),
    "a user of the store without a secret": Wrong(store(username="rater"), ("secrets.store.existingSecret",)),
    "a password among the settings": Wrong(kafka(**SASL, password="hunter2"), ("password",)),
    "a password in a variable": Wrong(
        {"extraEnv": [{"name": "RATER_KAFKA__PASSWORD", "value": "hunter2"}]}, ("RATER_KAFKA__PASSWORD", "secretKeyRef")
    ),
    "a certificate without its key": Wrong(
        {**kafka(security_protocol="SSL"), "secrets": {"kafka": {"existingSecret": "k", "keys": {"certificate": "c"}}}},
        ("secrets.kafka.keys.certificate and key belong together",),
    ),
    "an API without tokens": Wrong(
        {"config": {"api": {"auth": "token"}}, "secrets": {"apiTokens": {"existingSecret": ""}}},
        ("secrets.apiTokens.existingSecret",),
    ),
    "an API that asks nobody who he is": Wrong(
        {"config": {"api": {"auth": "noauth"}}, "secrets": {"apiTokens": {"existingSecret": ""}}},
        ("config.api.auth is noauth", "everybody"),
    ),
    "an unknown way to authenticate": Wrong({"config": {"api": {"auth": "basic"}}}, ("auth", "keystone")),
    "an API in reach of nobody": Wrong(
        {"config": {"api": {"listen": "127.0.0.1:8889"}}}, ("config.api.listen", "0.0.0.0:PORT")
    ),
    "an Ingress without a host": Wrong({"ingress": {"enabled": True}}, ("ingress.hosts",)),
    "a route without a Gateway": Wrong({"httpRoute": {"enabled": True}}, ("httpRoute.parentRefs",)),
    "a collector with nothing to ask": Wrong({"collect": {"enabled": True}}, ("collect.enabled needs config.collect",)),
    "no metrics": Wrong({"config": {"metrics": None}}, ("no metric is declared", "metrics.yml")),
    "one name for all workers": Wrong(
        {"config": {"worker": {"instance_id": "w"}}}, ("config.worker.instance_id", "evict")
    ),
    "a secret of two sources": Wrong(
        {"externalSecrets": {"enabled": True, "secretStoreRef": {"name": "vault"}, "data": {"apiTokens": [
            {"secretKey": "tokens.yaml", "remoteRef": {"key": "k"}}]}}},
        ("secrets.apiTokens.existingSecret and externalSecrets.data.apiTokens exclude each other",),
    ),
    "external secrets of no store": Wrong({"externalSecrets": {"enabled": True}}, ("secretStoreRef.name",)),
    "a file that nobody brings": Wrong(kafka(security_protocol="SSL", ca_file="/ca.pem"), ("ca_file", "/ca.pem")),
    "two monitors": Wrong(
        {"monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}}, ("twice", "one of them")
    ),
    "health in reach of nobody": Wrong(
        {"config": {"observe": {"listen": "127.0.0.1:8990"}}}, ("config.observe", "kubelet")
    ),
}  # fmt: skip


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for key, value in more.items():
        inner = result.get(key)
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return result


def rendering(values: dict[str, Any], tmp_path: Path) -> Said:
    base = yaml.safe_load(case_file("minimal").read_text())
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(merged(base, values)))
    return template("--values", file)


def test_what_the_wrong_values_are_put_on_is_right(tmp_path: Path) -> None:
    assert rendering({}, tmp_path).code == 0


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    values, says = WRONG[name]

    said = rendering(values, tmp_path)

    assert said.code != 0, "it was rendered"
    assert [words for words in says if words not in said.err] == [], said.err
    assert "hunter2" not in said.err
    for lost in ("nil pointer", "wrong type for value", "<nil>", "can't evaluate", "interface conversion"):
        assert lost not in said.err, said.err


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    said = rendering({**WRONG["no store"].values, **WRONG["more workers than partitions"].values}, tmp_path)

    assert "config.store.dsn is missing" in said.err
    assert "worker.replicas is 9" in said.err
