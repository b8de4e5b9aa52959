"""What scripts may import has to be in memory before they run, since they can open no file.

Also what Python reads late and quietly: codecs, `_strptime`, time zones.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import importlib.machinery
import locale
import pkgutil
import site
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from types import ModuleType

__all__ = ["COMMON", "Closed", "preload"]

# In memory always: what Python's own modules import late, and what a script may well import by a way that cannot be
# seen. Few: each makes every fork slower.
COMMON = """
__future__ _strptime abc base64 bisect calendar codecs collections collections.abc contextlib copy datetime decimal enum
functools gc heapq importlib io itertools json linecache locale math numbers operator os os.path random re string struct
sys textwrap time traceback types unicodedata warnings weakref zlib
"""
_CODECS = """
ascii cp1252 cp437 cp850 hex_codec base64_codec zlib_codec idna iso8859_1 iso8859_15 latin_1 punycode
quopri_codec raw_unicode_escape rot_13 unicode_escape utf_16 utf_16_be utf_16_le utf_32 utf_7 utf_8 utf_8_sig
"""


class Closed:
    """The only finder of modules left once scripts run: it says why there are no more."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Raises ModuleNotFoundError: whoever asks here did not find the module in memory."""
        raise ModuleNotFoundError(
            f"module {name!r} is not there for scripts: they can import what an import statement of theirs names "
            "from Python's standard library, and what scripts.modules of rater.yaml names",
            name=name,
        )


def preload(modules: Sequence[str]) -> list[object]:
    """Loads the modules; one that cannot be loaded stays away, and a script that imports it fails.

    Returns what has to be kept in memory along with them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules that are deprecated
        for name in (*COMMON.split(), *modules):
            _load(name)
        for package in {name.split(".")[0] for name in modules} & sys.stdlib_module_names:
            for name in _within(package):  # packages load parts of theirs late: xml.dom.minidom does
                _load(name)
    for codec in _CODECS.split():
        codecs.lookup(codec)
    site.setquit()  # exit() and quit(): Python is started without `site`, which runs what packages wish
    datetime.strptime("2026-01-01", "%Y-%m-%d")  # noqa: DTZ007 - only to have its tables loaded
    time.strftime("%c", time.localtime(0))
    locale.localeconv()
    format(Decimal(1), "n")
    return _zones() if "zoneinfo" in sys.modules else []


def _load(name: str) -> None:
    with contextlib.suppress(Exception, SystemExit):  # a module may raise anything as it is loaded
        importlib.import_module(name)


def _within(package: str) -> list[str]:
    """All modules of a package, without those that are programs."""
    path = getattr(sys.modules.get(package), "__path__", ())
    names = [found.name for found in pkgutil.walk_packages(path, f"{package}.", onerror=lambda name: None)]
    return [name for name in names if not name.endswith("__main__")]


def _zones() -> list[object]:
    """All time zones: ZoneInfo gives out again those that are in memory, and reads a file for the others."""
    import zoneinfo

    kept: list[object] = []
    for key in zoneinfo.available_timezones():
        try:
            kept.append(zoneinfo.ZoneInfo(key))
        except (ValueError, OSError):  # a file among the zones that is none
            continue
    return kept
