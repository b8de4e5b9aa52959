"""The rating modules of third parties that are installed: entry points of group `rater.rating`, loaded once.

A module that cannot be loaded takes nothing down: it stays in the list with its fault, and fails each frame it is to
rate with that reason, so that nothing is billed without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn, cast

import msgspec

from rater.model.errors import RaterError
from rater.rating import BUILT_IN, Module, RatingFrame, RatingPoint, RuleBook

__all__ = ["GROUP", "BrokenModuleError", "InstalledModule", "broken_module", "installed_modules", "list_modules"]

GROUP = "rater.rating"
MAX_NAME = 255  # characters, as in the rules


class BrokenModuleError(RaterError):
    """A rating module that cannot be used; the message names the package that brought it and what is wrong."""


class InstalledModule(msgspec.Struct, frozen=True):
    """A rating module that an installed package offers. `fault` is empty if it can be used."""

    name: str
    package: str
    """Name and version of the distribution."""
    place: str
    """`package.module:function`."""
    module: Module
    fault: str = ""


def installed_modules() -> dict[str, Module]:
    """The modules by name; those that are broken raise BrokenModuleError when a frame is rated.

    A module with the name of a built-in one is left out: `list_modules` says so. Runs the code of installed packages.
    """
    return {found.name: found.module for found in list_modules() if found.name not in BUILT_IN}


def list_modules() -> list[InstalledModule]:
    """Everything that installed packages offer as a rating module, by name."""
    offers: dict[str, list[EntryPoint]] = {}
    for offer in entry_points(group=GROUP):
        offers.setdefault(offer.name, []).append(offer)
    return [_installed(name, offers[name]) for name in sorted(offers)]


def broken_module(fault: str) -> Module:
    """A module that fails every frame, with this reason."""

    def fail(frame: RatingFrame, rules: RuleBook) -> Iterable[RatingPoint]:
        _raise(fault)

    return fail


def _raise(fault: str) -> NoReturn:
    raise BrokenModuleError(fault)


def _installed(name: str, offers: list[EntryPoint]) -> InstalledModule:
    packages = sorted({_package(offer) for offer in offers})
    package, place = " and ".join(packages), offers[0].value
    fault, module = "", None
    if name in BUILT_IN:
        fault = f"{name!r} is the name of a built-in module: it needs another one"
    elif not 0 < len(name) <= MAX_NAME:
        fault = f"a name has 1 to {MAX_NAME} characters"
    elif len({offer.value for offer in offers}) > 1 or len(packages) > 1:
        fault = f"offered more than once, by {package}: uninstall one"
    else:
        module, fault = _loaded(offers[0])
    if module is None or fault:
        fault = f"rating module {name!r} of package {package} ({place}) cannot be used: {fault}"
        return InstalledModule(name, package, place, broken_module(fault), fault)
    return InstalledModule(name, package, place, module)


def _package(offer: EntryPoint) -> str:
    return "(unknown)" if offer.dist is None else f"{offer.dist.name} {offer.dist.version}"


def _loaded(offer: EntryPoint) -> tuple[Module | None, str]:
    try:
        found: Any = offer.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001  code that is not ours: the service must start whatever it does
        return None, f"{type(error).__name__}: {error}"
    fault = _shape_fault(found)
    return (None, fault) if fault else (cast(Module, found), "")


def _shape_fault(found: Any) -> str:
    """Why this is no module; empty if it looks like one."""
    if inspect.isclass(found):
        return "it is a class: name a function, or an object that can be called"
    if not callable(found):
        return f"it is of type {type(found).__name__}, and not a function of frame and rules"
    call = found if inspect.isroutine(found) else found.__call__
    if inspect.iscoroutinefunction(call):
        return "it is asynchronous: a rating module is a plain function"
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as fault:
        return f"it must take a frame and the rules: {fault}"
    except ValueError:
        return ""  # a function in C that does not tell
    return ""
