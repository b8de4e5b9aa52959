"""What can go wrong with the process of a sandbox, as against with a script in it.

RaterError
└── SandboxError        the process did not start, broke off or hung; the caller starts another one
"""

from __future__ import annotations

from rater.model.errors import RaterError

__all__ = ["SandboxError"]


class SandboxError(RaterError):
    """The process inside did not answer as it must."""
