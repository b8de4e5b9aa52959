"""The scope fetcher Kubernetes, on a server that lists namespaces as an API server does."""

from __future__ import annotations

import ipaddress
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.scopes.kubernetes import KubernetesFetcher
from collectors.scopes.kubernetes_settings import KubernetesFetcherSettings
from collectors.settings import CollectorSettings
from collectors.source import SourceContext, fetcher_factory
from tests.unit.collectors.cluster import TOKEN, Cluster, Namespace, serving

NOW = 1_767_225_600


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with serving(Cluster()) as made:
        made.namespaces = {f"team-{letter}": Namespace() for letter in "abcde"}
        yield made


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


def fetcher_of(cluster: Cluster, token: Path, **settings: Any) -> KubernetesFetcher:
    chosen = KubernetesFetcherSettings(cluster.url, str(token), **settings)
    made = fetcher_factory("kubernetes")(SourceContext(CollectorSettings(kubernetes_fetcher=chosen), 3600))
    assert isinstance(made, KubernetesFetcher)
    return made


async def fetched(cluster: Cluster, token: Path, **settings: Any) -> set[str]:
    fetcher = fetcher_of(cluster, token, **settings)
    try:
        return await fetcher.fetch(NOW, NOW - 300)
    finally:
        await fetcher.close()


async def test_scopes_are_namespaces_on_all_pages(cluster: Cluster, token: Path) -> None:
    # given a namespace that is made, and one that is deleted, while the pages are asked for
    def change(page: int) -> None:
        if page == 1:
            cluster.namespaces["team-aa"] = Namespace()
            del cluster.namespaces["team-d"]

    cluster.before_page = change
    # then the pages are of one state
    assert await fetched(cluster, token, page_size=2) == {f"team-{letter}" for letter in "abcde"}
    assert [query["limit"] for query in cluster.asked] == ["2", "2", "2"]
    assert len({query.get("continue") for query in cluster.asked}) == 3


async def test_no_namespace_is_no_fault(cluster: Cluster, token: Path) -> None:
    cluster.namespaces.clear()
    assert await fetched(cluster, token) == set()


async def test_a_namespace_that_is_terminating_still_counts(cluster: Cluster, token: Path) -> None:
    cluster.namespaces["team-e"] = Namespace(phase="Terminating")
    assert "team-e" in await fetched(cluster, token)


async def test_several_namespaces_belong_to_one_tenant_by_a_label(
    cluster: Cluster, token: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # given two tenants, and namespaces that nobody pays for
    tenant = "example.org/tenant"
    cluster.namespaces |= {"team-a": Namespace({tenant: "red"}), "team-b": Namespace({tenant: "red"})}
    cluster.namespaces |= {"team-c": Namespace({tenant: "blue"}), "team-d": Namespace({tenant: ""})}
    fetcher = fetcher_of(cluster, token, scope_label=tenant)
    with caplog.at_level(logging.WARNING):
        try:
            # when they are fetched twice
            assert [await fetcher.fetch(NOW, NOW) for _ in range(2)] == [{"red", "blue"}] * 2
            # then those without the label are named once, and again when there are others
            assert [record.getMessage() for record in caplog.records] == [
                "namespaces whose example.org/tenant is missing, empty or too long belong to no scope: team-d, team-e; "
                "leave them out by collect.kubernetes_fetcher.label_selector if that is meant"
            ]
            cluster.namespaces |= {f"other-{number}": Namespace() for number in range(7)}
            await fetcher.fetch(NOW, NOW)
            assert "other-0, other-1, other-2, other-3, other-4 and 4 more" in caplog.records[-1].getMessage()
        finally:
            await fetcher.close()
    # and not asked for, if the settings say so
    caplog.clear()
    cluster.namespaces["team-d"] = Namespace()
    assert await fetched(cluster, token, scope_label=tenant, label_selector=tenant) == {"red", "blue"}
    assert not caplog.records


async def test_or_by_an_annotation(cluster: Cluster, token: Path) -> None:
    cluster.namespaces["team-a"] = Namespace({"payer": "no"}, {"payer": "Änne & Co"})
    assert await fetched(cluster, token, scope_annotation="payer", field_selector="metadata.name!=team-b") == {
        "Änne & Co"
    }
    assert cluster.asked[-1]["fieldSelector"] == "metadata.name!=team-b"


async def test_a_list_that_expires_is_begun_anew(cluster: Cluster, token: Path) -> None:
    def change(page: int) -> None:
        if page == 1:
            cluster.compact()
            cluster.namespaces["team-aa"] = Namespace()

    cluster.before_page = change
    assert await fetched(cluster, token, page_size=2) == {f"team-{name}" for name in ("a", "aa", "b", "c", "d", "e")}
    assert ["continue" in query for query in cluster.asked] == [False, True, False, True, True]


async def test_a_list_that_always_expires_is_no_list(cluster: Cluster, token: Path) -> None:
    cluster.before_page = lambda page: cluster.compact()
    with pytest.raises(SourceError, match=r"expired 3 times .* raise collect\.kubernetes_fetcher\.page_size"):
        await fetched(cluster, token, page_size=2)


async def test_who_may_not_list_is_told_what_it_takes(cluster: Cluster, token: Path) -> None:
    cluster.allowed = False
    with pytest.raises(SourceError, match=r"may not list namespaces .status 403.: bind a ClusterRole") as told:
        await fetched(cluster, token)
    assert TOKEN not in str(told.value)

    cluster.tokens = {"another"}
    with pytest.raises(SourceAwayError, match=r"does not know who we are .status 401.: check .*token_file"):
        await fetched(cluster, token)


async def test_a_token_that_was_replaced_is_read_again(cluster: Cluster, token: Path) -> None:
    fetcher = fetcher_of(cluster, token, page_size=4)
    try:
        # when it is replaced between two fetches, or between two pages
        cluster.tokens = {"second"}
        token.write_text("second\n")
        assert len(await fetcher.fetch(NOW, NOW)) == 5
        assert len(cluster.asked) == 2

        def change(page: int) -> None:
            if page == 3:
                cluster.tokens = {"third"}
                token.write_text("third")

        cluster.before_page = change
        assert len(await fetcher.fetch(NOW, NOW)) == 5
        # then a token that is gone is no reason to forget the scopes
        token.unlink()
        with pytest.raises(SourceAwayError, match=r"token_file .* cannot be read: No such file"):
            await fetcher.fetch(NOW, NOW)
    finally:
        await fetcher.close()


async def test_a_selector_that_cannot_be_read(cluster: Cluster, token: Path) -> None:
    with pytest.raises(SourceError, match=r"status 400: check .*label_selector and field_selector"):
        await fetched(cluster, token, label_selector="a in (")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>", "the answer is no list of namespaces"),
        (b"{}", "the answer is no list of namespaces: Object missing required field `items`"),
        (b'{"items": [{"metadata": {"name": 7}}]}', "Expected `str`, got `int`"),
        (b'{"items": null, "metadata": {"continue": "x"}}', "names one that was read before as the next one"),
        (b'{"items": [], "x": "' + b"y" * 2000 + b'"}', r"too large .collect\.kubernetes_fetcher\.max_answer_bytes"),
    ],
)
async def test_what_is_no_list(endpoint: Any, tmp_path: Path, answer: bytes, reason: str) -> None:
    endpoint.says((200, answer, {}))
    settings = KubernetesFetcherSettings(endpoint.url, max_answer_bytes=1024)
    fetcher = KubernetesFetcher(SourceContext(CollectorSettings(kubernetes_fetcher=settings), 3600))
    try:
        with pytest.raises(SourceError, match=reason):
            await fetcher.fetch(NOW, NOW)
        endpoint.says((503, b"", {}))
        with pytest.raises(SourceAwayError, match="status 503"):
            await fetcher.fetch(NOW, NOW)
        endpoint.says((404, b"", {}))
        with pytest.raises(SourceError, match="status 404"):
            await fetcher.fetch(NOW, NOW)
    finally:
        await fetcher.close()
    assert "Authorization" not in endpoint.asked[-1].headers


