"""Fills a Keystone: projects, users, roles, services."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from tests.openstack.asking import Json, Said, ask

PASSWORD = "of-the-tests"
"""Of the administrator and of each user."""


class KeystoneClient:
    """Speaks to the server as `admin`, who has the role of that name on the system and on project `admin`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._token = self.login("admin", system=True)

    def login(self, username: str, *, project: str = "", system: bool = False) -> str:
        """A token of a user, for the project of that name, the system, or nothing."""
        user = {"name": username, "domain": {"id": "default"}, "password": PASSWORD}
        body: Json = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        if project:
            body["auth"]["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        if system:
            body["auth"]["scope"] = {"system": {"all": True}}
        said = ask("POST", f"{self._url}/auth/tokens", {}, body)
        return {name.lower(): value for name, value in said.headers.items()}["x-subject-token"]

    def ask(self, method: str, path: str, body: object = None, *, token: str = "") -> Json:
        """Any request, as administrator or with another token. Raises RefusedError."""
        return self._ask(method, path, body, token).body

    def _ask(self, method: str, path: str, body: object, token: str) -> Said:
        return ask(method, self._url + path, {"X-Auth-Token": token or self._token}, body)

    def _make(self, kind: str, **described: object) -> str:
        """A new object; its id."""
        return str(self.ask("POST", f"/{kind}s", {kind: described})[kind]["id"])

    def project(self, name: str, *, domain: str = "default", parent: str = "", enabled: bool = True) -> str:
        """A new project; its id."""
        above = {"parent_id": parent} if parent else {}
        return self._make("project", name=name, domain_id=domain, enabled=enabled, **above)

    def domain(self, name: str) -> str:
        """A new domain; its id."""
        return self._make("domain", name=name)

    def user(self, name: str) -> str:
        """A new user with the password PASSWORD; its id."""
        return self._make("user", name=name, domain_id="default", password=PASSWORD)

    def role(self, name: str) -> str:
        """The role of that name, made if it is not there; its id."""
        known: list[Mapping[str, str]] = self.ask("GET", f"/roles?name={name}")["roles"]
        return known[0]["id"] if known else self._make("role", name=name)

    def grant(self, user: str, role: str, on: str) -> None:
        """Give a user the role of that name `on` "system" or a place such as "projects/ID" or "domains/ID"."""
        self.ask("PUT", f"/{on}/users/{user}/roles/{self.role(role)}")

    def grant_inherited(self, user: str, role: str, on: str) -> None:
        """Give a user the role of that name on every project below a domain or a project."""
        self.ask("PUT", f"/OS-INHERIT/{on}/users/{user}/roles/{self.role(role)}/inherited_to_projects")

    def grant_group(self, user: str, group: str, role: str, on: str) -> None:
        """Make a group of that name with one member, and give the group a role."""
        made = self._make("group", name=group, domain_id="default")
        self.ask("PUT", f"/groups/{made}/users/{user}")
        self.ask("PUT", f"/{on}/groups/{made}/roles/{self.role(role)}")

    def imply(self, role: str, implied: str) -> None:
        """Whoever has the first role has the second one, too."""
        self.ask("PUT", f"/roles/{self.role(role)}/implies/{self.role(implied)}")

    def service(self, kind: str, name: str, endpoints: Mapping[str, str], region: str = "RegionOne") -> None:
        """A service in the catalogue; `endpoints` is interface -> URL."""
        service = self._make("service", type=kind, name=name)
        for interface, url in endpoints.items():
            self._make("endpoint", service_id=service, interface=interface, url=url, region_id=region)

    def region(self, name: str) -> None:
        """A new region of the cloud."""
        self.ask("POST", "/regions", {"region": {"id": name}})

    def revoke(self, token: str) -> None:
        """A token that holds no longer."""
        ask("DELETE", f"{self._url}/auth/tokens", {"X-Auth-Token": self._token, "X-Subject-Token": token})

    def application_credential(self, user: str, *, username: str, project: str) -> tuple[str, str]:
        """Id and secret of a new one, with the roles that the user has on the project of that name."""
        token, secret = self.login(username, project=project), secrets.token_hex(16)
        described = {"application_credential": {"name": secrets.token_hex(4), "secret": secret}}
        made = self.ask("POST", f"/users/{user}/application_credentials", described, token=token)
        return str(made["application_credential"]["id"]), secret
