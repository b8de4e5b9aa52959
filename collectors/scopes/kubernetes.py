"""The scope fetcher Kubernetes: scopes are namespaces, or the value of a label or annotation that several may share.

Namespaces are listed in pages of one state of the cluster. The API server forgets that state after some minutes and
then says 410 Gone: the list is begun anew, since pages of two states could both lack a namespace.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.http.request import Http, shown
from collectors.http.tokens import Credentials, FromFiles, read_secret
from collectors.scopes.kubernetes_settings import KubernetesFetcherSettings
from collectors.source import ScopeFetcher, SourceContext

__all__ = ["POD", "KubernetesFetcher", "kubernetes"]

log = logging.getLogger(__name__)

POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the token of its service account, and the certificate of the API server."""
_KEY = "collect.kubernetes_fetcher"
_LONGEST = 255
_BEGINNINGS = 3
_NAMED = 5
# Without spec and status, from servers since 1.15; others send all.
_ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Namespace(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _ListMetadata(msgspec.Struct, frozen=True):
    following: str = msgspec.field(default="", name="continue")


class _Namespaces(msgspec.Struct, frozen=True):
    items: list[_Namespace] | None
    metadata: _ListMetadata = _ListMetadata()


class _GoneError(SourceError):
    """The server has forgotten the state that the pages so far were of."""


class KubernetesFetcher:
    """The namespaces that there are now, terminating ones as well. One that came and went between two calls is not
    found: what Prometheus keeps of `kube_namespace_created` knows of it."""

    def __init__(self, context: SourceContext, pod: Path = POD, environment: Mapping[str, str] = os.environ) -> None:
        """Raises SettingsError if it is not said where to ask and we are in no pod, or a file cannot be used."""
        settings = _completed(context.settings.kubernetes_fetcher, pod, environment)
        self._settings = settings
        self._url = URL(settings.url.rstrip("/") + "/api/v1/namespaces")
        self._http = Http(settings, _KEY)
        self._token_file = settings.token_file
        self._who()
        self._unlabelled: frozenset[str] = frozenset()

    async def fetch(self, now: int, since: int) -> set[str]:
        """The scopes of the namespaces that the settings choose. Raises SourceError."""
        for _ in range(_BEGINNINGS):
            try:
                found = await self._all()
            except _GoneError:
                continue
            return self._scopes(found)
        raise SourceError(
            f"GET {shown(self._url)}: the list expired {_BEGINNINGS} times before all pages were there (status 410): "
            f"raise {_KEY}.page_size"
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _all(self) -> list[_Metadata]:
        """The namespaces of one state of the cluster. Raises _GoneError, SourceError."""
        try:
            who = self._who()
        except SettingsError as fault:  # it was there when we started: the one who writes it may be at work
            raise SourceAwayError(str(fault)) from None
        settings = self._settings
        query = {"limit": str(settings.page_size)}
        if settings.label_selector:
            query["labelSelector"] = settings.label_selector
        if settings.field_selector:
            query["fieldSelector"] = settings.field_selector
        room = settings.max_answer_bytes
        found: list[_Metadata] = []
        seen: set[str] = set()
        while True:
            url = self._url.with_query(query)
            reply = await self._http.ask_as(who, "GET", url, {"Accept": _ACCEPT}, max(0, room))
            self._refuse(reply.status)
            room -= len(reply.body)
            page = self._page(reply.body)
            found += [namespace.metadata for namespace in page.items or ()]
            following = page.metadata.following
            if not following:
                return found
            if following in seen:
                raise SourceError(f"GET {shown(self._url)}: a page names one that was read before as the next one")
            seen.add(following)
            query["continue"] = following

    def _who(self) -> Credentials:
        """The token, read now: a service account's is replaced every hour. Raises SettingsError."""
        path = self._token_file
        if not path:
            return FromFiles(dict)
        return FromFiles(lambda: {"Authorization": f"Bearer {read_secret(f'{_KEY}.token_file', path)}"})

    def _page(self, body: bytes) -> _Namespaces:
        """Raises SourceError."""
        try:
            return msgspec.json.decode(body, type=_Namespaces)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:  # which name a place in the answer, not its content
            raise SourceError(f"GET {shown(self._url)}: the answer is no list of namespaces: {fault}") from None

    def _refuse(self, status: int) -> None:
        """Raises SourceError for everything but success."""
        where = f"GET {shown(self._url)}"
        if status == 410:
            raise _GoneError(f"{where}: status 410")
        if status == 401:
            raise SourceAwayError(f"{where}: does not know who we are (status 401): check {_KEY}.token_file")
        if status == 403:
            raise SourceError(
                f"{where}: we may not list namespaces (status 403): bind a ClusterRole to the service account, with "
                'apiGroups [""], resources [namespaces], verbs [list]'
            )
        if status == 400:
            raise SourceError(f"{where}: status 400: check {_KEY}.label_selector and field_selector")
        if status != 200:
            raise SourceError(f"{where}: status {status}")

    def _scopes(self, found: list[_Metadata]) -> set[str]:
        settings = self._settings
        if settings.scope_label:
            scopes = {one.name: (one.labels or {}).get(settings.scope_label, "") for one in found}
        elif settings.scope_annotation:
            scopes = {one.name: (one.annotations or {}).get(settings.scope_annotation, "") for one in found}
        else:
            scopes = {one.name: one.name for one in found}
        self._tell(frozenset(name for name, scope_id in scopes.items() if not 0 < len(scope_id) <= _LONGEST))
        return {scope_id for scope_id in scopes.values() if 0 < len(scope_id) <= _LONGEST}

    def _tell(self, without: frozenset[str]) -> None:
        """Says, when it changes, which namespaces nobody pays for."""
        if without and without != self._unlabelled:
            key = self._settings.scope_label or self._settings.scope_annotation
            names = ", ".join(sorted(without)[:_NAMED])
            more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
            log.warning(
                "namespaces whose %s is missing, empty or too long belong to no scope: %s%s; leave them out by "
                "%s.label_selector if that is meant",
                *(key, names, more, _KEY),
            )
        self._unlabelled = without


def _completed(
    settings: KubernetesFetcherSettings, pod: Path, environment: Mapping[str, str]
) -> KubernetesFetcherSettings:
    """With what a pod knows, where no URL is set. Raises SettingsError if this is no pod."""
    if settings.url:
        return settings
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsError(f"{_KEY}.url is missing, and this is no pod, which would know its API server: set it")
    address = f"[{host}]" if ":" in host else host
    return msgspec.structs.replace(
        settings,
        url=f"https://{address}:{port}",
        token_file=settings.token_file or str(pod / "token"),
        ca_file=settings.ca_file or ("" if settings.insecure else str(pod / "ca.crt")),
    )


def kubernetes(context: SourceContext) -> ScopeFetcher:
    """The entry point `kubernetes` of group `rater.fetchers`."""
    return KubernetesFetcher(context)
