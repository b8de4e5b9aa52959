"""Where usage files lie: files, directories, standard input and S3-compatible stores, as a list of what is to be read.

The list is in a fixed order, since a replay that was interrupted goes on by it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple, TypeAlias

from collectors.errors import ReplayError
from collectors.replay.packing import PACKED

__all__ = ["FORMS", "STDIN", "Form", "Inputs", "UsageInput", "form_of", "inputs_of", "local_input", "usage_inputs"]

Form: TypeAlias = Literal["jsonl", "csv", "parquet"]
FORMS: dict[str, Form] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
STDIN = "-"
_S3 = "s3://"
_SHOWN = 10


class UsageInput(NamedTuple):
    """One file: its name as messages show it, its size in bytes (0: unknown), and how it is opened."""

    name: str
    size: int
    open: Callable[[], BinaryIO]
    """Raises OSError."""
    mark: Callable[[], object]
    """What changes when the file changes: asked before and after it is read. Raises OSError."""


class Inputs(NamedTuple):
    """What is to be read, in order, and what was left out."""

    files: list[UsageInput]
    remarks: list[str]


def usage_inputs(paths: Iterable[str]) -> Inputs:
    """The files that paths name: a file, `-`, a directory with all below it, `s3://bucket/prefix`.

    Of directories and prefixes only what has a known suffix is taken. Raises ReplayError for a path that is not there
    or names no usage file, and for usage that would be read twice.
    """
    found: list[UsageInput] = []
    remarks: list[str] = []
    for path in paths:
        if path == STDIN:
            found.append(_standard_input())
        elif path.startswith(_S3):
            from collectors.replay.usage_s3 import s3_inputs  # its client takes half a second to start

            inputs = s3_inputs(path)
            found += inputs.files
            remarks += inputs.remarks
        elif Path(path).is_dir():
            inputs = inputs_of(path, (str(entry) for entry in Path(path).rglob("*") if entry.is_file()), local_input)
            found += inputs.files
            remarks += inputs.remarks
        else:
            found.append(local_input(path))
    _check_once(found)
    return Inputs(found, remarks)


def form_of(name: str) -> Form | None:
    """The form of a file by its name, without what tells how it is packed; None if the name does not tell."""
    plain = PurePosixPath(name.lower())
    if plain.suffix in PACKED:
        plain = PurePosixPath(plain.stem)
    return FORMS.get(plain.suffix)


def inputs_of(place: str, names: Iterable[str], make: Callable[[str], UsageInput]) -> Inputs:
    """The usage files among names below `place`, sorted. Raises ReplayError if there is none."""
    known: list[str] = []
    others: list[str] = []
    for name in sorted(names):
        (known if form_of(name) else others).append(name)
    if not known:
        raise ReplayError(
            f"{place} holds no usage file: their names end in {', '.join(FORMS)}, and in {', '.join(PACKED)} if packed"
        )
    remarks = []
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        remarks.append(f"{place}: left out, no usage file by its name: {', '.join(others[:_SHOWN])}{more}")
    return Inputs([make(name) for name in known], remarks)


def local_input(path: str) -> UsageInput:
    """A file of this machine. Raises ReplayError if it is not there."""

    def mark() -> object:
        status = Path(path).stat()
        return status.st_size, status.st_mtime_ns

    try:
        size = Path(path).stat().st_size
    except OSError as fault:
        raise ReplayError(f"{path} cannot be read: {fault.strerror}") from fault
    return UsageInput(path, size, lambda: Path(path).open("rb", buffering=0), mark)


def _standard_input() -> UsageInput:
    return UsageInput("standard input", 0, lambda: sys.stdin.buffer, lambda: None)


def _check_once(files: list[UsageInput]) -> None:
    """What is read twice counts twice. Raises ReplayError."""
    twice = [name for name, times in Counter(_place(file.name) for file in files).items() if times > 1]
    if twice:
        raise ReplayError(f"{twice[0]} is named twice, and its usage would count twice: name it once")
    plain: dict[str, str] = {}
    for file in files:
        suffix = PurePosixPath(file.name).suffix
        bare = _place(file.name.removesuffix(suffix) if suffix.lower() in PACKED else file.name)
        other = plain.setdefault(bare, file.name)
        if other != file.name:
            raise ReplayError(
                f"{other} and {file.name} differ only in how they are packed, and the same usage would count twice: "
                "name the ones to replay"
            )


def _place(name: str) -> str:
    return name if name.startswith(_S3) or name == "standard input" else str(Path(name).resolve())
