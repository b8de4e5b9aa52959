"""Rule documents from files, with the scripts that stand in files of their own."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rater.model.errors import RaterError
from rater.model.rules import MAX_SCRIPT

if TYPE_CHECKING:
    from rater.rating import RuleDocument

__all__ = ["RulesFileError", "known_modules", "read_document"]


class RulesFileError(RaterError):
    """A rule document that cannot be read, or a change that nobody agreed to."""


def read_document(file: Path, modules: Collection[str] | None = None) -> RuleDocument:
    """A rule document from a file, `-` for standard input, and the files of scripts that it names.

    `modules` are the rating modules that it may name; None: those that are installed. Raises RulesFileError, and
    DocumentError with every fault.
    """
    from rater.model.document import MAX_CHARACTERS
    from rater.rating import ScriptFileError, parse

    def read_script(name: str) -> str:
        try:
            return _read_script(file, name)
        except OSError as fault:
            raise ScriptFileError(f"{name} cannot be read: {fault.strerror}") from fault
        except UnicodeDecodeError as fault:
            raise ScriptFileError(f"{name} is not text in UTF-8: {fault.reason} at byte {fault.start}") from fault
        except ValueError as fault:
            raise ScriptFileError(f"{name!r} is refused: {fault}") from None

    try:
        if str(file) == "-":
            text = sys.stdin.read(MAX_CHARACTERS + 1)  # one more than allowed: `parse` refuses it
        else:
            with file.open(encoding="utf-8") as opened:
                text = opened.read(MAX_CHARACTERS + 1)
    except OSError as fault:
        raise RulesFileError(f"{file} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise RulesFileError(f"{file} is not text in UTF-8: {fault.reason} at byte {fault.start}") from fault
    return parse(text, str(file), read_file=read_script, modules=known_modules() if modules is None else modules)


def known_modules() -> set[str]:
    """The rating modules of this installation by name; those of third parties are not loaded."""
    from importlib.metadata import entry_points

    from rater.rating import BUILT_IN

    return {*BUILT_IN, *entry_points(group="rater.rating").names}


def _read_script(document: Path, name: str) -> str:
    """The text of a file beside the document or below, with its line ends as they are.

    Raises OSError, UnicodeDecodeError, and ValueError that says why the file is not opened.
    """
    if str(document) == "-":
        raise ValueError("a document from standard input has no directory; give the script itself as 'data'")
    directory = document.resolve().parent
    path = (directory / name).resolve()  # symbolic links followed, so that none leads out
    if not path.is_relative_to(directory):
        raise ValueError(f"it leaves {directory}, the directory of the document")
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")  # a pipe or a device might never end
    with path.open(encoding="utf-8", newline="") as opened:
        return opened.read(MAX_SCRIPT + 1)  # one more than allowed: `parse` refuses it
