"""The two services that `rater compare-cloudkitty` asks, as its options say."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collectors.http.tokens import Credentials
    from rater.cloudkitty import Cloud, Connection, Side
    from rater.config import Config

__all__ = ["CLOUDKITTY_TOKEN", "RATER_TOKEN", "Services", "services_of", "sides"]

CLOUDKITTY_TOKEN, RATER_TOKEN = "CLOUDKITTY_TOKEN", "RATER_TOKEN"
_NO_CLOUDKITTY = "there is no such API: the URL must be that of the rating service, without /v1 or /v2"
_NO_RATER = "there is no such API: is section api.cloudkitty in its rater.yaml?"


class _Service(NamedTuple):
    name: str
    url: str
    credentials: Credentials
    connection: Connection
    hint: str


class Services(NamedTuple):
    """Where both are, and who asks."""

    cloudkitty: _Service
    rater: _Service


def services_of(config: Config, options: dict[str, Any]) -> Services:
    """Raises UsageError, CloudKittyError."""
    from rater.cloudkitty import Cloud, Connection

    theirs, our_auth = options["theirs"], options["rater_auth"]
    their_auth = options["cloudkitty_auth"] or ("none" if theirs else "keystone")
    if not theirs and their_auth != "keystone":
        raise click.UsageError("give --cloudkitty URL: only with keystone a catalogue knows it")
    cloud = Cloud(options["os_cloud"]) if "keystone" in (their_auth, our_auth) else None
    plain = Connection(options["timeout"], options["ca_file"])

    def service(name: str, url: str, auth: str, hint: str) -> _Service:
        connection = plain
        if auth == "keystone":
            assert cloud is not None, "made above"
            ca_file = plain.ca_file or cloud.ca_file
            connection = Connection(plain.timeout, ca_file, cloud.insecure and not plain.ca_file)
        option = f"{name.lower()}_token_file"
        return _Service(name, url, _credentials(name, auth, options[option], cloud), connection, hint)

    their_url = theirs or (cloud.endpoint() if cloud else "")
    our_url = options["ours"] or _own_url(config)
    if their_url.rstrip("/") == our_url.rstrip("/"):
        raise click.UsageError(f"both sides are {our_url}: say with --rater where ours is")
    return Services(
        service("CloudKitty", their_url, their_auth, _NO_CLOUDKITTY), service("rater", our_url, our_auth, _NO_RATER)
    )


def _credentials(name: str, auth: str, token_file: str | None, cloud: Cloud | None) -> Credentials:
    from rater.cloudkitty import from_file, nobody, of_token

    option = f"--{name.lower()}-token-file"
    if auth == "token":
        variable = CLOUDKITTY_TOKEN if name == "CloudKitty" else RATER_TOKEN
        if token_file:
            return from_file(token_file, option)
        if variable in os.environ:
            return of_token(os.environ[variable], variable)
        raise click.UsageError(f"no token for {name}: give {option}, or set {variable}")
    if token_file:
        raise click.UsageError(f"{option} is for --{name.lower()}-auth token")
    if auth == "keystone":
        assert cloud is not None, "made by the caller"
        return cloud
    return nobody()


def _own_url(config: Config) -> str:
    """Where our service listens on this machine, by rater.yaml."""
    api = config.settings.api
    if api is None:
        raise click.UsageError("give --rater URL: there is no section api in rater.yaml, which would tell it")
    host, _, port = api.listen.rpartition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - not listened on
    return f"{'https' if api.certificate_file else 'http'}://{host}:{port}"


@asynccontextmanager
async def sides(services: Services) -> AsyncIterator[tuple[Side, Side]]:
    """CloudKitty and rater, while the block runs. Raises CloudKittyError."""
    from rater.cloudkitty import Side

    made: list[Side] = []
    try:
        made.extend(Side(*service) for service in services)
        yield made[0], made[1]
    finally:
        for side in made:
            await side.close()