async def test_a_pod_knows_its_api_server(tmp_path: Path, token: Path) -> None:
    # given what a pod finds: a certificate, a token, and the API server in its environment
    key = tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(tmp_path / "ca.crt")], check=True, capture_output=True, timeout=60
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "ca.crt", key)
    cluster = Cluster()
    cluster.namespaces["kube-system"] = Namespace()
    async with serving(cluster, tls):
        url = URL(cluster.url)
        pod = {"KUBERNETES_SERVICE_HOST": str(url.host), "KUBERNETES_SERVICE_PORT": str(url.port)}
        fetcher = KubernetesFetcher(SourceContext(CollectorSettings(), 3600), tmp_path, pod)
        try:
            assert await fetcher.fetch(NOW, NOW) == {"kube-system"}
        finally:
            await fetcher.close()

        # and one that believes another certificate does not ask
        stranger = KubernetesFetcherSettings(cluster.url, str(token))
        fetcher = KubernetesFetcher(SourceContext(CollectorSettings(kubernetes_fetcher=stranger), 3600))
        try:
            with pytest.raises(SourceAwayError, match=r"no connection .*certificate"):
                await fetcher.fetch(NOW, NOW)
        finally:
            await fetcher.close()


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    nothing = SourceContext(CollectorSettings(), 3600)
    with pytest.raises(SettingsError, match=r"kubernetes_fetcher\.url is missing, and this is no pod"):
        KubernetesFetcher(nothing, tmp_path, {})
    with pytest.raises(SettingsError, match=r"ca_file .*ca.crt' cannot be used"):
        KubernetesFetcher(nothing, tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    with pytest.raises(ValueError, match="scope_label and scope_annotation exclude each other"):
        KubernetesFetcherSettings(scope_label="a", scope_annotation="b")
    with pytest.raises(ValueError, match="ca_file and insecure exclude each other"):
        KubernetesFetcherSettings(ca_file="f", insecure=True)


def test_an_api_server_with_an_address_of_version_6(tmp_path: Path, token: Path) -> None:
    insecure = KubernetesFetcherSettings(insecure=True)
    context = SourceContext(CollectorSettings(kubernetes_fetcher=insecure), 3600)
    address = str(ipaddress.ip_address("fd00::1"))
    fetcher = KubernetesFetcher(context, tmp_path, {"KUBERNETES_SERVICE_HOST": address})
    assert str(fetcher._url) == "https://[fd00::1]/api/v1/namespaces"
