"""What docs/fetchers.md shows: each part of rater.yaml is one that loads, and its fetcher names scopes."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from collectors.scopes.kubernetes import KubernetesFetcher
from collectors.settings import CollectorSettings
from collectors.source import SourceContext, fetcher_factory
from rater.config import load_config
from tests.unit.collectors.cluster import TOKEN, Cluster, Namespace, serving
from tests.unit.collectors.rest_endpoint import Endpoint, json_reply

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "fetchers.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
BLOCKS = {text.split("\n")[0].removeprefix("# "): text for text in YAML}
NOW = 1_767_225_600


def settings_of(name: str, directory: Path, url: str = "") -> CollectorSettings:
    """What a part of the page says, asked at `url`; its files are there."""
    for secret in ("token", "password"):
        (directory / secret).write_text(TOKEN)
    text = BLOCKS[name]
    if url:
        text = re.sub(r"https?://[^/\s\"]+", url, text)
    (directory / "rater.yaml").write_text(text.replace("    ca_file: ca.pem\n", "") if url else text)
    found = load_config(directory / "rater.yaml", {}).settings.collect
    assert found is not None
    return found


async def fetched(settings: CollectorSettings) -> set[str]:
    made = fetcher_factory(settings.fetcher)
    fetcher = made(SourceContext(settings, 3600))
    try:
        return await fetcher.fetch(NOW, NOW - 300)
    finally:
        await fetcher.close()


def test_each_fetcher_has_an_example() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    fetchers = set(pyproject["project"]["entry-points"]["rater.fetchers"])
    assert fetchers <= {name.split(" ")[0] for name in BLOCKS} | {"gnocchi"}  # which has a page of its own
    assert fetchers <= set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "kubernetes rights"])
def test_each_example_loads(name: str, tmp_path: Path) -> None:
    settings = settings_of(name, tmp_path)
    assert settings.fetcher == name.split(" ")[0]


def test_each_setting_is_in_its_table() -> None:
    for fetcher in ("prometheus", "keystone", "kubernetes"):
        (section,) = re.findall(rf"^## {fetcher}\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
        table = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
        named = set(re.findall(r"`(\w+)`", table))
        assert named == set(getattr(CollectorSettings(), f"{fetcher}_fetcher").__struct_fields__)


async def test_static(tmp_path: Path) -> None:
    assert len(await fetched(settings_of("static", tmp_path))) == 2


async def test_prometheus(tmp_path: Path, endpoint: Endpoint) -> None:
    series = [{"metric": {"namespace": name}, "value": [NOW, "1"]} for name in ("red", "blue")]
    endpoint.says({"status": "success", "data": {"resultType": "vector", "result": series}})

    assert await fetched(settings_of("prometheus", tmp_path, endpoint.url)) == {"red", "blue"}
    query = 'max(max_over_time(kube_namespace_created{cluster="production"}[300s])) by (namespace)'
    assert endpoint.asked[0].query["query"] == query


async def test_rest(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.says({"customers": [{"id": "c1", "billed": True}, {"id": "c2", "billed": False}]})

    assert await fetched(settings_of("rest", tmp_path, endpoint.url)) == {"c1"}


async def test_keystone(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.says(
        json_reply({"token": {"user": {"id": "u1"}}}, 201, X_Subject_Token="k1"),
        {"roles": [{"id": "r1", "name": "rating"}]},
        {"role_assignments": [{"scope": {"project": {"id": "alpha"}}}]},
    )
    assert await fetched(settings_of("keystone", tmp_path, endpoint.url)) == {"alpha"}
    assert b'"system": {"all": true}' in endpoint.asked[0].body


async def test_kubernetes(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.namespaces = {"kube-system": Namespace(), "a": Namespace({"example.org/tenant": "red"})}
    async with serving(cluster):
        assert await fetched(settings_of("kubernetes from elsewhere", tmp_path, cluster.url)) == {"red"}

    settings = settings_of("kubernetes", tmp_path)
    (tmp_path / "ca.crt").write_text(_certificate(tmp_path))
    fetcher = KubernetesFetcher(SourceContext(settings, 3600), tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    await fetcher.close()


def test_the_rights_are_those_of_one_question() -> None:
    role, binding = yaml.safe_load_all(BLOCKS["kubernetes rights"])
    assert role["rules"] == [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def _certificate(directory: Path) -> str:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    paths = ["-subj", "/CN=a", "-keyout", str(directory / "key"), "-out", str(directory / "chain")]
    subprocess.run([*command, *paths], check=True, capture_output=True, timeout=60)
    return (directory / "chain").read_text()
