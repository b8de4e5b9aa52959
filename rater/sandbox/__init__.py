"""Where rating scripts run: a process of their own for each frame, in which they can compute and nothing else.

The names are loaded when they are first used: the process inside imports this package too, and shall stay small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rater.sandbox.background import BackgroundSandbox
    from rater.sandbox.runner import Sandbox, check_scripts
    from rater.sandbox.settings import SandboxSettings

__all__ = ["BackgroundSandbox", "Sandbox", "SandboxSettings", "check_scripts"]

_HOMES = {
    "BackgroundSandbox": "rater.sandbox.background",
    "Sandbox": "rater.sandbox.runner",
    "SandboxSettings": "rater.sandbox.settings",
    "check_scripts": "rater.sandbox.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
