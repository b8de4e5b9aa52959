"""Who asks and what that allows, for the whole service: made from the settings, once."""

from __future__ import annotations

from multidict import MultiMapping

from rater.api.auth.noauth import NoAuth
from rater.api.credentials import Credentials
from rater.api.identity import Authenticator, Identity
from rater.api.policy import Policy, open_policy
from rater.api.settings import ApiSettings

__all__ = ["Access", "open_access"]


class Access:
    """These are Authenticators, too: what they give says whom the policy takes for an administrator."""

    def __init__(self, authenticator: Authenticator, policy: Policy) -> None:
        self._authenticator = authenticator
        self.policy = policy

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """Who sent these headers. Raises RefusalError 401, or 503 if that cannot be told."""
        return self.policy.judged(await self._authenticator.identify(headers))

    def red(self) -> str:
        """What is wrong with the files and servers that tell who it is and what that allows."""
        return "; ".join(filter(None, (self._authenticator.red(), self.policy.red())))

    async def close(self) -> None:
        """Gives back what is open."""
        await self._authenticator.close()


def open_access(settings: ApiSettings) -> Access:
    """What the settings want. Raises TokenFileError, PolicyFileError, SettingsError for a secret or a certificate."""
    return Access(_authenticator(settings), open_policy(settings.policy_file))


def _authenticator(settings: ApiSettings) -> Authenticator:
    if settings.method == "token":
        return Credentials(settings.token_file)
    return NoAuth()
