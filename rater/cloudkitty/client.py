"""What needs OpenStack's clients: a running CloudKitty's rules, and who we are by clouds.yaml or OS_* variables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from rater.cloudkitty.listing import Listing
from rater.model.errors import RaterError

__all__ = ["Cloud", "CloudKittyError", "read_rules"]

SECONDS = 60.0  # for one answer; a listing of thousands of mappings takes CloudKitty seconds


class CloudKittyError(RaterError):
    """CloudKitty, or what speaks its API, could not be asked, or did not answer as it should."""


def read_rules(endpoint: str | None = None, cloud: str | None = None) -> Listing:
    """All rules of the CloudKitty at `endpoint`, which asks for no authentication; else of an OpenStack cloud.

    The cloud is the one of that name in clouds.yaml, or what OS_* variables say. Only reads. Raises CloudKittyError.
    """
    try:
        from cloudkittyclient.client import Client
        from keystoneauth1.exceptions import ClientException
    except ImportError as missing:
        raise _not_installed(missing) from missing
    place = endpoint or (f"cloud {cloud!r}" if cloud else "the cloud of the environment")
    try:
        session, options = _noauth(endpoint) if endpoint else _openstack(cloud)
        return _listing(Client("1", session=session, adapter_options=options).rating)
    except ClientException as error:
        raise CloudKittyError(f"{place}: {_advice(error)}") from error
    except (msgspec.ValidationError, ValueError, KeyError) as error:
        raise CloudKittyError(
            f"{place}: its answer is not that of CloudKitty's API v1 ({type(error).__name__}: {error!s:.200}): is the "
            "URL that of the rating service, without /v1?"
        ) from error


class Cloud:
    """An OpenStack cloud, of clouds.yaml or OS_* variables. These are `collectors.http.tokens.Credentials`."""

    def __init__(self, name: str | None) -> None:
        """Raises CloudKittyError."""
        try:
            from keystoneauth1.exceptions import ClientException
        except ImportError as missing:
            raise _not_installed(missing) from missing
        self._fault = ClientException
        self._place = f"cloud {name!r}" if name else "the cloud of the environment"
        self._session, self._options = _openstack(name)

    @property
    def ca_file(self) -> str:
        """Whose certificates are believed; empty: those that the system believes."""
        verify = self._session.verify
        return verify if isinstance(verify, str) else ""

    @property
    def insecure(self) -> bool:
        """Whether whoever answers is believed, since clouds.yaml says so."""
        return self._session.verify is False

    def endpoint(self) -> str:
        """The URL of the rating service. Raises CloudKittyError."""
        options = dict(self._options)
        found = options.pop("endpoint_override") or self._asked(
            lambda: self._session.get_endpoint(service_type="rating", **options)
        )
        if not found:
            raise CloudKittyError(f"{self._place}: its catalogue has no service of type `rating`: give its URL")
        return str(found)

    async def headers(self) -> Mapping[str, str]:
        """Those of a token. Raises CloudKittyError."""
        found = await asyncio.to_thread(self._asked, self._session.get_auth_headers)
        return dict(found or {})

    def forget(self, refused: Mapping[str, str]) -> bool:
        """The token was refused: another one is asked for next time."""
        return bool(refused) and bool(self._session.invalidate())

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._fault as error:
            raise CloudKittyError(f"{self._place}: {_advice(error)}") from error


def _not_installed(missing: ImportError) -> CloudKittyError:
    return CloudKittyError(
        f"{missing.name} is not installed: install rater with its extra `openstack`: pip install 'rater[openstack]'"
    )


def _noauth(endpoint: str) -> tuple[Any, dict[str, Any]]:
    from cloudkittyclient.auth import CloudKittyNoAuthPlugin
    from keystoneauth1.session import Session

    return Session(auth=CloudKittyNoAuthPlugin(endpoint=endpoint.rstrip("/")), timeout=SECONDS), {}


def _openstack(cloud: str | None) -> tuple[Any, dict[str, Any]]:
    from openstack.config import OpenStackConfig

    try:
        region = OpenStackConfig(app_name="rater").get_one(cloud=cloud)
        session = region.get_session()
    except Exception as error:  # openstacksdk raises bare Exceptions for what is missing
        raise CloudKittyError(
            f"cannot tell where CloudKitty is: {error!s:.300}. Name an entry of clouds.yaml (--os-cloud), set OS_* "
            "variables, or give --endpoint"
        ) from error
    session.timeout = session.timeout or SECONDS
    return session, {
        "interface": region.get_interface("rating"),
        "region_name": region.get_region_name("rating"),
        "endpoint_override": region.get_endpoint("rating"),
    }


def _listing(rating: Any) -> Listing:
    hashmap = rating.hashmap
    services = hashmap.get_service()["services"]
    fields = _each(hashmap.get_field, "fields", "service_id", services)
    parents = [("service_id", services), ("field_id", fields)]
    return msgspec.convert(
        {
            "modules": rating.get_module()["modules"],
            "groups": hashmap.get_group()["groups"],
            "services": services,
            "fields": fields,
            "mappings": [row for key, of in parents for row in _each(hashmap.get_mapping, "mappings", key, of)],
            "thresholds": [row for key, of in parents for row in _each(hashmap.get_threshold, "thresholds", key, of)],
            "scripts": rating.pyscripts.list_scripts()["scripts"],
        },
        Listing,
    )


def _each(ask: Callable[..., Any], what: str, key: str, parents: Iterable[Any]) -> list[Any]:
    return [row for parent in parents for row in ask(**{key: parent[key]})[what]]


def _advice(error: Exception) -> str:
    """What went wrong and what to do. Of an answer its status alone: pages of errors may be long."""
    status = getattr(error, "http_status", None)
    no_api = f"there is no CloudKitty API v1 ({status}): the URL must be that of the rating service, without /v1"
    said = {
        401: "it does not accept these credentials (401): check the cloud's entry in clouds.yaml, or OS_*",
        403: "these credentials may not read rating rules (403): role admin is needed",
        404: no_api,
        405: no_api,  # what CloudKitty answers below /v1/v1
    }.get(status or 0)
    if said is not None:
        return said
    if status:
        return f"it answered with status {status}: its own log says why"
    return f"{error!s:.300}; check the URL or the cloud's entry in clouds.yaml, and that CloudKitty's API runs"
