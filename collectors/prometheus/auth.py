"""Where a Prometheus is and who we are to it: settings and files, or OpenStack's Keystone and its catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.http.keystone import KeystoneLogin
from collectors.http.request import Http
from collectors.http.tokens import Credentials, FromFiles, basic_header, read_secret
from collectors.rest.settings import RestConnection
from collectors.settings import PrometheusKeystone, PrometheusSettings

__all__ = ["Access", "access_of"]

_KEY = "collect.prometheus"
_SERVICE_TYPE = "metric-storage"
_API = "/api/v1"


class Access:
    """Credentials from files, for a server whose URL the settings name."""

    def __init__(self, credentials: Credentials, advice: str) -> None:
        self.credentials = credentials
        self.advice = advice
        """What to check if the server refuses us."""

    async def address(self, url: str) -> str:
        """Where the server is: `url`. Raises SourceAwayError if that has to be asked and is not said."""
        return url

    async def close(self) -> None:
        """Let go of connections."""


class _ByKeystone(Access):
    """A token of Keystone, for a server that stands in its catalogue."""

    def __init__(self, settings: PrometheusKeystone, http: Http) -> None:
        self._login = KeystoneLogin(settings, http, http.key)
        self._settings = settings
        self._http = http
        super().__init__(self._login, f"check the roles that {http.key} has there: all projects need admin or service")

    async def address(self, url: str) -> str:
        if url:
            return url
        found = await self._login.endpoint(_SERVICE_TYPE, self._settings.interface, self._settings.region)
        return found if found.endswith(_API) else found + _API

    async def close(self) -> None:
        await self._http.close()


def access_of(settings: PrometheusSettings) -> Access:
    """What the settings say. Raises SettingsError for a file that cannot be read."""
    if settings.keystone is not None:
        connection = RestConnection(ca_file=settings.ca_file, timeout=settings.timeout)
        return _ByKeystone(settings.keystone, Http(connection, f"{_KEY}.keystone"))
    return Access(FromFiles(lambda: _headers(settings)), f"check {_KEY}.username, password_file and bearer_file")


def _headers(settings: PrometheusSettings) -> Mapping[str, str]:
    if settings.bearer_file:
        return {"Authorization": f"Bearer {read_secret(f'{_KEY}.bearer_file', settings.bearer_file)}"}
    if settings.username:
        return basic_header(settings.username, read_secret(f"{_KEY}.password_file", settings.password_file))
    return {}
