"""Rating modules of third parties: found by entry point, and harmless when they are broken."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from rater.model.rules import ModuleSet, RuleEvent
from rater.modules import BrokenModuleError, broken_module, installed_modules, list_modules
from rater.rating import Chain, Failed, NoScripts, Rated, RatingFrame, RatingPoint, RuleBook

Offer = Callable[..., str]
_numbers = itertools.count()
FRAME = RatingFrame("A", 0, 3600, (RatingPoint("cpu", "h", Decimal(2), Decimal(3), {}, {}, 0),))


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Installs a package that offers a module: `offer("name", "source code")`; gives its import name."""

    def install(name: str, code: str, attribute: str = "rate", package: str = "acme") -> str:
        place, module = tmp_path / f"{package}-{next(_numbers)}", f"third_party_{next(_numbers)}"
        about = place / f"{package}-2.5.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
        (about / "entry_points.txt").write_text(f"[rater.rating]\n{name} = {module}:{attribute}\n")
        (place / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(place)
        return module

    return install


def rate(name: str) -> Rated | Failed | None:
    """The frame by a book that switches this module on."""
    book, _ = RuleBook.empty().apply(RuleEvent(0, "a", "", 0, (ModuleSet(name, True),)))
    return Chain(book, installed_modules()).rate(FRAME, NoScripts())


def test_a_module_is_found_by_its_entry_point_and_rates(offer: Offer) -> None:
    module = offer(
        "double",
        "import msgspec\n"
        "def rate(frame, rules):\n"
        "    return [msgspec.structs.replace(p, price=p.price * 2 + rules.version) for p in frame.points]\n",
    )
    (found,) = [found for found in list_modules() if found.name == "double"]
    assert (found.package, found.place, found.fault) == ("acme 2.5", f"{module}:rate", "")
    rated = rate("double")
    assert isinstance(rated, Rated)
    assert [point.price for point in rated.points] == [7]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_library_of_theirs", "ModuleNotFoundError: No module named 'no_such_library_of_theirs'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def rate(", "SyntaxError: "),
        ("", "AttributeError: "),
        ("rate = 5", "it is of type int"),
        ("class rate:\n    def __init__(self, frame, rules): pass", "it is a class"),
        ("async def rate(frame, rules): ...", "it is asynchronous"),
        ("class R:\n    async def __call__(self, frame, rules): ...\nrate = R()", "it is asynchronous"),
        ("def rate(frame): ...", "it must take a frame and the rules: too many positional arguments"),
        ("def rate(frame, rules, more): ...", "it must take a frame and the rules: missing a required argument"),
    ],
)
def test_a_broken_module_fails_frames_with_its_reason_and_nothing_else(offer: Offer, code: str, reason: str) -> None:
    module = offer("broken", code)
    offer("fine", "def rate(frame, rules): return frame.points", package="zeta")

    assert isinstance(rate("fine"), Rated)
    failed = rate("broken")

    assert isinstance(failed, Failed)
    assert f"rating module 'broken' of package acme 2.5 ({module}:rate) cannot be used: {reason}" in failed.reason
    assert [found.name for found in list_modules() if found.fault] == ["broken"]


def test_what_needs_no_python_signature_is_taken(offer: Offer) -> None:
    offer("object", "class R:\n    def __call__(self, frame, rules): return frame.points\nrate = R()")
    offer("builtin", "rate = max", package="zeta")  # tells no signature: whether it can rate shows when it does
    assert isinstance(rate("object"), Rated)
    assert [found.fault for found in list_modules() if found.name == "builtin"] == [""]


@pytest.mark.parametrize("name", ["hashmap", "pyscripts", "noop"])
def test_the_built_in_modules_cannot_be_replaced(offer: Offer, name: str) -> None:
    offer(name, "raise RuntimeError('this is not even imported')")
    assert name not in installed_modules()
    (found,) = [found for found in list_modules() if found.name == name]
    assert "is the name of a built-in module" in found.fault


def test_two_packages_with_one_name_are_both_named_and_neither_is_used(offer: Offer) -> None:
    code = "def rate(frame, rules): return frame.points"
    offer("twin", code, package="acme")
    offer("twin", code, package="zeta")
    failed = rate("twin")
    assert isinstance(failed, Failed)
    assert "offered more than once, by acme 2.5 and zeta 2.5: uninstall one" in failed.reason


def test_a_name_that_the_rules_cannot_hold_is_refused(offer: Offer) -> None:
    offer("n" * 256, "def rate(frame, rules): return frame.points")
    (found,) = [found for found in list_modules() if found.name.startswith("nnn")]
    assert "a name has 1 to 255 characters" in found.fault


def test_the_error_of_a_broken_module_is_one_of_ours() -> None:
    with pytest.raises(BrokenModuleError, match="gone"):
        broken_module("gone")(FRAME, RuleBook.empty())
