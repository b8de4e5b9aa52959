"""What whoever tries rules shares, commands and the API: a runner for the scripts of books, and their modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rater.config import Config
    from rater.rating import Module, RuleBook, ScriptRunner

__all__ = ["script_runner", "third_party_modules"]


@contextmanager
def script_runner(config: Config, *books: RuleBook) -> Iterator[ScriptRunner]:
    """Who runs the scripts of these books; no process is started if they have none."""
    from rater.rating import NoScripts

    if not any(book.module("pyscripts").enabled and book.scripts_in_order() for book in books):
        yield NoScripts()
        return
    from rater.sandbox import Sandbox

    with Sandbox(config.settings.scripts) as sandbox:
        yield sandbox


def third_party_modules(*books: RuleBook) -> Mapping[str, Module]:
    """The installed modules, if one of these books switches a module on that is not built in."""
    from rater.rating import BUILT_IN

    enabled = {module.module for book in books for module in book.modules.values() if module.enabled}
    if enabled <= set(BUILT_IN):
        return {}
    from rater.modules import installed_modules

    return installed_modules()
