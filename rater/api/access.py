"""Who asks and what that allows, for the whole service: made from the settings, once."""

from __future__ import annotations

from multidict import MultiMapping

from rater.api.audit_log import current_trail
from rater.api.auth.keystone import KeystoneAuthenticator
from rater.api.auth.noauth import NoAuth
from rater.api.auth.settings import OidcAuth
from rater.api.credentials import Credentials
from rater.api.identity import Authenticator, Identity
from rater.api.policy import Policy, open_policy
from rater.api.settings import ApiSettings
from rater.model.errors import RaterError

__all__ = ["Access", "MissingExtraError", "open_access"]


class MissingExtraError(RaterError):
    """A choice of the settings needs packages that are not installed."""


class Access:
    """These are Authenticators, too: what they give says whom the policy takes for an administrator."""

    def __init__(self, authenticator: Authenticator, policy: Policy) -> None:
        self._authenticator = authenticator
        self.policy = policy

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """Who sent these headers, which the trail of the request knows from then on.

        Raises RefusalError 401, 429 if that was too often, or 503 if it cannot be told.
        """
        identity = self.policy.judged(await self._authenticator.identify(headers))
        current_trail().identified(identity)
        return identity

    async def check(self) -> None:
        """Asks whom it needs, as it will for the first request. Raises SourceError."""
        await self._authenticator.check()

    def red(self) -> str:
        """What is wrong with the files and servers that tell who it is and what that allows."""
        return "; ".join(filter(None, (self._authenticator.red(), self.policy.red())))

    async def close(self) -> None:
        """Gives back what is open."""
        await self._authenticator.close()


def open_access(settings: ApiSettings) -> Access:
    """What the settings want.

    Raises TokenFileError, KeyFileError, PolicyFileError, MissingExtraError, and SettingsError for a secret or a CA.
    """
    return Access(_authenticator(settings), open_policy(settings.policy_file))


def _authenticator(settings: ApiSettings) -> Authenticator:
    if settings.token_file:
        return Credentials(settings.token_file)
    if settings.keystone is not None:
        return KeystoneAuthenticator(settings.keystone)
    if settings.oidc is not None:
        return _oidc(settings.oidc)
    return NoAuth()


def _oidc(settings: OidcAuth) -> Authenticator:
    try:
        from rater.api.auth.oidc import OidcAuthenticator  # here: its libraries are an extra of the package
    except ModuleNotFoundError as fault:
        raise MissingExtraError(
            f"api.auth: oidc needs package {fault.name}: `pip install 'rater[oidc]'` brings it"
        ) from fault
    return OidcAuthenticator(settings)
